"""Digits, 17 levels: unconditional and class-conditional Gated PixelCNN with the quick start's settings, and PixelCNN.

python -m benchmarks.digits [--seeds 1]
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from typing import Any

import torch

import nextpixel as npx
from benchmarks.measure import machine, save
from nextpixel.cli.demo import MODEL, TRAINING


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=TRAINING.epochs)
    args = parser.parse_args()
    data = npx.dataset("digits")
    rows: list[dict[str, Any]] = []
    for family, classes in (("gated_pixelcnn", None), ("gated_pixelcnn", 10), ("pixelcnn", None), ("pixelcnn", 10)):
        for seed in range(args.seeds):
            torch.manual_seed(seed)
            options = dict(MODEL) if family == "gated_pixelcnn" else {"blocks": 5, "features": 32, "dropout": 0.3}
            model = npx.build(family, like=data, classes=classes, **options)
            training = dataclasses.replace(TRAINING, seed=seed, epochs=args.epochs)
            with tempfile.TemporaryDirectory() as folder:
                npx.train(model, data, training, run=f"{folder}/run", progress=False)
            result = npx.evaluate(model, data.test)
            row = {
                "family": family,
                "classes": classes,
                "seed": seed,
                "parameters": model.parameter_count,
                "test_bits_per_dim": result.bits_per_dim,
                "stderr": result.stderr,
                "given_class": result.given_class,
                "class_accuracy": result.class_accuracy,
            }
            rows.append(row)
            print(row, flush=True)
    save("digits", {**machine(), "epochs": args.epochs, "rows": rows, "baselines": npx.baselines(data)})


if __name__ == "__main__":
    main()
