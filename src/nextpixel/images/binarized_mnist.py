"""The fixed binarisation of MNIST by Larochelle, as packed bits or as the three published text files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nextpixel.errors import UserError
from nextpixel.images.source import Array, Part, Parts, load_npz

PIXELS = 28 * 28
PARTS = ("train", "valid", "test")


def read_binarized_mnist(folder: Path) -> Parts:
    """Train, valid and test as bits [N,28,28] from ``binarized_mnist.npz`` or ``binarized_mnist_*.amat``.

    The packed file may hold ``*_labels_derived``; the text files have no labels.
    """
    packed = folder / "binarized_mnist.npz"
    if packed.is_file():
        return _read_packed(packed)
    return {part: Part(_read_amat(folder / f"binarized_mnist_{part}.amat"), None) for part in PARTS}


def _read_packed(path: Path) -> Parts:
    arrays = load_npz(path)
    parts = {}
    for part in PARTS:
        bits = arrays.get(part)
        if bits is None or bits.dtype != np.uint8 or bits.ndim != 2 or bits.shape[1] != PIXELS // 8:
            raise UserError(f"{path} lacks the packed bits [N,98] under '{part}': fetch it again.")
        labels = arrays.get(f"{part}_labels_derived")
        parts[part] = Part(np.unpackbits(bits, axis=1).reshape(-1, 28, 28), labels)
    return parts


def _read_amat(path: Path) -> Array:
    if not path.is_file():
        raise UserError(f"{path.parent} lacks {path.name}: put the three .amat files or binarized_mnist.npz there.")
    text = np.frombuffer(path.read_bytes(), np.uint8)
    digits = text[(text == ord("0")) | (text == ord("1"))]
    spaces = np.isin(text, np.frombuffer(b" \t\r\n", np.uint8)).sum()
    if len(digits) + spaces != len(text) or len(digits) == 0 or len(digits) % PIXELS:
        raise UserError(f"{path} is not lines of 784 digits 0 or 1: fetch it again.")
    return (digits - ord("0")).reshape(-1, 28, 28)
