"""Which piece of which picture is coded when: runs of pictures, cut into tiles, in groups of one piece size.

A run is pictures of one size. Without tiles a piece is a picture. With tiles of th × tw every picture is cut from its
upper left corner; what is left at the right and at the bottom makes smaller tiles. The pieces of a run are sorted into
up to four groups of equal size: whole tiles, the right edge, the bottom edge, the corner. Within a group the order is:
picture after picture, its tiles in raster order. Groups follow each other run by run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Run(NamedTuple):
    """`pictures` pictures of height × width."""

    height: int
    width: int
    pictures: int


@dataclass(frozen=True)
class Group:
    """Pieces of height × width of one run: `down` × `across` in each picture, the first at (top, left)."""

    run: int
    pictures: int
    top: int
    left: int
    down: int
    across: int
    height: int
    width: int

    @property
    def per_picture(self) -> int:
        return self.down * self.across

    @property
    def pieces(self) -> int:
        return self.pictures * self.per_picture

    def cut(self, images: Tensor) -> Tensor:
        """The run's images [pictures, C, H, W] as this group's pieces [pieces, C, height, width]."""
        n, channels = images.shape[:2]
        area = self._area(images)
        tiles = area.reshape(n, channels, self.down, self.height, self.across, self.width)
        return tiles.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, self.height, self.width)

    def put(self, images: Tensor, first: int, pieces: Tensor) -> None:
        """Write pieces [n, C, height, width], of which the first has the number `first`, into the run's images."""
        for number, piece in enumerate(pieces, first):
            picture, tile = divmod(number, self.per_picture)
            row, column = divmod(tile, self.across)
            top, left = self.top + row * self.height, self.left + column * self.width
            images[picture, :, top : top + self.height, left : left + self.width] = piece

    def _area(self, images: Tensor) -> Tensor:
        bottom, right = self.top + self.down * self.height, self.left + self.across * self.width
        return images[:, :, self.top : bottom, self.left : right]


def groups(runs: list[Run], tile: tuple[int, int] | None) -> list[Group]:
    """All groups in coding order; `tile` is (height, width) or None for whole pictures."""
    found = []
    for number, run in enumerate(runs):
        th, tw = tile or (run.height, run.width)
        for top, down, height in _spans(run.height, th):
            for left, across, width in _spans(run.width, tw):
                found.append(Group(number, run.pictures, top, left, down, across, height, width))
    return found


def _spans(length: int, tile: int) -> list[tuple[int, int, int]]:
    """(start, how many, size) of the whole tiles and of what is left of a length."""
    whole, rest = divmod(length, tile)
    spans = [(0, whole, tile)] if whole else []
    return [*spans, (whole * tile, 1, rest)] if rest else spans


def blank(run: Run, channels: int, dtype: torch.dtype) -> Tensor:
    """Images [pictures, C, H, W] of a run, all zero. From numpy, whose zeros take no memory until they are written."""
    zeros = np.zeros((run.pictures, channels, run.height, run.width), np.uint8 if dtype == torch.uint8 else np.int32)
    return torch.from_numpy(zeros)
