"""Anomaly scores and class posteriors of small models that were trained on the CPU.

python -m benchmarks.anomalies train [--seeds 3] [--runs FOLDER] [--data-dir FOLDER]
python -m benchmarks.anomalies show  [--seeds 3] [--runs FOLDER] [--data-dir FOLDER]

`train` makes one model after another on one thread, minutes each. It may be stopped at any time and goes on where it
was; several at once share the models. `show` scores what has been trained so far.

Protocol: Fashion-MNIST and MNIST both quantised to 16 levels, PneumoniaMNIST too (trained on its normal pictures
only). Each full model (Gated PixelCNN) has a background: family local with one layer, which sees two pixels.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from nextpixel.images import Dataset, Split
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.train import Interrupted, TrainOptions

LEVELS = 16
FULL = ("gated_pixelcnn", {"layers": 4, "features": 16})
LOCAL = ("local", {"layers": 1, "features": 16, "first_kernel": 3, "kernel": 3})
TRAINING = TrainOptions(valid_images=500, sample_every=0, threads=1, device="cpu")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A model to be trained: on which data, with which network."""

    data: str
    family: str
    options: dict[str, Any]
    epochs: int
    training: TrainOptions = TRAINING
    conditional: bool = False


RECIPES = {
    "fashion-full": Recipe("fashion_mnist", *FULL, epochs=1),
    "fashion-local": Recipe("fashion_mnist", *LOCAL, epochs=1),
    "mnist-full": Recipe("mnist", *FULL, epochs=1),
    "mnist-local": Recipe("mnist", *LOCAL, epochs=1),
    "pneumonia-full": Recipe("pneumonia_mnist", *FULL, epochs=40),
    "pneumonia-local": Recipe("pneumonia_mnist", *LOCAL, epochs=40),
    "digits": Recipe(
        "digits",
        "gated_pixelcnn",
        {"layers": 6, "features": 32, "dropout": 0.3},
        epochs=60,
        training=dataclasses.replace(TRAINING, learning_rate=3e-3, weight_decay=0.05, valid_images=0),
        conditional=True,
    ),
}


def data_of(name: str, data_dir: str | None) -> Dataset:
    """The data of a recipe. Of PneumoniaMNIST the normal pictures only, in all three parts."""
    data = npx.dataset(name, data_dir=data_dir, levels=None if name == "digits" else LEVELS)
    if name != "pneumonia_mnist":
        return data
    return Dataset("pneumonia_mnist-normal", *(of_class(part, 0) for part in (data.train, data.valid, data.test)))


def of_class(split: Split, number: int) -> Split:
    assert split.labels is not None
    return split[split.labels == number]


def train_all(args: argparse.Namespace) -> None:
    args.runs.mkdir(parents=True, exist_ok=True)
    for seed in range(args.seeds):
        for name in RECIPES:
            train_one(name, seed, args)


def train_one(name: str, seed: int, args: argparse.Namespace) -> None:
    recipe, run = RECIPES[name], args.runs / f"{name}-{seed}"
    training = dataclasses.replace(recipe.training, epochs=recipe.epochs, seed=seed)
    with open(args.runs / f"{name}-{seed}.lock", "w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return  # another process is at it
        if trained(run, recipe.epochs):
            return
        data = data_of(recipe.data, args.data_dir)
        torch.manual_seed(seed)
        classes = data.classes if recipe.conditional else None
        model = npx.build(recipe.family, like=data, classes=classes, **recipe.options)
        resume = RunFolder(run).last.is_file()
        npx.train(model, data, training, run=run, resume=resume, progress=False)
        print(
            f"{name}-{seed}: {npx.evaluate(model, data.valid, limit=500).bits_per_dim:.4f} bits/dim on valid",
            flush=True,
        )


def trained(run: Path, epochs: int) -> bool:
    """Whether the run has gone through all its epochs."""
    return any(line.get("epoch") == epochs and "valid" in line for line in RunFolder(run).read_metrics())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "show"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/anomalies"))
    parser.add_argument("--data-dir")
    args = parser.parse_args()
    try:
        train_all(args)
    except Interrupted as stopped:
        print(stopped)


if __name__ == "__main__":
    main()
