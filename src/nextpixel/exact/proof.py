"""The proof that no sum leaves the range in which its type holds every integer, and what precision fits there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nextpixel.causal import Whole
from nextpixel.errors import UserError
from nextpixel.exact.halves import ExactHalves
from nextpixel.exact.layers import IntegerWeights, UnprovableError
from nextpixel.exact.numbers import Formats, rounded, without_bits_bound
from nextpixel.exact.pointwise import Pointwise
from nextpixel.exact.recurrence import ExactDiagonalBiLSTM

N = TypeVar("N", bound=nn.Module)
Replace = Callable[[str, nn.Module], nn.Module | None]
Before = Callable[[str, Any, Tensor], None]
"""what is called for every layer with weights, by name, with the bounds of its inputs"""

NOISE = 1024.0
"""how much more the bits count that a kernel of several positions leaves off its inputs than what its weights lose: the
former are noise, new at every position, the latter another network, nearly as good (measured: docs/exact.md)"""


def rebuilt(module: N, replace: Replace, name: str = "") -> N:
    """A copy of a tree of modules in which `replace(name, module)` stands for a module where it is not None; all other
    modules are copied without what they hold. The tree itself stays as it is."""
    made = replace(name, module)
    if made is not None:
        return made  # type: ignore[return-value] # where a module of that type is expected, its twin stands
    made = copy.copy(module)
    parts = {key: part for key, part in module._modules.items() if part is not None}
    made._modules = {key: rebuilt(part, replace, f"{name}.{key}" if name else key) for key, part in parts.items()}
    return made


def proved(name: str, layer: Any, inputs: tuple[Any, ...], before: Before | None) -> Tensor:
    """The bounds of what one module of a frozen model makes of inputs within bounds; UserError without proof."""
    if before is not None and isinstance(layer, IntegerWeights | ExactHalves):
        before(name, layer, inputs[0])
    try:
        if isinstance(layer, ExactDiagonalBiLSTM):
            return layer.bound_with(lambda part, one, *to: proved(f"{name}.{part}", one, to, before), *inputs)
        bounds: Tensor = layer.bound(*inputs)
    except UnprovableError as error:
        raise UserError(f"The layer {name} cannot be frozen in the {layer.formats.form} form: {error}.") from error
    return bounds


class _Bounded(nn.Module):
    """Stands for a module of a frozen network while bounds go through it in the place of activations."""

    def __init__(self, name: str, exact: nn.Module, before: Before | None):
        super().__init__()
        self.name, self.before = name, before
        self.__dict__["exact"] = exact

    def forward(self, *inputs: Any) -> Tensor:
        return proved(self.name, self.exact, inputs, self.before)


def bounded(
    network: nn.Module,
    inputs: Tensor,
    condition: Tensor | None,
    before: Before | None = None,
) -> Tensor:
    """The bounds of a frozen network's features, [outputs], from those of its inputs [D] and its condition [E].

    This is the proof: the network's own code runs, once, on bounds of magnitudes instead of activations, and every
    module that adds or multiplies checks what could come of it (UserError if it cannot be proved). All positions of the
    small canvas have the same bounds but those outside the picture, which are zero, as they are in a picture.
    """

    def replace(name: str, module: nn.Module) -> nn.Module | None:
        provable = isinstance(module, Pointwise | IntegerWeights | ExactHalves)
        return _Bounded(f"network.{name}", module, before) if provable else None

    side = 32
    x = inputs.double().expand(1, side, side, -1)
    told = None if condition is None else condition.double().expand(1, 1, 1, -1)
    result: Tensor = rebuilt(network, replace)(x, told, Whole())
    return result.flatten(0, -2).amax(0)


def precision(
    weight: Tensor, bias: Tensor | None, bounds: list[int], formats: Formats, may_drop: bool
) -> tuple[int, Tensor] | None:
    """How precise a layer can be: bits of its inputs to leave off, and fractional bits of every output's weights.

    weight: [outputs, inputs, taps]; bounds: of the inputs' magnitudes. Of all that can be proved it is what makes the
    smallest error in the sums, by a rough count: rounding errors are uniform, inputs are of size 1 where they can be,
    and of a kernel of several positions the inputs' errors count `NOISE` times. None if nothing can be proved.
    """
    best: tuple[float, int, Tensor] | None = None
    weight, noise = weight.detach(), NOISE if weight.shape[2] > 1 else 1.0
    size = torch.tensor([min(bound / formats.one, 1.0) for bound in bounds], dtype=torch.float64).square()
    power, energy = float(size.sum()) * weight.shape[2], weight.double().flatten(1).square().sum(1)
    by_bits = [rounded(weight, count).abs().sum(2) for count in range(formats.weight + 1)]
    for drop in range(formats.activation - 2 if may_drop else 1):
        inputs = torch.tensor([without_bits_bound(b, drop) for b in bounds], dtype=torch.float64)
        bits = torch.full((len(weight),), -1)
        for count in range(drop, formats.weight + 1):
            total = by_bits[count] @ inputs + 2.0 ** (count - drop)
            if bias is not None:
                total += rounded(bias, count + formats.activation - drop).abs()
            bits[total < formats.exact_below] = count  # the totals grow with the count
        if bits.min() < 0:
            continue
        lost = 0.0 if drop == 0 else noise * 4.0 ** (drop - formats.activation)
        error = float((4.0 ** -bits.double() * power + lost * energy).sum())
        if best is None or error < best[0]:
            best = (error, drop, bits)
    return None if best is None else best[1:]
