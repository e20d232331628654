"""PixelCNN++ (Salimans et al. 2017): two streams of gated residual blocks over levels of halved size, with short-cuts.

The vertical stream (down) sees all rows above, the pixel stream (down and right) also what lies to the left. On the way
down every block's output is kept for the block at the same height on the way up. The channels of a pixel are ordered by
the head. Ablations are flags: shortcuts=false, dropout=0 and another head are the paper's, scales=1 (no down-sampling)
is ours.

Differences from the paper's code: any image size (sizes are rounded up on the way down, cropped on the way up); going
down is a convolution of which every second row and column is kept, going up one with four times the features, dealt out
to four positions; the pixel stream's first layer is one convolution over the row above and the left neighbour. The
lower levels hold what they knew at the first of the positions they stand for, so that far to the side the row directly
above is seen by the full-size blocks only.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from nextpixel.causal import (
    Add,
    ConcatELU,
    DoublePixels,
    DoubleRows,
    Dropout,
    Halve,
    Layout,
    LinearGate,
    PixelConv,
    RowConv,
    Run,
    ShiftDown,
)
from nextpixel.networks.network import Network, check_options, register, spread

Field = tuple[Tensor, Tensor]  # what is seen of the row stream and of the pixel stream of a level, bool [H, W]


@register(
    "pixelcnnpp",
    summary="two streams of gated residual blocks over halved levels (PixelCNN++)",
    channel_masks=False,
    full_context=True,
    conditions=("class", "vector", "map"),
    freezable=True,
)
class PixelCNNPP(Network):
    @dataclasses.dataclass(frozen=True)
    class Config:
        scales: int = 3
        """sizes: the image's, half, a quarter, ...; 1 means no down-sampling"""
        blocks: int = 2
        """residual blocks of each level on the way down (on the way up one more, but at the lowest)"""
        features: int = 64
        """features of each stream"""
        dropout: float = 0.5
        """dropped share inside each block, in training"""
        shortcuts: bool = True
        """connect each level's way down with its way up"""
        normalised: bool = True
        """weight normalisation, initialised from the first images by `train`"""

        def __post_init__(self) -> None:
            check_options(self, counts="scales blocks features", shares="dropout")

    def __init__(self, config: Config, inputs: Layout, outputs: Layout, condition: int | None = None):
        super().__init__(config, inputs, outputs, condition)
        one = Layout((config.features,))
        self.shift = ShiftDown()
        self.first_row = RowConv(inputs.width, config.features, 2, 3, config.normalised)
        self.first_pixel = PixelConv(inputs, one, "A", left=1, rows=1, side=1, normalised=config.normalised)
        self.top = _Level(config, config.scales, condition)
        self.elu = ConcatELU()
        self.out = PixelConv(Layout((config.features,), 2), outputs, "B", normalised=config.normalised)

    def rows(self, x: Tensor | None, condition: Tensor | None, run: Run) -> list[Tensor]:
        first = self.first_row(self.shift(x, run), run)
        *contexts, _ = self.top.rows(first, condition, (first.shape[1], first.shape[2]), run)
        return contexts

    def pixels(self, x: Tensor | None, contexts: list[Tensor], run: Run) -> Tensor:
        first = self.first_pixel(x, run)
        size = (contexts[0].shape[1], contexts[0].shape[2])
        return self.out(self.elu(self.top.pixels(first, contexts, size, run)), run)

    def receptive_field(self, height: int, width: int, row: int, column: int) -> Tensor:
        pixel = torch.zeros(height, width, dtype=torch.bool)
        pixel[row, column] = True
        rows, pixels = self.top.seen(torch.zeros_like(pixel), pixel)
        above = spread(rows, range(-2, 0), range(-1, 2))
        return above | spread(pixels, range(-1, 0), range(-1, 2)) | spread(pixels, range(1), range(-1, 0))


