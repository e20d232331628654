"""Training step of the Gated PixelCNN beside a plain masked-convolution implementation of the same network.

python -m benchmarks.training_step [--threads 2] [--layers 10] [--features 64] [--batch 16]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F

import nextpixel as npx
from benchmarks.measure import interleaved, machine, save
from benchmarks.plain_gated import PlainGated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("threads", 2), ("layers", 10), ("features", 64), ("batch", 16), ("repeats", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    ours = npx.build("gated_pixelcnn", shape=(1, 28, 28), levels=2, layers=args.layers, features=args.features)
    plain = PlainGated(args.layers, args.features, 1)
    plain.take_weights(ours)
    x = torch.randint(0, 2, (args.batch, 1, 28, 28))
    embedded = torch.cat([torch.ones(args.batch, 1, 28, 28), 2.0 * x - 1], 1)
    with torch.no_grad():
        difference = float((plain(embedded) - ours.features(x).permute(0, 3, 1, 2)).abs().max())
    assert difference < 1e-4, f"the two networks differ by {difference}"

    def step(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            optimizer.step()

        return run

    times = interleaved(
        {
            "nextpixel": step(ours, lambda: -ours.log_prob(x).mean()),
            "plain masked": step(
                plain,
                lambda: F.binary_cross_entropy_with_logits(plain(embedded), x.float(), reduction="sum") / args.batch,
            ),
        },
        args.repeats,
    )
    rates = {name: args.batch / time for name, time in times.items()}
    ratio = rates["nextpixel"] / rates["plain masked"]
    print(f"same function within {difference:.1e}; {args.layers} layers x {args.features}, batch {args.batch}, 28x28x1")
    for name, rate in rates.items():
        print(f"{name:13} {rate:7.1f} images/s")
    print(f"ratio         {ratio:7.2f}")
    save(
        "training_step",
        {**machine(), **vars(args), "images_per_second": rates, "ratio": ratio, "difference": difference},
    )


if __name__ == "__main__":
    main()
