"""Module for module from a trained network to integers. A network's own code, rows and pixels, stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from nextpixel.causal import (
    Add,
    Concat,
    ConcatELU,
    DiagonalBiLSTM,
    DoublePixels,
    DoubleRows,
    Dropout,
    Gate,
    Halve,
    Highway,
    LinearGate,
    PixelConv,
    ReLU,
    RowConv,
    RowLSTM,
    ShiftDown,
    Sigmoid,
    Split,
)
from nextpixel.causal import Pointwise as PointwiseLinear
from nextpixel.errors import UserError
from nextpixel.exact.halves import ExactHalves
from nextpixel.exact.heads import ExactAutoregressiveCategorical, ExactBernoulli, ExactCategorical, ExactHead
from nextpixel.exact.layers import ExactLinear, ExactPixelConv, ExactRowConv
from nextpixel.exact.logistic_mixture import ExactLogisticMixture
from nextpixel.exact.numbers import Formats
from nextpixel.exact.pointwise import (
    ExactAdd,
    ExactConcatELU,
    ExactGate,
    ExactHighway,
    ExactLinearGate,
    ExactReLU,
    ExactSigmoid,
    Nothing,
    Pointwise,
)
from nextpixel.exact.proof import N, rebuilt
from nextpixel.exact.recurrence import ExactDiagonalBiLSTM, ExactRowLSTM
from nextpixel.exact.tables import Tables
from nextpixel.heads import AutoregressiveCategorical, Bernoulli, Categorical, Head, LogisticMixture

POINTWISE: dict[type[nn.Module], type[Pointwise]] = {
    Add: ExactAdd,
    ReLU: ExactReLU,
    Gate: ExactGate,
    LinearGate: ExactLinearGate,
    ConcatELU: ExactConcatELU,
    Sigmoid: ExactSigmoid,
    Highway: ExactHighway,
}
WEIGHTED: dict[type[nn.Module], Callable[[Any, Formats, int], Any]] = {
    PixelConv: ExactPixelConv,
    RowConv: ExactRowConv,
    nn.Linear: ExactLinear,
    PointwiseLinear: ExactLinear,
}
SAME_ON_INTEGERS = (ShiftDown, Concat, Split, Halve, DoubleRows, DoublePixels)

HEADS: dict[type[Head], type[ExactHead]] = {
    Bernoulli: ExactBernoulli,
    Categorical: ExactCategorical,
    AutoregressiveCategorical: ExactAutoregressiveCategorical,
    LogisticMixture: ExactLogisticMixture,
}


def exact_network(network: N, formats: Formats, tables: Tables) -> N:
    """The structure of a network on integers, all weights zero; UserError for modules that there is no twin of."""

    def replace(name: str, module: nn.Module) -> nn.Module | None:
        kind = type(module)
        if f"network.{name}" in formats.halves:
            return ExactHalves(module, formats)
        if kind in POINTWISE:
            return POINTWISE[kind](formats, tables)
        if kind in WEIGHTED:
            twin: nn.Module = WEIGHTED[kind](module, formats, formats.drops.get(f"network.{name}", 0))
            return twin
        if isinstance(module, RowLSTM):
            return ExactRowLSTM(module, formats, tables)
        if isinstance(module, DiagonalBiLSTM):
            return ExactDiagonalBiLSTM(module, formats, tables, f"network.{name}")
        if kind is Dropout:
            return Nothing()
        if module._parameters or not (module._modules or kind in SAME_ON_INTEGERS):
            raise UserError(f"The part {name} is a {kind.__name__}, which cannot be frozen.")
        return None

    return rebuilt(network, replace)


def exact_head(head: Head, formats: Formats, tables: Tables) -> ExactHead:
    """The structure of a head on integers; UserError for heads that there is no twin of."""
    made = HEADS.get(type(head))
    if made is None:
        able = ", ".join(sorted(known.name for known in HEADS))
        raise UserError(f"The head {head.name} cannot be frozen yet; those that can: {able}.")
    return made(head, formats, tables)
