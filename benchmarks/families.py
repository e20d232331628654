"""What a family costs: training step and sampling of all families at about equal numbers of parameters, and of the
convolutional and recurrent ones at equal depth and width (28×28, binary).

python -m benchmarks.families [--threads 2] [--batch 16] [--pictures 64]

Speed only; how well the families predict at equal cost is another question.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

import nextpixel as npx
from benchmarks.measure import interleaved, machine, save, seconds
from nextpixel.model import Model

SIZES: dict[str, dict[str, Any]] = {
    "pixelcnn": {"blocks": 8, "features": 45},
    "gated_pixelcnn": {"layers": 8, "features": 32},
    "row_lstm": {"layers": 5, "features": 32},
    "diagonal_bilstm": {"layers": 4, "features": 34},
    "pixelcnnpp": {"scales": 2, "blocks": 1, "features": 22},
    "pixelsnail": {"blocks": 2, "layers": 2, "features": 36},
    "nade": {"hidden": 72},
}
EQUAL_WIDTH: dict[str, dict[str, Any]] = {
    "pixelcnn": {"blocks": 5, "features": 32},
    "gated_pixelcnn": {"layers": 5, "features": 32},
    "row_lstm": {"layers": 5, "features": 32},
    "diagonal_bilstm": {"layers": 5, "features": 32},
}


def training_step(model: Model, x: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        (-model.log_prob(x)).mean().backward()
        optimizer.step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("threads", 2), ("batch", 16), ("pictures", 64), ("repeats", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = [row for sizes in (SIZES, EQUAL_WIDTH) for row in measured(sizes, args)]
    save("families", {**machine(), **vars(args), "rows": rows})


def measured(sizes: dict[str, dict[str, Any]], args: argparse.Namespace) -> list[dict[str, Any]]:
    x, rows = torch.randint(0, 2, (args.batch, 1, 28, 28)), []
    models = {name: npx.build(name, shape=(1, 28, 28), levels=2, **options) for name, options in sizes.items()}
    steps = interleaved({name: training_step(model, x) for name, model in models.items()}, args.repeats)
    for name, model in models.items():
        model.eval()
        pictures = torch.randint(0, 2, (args.pictures, 1, 28, 28))
        with torch.no_grad():
            whole = seconds(lambda model=model, pictures=pictures: model.log_pmf(pictures), 2)  # type: ignore[misc]
        drawn = seconds(lambda model=model: npx.sample(model, n=args.pictures, method="cursor"), 1)  # type: ignore[misc]
        row = {
            "family": name,
            "options": sizes[name],
            "parameters": model.parameter_count,
            "train_images_per_second": args.batch / steps[name],
            "sample_seconds": drawn,
            "passes": drawn / whole,
            "times_faster_than_rerunning": 784 * whole / drawn,
        }
        rows.append(row)
        print(
            f"{name:16} {row['parameters']:8,} parameters {row['train_images_per_second']:7.1f} images/s trained, "
            f"{args.pictures} pictures in {drawn:6.2f} s = {row['passes']:5.1f} passes, "
            f"{row['times_faster_than_rerunning']:5.0f} times faster than re-running",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    main()
