"""The first five minutes: train on the embedded digits, and show everything a model can do."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import torch
import typer

from nextpixel import figures
from nextpixel.cli.output import console, table, writable
from nextpixel.image_model import build
from nextpixel.images.pictures import grid
from nextpixel.saving import load
from nextpixel.tasks.baselines import baselines
from nextpixel.tasks.batches import spaced
from nextpixel.tasks.complete import complete
from nextpixel.tasks.data import DataOptions, describe_data, load_data
from nextpixel.tasks.evaluate import evaluate
from nextpixel.tasks.masks import known_pixels
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.sample import sample
from nextpixel.tasks.train import TrainOptions, train

MODEL: dict[str, Any] = {"layers": 6, "features": 32, "dropout": 0.3}
TRAINING = TrainOptions(epochs=60, batch_size=32, learning_rate=3e-3, weight_decay=0.05, valid_images=0, sample_every=0)


def run_demo(out: Path, epochs: int = 0) -> dict[str, Any]:
    """Train in out/run, print the figures, write pictures into `out`; returns the figures."""
    began = time.monotonic()
    say = console().print
    data = load_data("digits")
    classes = data.classes or 0
    writable(out / "samples.png")
    about = f"Training a class-conditional Gated PixelCNN on {len(data.train):,} digits of 8x8 pixels, 17 levels."
    typer.echo(about, err=True)
    run = RunFolder.fresh(out / "run" if not (out / "run").exists() else None, "demo")
    options = TrainOptions(**{**vars(TRAINING), **({"epochs": epochs} if epochs else {})})
    torch.manual_seed(options.seed)
    model = build("gated_pixelcnn", like=data, classes=classes, **MODEL)
    describe = {"data": {**describe_data("digits", DataOptions()), "protocol": data.protocol}}
    train(model, data, options, run=run.path, describe=describe)
    model = load(run.path)

    result, simple = evaluate(model, data.test), baselines(data)
    rows = [(f"{name} (baseline)".replace("_", " "), f"{bits:.3f}") for name, bits in simple.items()]
    rows += [
        ("Gated PixelCNN, −log2 p(x)", f"{result.bits_per_dim:.3f} ± {result.stderr:.3f}"),
        ("Gated PixelCNN given the class, −log2 p(x|y)", f"{result.given_class:.3f}"),
    ]
    table(f"Test bits/dim on {result.images} digits (lower is better)", rows)

    pictures = sample(model, n=8 * classes, condition="each", seed=0)
    grid(pictures, data.levels, columns=classes).save(out / "samples.png")
    some = spaced(data.test, 10)
    half = data.shape[1] // 2
    done = complete(model, some.images, half, fills=3, condition=some.labels)
    known = known_pixels(half, len(some), data.shape[1:])
    figures.completion_page(some.images, done.images, known, data.levels).savefig(out / "completions.png")
    figures.surprise_map(model, some.images, some.labels).savefig(out / "surprise.png")
    figures.curve(run.read_metrics(), simple).savefig(out / "curve.png")
    seconds = time.monotonic() - began
    say(f"\nPictures in {out}: samples.png, completions.png, surprise.png, curve.png")
    say(f"{seconds / 60:.1f} minutes in all.")
    say("\nNext:")
    for command in (
        f"nextpixel sample {shlex.quote(str(run.path))} -n 100 --class 3 --out threes.png",
        f"nextpixel check {shlex.quote(str(run.path))}",
        "nextpixel train digits --family pixelcnn --epochs 20",
    ):
        say(f"  {command}", highlight=False)
    return {
        "test": result.to_dict(),
        "baselines": simple,
        "seconds": seconds,
        "run": str(run.path),
    }
