"""Trains the local models whose archives benchmarks/codec.py and benchmarks/photographs.py measure.

python -m benchmarks.codec_models cifar10 fashion_mnist kodak-even kodak-odd [--runs runs/codec]

Minutes each on one core. Of the 24 Kodak photographs two models are trained, one on crops of those with an even number,
one on the others, so that each photograph can be coded by a model that has not seen it. A run that is there goes on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import nextpixel as npx
from nextpixel.images import Dataset, Split

SIDE, CROPS = 48, 1000  # of a photograph
NEAR: dict[str, Any] = {"neighbours": 3}  # begins as a prediction from them
PHOTOGRAPHS = ({"layers": 5, "features": 48, **NEAR}, {"epochs": 4, "batch_size": 8, "learning_rate": 4e-3})
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # options of the network, and of training
    "cifar10": ({"layers": 6, "features": 64, **NEAR}, {"epochs": 1, "batch_size": 16, "learning_rate": 4e-3}),
    "fashion_mnist": ({"layers": 6, "features": 48, **NEAR}, {"epochs": 2, "batch_size": 32}),
    "kodak-even": PHOTOGRAPHS,
    "kodak-odd": PHOTOGRAPHS,
}


def photographs(folder: Path, odd: bool) -> list[tuple[str, Tensor]]:
    """The Kodak photographs with odd or with even numbers: names and images [3, H, W]."""
    found = []
    for path in sorted(folder.glob("kodim*.*")):
        if int(path.stem[5:]) % 2 == odd:
            found.append((path.stem, torch.from_numpy(np.array(Image.open(path).convert("RGB")).transpose(2, 0, 1))))
    if len(found) != 12:
        raise SystemExit(f"{folder} does not hold the 24 Kodak photographs, kodim01 to kodim24.")
    return found


def crops(images: list[Tensor]) -> Dataset:
    """Square crops at random places, as often of every photograph, in random order."""
    rng, cut = np.random.default_rng(0), []
    for image in images:
        _, height, width = image.shape
        for _ in range(CROPS):
            top, left = rng.integers(0, height - SIDE + 1), rng.integers(0, width - SIDE + 1)
            cut.append(image[:, top : top + SIDE, left : left + SIDE])
    pictures = torch.stack([cut[i] for i in rng.permutation(len(cut))])
    parts = (pictures[120:], pictures[:60], pictures[60:120])
    names = ("train", "valid", "test")
    train, valid, test = (Split(p, None, 256, f"crops/{n}", "8-bit") for p, n in zip(parts, names, strict=True))
    return Dataset("crops", train, valid, test)


def kept_out(folder: Path) -> Split:
    """500 crops of the photographs with odd numbers, which a model of those with even numbers has not seen."""
    images = [image for _, image in photographs(folder, odd=True)]
    pictures = crops(images).train.images[:500]
    return Split(pictures, None, 256, "crops/test", "8-bit, 500 crops of the Kodak photographs with odd numbers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(SHAPES))
    parser.add_argument("--runs", type=Path, default=Path("runs/codec"))
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("NEXTPIXEL_DATA"))
    args = parser.parse_args()
    for name in args.names:
        options, training = SHAPES[name]
        if name.startswith("kodak"):
            chosen = photographs(Path(args.data_dir or ".") / "kodak", odd=name.endswith("odd"))
            data = crops([image for _, image in chosen])
        else:
            data = npx.dataset(name, data_dir=args.data_dir)
        torch.manual_seed(0)
        head: dict[str, Any] = {"head": "logistic_mixture", "head_options": {"mixtures": 5, "zoom": 16}}
        model = npx.build("local", like=data.train, **head, **options)
        run = args.runs / name
        again = (run / "checkpoints").exists()
        npx.train(model, data, run=run, resume=again, **training, valid_images=500, sample_every=0, threads=1)
        print(name, npx.evaluate(model, data.valid[:500]).bits_per_dim, flush=True)


if __name__ == "__main__":
    main()
