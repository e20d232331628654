"""A split whose images are read when asked for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images.levels import binarise, check_levels, storage_dtype
from nextpixel.images.split import Index, Split, as_selection, checked_labels
from nextpixel.images.store import Mapped, Readable, Store, UnreadableImageError, pieces

MOST_DAMAGED = 0.01  # share of a split's images that training may replace
SAMPLED = 256  # images that a fingerprint looks at


class Damaged:
    """The images of a split that could not be read while training: name -> why.

    log: a file to which a line is added for each (None: nowhere). Raises UserError at the image after which more than
    1 % of the split, and more than one image, are damaged.
    """

    def __init__(self, count: int):
        self.names: dict[str, str] = {}
        self.most = max(1, int(MOST_DAMAGED * count))
        self.log: Path | None = None
        self._lock = threading.Lock()

    def add(self, error: UnreadableImageError) -> None:
        with self._lock:
            if error.name in self.names:
                return
            self.names[error.name] = error.why
            if self.log is not None:
                with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(f"{error.name} ({error.why})\n")
        if len(self.names) > self.most:
            raise UserError(
                f"{len(self.names)} images cannot be read, more than {MOST_DAMAGED:.0%} of the split; the last is "
                f"{error.name} ({error.why}): repair the data."
            )


class LazySplit(Split):
    """A Split with the same interface, but its images lie in a store.

    Indexing reads nothing and gives a LazySplit; `draw` reads what it draws; ``images`` reads everything it has, each
    time, and is for parts that fit into memory. Labels are in memory. Change it by `changed`, not by
    ``dataclasses.replace``.

    `draw` is for training: an image that cannot be read is replaced by the next one of the split that can be, and
    noted in ``damaged``. ``images`` replaces nothing, but raises UserError naming the file.
    """

    def __init__(
        self,
        store: Store,
        labels: Tensor | None,
        levels: int,
        name: str,
        protocol: str,
        classes: int | None = None,
        grey_store: Store | None = None,
        grey_levels: int = 256,
        damaged: Damaged | None = None,
    ):
        """grey_store: what ``draw`` draws from under dynamic binarisation; the others as of Split."""
        check_levels(levels)
        if labels is not None:
            labels = checked_labels(labels, len(store), classes, name)
        self.__dict__.update(  # the dataclass is frozen
            store=store,
            labels=labels,
            levels=levels,
            name=name,
            protocol=protocol,
            classes=classes,
            grey_store=grey_store,
            grey_levels=grey_levels,
            damaged=damaged or Damaged(len(store)),
            told={},  # nothing but labels goes with images that are not in memory
        )

    store: Store
    grey_store: Store | None
    damaged: Damaged

    @property
    def images(self) -> Tensor:
        """All images [N,C,H,W], read now."""
        return self._read(np.arange(len(self)))

    @property
    def grey(self) -> Tensor | None:
        """All values that ``draw`` draws from, read now."""
        return None if self.grey_store is None else self.grey_store.read(np.arange(len(self)))

    def changed(self, **changes: Any) -> LazySplit:
        """The same with other arguments of the constructor."""
        names = ("store", "labels", "levels", "name", "protocol", "classes", "grey_store", "grey_levels", "damaged")
        return LazySplit(**{**{name: self.__dict__[name] for name in names}, **changes})

    def mapped(self, change: Callable[[Tensor], Tensor], **changes: Any) -> LazySplit:
        """The split of the images after `change` ([n,C,H,W] to the same shape), with other changes."""
        return self.changed(store=Mapped(self.store, change), **changes)

    def __len__(self) -> int:
        return len(self.store)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W)."""
        return self.store.shape[1:]

    def __getitem__(self, index: Index) -> LazySplit:
        chosen = as_selection(index, len(self))
        if isinstance(chosen, Tensor):
            chosen = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen
            if chosen.numel() and not -len(self) <= int(chosen.min()) <= int(chosen.max()) < len(self):
                raise IndexError(f"images {int(chosen.min())} to {int(chosen.max())} of {len(self)}")
            chosen = torch.where(chosen < 0, chosen + len(self), chosen)
        order = chosen.numpy() if isinstance(chosen, Tensor) else chosen
        return self.changed(
            store=self.store[order],
            labels=None if self.labels is None else self.labels[chosen],
            grey_store=None if self.grey_store is None else self.grey_store[order],
        )

    def drawn(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        if self.grey_store is None:
            images, used = self._replacing(self.store, indices)
            return images.to(storage_dtype(self.levels)), used
        grey, used = self._replacing(self.grey_store, indices)
        return binarise(grey, "dynamic", self.grey_levels, generator=generator), used

    def _replacing(self, store: Store, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images of these indices, the next readable one in place of one that is damaged; and which they are."""
        try:
            return store.read(indices.numpy()), indices
        except UnreadableImageError:
            images, used = zip(*(self._next_readable(store, index) for index in indices.tolist()), strict=True)
            return torch.cat(images), torch.tensor(used)

    def _next_readable(self, store: Store, index: int) -> tuple[Tensor, int]:
        for at in range(index, index + len(self)):
            try:
                return store.read(np.array([at % len(self)])), at % len(self)
            except UnreadableImageError as error:
                self.damaged.add(error)
                last = error
        raise last  # a part of a split may be damaged as a whole

    def _read(self, indices: Any) -> Tensor:
        return self.store.read(indices).to(storage_dtype(self.levels))

    def _pieces(self) -> Iterator[Tensor]:
        return (self._read(indices) for indices in pieces(len(self)))

    @property
    def fingerprint(self) -> str:
        """Of shape, levels, labels and the pixels of 256 images at equal distances: what can be had without reading
        everything. One that cannot be read counts as black."""
        count = min(SAMPLED, len(self))
        some = self.changed(store=Readable(self.store))[torch.arange(count) * len(self) // max(count, 1)]
        digest = hashlib.sha256(f"{len(self)} ".encode() + some.sha256.encode())
        if self.labels is not None:
            digest.update(self.labels.numpy().astype("<i8", copy=False).data)
        return f"sampled:{digest.hexdigest()}"