class _Level(nn.Module):
    """One size: blocks on the way down, the level below, blocks on the way up.

    Row contexts of a level, in order: for every block down, for every block up, then those of the level below.
    """

    lower: Any
    down_blocks: Any
    up_blocks: Any

    def __init__(self, config: PixelCNNPP.Config, scales: int, condition: int | None):
        super().__init__()
        features, self.shortcuts = config.features, config.shortcuts
        self.lowest = scales == 1
        ups = config.blocks if self.lowest else config.blocks + 1
        self.down_blocks = nn.ModuleList(_Block(config, condition, up=False) for _ in range(config.blocks))
        self.up_blocks = nn.ModuleList(_Block(config, condition, up=True) for _ in range(ups))
        if not self.lowest:
            one, four = Layout((features,)), Layout((4 * features,))
            self.row_down = RowConv(features, features, 2, 3, config.normalised)
            self.pixel_down = PixelConv(one, one, "B", left=1, rows=1, side=(1, 0), normalised=config.normalised)
            self.halve, self.double_rows, self.double_pixels = Halve(), DoubleRows(), DoublePixels()
            self.lower = _Level(config, scales - 1, condition)
            self.row_up = RowConv(features, 4 * features, 1, 3, config.normalised)
            self.pixel_up = PixelConv(one, four, "B", normalised=config.normalised)

    def rows(self, x: Tensor, condition: Tensor | None, size: tuple[int, int], run: Run) -> list[Tensor]:
        """Contexts of all blocks; the last one is the level's own row stream, for the level above."""
        here = None if condition is None else run.row_of(condition)
        kept, contexts = [x], []
        for block in self.down_blocks:
            x, context = run.block(block.rows, x, None, here)
            kept.append(x)
            contexts.append(context)
        if self.lowest:
            x = kept.pop()
            below: list[Tensor] = []
        else:
            less = None if condition is None else _thinned(condition)
            down = self.row_down(x, run)
            below = run.hold_rows(self, lambda half: self._rows_below(down, less, run, half))
            x = self.double_rows(below[-1], size[1], size[0], run)
            below = below[:-1]
        for block in self.up_blocks:
            x, context = run.block(block.rows, x, kept.pop() if self.shortcuts else None, here)
            contexts.append(context)
        return [*contexts, *below, x]

    def _rows_below(self, down: Tensor, condition: Tensor | None, run: Run, half: Run) -> list[Tensor]:
        thin = self.halve(down, run)
        *contexts, x = self.lower.rows(thin, condition, (thin.shape[1], thin.shape[2]), half)
        return [*contexts, self.row_up(x, half)]

    def pixels(self, x: Tensor, contexts: list[Tensor], size: tuple[int, int], run: Run) -> Tensor:
        kept, number = [x], len(self.down_blocks)
        for block, context in zip(self.down_blocks, contexts[:number], strict=True):
            x = run.block(block.pixels, x, None, context)
            kept.append(x)
        above = number + len(self.up_blocks)
        if self.lowest:
            x = kept.pop()
        else:
            down = self.pixel_down(x, run)
            low = run.hold_pixel(self, lambda half: self._pixels_below(down, contexts[above:], run, half))
            x = self.double_pixels(low, size[1], size[0], run)
        for block, context in zip(self.up_blocks, contexts[number:above], strict=True):
            x = run.block(block.pixels, x, kept.pop() if self.shortcuts else None, context)
        return x

    def _pixels_below(self, down: Tensor, contexts: list[Tensor], run: Run, half: Run) -> Tensor:
        thin = self.halve(down, run)
        size = (contexts[0].shape[1], contexts[0].shape[2])
        return self.pixel_up(self.lower.pixels(thin, contexts, size, half), half)

    def seen(self, rows: Tensor, pixels: Tensor) -> Field:
        """From which positions of the level's inputs its outputs at `rows` and `pixels` come."""
        wanted = len(self.down_blocks) - (1 if self.lowest else 0)  # the output of which block down is next
        kept: dict[int, Field] = {}
        for index in reversed(range(len(self.up_blocks))):
            rows, pixels, kept[wanted - index] = _seen_by_block(rows, pixels)
        if not self.lowest:
            rows, pixels = self._seen_below(rows, pixels)
        for index in reversed(range(len(self.down_blocks) + 1)):
            if self.shortcuts and index in kept:
                rows, pixels = rows | kept[index][0], pixels | kept[index][1]
            if index:
                rows, pixels, _ = _seen_by_block(rows, pixels)
        return rows, pixels

    def _seen_below(self, rows: Tensor, pixels: Tensor) -> Field:
        low_rows, low_pixels = self.lower.seen(spread(_halved(rows), range(1), range(-1, 2)), _halved(pixels))
        fine_rows, fine_pixels = torch.zeros_like(rows), torch.zeros_like(pixels)
        fine_rows[::2, ::2], fine_pixels[::2, ::2] = low_rows, low_pixels
        return spread(fine_rows, range(-1, 1), range(-1, 2)), spread(fine_pixels, range(-1, 1), range(-1, 1))


