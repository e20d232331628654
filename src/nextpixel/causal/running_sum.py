"""A running sum over the positions of a flattened picture, and what is said of each pixel by weights of its own
(Larochelle and Murray 2011, "The Neural Autoregressive Distribution Estimator", algorithm 1), in both schedules.

All positions share the weights that lead into the sum, so going on to the next position adds one term.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextpixel.causal.convolution import initialise
from nextpixel.causal.masked import input_before
from nextpixel.causal.runs import Cursor, Memory, Run, UnwrittenError


class RunningSum(nn.Module):
    """bias + Σ weight[pixel] · input[pixel] over all strictly earlier positions.

    Whole: [N, H, W, inputs] → [N, H, W, features]. Cursor: x is None → [N, features].
    """

    input_reach = (1, 0, 0)

    def __init__(self, pixels: int, inputs: int, features: int):
        super().__init__()
        self.pixels = pixels
        self.weight = nn.Parameter(torch.empty(features, pixels * inputs))
        self.bias = nn.Parameter(torch.empty(features))
        initialise(self, fan_in=pixels * inputs)

    def forward(self, x: Tensor | None, run: Run) -> Tensor:
        if isinstance(run, Cursor):
            return self._step(run)
        assert x is not None
        earlier = x.flatten(1, 2)[:, :-1].transpose(0, 1)  # [positions - 1, N, inputs]
        terms = torch.bmm(earlier, self._by_position(run.order)[: len(earlier)])
        sums = torch.cat([self.bias.expand(1, len(x), -1), terms]).cumsum(0)
        if run.memory is not None:
            run.memory.stores[self] = _Sum(sums[-1].clone(), len(earlier))
        return sums.transpose(0, 1).unflatten(1, x.shape[1:3])

    def _by_position(self, order: Tensor | None) -> Tensor:
        """[positions, inputs, features]"""
        weight = self.weight.unflatten(1, (self.pixels, -1)).permute(1, 2, 0)
        return weight if order is None else weight.index_select(0, order)

    def _step(self, run: Cursor) -> Tensor:
        memory, at = run.memory, run.row * run.memory.width + run.column
        weight = memory.plan(self, lambda: self._by_position(memory.order).detach().contiguous())
        total = self._store(memory)
        if total.terms == at - 1:  # the position before is known by now
            total.data = torch.addmm(total.data, input_before(run), weight[at - 1])
            total.terms = at
        if total.terms != at:
            raise UnwrittenError(f"position {at}: the sum holds {total.terms} positions")
        return total.data

    def _store(self, memory: Memory) -> _Sum:
        total = memory.stores.get(self)
        if total is None:
            total = memory.stores[self] = _Sum(self.bias.detach().expand(memory.n, -1), 0)
        assert isinstance(total, _Sum)
        return total


class _Sum:
    """The sum over the first `terms` positions, [N, features]."""

    def __init__(self, data: Tensor, terms: int):
        self.data, self.terms = data, terms

    def fork(self, indices: Tensor) -> _Sum:
        return _Sum(self.data[indices], self.terms)


class PixelLinear(nn.Module):
    """A linear layer of its own for every pixel. Whole: [N, H, W, inputs] → [N, H, W, outputs]. Cursor: [N, inputs] →
    [N, outputs]."""

    def __init__(self, pixels: int, inputs: int, outputs: int):
        super().__init__()
        self.pixels = pixels
        self.weight = nn.Parameter(torch.empty(pixels * outputs, inputs))
        self.bias = nn.Parameter(torch.empty(pixels * outputs))
        initialise(self, fan_in=inputs)

    def forward(self, x: Tensor, run: Run) -> Tensor:
        if isinstance(run, Cursor):
            memory, at = run.memory, run.row * run.memory.width + run.column
            weight, bias = memory.plan(self, lambda: self._by_position(memory.order))
            return torch.addmm(bias[at].detach(), x, weight[at].detach().t())
        weight, bias = self._by_position(run.order)
        positions = x.flatten(1, 2).transpose(0, 1)  # [positions, N, inputs]
        count = len(positions)
        y = torch.baddbmm(bias[:count, None], positions, weight[:count].mT)
        return y.transpose(0, 1).unflatten(1, x.shape[1:3])

    def _by_position(self, order: Tensor | None) -> tuple[Tensor, Tensor]:
        """[positions, outputs, inputs] and [positions, outputs]"""
        weight, bias = (parameter.unflatten(0, (self.pixels, -1)) for parameter in (self.weight, self.bias))
        return (weight, bias) if order is None else (weight.index_select(0, order), bias.index_select(0, order))
