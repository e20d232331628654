"""In which order a model goes through the pixels of a picture.

An order is a bijection between a picture and a grid of the order's own, in which it is raster order: row after row from
the top, each from the left. Networks only ever see that grid. The channels of a pixel are always taken in order.

The eight orders of a rectangle, by the first pixel and the direction that is run through first:

    raster               from the top left, row after row
    flip-x               from the top right, row after row: each row from the right
    flip-y               from the bottom left, row after row: rows from the bottom
    flip-xy              from the bottom right, row after row
    transpose            from the top left, column after column
    transpose-flip-x     from the top right, column after column: columns from the right
    transpose-flip-y     from the bottom left, column after column: each column from the bottom
    transpose-flip-xy    from the bottom right, column after column

So the picture is flipped first (x: columns, y: rows) and transposed afterwards. Any other order is a free permutation
of the pixels, for networks whose weights belong to pixels: permutation-0, permutation-1, … are drawn at random, each by
its number.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError, did_you_mean

MOST = 1024  # orders of one model
_DRAWN = re.compile(r"permutation-(0|[1-9]\d{0,8})")


@dataclasses.dataclass(frozen=True)
class Order:
    """One order of the pixels: flips and a transposition, or a permutation of H·W pixels (row-major indices, first
    predicted first), whose own grid has the picture's size. Raises UserError for what is no permutation."""

    name: str
    flip_x: bool = False
    flip_y: bool = False
    transpose: bool = False
    permutation: tuple[int, ...] | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.permutation is not None and sorted(self.permutation) != list(range(len(self.permutation))):
            raise UserError(
                f"The order {self.name} must hold every pixel 0..{len(self.permutation) - 1} exactly once: "
                "it is no permutation."
            )

    @property
    def is_raster(self) -> bool:
        return self.permutation is None and not (self.flip_x or self.flip_y or self.transpose)

    @property
    def in_words(self) -> str:
        if self.permutation is not None:
            return f"the order {self.name}, a permutation of the pixels"
        rows, columns = ("bottom" if self.flip_y else "top"), ("right" if self.flip_x else "left")
        if self.transpose:
            return f"{self.name} order (columns from the {columns}, then from the {rows})"
        return f"{self.name} order (rows from the {rows}, then from the {columns})"

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the order's own grid for a picture of H×W; the same function leads back."""
        return (width, height) if self.transpose else (height, width)

    def pixels(self, height: int, width: int) -> Tensor:
        """The row-major index of the pixel that is predicted t-th, long [H·W]."""
        return self.forth(torch.arange(height * width).view(height, width)).flatten()

    def forth(self, x: Tensor) -> Tensor:
        """A picture [..., H, W] in the order's own grid, [..., rows, columns]."""
        if self.permutation is not None:
            return self._take(x, self._there)
        sides = [side for side, flipped in ((-2, self.flip_y), (-1, self.flip_x)) if flipped]
        x = x.flip(sides) if sides else x
        return x.mT if self.transpose else x

    def back(self, y: Tensor) -> Tensor:
        """The inverse of `forth`: [..., rows, columns] → [..., H, W]."""
        if self.permutation is not None:
            return self._take(y, self._there.argsort())
        y = y.mT if self.transpose else y
        sides = [side for side, flipped in ((-2, self.flip_y), (-1, self.flip_x)) if flipped]
        return y.flip(sides) if sides else y

    @functools.cached_property
    def _there(self) -> Tensor:
        return torch.tensor(self.permutation)

    def _take(self, x: Tensor, index: Tensor) -> Tensor:
        if x.shape[-2] * x.shape[-1] != len(index):
            raise UserError(
                f"The order {self.name} is one of {len(index)} pixels, the picture has {x.shape[-2]}x{x.shape[-1]}."
            )
        return x.flatten(-2).index_select(-1, index.to(x.device)).view(x.shape)


RASTER = Order("raster")
EIGHT = {
    order.name: order
    for order in (
        RASTER,
        Order("flip-x", flip_x=True),
        Order("flip-y", flip_y=True),
        Order("flip-xy", flip_x=True, flip_y=True),
        Order("transpose", transpose=True),
        Order("transpose-flip-x", flip_x=True, transpose=True),
        Order("transpose-flip-y", flip_y=True, transpose=True),
        Order("transpose-flip-xy", flip_x=True, flip_y=True, transpose=True),
    )
}
"""The eight orders of a rectangle, by name."""

Wanted = int | str | Sequence[str] | None


def order_names(wanted: Wanted, kind: Literal["flips", "any"], family: str) -> list[str]:
    """The names of the orders that a model of a family shall have, checked.

    wanted: None for raster; a number n for raster and the n−1 that follow it, of the eight for a family of the kind
    "flips", permutation-1, permutation-2, … for one of the kind "any"; "all" for the eight; names, as a list or with
    commas between. UserError for what is no order or none for the family.
    """
    if wanted is None:
        return [RASTER.name]
    if isinstance(wanted, str):
        parts = [part.strip() for part in wanted.split(",")]
        counted = parts[0].isascii() and parts[0].isdigit() and len(parts[0]) < 10
        wanted = int(parts[0]) if len(parts) == 1 and counted else list(EIGHT) if parts == ["all"] else parts
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        most = len(EIGHT) if kind == "flips" else MOST
        if not 1 <= wanted <= most:
            raise UserError(f"A model of the family {family} has 1 to {most} orders of prediction, not {wanted}.")
        if kind == "flips":
            return list(EIGHT)[:wanted]
        return [RASTER.name, *(f"permutation-{number}" for number in range(1, wanted))]
    if not isinstance(wanted, list | tuple) or not all(isinstance(name, str) for name in wanted):
        raise UserError(f"Orders of prediction are given as a number, 'all', or a list of names, not {wanted!r}.")
    if not 1 <= len(wanted) <= MOST:
        raise UserError(f"A model has 1 to {MOST} orders of prediction, not {len(wanted)}.")
    for place, name in enumerate(wanted):
        if name not in EIGHT and not (kind == "any" and _DRAWN.fullmatch(name)):
            also = " and permutation-0, permutation-1, …" if kind == "any" else ""
            raise UserError(
                f"There is no order of prediction {name!r} for the family {family}; "
                f"it takes {', '.join(EIGHT)}{also}." + did_you_mean(name, EIGHT)
            )
        if name in wanted[:place]:
            raise UserError(f"The order of prediction {name!r} was given twice.")
    return list(wanted)


def as_permutation(name: str, height: int, width: int) -> Tensor:
    """A named or numbered order as a permutation of H·W pixels, long [H·W]."""
    drawn = _DRAWN.fullmatch(name)
    if drawn is None:
        return EIGHT[name].pixels(height, width)
    return torch.from_numpy(np.random.default_rng(int(drawn[1])).permutation(height * width)).long()


def shortened(names: list[str]) -> str:
    """Names with commas between, the middle left out of long lists."""
    return ", ".join(names if len(names) <= 8 else [*names[:3], "…", names[-1]]) + (
        f" ({len(names)})" if len(names) > 8 else ""
    )
