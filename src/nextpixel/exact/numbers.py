"""The number formats of frozen models, and the few operations on integers that floating-point tensors hold.

A number x is held as the integer x · 2^bits. Everything here gives the same integers for tensors of float32, float64
(as long as no sum leaves the range in which the type holds every integer; `proof` sees to that) and int64.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from nextpixel.errors import UserError

Form = Literal["float32", "float64"]
EXACT_BELOW: dict[str, int] = {"float32": 2**24, "float64": 2**53}
"""sums of smaller magnitude are exact, in any order, in tensors of that type"""


@dataclasses.dataclass(frozen=True)
class Formats:
    """The number formats of one frozen model.

    form: the smallest type of tensor that can hold it. activation: fractional bits of everything between layers.
    weight: the most fractional bits that weights get. index: fractional bits of a number that is looked up in a table.
    reach: activations saturate at ±2^reach. drops: by layer, how many of the activations' bits it leaves off before it
    multiplies; layers that are not named leave off none. halves: the layers that multiply their inputs in two halves.
    """

    form: Form
    activation: int
    weight: int
    index: int
    reach: int = 5
    drops: dict[str, int] = dataclasses.field(default_factory=dict)
    halves: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        numbers = (self.activation, self.weight, self.index, self.reach, *self.drops.values())
        known = self.form in get_args(Form) and all(type(number) is int and 0 <= number <= 30 for number in numbers)
        if not known or not self.index <= self.activation <= 16 or self.limit >= EXACT_BELOW[self.form]:
            raise UserError("The number formats of this frozen model are none that can be computed with.")

    @property
    def limit(self) -> int:
        """Activations saturate at ± this integer."""
        return int(2 ** (self.reach + self.activation))

    @property
    def one(self) -> int:
        """The integer that stands for 1."""
        return int(2**self.activation)

    @property
    def exact_below(self) -> int:
        return EXACT_BELOW[self.form]

    @property
    def spare(self) -> tuple[int, int]:
        """Bits that an activation and a factor up to 1 must leave off so that their product is exact."""
        over = max(0, 2 * self.activation + self.reach + 1 - (self.exact_below.bit_length() - 1))
        return over // 2, over - over // 2

    @property
    def low(self) -> int:
        """Bits of the lower half of an activation."""
        return (self.reach + self.activation + 1) // 2

    def to_dict(self) -> dict[str, Any]:
        made = dataclasses.asdict(self)
        if not self.halves:  # files that say nothing of halves have none
            del made["halves"]
        return made


FORMS = {
    "float32": Formats("float32", activation=10, weight=14, index=10),
    "float64": Formats("float64", activation=14, weight=16, index=11),
}


def rounded(x: Tensor, bits: int | Tensor) -> Tensor:
    """The integers nearest to x · 2^bits, halves up, float64; bits: of all, or by the first dimension of x."""
    scale = 2.0**bits if isinstance(bits, int) else torch.ones_like(bits).bitwise_left_shift(bits).double()
    if isinstance(scale, Tensor):
        scale = scale.view(-1, *[1] * (x.dim() - 1))
    return torch.floor(x.detach().double() * scale + 0.5)


def scales(shift: Tensor, like: Tensor) -> Tensor:
    """By what `shifted` takes tensors like `like` to leave off `shift` bits: factors 2^-shift, or the shifts."""
    if not like.is_floating_point():
        return shift
    return torch.ones_like(shift).bitwise_left_shift(shift).to(like.dtype).reciprocal()


def shifted(x: Tensor, scale: Tensor) -> Tensor:
    """floor(x / 2^shift), for what `scales` makes of the shift; x is overwritten."""
    return x.mul_(scale).floor_() if x.is_floating_point() else x.bitwise_right_shift_(scale)


def saturated(x: Tensor, limit: int) -> Tensor:
    """x, overwritten by what is nearest to it within ± limit."""
    return x.clamp_(-limit, limit)


_halves: dict[tuple[torch.dtype, torch.device], Tensor] = {}


def without_bits(x: Tensor, bits: int) -> Tensor:
    """x with `bits` bits less, rounded, halves up."""
    if not bits:
        return x
    if not x.is_floating_point():
        return (x + (1 << (bits - 1))) >> bits
    half = _halves.get((x.dtype, x.device))
    if half is None:
        half = _halves[x.dtype, x.device] = x.new_tensor(0.5)
    return torch.add(half, x, alpha=0.5**bits).floor_()  # as exact as x + 2^(bits - 1) is


def without_bits_bound(bound: int, bits: int) -> int:
    """What the magnitude of numbers within ± bound is at most, with `bits` bits less."""
    return (bound + (1 << (bits - 1))) >> bits if bits else bound
