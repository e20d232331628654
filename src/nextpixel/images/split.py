"""A split (images with what is known about them) and a data set (three splits)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images.levels import binarise, check_levels, storage_dtype

Index = int | slice | list[int] | list[bool] | Tensor
CHOOSE = "Choose images by an integer, a slice, a list of integers or a boolean mask"


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one size, in a fixed order.

    images:      integers [N,C,H,W], values 0..levels-1; kept as uint8 for up to 256 levels, else as int32
    labels:      int64 [N] or None
    levels:      K
    name:        which images, e.g. "mnist/test"
    protocol:    what was done to the pixel values, e.g. "8-bit"; figures compare only under one protocol
    classes:     number of classes of the whole data set, or None
    grey:        for a train split under dynamic binarisation, the values [N,C,H,W] that ``draw`` draws from
    grey_levels: the number of levels of ``grey``
    told:        what else is known of each image and a model may be conditioned on: "vector", floats [N,V], and "map",
                 floats or integers [N,D,h,w], such as the codes of a coarser level

    Raises UserError where these do not fit together.
    """

    images: Tensor
    labels: Tensor | None
    levels: int
    name: str
    protocol: str
    classes: int | None = None
    grey: Tensor | None = field(default=None, repr=False)
    grey_levels: int = 256
    told: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_levels(self.levels)
        object.__setattr__(self, "images", _checked_images(self.images, self.levels, self.name))
        if self.labels is not None:
            object.__setattr__(self, "labels", checked_labels(self.labels, len(self), self.classes, self.name))
        if self.grey is not None:
            if self.grey.shape != self.images.shape or self.levels != 2:
                raise UserError(f"The grey values of {self.name} must have the shape of its binary images.")
            object.__setattr__(self, "grey", _checked_images(self.grey, self.grey_levels, self.name))
        check_told(self.told, len(self), self.name)

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __getitem__(self, index: Index) -> Split:
        """The Split of the chosen images: an int (one image), slice, list, integer tensor or boolean mask."""
        chosen = as_selection(index, len(self))
        return replace(
            self,
            images=self.images[chosen],
            labels=None if self.labels is None else self.labels[chosen],
            grey=None if self.grey is None else self.grey[chosen],
            told={kind: values[chosen] for kind, values in self.told.items()},
        )

    def condition(self, index: Index = slice(None)) -> dict[str, Tensor]:
        """All that a model of the chosen images may be conditioned on, by kind: "class", "vector", "map"."""
        chosen = as_selection(index, len(self))
        labels = {} if self.labels is None else {"class": self.labels}
        return {kind: values[chosen] for kind, values in {**labels, **self.told}.items()}

    def draw(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Training images [n,C,H,W] for these indices [n]: a fresh Bernoulli draw under dynamic binarisation,
        else simply the images."""
        return self.drawn(indices, generator)[0]

    def drawn(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """What `draw` gives, and the indices [n] of the images that these really are."""
        if self.grey is None:
            return self.images[indices], indices
        return binarise(self.grey[indices], "dynamic", self.grey_levels, generator=generator), indices

    @cached_property
    def sha256(self) -> str:
        """Of shape, levels, pixels and labels: equal for equal data, whatever its name."""
        digest = hashlib.sha256(f"nextpixel split {(len(self), *self.shape)} levels {self.levels}\n".encode())
        for piece in self._pieces():
            digest.update(_bytes_of(piece))
        if self.labels is not None:
            digest.update(b"labels\n")
            digest.update(_bytes_of(self.labels))
        for kind, values in sorted(self.told.items()):
            digest.update(f"{kind} {tuple(values.shape)} {values.dtype}\n".encode())
            digest.update(_bytes_of(values))
        return digest.hexdigest()

    @property
    def fingerprint(self) -> str:
        """By which a run knows its images again: ``sha256``, or less where reading everything takes long."""
        return self.sha256

    def _pieces(self) -> Iterator[Tensor]:
        """All images, in tensors of a size that fits into memory."""
        yield self.images

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else f"labels 0..{(self.classes or 0) - 1}"
        levels = f"{self.levels} levels"
        about = "" if self.protocol == levels else f", {self.protocol}"
        return f"Split({self.name}: {len(self)} x {self.shape}, {levels}, {labels}{about})"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of the same shape, levels and classes; ``skipped`` names files that could not be read."""

    name: str
    train: Split
    valid: Split
    test: Split
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for part in (self.valid, self.test):
            for what in ("shape", "levels", "classes"):
                mine, theirs = getattr(part, what), getattr(self.train, what)
                if mine != theirs:
                    raise UserError(
                        f"{part.name} has {what} {mine}, but {self.train.name} has {theirs}: make them equal."
                    )
            for kind in {**part.told, **self.train.told}:
                told = [split.told[kind].shape[1:] for split in (part, self.train) if kind in split.told]
                if len(told) < 2 or told[0] != told[1]:
                    raise UserError(f"{part.name} and {self.train.name} must have a {kind} of one shape an image.")

    @property
    def levels(self) -> int:
        return self.train.levels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W)."""
        return self.train.shape

    @property
    def classes(self) -> int | None:
        return self.train.classes

    @property
    def protocol(self) -> str:
        return self.test.protocol

    def describe(self) -> dict[str, Any]:
        """What a results card needs, ready for JSON."""
        splits = {"train": self.train, "valid": self.valid, "test": self.test}
        return {
            "name": self.name,
            "shape": list(self.shape),
            "levels": self.levels,
            "classes": self.classes,
            "protocol": self.protocol,
            "splits": {key: {"images": len(part), "sha256": part.sha256} for key, part in splits.items()},
            "skipped": list(self.skipped),
        }


def _checked_images(images: Tensor, levels: int, name: str) -> Tensor:
    if images.dtype.is_floating_point or images.dtype.is_complex or images.dtype == torch.bool:
        raise UserError(f"The images of {name} must be integers, not {images.dtype}: images.levels converts them.")
    if images.dim() != 4:
        raise UserError(f"The images of {name} must have the shape [N,C,H,W], not {list(images.shape)}.")
    if images.numel():
        low, high = (int(v) for v in images.aminmax())
        if low < 0:
            raise UserError(f"The images of {name} hold the value {low}, but pixel values start at 0.")
        if high >= levels:
            raise UserError(
                f"The images of {name} hold the value {high}, but {levels} levels end at {levels - 1}: "
                f"use levels={high + 1} or more."
            )
    return images.to(storage_dtype(levels))


def checked_labels(labels: Tensor, count: int, classes: int | None, name: str) -> Tensor:
    """Labels as int64 [count]; UserError unless they are classes 0..classes-1."""
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
        raise UserError(f"The labels of {name} must be integers, not {labels.dtype}.")
    if tuple(labels.shape) != (count,):
        raise UserError(
            f"{name} has {count} images but labels of the shape {list(labels.shape)}: give one label an image."
        )
    if classes is None:
        raise UserError(f"{name} has labels but no number of classes: give classes= as well.")
    if count:
        low, high = (int(v) for v in labels.aminmax())
        if low < 0 or high >= classes:
            raise UserError(f"The labels of {name} are {low}..{high}, but {classes} classes are 0..{classes - 1}.")
    return labels.long()


def check_told(told: dict[str, Tensor], count: int, name: str) -> None:
    """UserError unless these can be the vectors and maps of `count` images."""
    for kind, values in told.items():
        wanted = {"vector": 2, "map": 4}.get(kind)
        if wanted is None:
            raise UserError(f"{name} has a {kind!r} for each image, but what is told is a vector or a map.")
        if values.dim() != wanted or len(values) != count or 0 in values.shape[1:]:
            shape = "[N,V]" if kind == "vector" else "[N,D,h,w]"
            raise UserError(f"The {kind}s of {name} must be {shape} with N = {count}, not {list(values.shape)}.")
        if values.is_complex() or values.dtype == torch.bool:
            raise UserError(f"The {kind}s of {name} must be numbers, not {values.dtype}.")


def as_selection(index: Index, count: int) -> slice | Tensor:
    """What chooses images out of `count`, as a forward slice, or a tensor of integers or of truth values."""
    if isinstance(index, slice):
        start, stop, step = index.indices(count)
        # Tensors take no negative steps, and torch.arange no empty ones.
        return index if step > 0 else torch.tensor(range(start, stop, step), dtype=torch.long)
    if isinstance(index, int | np.integer):
        if not -count <= index < count:
            raise IndexError(f"image {index} of {count}")
        return torch.tensor([int(index)])
    if not isinstance(index, Tensor | np.ndarray | Sequence) or isinstance(index, str):
        raise UserError(f"{CHOOSE}, not {index!r}.")
    chosen = torch.as_tensor(index)
    if chosen.numel() == 0:
        return torch.zeros(0, dtype=torch.long)
    if chosen.dtype == torch.bool and tuple(chosen.shape) != (count,):
        raise UserError(f"A mask must have one entry an image: {count}, not {list(chosen.shape)}.")
    if chosen.dim() != 1 or chosen.dtype.is_floating_point:
        raise UserError(f"{CHOOSE}.")
    return chosen if chosen.dtype == torch.bool else chosen.long()  # torch would take uint8 for a mask


def _bytes_of(x: Tensor) -> memoryview:
    array = np.ascontiguousarray(x.numpy())
    return array.astype(array.dtype.newbyteorder("<"), copy=False).data
