"""What freezing costs: bits/dim and seconds of one parallel pass, frozen and not, and of stepping.

python -m benchmarks.exact            binarised MNIST (the model in the package), 1,000 test images, spaced evenly
python -m benchmarks.exact --digits   every family that can be frozen, trained on the digits for some minutes in all

The difference in bits is measured on the same images. Times are the best of several runs in turn, one thread unless
OMP_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable
from typing import Any, Literal

import torch

import nextpixel as npx
from benchmarks.measure import interleaved, machine, save, seconds

MNIST = "gated_pixelcnn, MNIST"
TRAINED = "binarized-mnist"  # it comes with the package
DIGITS: dict[str, dict[str, Any]] = {
    "gated_pixelcnn": {"layers": 6, "features": 32},
    "pixelcnn": {"blocks": 4, "features": 32},
    "pixelcnnpp": {"features": 16, "scales": 2, "dropout": 0.1},
    "row_lstm": {"layers": 3},
    "diagonal_bilstm": {"layers": 3},
}
FORMS: tuple[Literal["float32", "float64"], ...] = ("float32", "float64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=12, help="of the digits models")
    args = parser.parse_args()
    rows = []
    if args.digits:
        data = npx.dataset("digits")
        for family, options in DIGITS.items():
            for head in ("categorical", "logistic_mixture"):
                torch.manual_seed(0)
                model = npx.build(family, like=data, head=head, **options)
                with tempfile.TemporaryDirectory() as folder:
                    npx.train(model, data, run=f"{folder}/run", epochs=args.epochs, progress=False)
                rows += [show(row) for row in measured(model, data.test, f"{family}, {head}")]
    else:
        data = npx.dataset("binarized_mnist")
        model = npx.load(TRAINED)
        rows += [show(row) for row in measured(model, data.test, MNIST, args.images)]
        rows += [show(row) for row in timed(model, data.test[:64].images)]
        rows += [show(row) for row in decoding(model, data.test)]
    save("exact-digits" if args.digits else "exact", {**machine(), "rows": rows})


def measured(model: npx.ImageModel, data: npx.Split, name: str, limit: int = 0) -> list[dict[str, Any]]:
    """What freezing costs in bits, in both forms."""
    true = npx.evaluate(model, data, limit=limit)
    rows = []
    for form in FORMS:
        frozen = npx.evaluate(npx.freeze(model, form=form), data, limit=limit).bits_per_dim
        rows.append(
            {
                "model": name,
                "form": form,
                "images": true.images,
                "bits_per_dim": true.bits_per_dim,
                "frozen_bits_per_dim": frozen,
                "cost_percent": 100 * (frozen / true.bits_per_dim - 1),
            }
        )
    return rows


def timed(model: npx.ImageModel, images: torch.Tensor) -> list[dict[str, Any]]:
    """One parallel pass over images, in floating point and in both forms."""
    exact = {form: npx.freeze(model, form=form) for form in FORMS}

    def parallel() -> None:
        with torch.no_grad():
            model.log_prob(images)

    passes: dict[str, Callable[[], object]] = {"float": parallel}
    passes |= {form: functools.partial(one.masses, images) for form, one in exact.items()}
    times = interleaved(passes, 5)
    return [
        {
            "model": MNIST,
            "form": form,
            "float_pass_ms_per_image": 1e3 * times["float"] / len(images),
            "frozen_pass_ms_per_image": 1e3 * times[form] / len(images),
            "speed": times["float"] / times[form],
        }
        for form in FORMS
    ]


def decoding(model: npx.ImageModel, data: npx.Split) -> list[dict[str, Any]]:
    """Images a second, stepping with the symbols known: what decoding costs but for the entropy coder."""
    rows = []
    for form in FORMS:
        exact = npx.freeze(model, form=form)
        for batch in (1, 16, 64):
            images = data[:batch].images
            took = seconds(functools.partial(stepped, exact, images), 1)
            rows.append({"model": MNIST, "form": form, "batch": batch, "decoded_per_s": batch / took})
    return rows


def stepped(exact: npx.ExactModel, images: torch.Tensor) -> None:
    decoder = exact.decoder(len(images))
    for values in exact.in_sequence(images).unbind(1):
        decoder.masses()
        decoder.push(values)


def show(row: dict[str, Any]) -> dict[str, Any]:
    print({key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    return row


if __name__ == "__main__":
    main()
