"""Images that are read when asked for: where data are larger than memory, a split holds a store instead of a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images import levels as values

LAZY_BYTES = 1 << 30  # decoded pixels above which data are left where they are, unless lazy= says otherwise
PIECE = 1024  # images at a time where all of them are gone through

Indices = NDArray[Any]


class UnreadableImageError(UserError):
    """An image that cannot be read now, though it was there when the data were opened; `name` says which."""

    def __init__(self, name: str, why: str):
        super().__init__(f"{name} cannot be read ({why}): replace it, or remove it.")
        self.name, self.why = name, why


class Store(ABC):
    """Images of one size in a fixed order, read by index. Reading is safe from several threads at once.

    shape: [N,C,H,W].
    """

    shape: tuple[int, int, int, int]

    @abstractmethod
    def read(self, indices: Indices) -> Tensor:
        """The images 0..N-1 of these indices [n], as integers [n,C,H,W] that fit the levels of the data.

        Raises UnreadableImageError, or UserError for values that do not fit; both name the image.
        """

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, order: Indices | slice) -> Store:
        """The store of the chosen images, in that order; nothing is read."""
        return Selected(self, np.arange(len(self))[order] if isinstance(order, slice) else order)


class Selected(Store):
    """Some images of a store, in an order of their own."""

    def __init__(self, store: Store, order: Indices):
        small = np.uint32 if len(store) < 2**32 else np.int64  # half of the memory: one entry an image
        self.store, self.order = store, order.astype(small, copy=False)
        self.shape = (len(order), *store.shape[1:])

    def read(self, indices: Indices) -> Tensor:
        return self.store.read(self.order[indices].astype(np.int64))

    def __getitem__(self, order: Indices | slice) -> Store:
        return Selected(self.store, self.order[order])


class Readable(Store):
    """A store in which an image that cannot be read is black."""

    def __init__(self, store: Store):
        self.store, self.shape = store, store.shape

    def read(self, indices: Indices) -> Tensor:
        try:
            return self.store.read(indices)
        except UnreadableImageError:
            return torch.cat([self._one(index) for index in indices])

    def _one(self, index: int) -> Tensor:
        try:
            return self.store.read(np.array([index]))
        except UnreadableImageError:
            return torch.zeros(1, *self.shape[1:], dtype=torch.uint8)


class Mapped(Store):
    """A store whose images are changed after reading, each by itself.

    change: [n,C,H,W] to [n,*chw]; chw: (C,H,W) afterwards.
    """

    def __init__(self, store: Store, change: Callable[[Tensor], Tensor], chw: tuple[int, int, int] | None = None):
        self.store, self.change = store, change
        self.shape = (len(store), *(chw or store.shape[1:]))

    def read(self, indices: Indices) -> Tensor:
        return self.change(self.store.read(indices))


class FixedDraw(Store):
    """One Bernoulli draw of every image: image i of part p by a generator of its own, seeded with (seed, p, i)."""

    def __init__(self, store: Store, source_levels: int, seed: int, part: int):
        self.store, self.source_levels, self.seed, self.part = store, source_levels, seed, part
        self.shape = store.shape

    def read(self, indices: Indices) -> Tensor:
        grey = self.store.read(indices)
        drawn = torch.empty(grey.shape, dtype=torch.uint8)
        for at, index in enumerate(indices.tolist()):
            drawn[at] = values.binarise(grey[at], "fixed", self.source_levels, seed=[self.seed, self.part, index])
        return drawn


class ArrayStore(Store):
    """An array of integers, such as a memory-mapped .npy file.

    array: [N,H,W] or [N,H,W,C]; levels: what its values must fit; where: its name in errors.
    """

    def __init__(self, array: NDArray[Any], levels: int, where: str):
        self.array, self.levels, self.where = array, levels, where
        count, height, width = array.shape[:3]
        self.shape = (count, 1 if array.ndim == 3 else array.shape[3], height, width)
        self.kind = np.uint8 if levels <= 256 else np.int32
        self.safe = array.dtype == np.uint8 and levels >= 256  # nothing to check

    def read(self, indices: Indices) -> Tensor:
        taken = self.array[indices]
        if not self.safe and taken.size:
            self._check(taken, indices)
        taken = taken[:, None] if taken.ndim == 3 else taken.transpose(0, 3, 1, 2)
        return torch.from_numpy(np.require(taken.astype(self.kind, copy=False), requirements=["C", "W"]))

    def _check(self, taken: NDArray[Any], indices: Indices) -> None:
        wrong = (taken.min() < 0) | (taken.max() >= self.levels)
        if not wrong:
            return
        rows = taken.reshape(len(taken), -1)
        at = int(np.flatnonzero((rows.min(1) < 0) | (rows.max(1) >= self.levels))[0])
        value = int(rows[at].min()) if rows[at].min() < 0 else int(rows[at].max())
        advice = "pixel values start at 0" if value < 0 else f"{self.levels} levels end at {self.levels - 1}"
        more = "" if value < 0 else f": pass levels={value + 1} (--levels {value + 1}) or more"
        raise UserError(f"{self.where} holds the value {value} in image {int(indices[at])}, but {advice}{more}.")


def is_lazy(size: int, lazy: bool | None) -> bool:
    """Whether data of so many bytes are left where they are; `lazy` as of ``dataset``."""
    return size > LAZY_BYTES if lazy is None else lazy


def pieces(count: int) -> Iterator[Indices]:
    """0..count-1 in runs that are read at a time."""
    for start in range(0, count, PIECE):
        yield np.arange(start, min(start + PIECE, count))
