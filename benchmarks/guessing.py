"""Guess and verify beside the Cursor: passes and CPU seconds of trained models (random weights say nothing here).

python -m benchmarks.guessing [MODEL ...] [--threads 1] [--batches 1 2 16 64] [--ahead 1 2 3 4 28]

MODEL: folders of trained models; by default the one in the package. CPU seconds are those of the process, which
other work on the machine changes least. "Eager" is the Cursor without the compiled kernels. All methods draw the same
pictures but for rounding, which may flip one value in many; pictures that differ are counted. --ahead: how many rows
are guessed at a time, compared by the passes that they take.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import nextpixel as npx
from benchmarks.measure import interleaved, machine, save
from benchmarks.sampling import eager
from nextpixel.model import Model
from nextpixel.tasks.drawing import SampleOptions, uniform_noise
from nextpixel.tasks.guess import AHEAD, guess
from nextpixel.tasks.methods import cursor

TRAINED = "binarized-mnist"  # it comes with the package


def measure(model: Model, batch: int, repeats: int) -> dict[str, Any]:
    given = the_same(model, batch)
    drawn: dict[str, Tensor] = {}

    def by_cursor() -> None:
        drawn["cursor"], _ = cursor(*given)

    def by_cursor_eagerly() -> None:
        with eager():
            cursor(*given)

    def by_guess() -> None:
        drawn["guess"], drawn["passes"] = guess(*given)

    runs: dict[str, Callable[[], object]] = {"cursor": by_cursor, "eager": by_cursor_eagerly, "guess": by_guess}
    times = interleaved(runs, repeats, clock=time.process_time)
    return {
        "batch": batch,
        "ahead": AHEAD,
        **summary(drawn["passes"]),
        **{f"{name}_seconds": value for name, value in times.items()},
        "over_cursor": times["cursor"] / times["guess"],
        "over_eager": times["eager"] / times["guess"],
        "differing": int((drawn["cursor"] != drawn["guess"]).flatten(1).any(1).sum()),
    }


def the_same(model: Model, n: int) -> tuple[Model, dict[str, Tensor] | None, Tensor, SampleOptions]:
    """What every method is given."""
    labels = None if model.classes is None else torch.arange(n) % model.classes
    return model, model.condition_parts(labels, n), uniform_noise(0, range(n), model.shape), SampleOptions()


def summary(passes: Tensor) -> dict[str, Any]:
    return {"passes_mean": float(passes.double().mean()), "passes_most": int(passes.max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[TRAINED])
    for name, value in {"threads": 1, "repeats": 1, "pictures": 16}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 16, 64])
    parser.add_argument("--ahead", type=int, nargs="+", default=[1, 2, 3, 4, 28])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    say = partial(print, flush=True)
    for where in args.models:
        model = npx.load(where).eval()
        data = model.card.get("data")
        about = {"model": model.family, "data": data, "parameters": model.parameter_count, "symbols": model.dims}
        say(f"{model.family} on {data}: {model.dims} symbols, {model.levels} levels, {args.threads} threads")
        for ahead in args.ahead:
            _, passes = guess(*the_same(model, args.pictures), ahead=ahead)
            row = {**about, "pictures": args.pictures, "ahead": ahead, **summary(passes)}
            rows.append(row)
            say(f"  {ahead:3} rows ahead: {row['passes_mean']:5.1f} passes, {row['passes_most']} at most")
        for batch in args.batches:
            row = {**about, **measure(model, batch, args.repeats)}
            rows.append(row)
            say(
                f"  batch {batch:3}: {row['passes_mean']:5.1f} passes, {row['passes_most']:3} at most; guess "
                f"{row['guess_seconds']:6.3f} s, Cursor {row['cursor_seconds']:6.3f} s ({row['over_cursor']:5.2f}×), "
                f"eager {row['eager_seconds']:6.3f} s ({row['over_eager']:5.2f}×); {row['differing']} pictures differ"
            )
    save("guessing", {**machine(), **vars(args), "models": len(args.models), "rows": rows})


if __name__ == "__main__":
    main()
