"""Put a trained model into the package: weights in 16 bits, figures of exactly these weights in its card.

python -m benchmarks.ship RUN NAME --limits "what it is not good for" [--data-dir FOLDER] [--out src/nextpixel/shipped]
python -m benchmarks.ship runs/codec/kodak-even photographs --limits "..." --data-dir FOLDER

The test split is scored here, once, after rounding. Beside the whole split's figure stands that of 500 images spaced
evenly, which a test computes again. A model is refused if it takes more than 3 MB, or figures that rounding has moved
by more than 0.1 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

import nextpixel as npx
from benchmarks.codec_models import kept_out
from nextpixel.cli.arguments import recorded_data
from nextpixel.images import Split
from nextpixel.images.catalogue import CATALOGUE
from nextpixel.model import Model
from nextpixel.saving import WEIGHTS
from nextpixel.shipped import FOLDER
from nextpixel.tasks.data import DataOptions, describe_data, load_data

MOST_BYTES = 3_000_000
SUBSET = 500  # images


def test_part(model: Model, data_dir: str) -> tuple[dict[str, Any] | None, Split, str]:
    """What the card says of the data, the images of the figures, and the licence of the data."""
    if model.card["data"] == "crops":
        return None, kept_out(Path(data_dir) / "kodak"), "Kodak photographs, released for unrestricted use"
    # A run made in Python says the name of its data only: a named set as it is.
    recorded = model.card.get("data_options") or describe_data(model.card["data"], DataOptions())
    source, options = recorded_data(recorded, data_dir)
    data = load_data(source, options)
    return {**recorded, "protocol": data.protocol}, data.test, CATALOGUE[source].licence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("name")
    parser.add_argument("--limits", required=True)
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()
    model = npx.load(args.run)
    recorded, test_split, licence = test_part(model, args.data_dir)
    before = npx.evaluate(model, test_split, limit=SUBSET).bits_per_dim
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
    after = npx.evaluate(model, test_split, limit=SUBSET).bits_per_dim
    if abs(after / before - 1) > 1e-3:
        raise SystemExit(f"16 bits change the figure from {before:.5f} to {after:.5f} bits/dim: not shipped.")
    test = npx.evaluate(model, test_split, progress=True)
    model.card = {
        **model.card,
        "data_options": recorded,
        "protocol": test_split.protocol,
        "licence": f"weights Apache-2.0; data: {licence}",
        "limits": args.limits,
        "figures": {
            "test_bits_per_dim": test.bits_per_dim,
            "test_nats": test.nats,
            "test_nats_standard_error": test.nats_stderr,
            "test_bits_per_dim_given_class": test.given_class,
            "test_images": test.images,
            "exact": test.exact,
            "subset_images": SUBSET,
            "subset_bits_per_dim": after,
        },
    }
    folder = args.out / args.name
    model.save_pretrained(folder)
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    halved = {name: t.half() if t.is_floating_point() else t for name, t in weights.items()}
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(halved, metadata={"format": "pt"}))
    size = (folder / WEIGHTS).stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{folder} takes {size} bytes, more than {MOST_BYTES}: too large to ship.")
    print(f"{folder}: {size} bytes, {test.bits_per_dim:.5f} bits/dim ({before:.5f} -> {after:.5f} on {SUBSET} images)")


if __name__ == "__main__":
    main()
