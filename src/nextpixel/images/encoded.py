"""Pictures that are decoded when asked for, from files or shards, by an index."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images.decode import UnreadableError, decode_file
from nextpixel.images.index import Index
from nextpixel.images.resize import Fit, fit_note, fit_picture
from nextpixel.images.source import LazySource, StorePart
from nextpixel.images.store import Indices, Store, UnreadableImageError


class Reader(Protocol):
    """Gets the bytes of a picture."""

    def read(self, name: str, place: tuple[int, int, int]) -> bytes:
        """Raises OSError or UnreadableError where they cannot be had. Safe from several threads at once."""


class EncodedStore(Store):
    """Pictures `start` to `stop` of an index, each decoded and brought to one size when it is read."""

    def __init__(
        self, index: Index, reader: Reader, where: str, rows: tuple[int, int], size: tuple[int, int], fit: Fit | None
    ):
        """where: stands before names in errors. size: (H,W); fit: how others are brought to it; None refuses them."""
        self.index, self.reader, self.where, self.start, self.size, self.fit = index, reader, where, rows[0], size, fit
        self.shape = (rows[1] - rows[0], 3 if index.colour else 1, *size)

    def read(self, indices: Indices) -> Tensor:
        images = np.empty((len(indices), *self.size, self.shape[1]), np.uint8)
        for at in np.argsort(indices):  # in the order in which they lie on the disk
            images[at] = self._one(self.start + int(indices[at]))
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def _one(self, row: int) -> np.ndarray:
        name = self.index.name(row)
        shown = f"{self.where}{name}"
        first, second, third = self.index.places[row].tolist()
        try:
            content = self.reader.read(name, (first, second, third))
            picture = decode_file(io.BytesIO(content), shown)
        except (OSError, UnreadableError) as error:
            raise UnreadableImageError(shown, str(error)) from error
        if self.fit is not None and (picture.height, picture.width) != self.size:
            try:
                picture = fit_picture(picture, self.size, self.fit)
            except UserError as error:
                raise UserError(f"{shown}: {error}") from None
        if (picture.height, picture.width) != self.size or (picture.mode == "RGB" and not self.index.colour):
            raise UnreadableImageError(shown, "its size or colours are not those it had when it was indexed")
        pixels = np.asarray(picture)
        return pixels[..., None] if pixels.ndim == 2 else pixels


def lazy_source(
    index: Index, reader: Reader, root: Path, where: str, size: tuple[int, int] | None, fit: Fit
) -> LazySource:
    """The parts of an index as stores. Raises UserError where sizes differ and no size is given."""
    wanted = _size(index, root, where, size, fit)
    other = bool((index.sizes != wanted).any())
    parts = {}
    for key, rows in index.parts.items():
        labels = np.asarray(index.labels[slice(*rows)])
        missing = int((labels < 0).sum())
        if 0 < missing < len(labels):
            raise UserError(f"{missing} of {len(labels)} pictures of {root} have no class: give one to all or none.")
        store = EncodedStore(index, reader, where, rows, wanted, fit if size is not None else None)
        parts[key] = StorePart(store, None if missing else labels)
    notes = [fit_note(wanted, fit)] if other else []
    return LazySource(root.resolve().name, parts, 256, "8-bit", notes, index.skipped)


def _size(index: Index, root: Path, where: str, size: tuple[int, int] | None, fit: Fit) -> tuple[int, int]:
    smallest, largest = index.sizes.min(axis=0), index.sizes.max(axis=0)
    if size is None:
        if (smallest != largest).any():
            other = index.sizes[int((index.sizes != index.sizes[0]).any(axis=1).argmax())]
            (h, w), (h2, w2) = index.sizes[0], other
            raise UserError(
                f"{root} holds pictures of several sizes, such as {h}x{w} and {h2}x{w2} (height x width): "
                'pass size= (--size), and fit="resize" (--fit resize) to scale rather than crop.'
            )
        return int(smallest[0]), int(smallest[1])
    if fit == "crop" and (smallest < size).any():
        row = int((index.sizes < size).any(axis=1).argmax())
        height, width = index.sizes[row]
        raise UserError(
            f"{where}{index.name(row)}: A picture of {height}x{width} has no centre of {size[0]}x{size[1]} pixels: "
            'pass fit="resize" (--fit resize) or a smaller size.'
        )
    return size
