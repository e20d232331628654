"""The ladder of grey levels: MNIST at 2, 4, 8, … 256 levels, one recipe and one budget for every step of it.

python -m benchmarks.ladder train [--runs FOLDER] [--data-dir FOLDER]    # about four minutes of one core a model
python -m benchmarks.ladder simple [--data-dir FOLDER]                   # what simple codes make of the same pixels
python -m benchmarks.ladder show [--write docs/results.md]               # the table of what has been trained so far

Levels are floor(x·K/256). Every model is the same Gated PixelCNN, trained for one pass over the 55,000 training images;
only the head differs: Bernoulli at 2 levels, categorical at all others, and at 16 and 256 levels a logistic mixture too.
`train` may be stopped at any time and goes on where it was; a card for each model goes into results/ladder/.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from benchmarks.anomalies import trained
from benchmarks.measure import RESULTS, machine, save
from benchmarks.sittings import Notes, held
from nextpixel.images import Dataset
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.train import Interrupted, TrainOptions

CARDS = RESULTS / "ladder"
SIMPLE = "ladder-simple"  # the card of the simple codes
MIXTURE = "logistic_mixture"
STEPS = [  # levels and head; far apart first, so that a part of the ladder shows its course
    *((2, "bernoulli"), (256, "categorical"), (16, "categorical"), (4, "categorical"), (64, "categorical")),
    *((8, "categorical"), (32, "categorical"), (128, "categorical"), (256, MIXTURE), (16, MIXTURE)),
]
NETWORK = {"layers": 5, "features": 18}
TRAINING = TrainOptions(
    epochs=1, batch_size=16, ema=0.998, valid_images=1000, sample_every=0, checkpoint_minutes=1.0, threads=1
)


def data_of(levels: int, data_dir: str | None) -> Dataset:
    return npx.dataset("mnist", levels=levels, data_dir=data_dir)


def name_of(levels: int, head: str) -> str:
    return f"{levels}-{head}"


def train_all(args: argparse.Namespace) -> None:
    args.runs.mkdir(parents=True, exist_ok=True)
    CARDS.mkdir(parents=True, exist_ok=True)
    for levels, head in STEPS:
        name = name_of(levels, head)
        with held(args.runs / f"{name}.lock") as mine:
            if mine and not (CARDS / f"{name}.json").exists():
                train_one(levels, head, args)


def train_one(levels: int, head: str, args: argparse.Namespace) -> None:
    name, data = name_of(levels, head), data_of(levels, args.data_dir)
    run, notes = args.runs / name, Notes(args.runs / f"{name}.json")
    torch.manual_seed(TRAINING.seed)
    model = npx.build("gated_pixelcnn", like=data.train, head=head, **NETWORK)
    folder = RunFolder(run)
    if not trained(run, TRAINING.epochs):
        with notes.counting():
            npx.train(model, data, TRAINING, run=run, resume=folder.began(), progress=False)
        notes.save()
    test = npx.evaluate(npx.load(run), data.test)
    card = {
        "data": "mnist",
        "levels": levels,
        "head": head,
        "family": model.family,
        "options": NETWORK,
        "parameters": model.parameter_count,
        "training": dataclasses.asdict(TRAINING),
        "training_images": len(data.train),
        "cpu_seconds": notes["cpu_seconds"],
        "valid": [line["valid"] for line in folder.read_metrics() if "valid" in line],
        "test": {"bits_per_dim": test.bits_per_dim, "stderr": test.stderr, "nats": test.nats},
        "test_images": test.images,
        "exact": test.exact,
        "protocol": test.protocol,
        **machine(),
    }
    (CARDS / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")
    print(f"{name}: {test.bits_per_dim:.4f} bits/dim, {notes['cpu_seconds'] / 60:.1f} CPU-minutes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "simple", "show"])
    parser.add_argument("--runs", type=Path, default=Path("runs/ladder"))
    parser.add_argument("--data-dir")
    parser.add_argument("--write", type=Path, help="rewrite the table in this document")
    args = parser.parse_args()
    try:
        {"train": train_all}[args.what](args)
    except Interrupted as stopped:
        print(stopped)


if __name__ == "__main__":
    main()
