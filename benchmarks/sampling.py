"""Sampling by Cursor beside re-running the network for every pixel, with the same weights in one run.

python -m benchmarks.sampling [--threads 2] [--layers 10] [--features 64] [--batch 64]

Naive sampling is H·W Whole passes; one pass is timed and multiplied, and at the smaller --check size both samplers are
really run with the same noise and must draw the same pictures.
"""

from __future__ import annotations

import argparse

import torch

import nextpixel as npx
from benchmarks.measure import machine, save, seconds
from nextpixel.image_model import ImageModel
from nextpixel.tasks.sample import SampleOptions, choose, uniform_noise


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"threads": 2, "layers": 10, "features": 64, "batch": 64, "repeats": 3, "size": 28, "check": 9}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--family", default="gated_pixelcnn")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    depth = {"layers": args.layers} if args.family == "gated_pixelcnn" else {"blocks": args.layers}

    def model(size: int) -> ImageModel:
        return npx.build(args.family, shape=(1, size, size), levels=2, features=args.features, **depth).eval()

    small = model(args.check).double()
    assert bool((naive_sample(small, 3) == npx.sample(small, n=3)).all()), "the samplers disagree"
    net = model(args.size)
    x = torch.randint(0, 2, (args.batch, 1, args.size, args.size))
    with torch.no_grad():
        whole = seconds(lambda: net.log_pmf(x), args.repeats)
    cursor = seconds(lambda: npx.sample(net, n=args.batch, batch_size=args.batch), args.repeats)
    naive = whole * args.size**2
    print(f"{args.family}, {args.layers} x {args.features}, {args.batch} pictures of {args.size}x{args.size}")
    print(f"one Whole pass                    {whole:9.2f} s")
    print(f"re-running it for every pixel     {naive:9.1f} s ({args.size**2} passes)")
    print(f"Cursor                            {cursor:9.2f} s = {cursor / whole:.2f} passes")
    print(f"ratio                             {naive / cursor:9.0f}")
    save(
        f"sampling_{args.family}_{args.batch}",
        {
            **machine(),
            **vars(args),
            "whole": whole,
            "cursor": cursor,
            "passes": cursor / whole,
            "ratio": naive / cursor,
        },
    )


if __name__ == "__main__":
    main()
