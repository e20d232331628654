"""Training step of the Gated PixelCNN beside a plain masked-convolution implementation of the same network, and beside
the machine's own matrix products.

python -m benchmarks.training_step [--device cpu] [--threads 2] [--layers 10] [--features 64] [--batch 16]
                                   [--processor-time]

Counted are the multiply-adds that the mathematics needs: forward, every weight of a matrix or a kernel once a pixel;
backward, twice as many, but none for the gradient of the first layer's input, which nobody asks for. Biases, gates,
sums and the optimiser count nothing. A multiply-add is 2 operations. The machine's rate is that of torch.mm on
1024×1024 matrices.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import nextpixel as npx
from benchmarks.measure import RESULTS, interleaved, machine, matrix_rate, named, save, settled
from benchmarks.plain_gated import PlainGated
from nextpixel.errors import UserError
from nextpixel.image_model import ImageModel
from nextpixel.tasks.acceleration import check_bfloat16, keep_freed_memory, recomputing

SIDE = 28
PRODUCT = 1024


def step(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return run


def operations(model: ImageModel) -> int:
    """Of a training step on one picture, as counted above; for one channel, where no weight is masked."""
    network: Any = model.network
    weights = sum(p.numel() for p in network.parameters() if p.dim() > 1)
    first = network.layers[0].down.weight.numel() + network.layers[0].left.before.numel()
    return 2 * (3 * weights - first) * SIDE * SIDE


def products(count: int, device: str) -> Callable[[], None]:
    a, b, c = (torch.randn(PRODUCT, PRODUCT, device=device) for _ in range(3))

    def run() -> None:
        for _ in range(count):
            torch.mm(a, b, out=c)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("threads", 2), ("layers", 10), ("features", 64), ("batch", 16), ("repeats", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--processor-time", action="store_true", help="not the clock's: for one thread on a machine that others use too"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as `train` does; for all of them
    torch.manual_seed(0)
    shape, options = (1, SIDE, SIDE), {"layers": args.layers, "features": args.features}
    ours = npx.build("gated_pixelcnn", shape=shape, levels=2, **options)
    plain = PlainGated(args.layers, args.features, 1)
    plain.take_weights(ours)
    ours, plain = ours.to(args.device), plain.to(args.device)
    x = torch.randint(0, 2, (args.batch, *shape)).to(args.device)
    embedded = torch.cat([torch.ones_like(x), 2.0 * x - 1], 1)
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        difference = float((plain(embedded) - ours.features(x).permute(0, 3, 1, 2)).abs().max())
    assert difference < 1e-4, f"the two networks differ by {difference}"

    def in_bfloat16() -> torch.Tensor:
        with torch.autocast(torch.device(args.device).type, torch.bfloat16):
            return -ours.log_prob(x).mean()

    def recomputed() -> torch.Tensor:
        with recomputing(ours, True):
            return -ours.log_prob(x).mean()

    needed = operations(ours) * args.batch
    count = max(1, needed // (2 * PRODUCT**3))  # about as much as a step
    runs: dict[str, Callable[[], object]] = {
        "nextpixel": step(ours, lambda: -ours.log_prob(x).mean()),
        "plain masked": step(
            plain,
            lambda: F.binary_cross_entropy_with_logits(plain(embedded), x.float(), reduction="sum") / args.batch,
        ),
        "matrix products": products(count, args.device),
        "nextpixel, recompute": step(ours, recomputed),
    }
    try:
        check_bfloat16(args.device)
        runs["nextpixel, bf16"] = step(ours, in_bfloat16)
    except UserError as refusal:
        print(f"no bf16: {refusal}")
    runs = {name: settled(run, args.device) for name, run in runs.items()}
    times = interleaved(runs, args.repeats, time.process_time if args.processor_time else time.perf_counter)
    product_rate = 2 * PRODUCT**3 * count / times.pop("matrix products")
    rates = {name: args.batch / time for name, time in times.items()}
    ratio, share = rates["nextpixel"] / rates["plain masked"], needed / times["nextpixel"] / product_rate
    print(f"same function within {difference:.1e}; {args.layers} layers x {args.features}, batch {args.batch}, 28x28x1")
    for name, rate in rates.items():
        print(f"{name:21}{rate:7.1f} images/s")
    print(f"{'ratio':21}{ratio:7.2f}")
    print(f"{'matrix products':21}{product_rate / 1e9:7.0f} GFLOP/s")
    print(f"{'share of their rate':21}{share:7.1%} ({needed / args.batch / 1e9:.2f} GFLOP an image)")
    on_gpu = args.device != "cpu"
    in_bf16 = {"matrix_rate_bf16": matrix_rate(3, args.device, torch.bfloat16)} if on_gpu else {}
    save(
        named("training_step", args.device) + ("_1_thread" if args.threads == 1 and not on_gpu else ""),
        {
            **machine(args.device),
            **in_bf16,
            **{name: value for name, value in vars(args).items() if name != "results"},
            "images_per_second": rates,
            "ratio": ratio,
            "difference": difference,
            "operations_per_image": needed // args.batch,
            "matrix_products_per_second": product_rate,
            "share_of_matrix_products": share,
        },
        args.results,
    )


if __name__ == "__main__":
    main()
