"""Sampling by Cursor beside re-running the network for every pixel, with the same weights in one run.

python -m benchmarks.sampling [--device cpu] [--threads 2] [--family gated_pixelcnn] [--layers 10] [--features 64]
                              [--batches 1 16 64]

Re-running is H·W Whole passes; one pass is timed and multiplied, and at the smaller --check size both samplers are
really run with the same noise and must draw the same pictures. "Eager" is the Cursor without the compiled kernels. The
share is that of the rate at which this machine multiplies large matrices, measured in the same run; the arithmetic of a
picture is that of a Whole pass.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import nextpixel as npx
from benchmarks.measure import interleaved, machine, matrix_rate, named, save, settled
from nextpixel.image_model import ImageModel
from nextpixel.replay.native import kernels
from nextpixel.tasks.drawing import SampleOptions, choose, uniform_noise

DEPTH = {"gated_pixelcnn": "layers", "row_lstm": "layers", "diagonal_bilstm": "layers", "pixelcnn": "blocks"}


@torch.no_grad()
def naive_sample(model: ImageModel, n: int, seed: int = 0) -> torch.Tensor:
    """Every symbol from a Whole pass over everything drawn so far."""
    channels, height, width = model.shape
    x = torch.zeros(n, channels, height, width, dtype=torch.long)
    noise = uniform_noise(seed, range(n), model.shape)
    for row in range(height):
        for column in range(width):
            for channel in range(channels):
                log_pmf = model.log_pmf(x)[:, channel, row, column]
                x[:, channel, row, column] = choose(log_pmf, noise[:, channel, row, column], SampleOptions())
    return x


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Without the compiled kernels."""
    kernels.cache_clear()
    os.environ["NEXTPIXEL_NATIVE"] = "0"
    try:
        yield
    finally:
        kernels.cache_clear()
        del os.environ["NEXTPIXEL_NATIVE"]


def measure(net: ImageModel, batch: int, repeats: int) -> dict[str, Any]:
    device = str(net.like().device)
    x = torch.randint(0, net.levels, (batch, *net.shape)).to(device)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        net.log_pmf(x[:1])

    def whole() -> None:
        with torch.no_grad():
            net.log_pmf(x)

    def stepped() -> None:
        npx.sample(net, n=batch, batch_size=batch, method="cursor")

    def stepped_eagerly() -> None:
        with eager():
            stepped()

    runs = {"whole": whole, "cursor": stepped, "eager": stepped_eagerly}
    times = interleaved({name: settled(run, device) for name, run in runs.items()}, repeats)
    symbols = net.shape[1] * net.shape[2] * (net.shape[0] if net.channels_by == "network" else 1)
    rate = matrix_rate(3, device)
    return {
        "batch": batch,
        **{f"{name}_seconds": value for name, value in times.items()},
        "passes": times["cursor"] / times["whole"],
        "ratio": symbols * times["whole"] / times["cursor"],
        "over_eager": times["eager"] / times["cursor"],
        "share": counted.get_total_flops() * batch / times["cursor"] / rate,
        "whole_share": counted.get_total_flops() * batch / times["whole"] / rate,
        "matrix_rate": rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"threads": 2, "layers": 10, "features": 64, "repeats": 3, "size": 28, "check": 11}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--family", default="gated_pixelcnn")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    depth = {DEPTH[args.family]: args.layers} if args.family in DEPTH else {}

    def model(size: int) -> ImageModel:
        return (
            npx.build(args.family, shape=(1, size, size), levels=2, features=args.features, **depth)
            .eval()
            .to(args.device)
        )

    small = model(args.check).double()
    assert bool((naive_sample(small, 3) == npx.sample(small, n=3, method="cursor")).all()), "the samplers disagree"
    net, rows = model(args.size), []
    print(f"{args.family}, {depth} of {args.features} features, {args.size}x{args.size}, {args.threads} threads")
    for batch in args.batches:
        row = measure(net, batch, args.repeats)
        rows.append(row)
        print(
            f"batch {batch:4}: Whole {row['whole_seconds']:7.3f} s ({row['whole_share']:4.0%} of the matrix rate), "
            f"Cursor {row['cursor_seconds']:7.3f} s = {row['passes']:5.2f} passes ({row['share']:4.0%}), "
            f"{row['ratio']:6.0f} times faster than re-running, {row['over_eager']:4.1f} times than eager",
            flush=True,
        )
    save(named(f"sampling_{args.family}", args.device), {**machine(args.device), **vars(args), "rows": rows})


if __name__ == "__main__":
    main()
