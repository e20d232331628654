"""Holes in fixed binarised MNIST, filled by particles and, beside them, by ignoring what comes later.

python -m benchmarks.holes [--images 50] [--particles 64] [--data-dir FOLDER]

Three holes: rows 10 to 17; a box of 12×12 in the middle; half of the pixels, drawn for each image. For every method the
effective sample size, log p of the completed pictures, the share of the hole's pixels that differ from the truth, and
what the true hole costs: −log p(hole | rest) as the method has it (by particles too little rather than too much, on
average, since the logarithm of an unbiased estimate is too small on average). CPU seconds are those of the process,
which other work on the machine changes least. Writes results/holes.json and docs/pictures/binarized-mnist-holes.png.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import nextpixel as npx
from benchmarks.measure import machine, save
from nextpixel import figures
from nextpixel.tasks.batches import spaced
from nextpixel.tasks.masks import box_unknown, random_unknown

MODEL = "binarized-mnist"  # it comes with the package
PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "binarized-mnist-holes.png"
EXAMPLES = 5000  # training images that look ahead


def holes(n: int) -> dict[str, Tensor]:
    size = (28, 28)
    return {
        "rows 10 to 17": box_unknown(10, 0, 8, 28, size).expand(n, 28, 28),
        "a box of 12×12": box_unknown(8, 8, 12, 12, size).expand(n, 28, 28),
        "half of the pixels": random_unknown(0.5, n, size),
    }


def with_error(values: Tensor) -> list[float]:
    """Mean and its standard error over images."""
    return [float(values.mean()), float(values.std() / len(values) ** 0.5)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"images": 50, "particles": 64, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--data-dir", default=None)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, data = npx.load(MODEL).eval(), npx.dataset("binarized_mnist", data_dir=args.data_dir)
    images, examples = spaced(data.test, args.images).images, spaced(data.train, EXAMPLES).images
    with torch.no_grad():
        truth = model.log_prob_per_symbol(images)[:, 0].double()
    methods: dict[str, dict[str, Any]] = {
        "ignore": {"method": "ignore", "batch_size": 64},
        "particles": {"particles": args.particles, "draws": 0, "batch_size": 4 * args.particles},
        "particles, looking ahead": {
            "particles": args.particles,
            "examples": examples,
            "batch_size": 4 * args.particles,
        },
    }
    rows: list[dict[str, Any]] = []
    shown: list[Tensor] = []
    for hole, masks in holes(args.images).items():
        blind: Tensor | None = None
        for method, settings in methods.items():
            began = time.process_time()
            done = npx.complete(model, images, masks, **settings)
            seconds = (time.process_time() - began) / args.images
            fills = done.images[:, 0]
            with torch.no_grad():
                log_p = model.log_prob(fills).double()
            wrong = ((fills != images)[:, 0] & ~masks).flatten(1).sum(1) / (~masks).flatten(1).sum(1)
            given_rest = done.log_evidence - truth.flatten(1).sum(1)
            cost = -(truth * ~masks).flatten(1).sum(1) if method == "ignore" else given_rest
            row = {
                "hole": hole,
                "method": method,
                "ess_mean": float(done.ess.mean()),
                "ess_median": float(done.ess.median()),
                "ess_smallest": float(done.smallest_ess.min()),
                "log_p_of_completed": with_error(log_p),
                "wrong_share_of_hole": with_error(wrong),
                "nats_of_true_hole": with_error(cost),
                "log_evidence": float(done.log_evidence.mean()),
                "cpu_seconds_a_picture": seconds,
            }
            if method == "particles":
                blind = done.log_evidence
            elif blind is not None:
                row["log_evidence_gained_by_looking_ahead"] = with_error(done.log_evidence - blind)
            rows.append(row)
            print(row, flush=True)
            if method != "particles":
                shown.append(fills)
        shown[-2:] = [torch.stack(shown[-2:], 1)]
    facts = {"truth_log_p": with_error(truth.flatten(1).sum(1)), "rows": rows}
    save("holes", {**machine(), **vars(args), "data_dir": None, **facts})
    some = torch.arange(4) * (args.images // 4)
    every = [
        (images[some], fills[some], masks[some])
        for fills, masks in zip(shown, holes(args.images).values(), strict=True)
    ]
    originals, completed, masks = (torch.cat(parts) for parts in zip(*every, strict=True))
    names = ("ignoring\nwhat follows", f"{args.particles} particles")
    figures.completion_page(originals, completed, masks, 2, names).savefig(PICTURE)


if __name__ == "__main__":
    main()
