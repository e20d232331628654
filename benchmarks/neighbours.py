"""What it brings a local model of photographs to begin as a prediction from the neighbours: a minute of training each.

python -m benchmarks.neighbours [--steps 300] [--data-dir ../shared/data]

The same crops of the twelve Kodak photographs with an even number, in the same order, for every variant; bits/dim of
crops of the other twelve.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import nextpixel as npx
from benchmarks.codec_models import crops, photographs
from benchmarks.measure import machine, save
from nextpixel.networks import output

BATCH, TEST = 8, 60
VARIANTS: dict[str, tuple[dict[str, Any], int, int]] = {  # options; zoom; by how much differences are enlarged
    "as ever": ({}, 1, 1),
    "prediction": ({"neighbours": 3}, 1, 1),
    "prediction, zoom": ({"neighbours": 3}, 16, 1),
    "prediction, zoom, enlarged differences": ({"neighbours": 3}, 16, output.ENLARGED),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("NEXTPIXEL_DATA"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    kodak = Path(args.data_dir or ".") / "kodak"
    data, others = (crops([image for _, image in photographs(kodak, odd)]) for odd in (False, True))
    data = dataclasses.replace(data, train=data.train[: args.steps * BATCH])
    rows = []
    for name, (options, zoom, enlarged) in VARIANTS.items():
        with mock.patch.object(output, "ENLARGED", enlarged):
            torch.manual_seed(0)
            head: dict[str, Any] = {"head": "logistic_mixture", "head_options": {"mixtures": 5, "zoom": zoom}}
            model = npx.build("local", like=data.train, layers=5, features=48, **head, **options)
        before = npx.evaluate(model, others.test[:TEST]).bits_per_dim
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            how: dict[str, Any] = {"epochs": 1, "batch_size": BATCH, "learning_rate": 4e-3, "ema": 0.99, "threads": 1}
            npx.train(model, data, run=Path(folder) / "run", sample_every=0, progress=False, **how)
        seconds = time.process_time() - began
        after = npx.evaluate(model, others.test[:TEST]).bits_per_dim
        rows.append({"variant": name, "untrained": before, "trained": after, "cpu_seconds": seconds})
        print(f"{name}: {before:.3f} untrained, {after:.3f} after {seconds:.0f} s of one core", flush=True)
    save("neighbours", {**machine(), "steps": args.steps, "rows": rows})


if __name__ == "__main__":
    main()
