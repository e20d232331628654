"""What the readers hand over: raw arrays as they lie in the files, before any splitting."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nextpixel.errors import UserError
from nextpixel.images.store import Store

Array = NDArray[Any]


class Part(NamedTuple):
    """One part of a source. images: integers [N,H,W] or [N,H,W,C]; labels: integers [N] or None; told: as of Split."""

    images: Array
    labels: Array | None
    told: dict[str, Array] = {}  # noqa: RUF012 - never changed


Parts = dict[str, Part]
"""Keys: "train" with or without "valid" and "test"; or "all" for a source without splits."""


@dataclass
class Source:
    """Parts with what a Dataset of them must say.

    levels: of the values as they lie in the files; protocol: what these values are, e.g. "8-bit";
    notes: what else a figure must say, e.g. "resized to 32x32";
    cut: how many images of a part "all" go to train, valid and test, in a seeded order (None: 80/10/10).
    """

    name: str
    parts: Parts
    levels: int
    protocol: str
    notes: list[str] = field(default_factory=list)
    cut: tuple[int, int, int] | None = None
    skipped: list[str] = field(default_factory=list)


class StorePart(NamedTuple):
    """One part of a source that is too large for memory. images: a Store; labels: integers [N] or None."""

    images: Store
    labels: Array | None


@dataclass
class LazySource:
    """What a Source says, of images that are read when asked for."""

    name: str
    parts: dict[str, StorePart]
    levels: int
    protocol: str
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def load_npz(path: Path) -> dict[str, Array]:
    """All arrays of an .npz file, or a .npy file's as {"images": array}; object arrays are refused unread.

    Raises UserError naming the file if it is damaged or not one of these.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"images": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except Exception as error:  # zip, zlib, header and value errors alike: the file is not what it should be
        raise unreadable_array(path, error) from error


def unreadable_array(path: Path, error: Exception) -> UserError:
    """What to say of a file that numpy cannot read."""
    if "allow_pickle" in str(error) or "Python objects" in str(
        error
    ):  # numpy's advice for all that is no array of numbers
        return UserError(f"{path} is no .npy or .npz file of numbers: write them with np.save or np.savez.")
    return UserError(f"{path} cannot be read ({error}): fetch or write it again.")


def array_sha256(array: Array) -> str:
    """Of the values as bytes, in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def channels_first(images: Array) -> Array:
    """[N,H,W] or [N,H,W,C] to [N,C,H,W], contiguous and writeable (a copy only where it is not so already)."""
    moved = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return np.require(moved, requirements=["C", "W"])
