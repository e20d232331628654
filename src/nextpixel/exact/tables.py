"""Non-linear functions as tables of integers. They are made once, when a model is frozen, and belong to it: a table
that was made again on another machine could differ by a unit, and one unit ruins a file."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nextpixel.errors import UserError
from nextpixel.exact.numbers import Formats, saturated, without_bits

REACH = 16  # the functions are constant, to the bits that are kept, where their argument is further from 0
MASS_REACH = 17  # exp(-17) is less than half of 2^-24

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": lambda x: torch.nn.functional.elu(x.clamp(max=0)),
}


class Tables(nn.Module):
    """All tables of one frozen model, by name; layers that use one hold a reference, not a copy."""

    def __init__(self, formats: Formats):
        super().__init__()
        self.formats = formats
        self.last = REACH << formats.index  # index of the largest argument; the smallest has -last

    def need(self, name: str) -> None:
        """Make a table of FUNCTIONS, unless it is there: [2·last + 1], from argument −REACH to REACH."""
        if name not in self._buffers:
            at = torch.arange(-self.last, self.last + 1, dtype=torch.float64) / (1 << self.formats.index)
            self.register_buffer(name, torch.floor(FUNCTIONS[name](at) * self.formats.one + 0.5))

    def need_masses(self, bits: int) -> None:
        """Make the table of exp(−d) · 2^bits by d."""
        at = torch.arange((MASS_REACH << self.formats.index) + 1, dtype=torch.float64) / (1 << self.formats.index)
        self.register_buffer("mass", torch.floor(torch.exp(-at) * 2.0**bits + 0.5))

    def look_up(self, name: str, x: Tensor) -> Tensor:
        """The function of activations x, as activations."""
        index = without_bits(x, self.formats.activation - self.formats.index)
        index = saturated(index.clone() if index is x else index, self.last)
        return self.get_buffer(name).index_select(0, index.flatten().int() + self.last).view(x.shape)

    def prove(self) -> None:
        """UserError unless all tables hold what the bounds of `pointwise` and the sums of masses rely on."""
        for name, table in self.named_buffers():
            low, high = (0, 1 << 24) if name == "mass" else (-self.formats.one, self.formats.one)
            if int(table.min()) < low or int(table.max()) > high or (name == "mass" and int(table[0]) < 1):
                raise UserError(f"The table {name} of this frozen model holds impossible values.")

    def masses(self, below: Tensor) -> Tensor:
        """exp(−below) · 2^bits for activations below ≥ 0, int64."""
        table = self.get_buffer("mass")
        index = without_bits(below, self.formats.activation - self.formats.index)
        index = index.clamp(max=len(table) - 1).int()
        return table.index_select(0, index.flatten()).view(below.shape).long()


def mass_bits(levels: int) -> int:
    """The most bits of a mass with which the masses of `levels` values add up to no more than 2^31."""
    return min(24, 31 - math.ceil(math.log2(levels)))
