"""A frozen model step by step: the integers of its parallel pass, one symbol or one diagonal after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from nextpixel.precision import without_autocast
from nextpixel.stepping import Stepper
from nextpixel.wavefront import Wavefront

if TYPE_CHECKING:
    from nextpixel.exact.model import ExactModel


class _Integers:
    """Mixed into what steps: it does so in integers, and gives masses."""

    replays: ClassVar[bool] = False  # the compiled kernels know floating point only
    model: ExactModel
    work: Callable[[], tuple[Tensor, int, Tensor]]

    def __init__(self, model: ExactModel, n: int, labels: object = None, size: tuple[int, int] | None = None):
        model.ready()
        super().__init__(model, n, labels, size)  # type: ignore[call-arg] # of Stepper or Wavefront

    @torch.no_grad()
    @without_autocast
    def masses(self) -> Tensor:
        """Masses of the next symbols' values, int64 [n, K]. Asking twice changes nothing."""
        return self.model.head.masses(*self.work())


class Decoder(_Integers, Stepper):  # type: ignore[misc] # work is a method there
    """n pictures made symbol by symbol: `masses()` of the next one, `push(values)`, and on to the next."""


class DiagonalDecoder(_Integers, Wavefront):  # type: ignore[misc]
    """The same for all pixels of a diagonal: masses and values are of [A · n] symbols, as in Wavefront."""
