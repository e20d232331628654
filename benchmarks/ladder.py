"""The ladder of grey levels: MNIST at 2, 4, 8, … 256 levels, one recipe and one budget for every step of it.

python -m benchmarks.ladder train [--runs FOLDER] [--data-dir FOLDER]    # four to seven minutes of one core a model
python -m benchmarks.ladder simple [--data-dir FOLDER]                   # what simple codes make of the same pixels
python -m benchmarks.ladder show [--write docs/results.md]               # the table of what has been trained so far

Levels are floor(x·K/256). Every model is the same Gated PixelCNN, trained for one pass over the training images; only
the head differs: Bernoulli at 2 levels, categorical at all others, and at 256 levels a logistic mixture as well.
`train` may be stopped at any time and goes on where it was; a card for each model goes into results/ladder/.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from benchmarks.anomalies import trained
from benchmarks.documents import cards_in, markdown, rewrite
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
    *((8, "categorical"), (32, "categorical"), (128, "categorical"), (256, MIXTURE)),
]
HEADS = {"bernoulli": "Bernoulli", "categorical": "categorical", MIXTURE: "logistic mixture"}
SHOWN = {"per_position": "per position", "png": "PNG", "xz": "xz"}  # of the simple codes, and what they are called
NETWORK: dict[str, Any] = {"layers": 5, "features": 18}
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


def simple(args: argparse.Namespace) -> None:
    """What codes that look at little or no context, and general packers, make of the test images at every level."""
    figures: dict[str, Any] = {}
    for levels in sorted({levels for levels, _ in STEPS}):
        figures[str(levels)] = npx.baselines(data_of(levels, args.data_dir))
        print(levels, figures[str(levels)], flush=True)
    save(SIMPLE, {"data": "mnist", "bits_per_dim": figures})


def cards() -> list[dict[str, Any]]:
    """What has been trained so far, by levels, of equal levels the categorical head first."""
    return sorted(cards_in(CARDS), key=lambda card: (card["levels"], card["head"]))


def simple_figures() -> dict[int, dict[str, float]]:
    """By levels, the bits/dim of each simple code; nothing where they have not been computed."""
    path = RESULTS / f"{SIMPLE}.json"
    found = json.loads(path.read_text())["bits_per_dim"] if path.exists() else {}
    return {int(levels): figures for levels, figures in found.items()}


def parts() -> dict[str, str]:
    """The part of docs/results.md that is made from the cards, by name."""
    others, rows = simple_figures(), []
    for card in cards():
        levels, bits = card["levels"], card["test"]["bits_per_dim"]
        beside = others.get(levels, {})
        rows.append(
            [
                str(levels),
                HEADS[card["head"]],
                f"{card['parameters']:,}",
                f"{bits:.4f} ± {card['test']['stderr']:.4f}",
                f"{card['test']['nats']:.2f}",
                f"{bits / math.log2(levels):.4f}",
                *(f"{beside[name]:.4f}" if name in beside else "" for name in SHOWN),
                f"{card['cpu_seconds'] / 60:.1f}",
            ]
        )
    head = ["levels", "head", "parameters", "test bits/dim", "nats", "of log2 K", *SHOWN.values(), "CPU-minutes"]
    done = {(card["levels"], card["head"]) for card in cards()}
    lacking = [f"{HEADS[head]} at {levels}" for levels, head in sorted(STEPS) if (levels, head) not in done]
    text = markdown(head, rows)
    return {"ladder": f"{text}\n\nNot trained yet: {', '.join(lacking)}." if lacking else text}


def show(args: argparse.Namespace) -> None:
    """The table so far, printed or into a document."""
    if args.write:
        rewrite(args.write, parts())
    else:
        print("\n\n".join(parts().values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "simple", "show"])
    parser.add_argument("--runs", type=Path, default=Path("runs/ladder"))
    parser.add_argument("--data-dir")
    parser.add_argument("--write", type=Path, help="rewrite the table in this document")
    args = parser.parse_args()
    try:
        {"train": train_all, "simple": simple, "show": show}[args.what](args)
    except Interrupted as stopped:
        print(stopped)


if __name__ == "__main__":
    main()
