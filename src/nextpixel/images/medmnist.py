"""PneumoniaMNIST, in MedMNIST's own layout."""

from __future__ import annotations

from pathlib import Path

from nextpixel.errors import UserError
from nextpixel.images.source import Part, Parts, load_npz

KEYS = {"train": "train", "valid": "val", "test": "test"}


def read_pneumonia_mnist(folder: Path) -> Parts:
    """Train, valid and test [N,28,28] with labels 0 (normal) and 1 (pneumonia)."""
    found = [path for path in (folder / "pneumonia_mnist.npz", folder / "pneumoniamnist.npz") if path.is_file()]
    if not found:
        raise UserError(f"{folder} lacks pneumonia_mnist.npz: put it there.")
    arrays = load_npz(found[0])
    if not {f"{key}_{what}" for key in KEYS.values() for what in ("images", "labels")} <= arrays.keys():
        raise UserError(f"{found[0]} lacks some of train, val and test _images and _labels: fetch it again.")
    return {part: Part(arrays[f"{key}_images"], arrays[f"{key}_labels"].reshape(-1)) for part, key in KEYS.items()}
