"""CIFAR-10 as lossless strips, or as the official ``cifar-10-batches-py`` folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nextpixel.errors import UserError
from nextpixel.images.batches import read_batch
from nextpixel.images.source import Array, Part, Parts, load_npz

OFFICIAL = "cifar-10-batches-py"
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}


def read_cifar10(folder: Path) -> Parts:
    """Train and test [N,32,32,3] in the official order.

    folder: either holds ``train_*.webp``, ``test_*.webp`` (strips, 32 pixels wide, of images one under the
    other) and ``labels.npz``, or is, or holds, the official folder of Python batches.
    """
    for candidate in (folder / OFFICIAL, folder):
        if (candidate / "test_batch").is_file():
            return {part: _read_batches(candidate, files) for part, files in BATCHES.items()}
    return _read_strips(folder)


def _read_batches(folder: Path, files: list[str]) -> Part:
    batches = [read_batch(folder / name, size=32) for name in files]
    return Part(np.concatenate([b.images for b in batches]), np.concatenate([b.labels for b in batches]))


def _read_strips(folder: Path) -> Parts:
    all_labels = load_npz(folder / "labels.npz")
    parts: Parts = {}
    for part in ("train", "test"):
        files = sorted(folder.glob(f"{part}_*.webp"))
        if not files or part not in all_labels:
            raise UserError(f"{folder} lacks {part}_*.webp or their labels in labels.npz: put both there.")
        images = np.concatenate([_read_strip(path) for path in files])
        labels = all_labels[part]
        if len(labels) != len(images):
            raise UserError(f"{folder} holds {len(images)} {part} images but {len(labels)} labels: fetch it again.")
        parts[part] = Part(images, labels)
    return parts


def _read_strip(path: Path) -> Array:
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): fetch it again.") from error
    if pixels.shape[1] != 32 or pixels.shape[0] % 32:
        raise UserError(f"{path} is not a strip of 32x32 images: fetch it again.")
    return pixels.reshape(-1, 32, 32, 3)
