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
import json
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from benchmarks.measure import machine, save
from nextpixel.images import Dataset, Split
from nextpixel.model import Model
from nextpixel.tasks.batches import spaced
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.threshold import verdicts
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
    train, valid, test = (of_class(part, 0) for part in (data.train, data.valid, data.test))
    return Dataset("pneumonia_mnist-normal", train, valid, test)


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
        resume = RunFolder(run).began()
        npx.train(model, data, training, run=run, resume=resume, progress=False)
        print(
            f"{name}-{seed}: {npx.evaluate(model, data.valid, limit=500).bits_per_dim:.4f} bits/dim on valid",
            flush=True,
        )


def trained(run: Path, epochs: int) -> bool:
    """Whether the run has gone through all its epochs."""
    return any(line.get("epoch") == epochs and "valid" in line for line in RunFolder(run).read_metrics())


PAIRS = {  # the model's data: its anomalies
    "fashion": ["mnist"],
    "mnist": ["fashion"],
    "pneumonia": ["pneumonia"],
}
LIMIT = 1000  # test images of a set, and normal validation images to compare with


def show(args: argparse.Namespace) -> None:
    """Score the test sets with what has been trained, write the card, print the tables."""
    torch.set_num_threads(1)
    card: dict[str, Any] = {**machine(), "levels": LEVELS, "images": LIMIT, "recipes": described(), "pairs": {}}
    for pair, of_seeds in ((pair, scored_seeds(pair, args)) for pair in PAIRS):
        if of_seeds:
            card["pairs"][pair] = of_seeds
            print_pair(pair, of_seeds)
    seeds = [seed for seed in range(args.seeds) if trained(args.runs / f"digits-{seed}", RECIPES["digits"].epochs)]
    digits = data_of("digits", None)
    found = [npx.posterior(npx.load(args.runs / f"digits-{seed}"), digits.test).calibration for seed in seeds]
    card["posterior"] = [dataclasses.asdict(one) for one in found if one is not None]
    for seed, one in zip(seeds, card["posterior"], strict=True):
        low, high = one["accuracy_interval"]
        figures = f"accuracy {one['accuracy']:.4f} [{low:.4f}, {high:.4f}]"
        print(f"digits, seed {seed}: {figures}, log loss {one['log_loss']:.4f} nats, ECE {one['ece']:.4f}")
    save("anomalies", card)


def scored_seeds(pair: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of every seed whose two models are trained; kept beside the runs, since scoring takes minutes."""
    found = []
    for seed in range(args.seeds):
        full, local = (args.runs / f"{pair}-{kind}-{seed}" for kind in ("full", "local"))
        if not all(trained(run, RECIPES[f"{pair}-{kind}"].epochs) for run, kind in ((full, "full"), (local, "local"))):
            continue
        kept = args.runs / f"{pair}-{seed}-scores.json"
        if not kept.exists():
            kept.write_text(json.dumps(scored(pair, npx.load(full), npx.load(local), args.data_dir)))
        found.append({"seed": seed, **json.loads(kept.read_text())})
    return found


def scored(pair: str, full: Model, local: Model, data_dir: str | None) -> dict[str, Any]:
    recipe = RECIPES[f"{pair}-full"]
    normal = data_of(recipe.data, data_dir)
    if pair == "pneumonia":
        anomalies = of_class(npx.dataset(recipe.data, data_dir=data_dir, levels=LEVELS).test, 1)
    else:
        anomalies = data_of(RECIPES[f"{PAIRS[pair][0]}-full"].data, data_dir).test
    reference, test = spaced(normal.valid, LIMIT), spaced(normal.test, LIMIT)
    found = npx.detect(full, test, spaced(anomalies, LIMIT), reference=reference, against=local)
    threshold = npx.calibrated_on(full, reference, "distance", 0.05)
    flagged = {}
    for name, split in (("normal", test), ("anomalies", spaced(anomalies, LIMIT))):
        called, _ = verdicts(threshold, npx.score(full, split))
        flagged[name] = float(called.double().mean())
    return {
        "detection": {name: dataclasses.asdict(figures) for name, figures in found.items()},
        "called_anomalies_at_5_percent": flagged,
        "calibrated_on": threshold.n,
        "test_bits_per_dim": npx.evaluate(full, normal.test, limit=LIMIT).bits_per_dim,
        "local_test_bits_per_dim": npx.evaluate(local, normal.test, limit=LIMIT).bits_per_dim,
        "reference_sha256": reference.sha256,
        "test_sha256": test.sha256,
    }


def described() -> dict[str, Any]:
    return {name: dataclasses.asdict(recipe) for name, recipe in RECIPES.items()}


def print_pair(pair: str, seeds: list[dict[str, Any]]) -> None:
    first = seeds[0]["detection"]["bits"]
    print(
        f"\n{pair} → {PAIRS[pair][0]}: {first['normal']} normal, {first['anomalies']} anomalies, {len(seeds)} seeds\n"
    )
    print("| score | AUROC | AUPR | FPR@95TPR |\n|---|---|---|---|")
    for name in seeds[0]["detection"]:
        cells = []
        for kind in ("auroc", "aupr", "fpr95"):
            figures = [seed["detection"][name][kind] for seed in seeds]
            values = ", ".join(f"{one['value']:.3f}" for one in figures)
            cells.append(f"{values} [{figures[0]['low']:.3f}, {figures[0]['high']:.3f}]")
        print(f"| {name} | {' | '.join(cells)} |")
    for seed in seeds:
        called = seed["called_anomalies_at_5_percent"]
        print(f"seed {seed['seed']}: called anomalies at α = 0.05: {called}, {seed['test_bits_per_dim']:.4f} bits/dim")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "show"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/anomalies"))
    parser.add_argument("--data-dir")
    args = parser.parse_args()
    try:
        {"train": train_all, "show": show}[args.what](args)
    except Interrupted as stopped:
        print(stopped)


if __name__ == "__main__":
    main()
