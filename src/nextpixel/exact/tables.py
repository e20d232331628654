"""Non-linear functions as tables of integers. They are made once, when a model is frozen, and belong to it: a table
that was made again on another machine could differ by a unit, and one unit ruins a file."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nextpixel.errors import UserError
from nextpixel.exact.numbers import Formats, without_bits

REACH = 16  # the functions are constant, to the bits that are kept, where their argument is further from 0
MASS_REACH = 17  # exp(-17) is less than half of 2^-24

RANGES = {"tanh": (-1, 1), "sigmoid": (0, 1), "elu": (-1, 0)}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": lambda x: torch.nn.functional.elu(x.clamp(max=0)),
}


class Tables(nn.Module):
    """All tables of one frozen model; layers that use them hold a reference, not a copy.

    The functions that are needed are the rows of one buffer, so that a gate is looked up at once.
    """

    def __init__(self, formats: Formats):
        super().__init__()
        self.formats = formats
        self.last = REACH << formats.index  # index of the largest argument; the smallest has -last
        self.rows: dict[str, int] = {}
        self.register_buffer("functions", torch.zeros(0, 2 * self.last + 1, dtype=torch.float64))
        self._starts: dict[tuple[object, ...], Tensor] = {}

    def need(self, name: str) -> None:
        """Make the table of a function, unless it is there: from argument −REACH to REACH."""
        if name not in self.rows:
            at = torch.arange(-self.last, self.last + 1, dtype=torch.float64) / (1 << self.formats.index)
            row = torch.floor(FUNCTIONS[name](at) * self.formats.one + 0.5)
            self.functions = torch.cat([self.get_buffer("functions"), row[None]])
            self.rows[name] = len(self.rows)

    def need_masses(self, bits: int) -> None:
        """Make the table of exp(−d) · 2^bits by d."""
        self.most_mass = 1 << bits
        at = torch.arange((MASS_REACH << self.formats.index) + 1, dtype=torch.float64) / (1 << self.formats.index)
        self.register_buffer("mass", torch.floor(torch.exp(-at) * 2.0**bits + 0.5))

    def look_up(self, x: Tensor, *names: str) -> Tensor:
        """Functions of activations x, as activations: the first of the first part of its features, and so on, all
        parts of the same size."""
        index = without_bits(x, self.formats.activation - self.formats.index).clamp(-self.last, self.last)
        index = (index.int() + self._start(names, x)).flatten()
        return self.get_buffer("functions").flatten().index_select(0, index).view(x.shape)

    def _start(self, names: tuple[str, ...], x: Tensor) -> Tensor:
        """Where the argument 0 of each feature's function lies."""
        key = (names, x.shape[-1], x.device)
        start = self._starts.get(key)
        if start is None:
            at = torch.tensor([self.rows[name] * (2 * self.last + 1) + self.last for name in names], dtype=torch.int32)
            start = self._starts[key] = at.repeat_interleave(x.shape[-1] // len(names)).to(x.device)
        return start

    def prove(self) -> None:
        """UserError unless all tables hold what the bounds of `pointwise` and the sums of masses rely on."""
        functions, masses, one = self.get_buffer("functions"), self.get_buffer("mass"), self.formats.one
        ranges = [(functions[row], one * RANGES[name][0], one * RANGES[name][1]) for name, row in self.rows.items()]
        for table, low, high in [*ranges, (masses, 0, self.most_mass), (masses[:1], 1, self.most_mass)]:
            if int(table.min()) < low or int(table.max()) > high:
                raise UserError("A table of this frozen model holds impossible values.")

    def masses(self, below: Tensor) -> Tensor:
        """exp(−below) · 2^bits for activations below ≥ 0, int64."""
        table = self.get_buffer("mass")
        index = without_bits(below, self.formats.activation - self.formats.index)
        index = index.clamp(max=len(table) - 1).int()
        return table.index_select(0, index.flatten()).view(below.shape).long()


def mass_bits(levels: int) -> int:
    """The most bits of a mass with which the masses of `levels` values add up to no more than 2^31."""
    return min(24, 31 - math.ceil(math.log2(levels)))
