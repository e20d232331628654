"""The idx files of MNIST and its kin, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from nextpixel.errors import UserError
from nextpixel.images.source import Array, Part, Parts

FILES = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> Array:
    """The uint8 array of one idx file. Raises UserError naming the file if it is damaged or of another type."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}): fetch it again.") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != 8:
        raise UserError(f"{path} is not an idx file of bytes: fetch it again.")
    dimensions = raw[3]
    start = 4 + 4 * dimensions
    if len(raw) < start:
        raise UserError(f"{path} ends within its header: fetch it again.")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", dimensions, offset=4))
    if len(raw) - start != math.prod(shape):
        raise UserError(
            f"{path} holds {len(raw) - start} values where its header says {math.prod(shape)}: fetch it again."
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def read_idx_folder(folder: Path) -> Parts:
    """Train and test of a folder with the four files ``{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]``."""
    return {part: _read_pair(folder, stem) for part, stem in FILES.items()}


def _read_pair(folder: Path, stem: str) -> Part:
    image_file, label_file = _find(folder, f"{stem}-images-idx3-ubyte"), _find(folder, f"{stem}-labels-idx1-ubyte")
    images, labels = read_idx(image_file), read_idx(label_file)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise UserError(f"{image_file} and {label_file} do not belong together: fetch both again.")
    return Part(images, labels)


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise UserError(f"{folder} lacks {name}.gz: put the four idx files there.")
