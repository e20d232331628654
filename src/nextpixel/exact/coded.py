"""A frozen model as the lossless code wants it: see `nextpixel.coding.Codable`.

Pictures of families that can be made by diagonals are coded by diagonals, so that they are decoded so: at each step
the diagonal's pixels from the top, one channel of all of them before the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from nextpixel.exact.decoder import Decoder, DiagonalDecoder
from nextpixel.exact.model import ExactModel


class Coded:
    """A `Codable` over a frozen model."""

    def __init__(self, model: ExactModel):
        self.model, self.shape, self.levels, self.classes = model, model.shape, model.levels, model.classes
        self.identity, self.arithmetic = bytes.fromhex(model.identity), model.arithmetic

    def save_pretrained(self, folder: Path) -> None:
        self.model.save_pretrained(folder)

    def in_sequence(self, symbols: Tensor) -> Tensor:
        return self.model.in_sequence(symbols)

    def from_sequence(self, symbols: Tensor, size: tuple[int, int]) -> Tensor:
        return self.model.from_sequence(symbols, size)

    def coding_order(self, size: tuple[int, int]) -> Tensor | None:
        slope = self.model.network.slope
        if slope is None:
            return None
        rows, columns = self.model.placement.grid(*size)
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        pixel, channel = torch.arange(rows * columns), torch.arange(self.shape[0])
        # by time, then by channel, then by row
        place = ((column + slope * row).flatten()[:, None] * self.shape[0] + channel) * rows + row.flatten()[:, None]
        return (pixel[:, None] * self.shape[0] + channel).flatten()[place.flatten().argsort()]

    def masses(self, images: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
        return self.model.stretches(images, labels)

    def decoder(self, n: int, labels: Tensor | None, size: tuple[int, int]) -> _Steps:
        kind = Decoder if self.model.network.slope is None else DiagonalDecoder
        return _Steps(kind(self.model, n, labels, size))


class _Steps:
    def __init__(self, steps: Decoder | DiagonalDecoder):
        self.steps = steps

    def masses(self) -> Tensor:
        return self.steps.masses().unflatten(0, (-1, self.steps.n))

    def push(self, values: Tensor) -> None:
        self.steps.push(values.flatten().to(self.steps.model.like().device))
