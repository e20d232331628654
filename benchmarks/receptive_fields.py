"""The receptive-field pictures of docs/families.md, drawn from gradients.

python -m benchmarks.receptive_fields [--out docs/pictures]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from nextpixel import figures

SIZE = (15, 15)
# Shallow, where depth would only fill the picture; what a family never sees stays unseen at any depth.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "pixelcnn": ("pixelcnn", {"blocks": 3, "features": 8}),
    "gated_pixelcnn": ("gated_pixelcnn", {"layers": 4, "features": 8}),
    "row_lstm": ("row_lstm", {"layers": 1, "features": 8}),
    "diagonal_bilstm": ("diagonal_bilstm", {"layers": 2, "features": 8}),
    "diagonal_bilstm-paper": ("diagonal_bilstm", {"layers": 2, "features": 8, "raw": False}),
    "pixelcnnpp": ("pixelcnnpp", {"scales": 2, "blocks": 2, "features": 8, "dropout": 0.0}),
    "local": ("local", {"layers": 2, "features": 8}),
    "pixelsnail": ("pixelsnail", {"blocks": 1, "layers": 2, "features": 8, "heads": 1}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    args = parser.parse_args()
    for name, (family, options) in MODELS.items():
        torch.manual_seed(0)
        model = npx.build(family, shape=(1, *SIZE), levels=2, **options)
        path = args.out / f"field-{name}.png"
        figures.receptive_field(model, SIZE).savefig(path)
        print(path)


if __name__ == "__main__":
    main()
