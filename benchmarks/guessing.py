"""Guess and verify beside the Cursor: passes and seconds of trained models (random weights say nothing here).

python -m benchmarks.guessing [MODEL ...] [--threads 2] [--batches 1 2 16 64] [--ahead 1 2 3 28]

MODEL: folders of trained models; by default the one in benchmarks/models. All methods draw the same pictures, which is
checked in single precision, where one in many may differ by rounding; differing pictures are counted. "Eager" is the
Cursor without the compiled kernels. --ahead: how many rows are guessed at a time, compared by the passes they take.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from benchmarks.measure import interleaved, machine, save
from benchmarks.sampling import eager
from nextpixel.model import Model
from nextpixel.tasks.drawing import SampleOptions, uniform_noise
from nextpixel.tasks.guess import AHEAD, guess

TRAINED = Path(__file__).parent / "models" / "gated-binarized-mnist"


def measure(model: Model, batch: int, repeats: int) -> dict[str, Any]:
    def draw(method: str) -> torch.Tensor:
        return npx.sample(model, n=batch, batch_size=batch, method=method, condition="each")

    def draw_eagerly() -> None:
        with eager():
            draw("cursor")

    differing = int((draw("cursor") != draw("guess")).flatten(1).any(1).sum())
    times = interleaved(
        {"cursor": lambda: draw("cursor"), "eager": draw_eagerly, "guess": lambda: draw("guess")}, repeats
    )
    return {
        "batch": batch,
        **passes(model, batch, AHEAD),
        **{f"{name}_seconds": value for name, value in times.items()},
        "over_cursor": times["cursor"] / times["guess"],
        "over_eager": times["eager"] / times["guess"],
        "differing": differing,
    }


def passes(model: Model, n: int, ahead: int) -> dict[str, Any]:
    conditions = model.condition_parts(None if model.classes is None else torch.arange(n) % model.classes, n)
    _, taken = guess(model, conditions, uniform_noise(0, range(n), model.shape), SampleOptions(), ahead=ahead)
    return {"passes_mean": float(taken.double().mean()), "passes_most": int(taken.max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[str(TRAINED)])
    for name, value in {"threads": 2, "repeats": 2, "pictures": 16}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 16, 64])
    parser.add_argument("--ahead", type=int, nargs="+", default=[1, 2, 3, 28])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    for where in args.models:
        model = npx.load(where).eval()
        data = model.card.get("data")
        about = {"model": model.family, "data": data, "parameters": model.parameter_count, "symbols": model.dims}
        print(f"{model.family} on {data}: {model.dims} symbols, {model.levels} levels, {args.threads} threads")
        for ahead in args.ahead:
            row = {**about, "pictures": args.pictures, "ahead": ahead, **passes(model, args.pictures, ahead)}
            rows.append(row)
            print(f"  {ahead:3} rows ahead: {row['passes_mean']:5.1f} passes, {row['passes_most']} at most", flush=True)
        for batch in args.batches:
            row = {**about, **measure(model, batch, args.repeats)}
            rows.append(row)
            print(
                f"  batch {batch:3}: {row['passes_mean']:5.1f} passes, {row['passes_most']:3} at most; guess "
                f"{row['guess_seconds']:6.3f} s, Cursor {row['cursor_seconds']:6.3f} s ({row['over_cursor']:5.2f}×), "
                f"eager {row['eager_seconds']:6.3f} s ({row['over_eager']:5.2f}×); {row['differing']} pictures differ",
                flush=True,
            )
    save("guessing", {**machine(), **vars(args), "models": len(args.models), "rows": rows})


if __name__ == "__main__":
    main()
