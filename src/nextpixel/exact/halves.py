"""A layer of one position on integers whose inputs are multiplied in two halves, because they are too long in one.

With x = high · 2^low + rest, 0 ≤ rest < 2^low, floor((W·x + b) / 2^shift) is
floor((W·high + floor((W·rest + b) / 2^low)) / 2^(shift − low)): two products with short inputs, and the very integers
that one product would give in a wider type. That leaves room for longer weights, for one product more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nextpixel.causal import PixelConv
from nextpixel.errors import UserError
from nextpixel.exact.layers import ExactLinear, ExactPixelConv, UnprovableError
from nextpixel.exact.numbers import Formats, rounded, saturated, scales, shifted


class ExactHalves(nn.Module):
    """Both halves have the weights, the lower one also the bias. All outputs' weights have the same number of bits."""

    def __init__(self, layer: nn.Module, formats: Formats):
        super().__init__()
        if not one_position(layer):
            raise UserError("The number formats of this frozen model have halves where there can be none.")
        self.formats = formats
        self.high, self.rest = self._half(layer), self._half(layer)
        self.register_buffer("shift", torch.zeros(1, dtype=torch.long))

    def _half(self, layer: Any) -> ExactPixelConv | ExactLinear:
        kind = ExactPixelConv if isinstance(layer, PixelConv) else ExactLinear
        made: ExactPixelConv | ExactLinear = kind(layer, self.formats)
        made.limit = self.formats.exact_below  # what a half gives is no activation
        return made

    def take(self, weights: dict[str, Tensor], bias: Tensor | None, bits: int) -> None:
        """Round weights (by parameter, outputs first), with that many fractional bits, and bias once."""
        every = torch.full_like(self.rest.shift, bits)
        self.rest.take(weights, bias, every)
        self.high.take(weights, None, every)
        self.high.bias.zero_()
        self.rest.shift.fill_(self.formats.low)
        self.high.shift.zero_()
        self.get_buffer("shift").fill_(bits - self.formats.low)

    def bound(self, x: Tensor, *run: Any) -> Tensor:
        """The proof: from bounds of the inputs' magnitudes to the outputs'; UnprovableError if there is none."""
        shift = int(self.get_buffer("shift"))
        if not 0 <= shift <= 30 or bool((self.rest.shift != self.formats.low).any()) or bool(self.high.shift.any()):
            raise UnprovableError("its numbers of bits are impossible")
        high, rest = half_bounds(x, self.formats)
        total = self.high.bound(high, *run) + self.rest.bound(rest, *run)
        if float(total.max()) >= self.formats.exact_below:
            raise UnprovableError(f"a sum could reach {int(total.max()):,}")
        return (torch.floor(total / 2**shift) + 1).clamp(max=self.formats.limit)

    def forward(self, x: Tensor, *run: Any) -> Tensor:
        low = torch.full((1,), self.formats.low, device=x.device)
        high = shifted(x.clone(), scales(low, x))
        sums = self.rest(x - high * (1 << self.formats.low), *run) + self.high(high, *run)
        return saturated(shifted(sums, scales(self.get_buffer("shift"), sums)), self.formats.limit)


def one_position(layer: nn.Module) -> bool:
    """Whether a layer with weights looks at one position only and is given what is there."""
    if isinstance(layer, PixelConv):
        return layer.mask == "B" and not layer.rows and not layer.left
    return isinstance(layer, nn.Linear)


def precision_of_halves(weight: Tensor, bias: Tensor | None, bounds: Tensor, formats: Formats) -> int | None:
    """The most fractional bits that weights [outputs, inputs] can have, for inputs within ± bounds [inputs]; None if
    nothing can be proved."""
    high, rest = half_bounds(bounds.double(), formats)
    for bits in range(formats.weight, formats.low - 1, -1):
        magnitudes = rounded(weight, bits).abs()
        of_rest = magnitudes @ rest + 2.0**bits
        if bias is not None:
            of_rest += rounded(bias, bits + formats.activation).abs()
        total = magnitudes @ high + of_rest / (1 << formats.low) + 4
        if float(torch.maximum(total, of_rest).max()) < formats.exact_below:
            return bits
    return None


def half_bounds(bounds: Tensor, formats: Formats) -> tuple[Tensor, Tensor]:
    """The bounds of both halves' magnitudes, for inputs within ± bounds; where an input is always 0, so are they."""
    there = (bounds > 0).double()
    return torch.floor(bounds / (1 << formats.low)) + there, ((1 << formats.low) - 1) * there