class _Block(nn.Module):
    """A gated residual block of both streams; the pixel stream is told what the row stream has found."""

    def __init__(self, config: PixelCNNPP.Config, condition: int | None, up: bool):
        super().__init__()
        features, normalised = config.features, config.normalised
        self.one, two = Layout((features,)), Layout((features,), 2)
        self.row_1 = RowConv(2 * features, features, 2, 3, normalised)
        self.row_2 = RowConv(2 * features, 2 * features, 2, 3, normalised)
        self.pixel_1 = PixelConv(two, self.one, "B", 1, 1, (1, 0), normalised)
        self.pixel_2 = PixelConv(two, two, "B", 1, 1, (1, 0), normalised)
        self.link = RowConv(2 * features, features, 1, 1, normalised)
        if up and config.shortcuts:
            self.row_skip = RowConv(2 * features, features, 1, 1, normalised)
            self.pixel_skip = PixelConv(two, self.one, "B", normalised=normalised)
        if condition is not None:
            self.row_condition = nn.Linear(condition, features, bias=False)
            self.pixel_condition = nn.Linear(condition, features, bias=False)
        self.elu, self.gate, self.add, self.dropout = ConcatELU(), LinearGate(), Add(), Dropout(config.dropout)

    def rows(self, x: Tensor, skip: Tensor | None, here: Tensor | None, run: Run) -> tuple[Tensor, Tensor]:
        """The row stream's new features, and the context of the pixel stream."""
        h = self.row_1(self.elu(x), run)
        if skip is not None:
            h = self.add(h, self.row_skip(self.elu(skip), run))
        if here is not None:
            h = self.add(h, self.row_condition(here))
        new = self.add(x, self.gate(self.row_2(self.dropout(self.elu(h)), run)))
        context = self.link(self.elu(new), run)
        return new, context if here is None else self.add(context, self.pixel_condition(here))

    def pixels(self, x: Tensor, skip: Tensor | None, context: Tensor, run: Run) -> Tensor:
        h = self.add(self.pixel_1(self.elu(x), run), run.here(context, self.one))
        if skip is not None:
            h = self.add(h, self.pixel_skip(self.elu(skip), run))
        return self.add(x, self.gate(self.pixel_2(self.dropout(self.elu(h)), run)))


def _seen_by_block(rows: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Field]:
    """What a block sees of its two inputs, and of the two short-cuts that are added between its convolutions."""
    row_kernel, pixel_kernel = (range(-1, 1), range(-1, 2)), (range(-1, 1), range(-1, 1))
    between_pixels = spread(pixels, *pixel_kernel)
    rows = rows | between_pixels
    between_rows = spread(rows, *row_kernel)
    return (
        rows | spread(between_rows, *row_kernel),
        pixels | spread(between_pixels, *pixel_kernel),
        (between_rows, between_pixels),
    )


def _halved(seen: Tensor) -> Tensor:
    """The positions of the lower level that stand for `seen`."""
    low = torch.zeros(-(-seen.shape[0] // 2), -(-seen.shape[1] // 2), dtype=torch.bool)
    for row, column in torch.nonzero(seen).tolist():
        low[row // 2, column // 2] = True
    return low


def _thinned(condition: Tensor) -> Tensor:
    """A map of the condition for the level below."""
    return condition[:, ::2, ::2]
