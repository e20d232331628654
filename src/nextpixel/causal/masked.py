"""Masked layers over a flattened picture (Germain et al. 2015, "MADE: Masked Autoencoder for Distribution Estimation",
section 4), in both schedules.

A unit of degree m depends on the first m positions of the picture only. A connection leads from one unit to another iff
the degree does not fall. Units are sorted by degree, so those that become known at a step are a slice: a Cursor
computes that slice and nothing else, and every unit of a picture is computed once.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextpixel.causal.runs import Cursor, Run, UnwrittenError


@dataclass(frozen=True)
class Units:
    """The units of one layer, by their sorted degrees. `pixels`: units that belong to pixels, equally many to each;
    their weights follow the pixels when the order changes. 0: hidden units, which belong to degrees."""

    degrees: tuple[int, ...]
    pixels: int = 0

    @staticmethod
    def inputs(pixels: int, features: int) -> Units:
        """What is known of position s (from 0) has degree s + 1."""
        return Units(tuple(s + 1 for s in range(pixels) for _ in range(features)), pixels)

    @staticmethod
    def outputs(pixels: int, features: int) -> Units:
        """What is said of position t (from 0) has degree t."""
        return Units(tuple(t for t in range(pixels) for _ in range(features)), pixels)

    @staticmethod
    def hidden(count: int, pixels: int) -> Units:
        """`count` units whose degrees are spread evenly over 1..pixels-1, the useful ones."""
        useful = max(pixels - 1, 1)
        return Units(tuple(1 + (2 * k + 1) * useful // (2 * count) for k in range(count)))

    def until(self, degree: int) -> int:
        """How many units have this degree or a lower one."""
        return bisect_right(self.degrees, degree)

    def among(self, steps: range) -> slice:
        """The units whose degree is one of these steps."""
        return slice(self.until(steps.start - 1), self.until(steps.stop - 1))

    def sorted_by(self, order: Tensor | None, weight: Tensor, dim: int) -> Tensor:
        """A weight with the units of dimension `dim` stored pixel by pixel, in the order of their positions."""
        if order is None or not self.pixels:
            return weight
        return weight.unflatten(dim, (self.pixels, -1)).index_select(dim, order).flatten(dim, dim + 1)


def steps_of(x: Tensor | None, run: Run) -> range:
    """The positions that are being computed: in Whole all positions of x [N, H, W, ·], in a Cursor the current one."""
    if isinstance(run, Cursor):
        at = run.row * run.memory.width + run.column
        return range(at, at + 1)
    assert x is not None
    return range(x.shape[1] * x.shape[2])


class EarlierInputs(nn.Module):
    """The network's input at all positions before the last one that is computed, flat: Whole [N, H, W, D] →
    [N, (H·W − 1)·D], Cursor: what the position before has added, [N, D], and [N, 0] at the first."""

    input_reach = (1, 0, 0)

    def forward(self, x: Tensor | None, run: Run) -> Tensor:
        if not isinstance(run, Cursor):
            assert x is not None
            return x.flatten(1, 2)[:, :-1].flatten(1)
        return input_before(run)


def input_before(run: Cursor) -> Tensor:
    """The network's input at the position before the current one, [N, D]; [N, 0] at the first."""
    memory = run.memory
    if run.row == run.column == 0:
        return memory.like.new_zeros(memory.n, 0)
    row, column = divmod(run.row * memory.width + run.column - 1, memory.width)
    return memory.input.window(row, column + 1, 1, 0)


class MaskedLinear(nn.Module):
    """A linear layer from units to units of no lower degree; `condition` features [N, condition] reach all units.

    Whole: all units whose degree is below the number of positions, [N, inputs] → [N, outputs]. Cursor: those that the
    current position adds, [N, new inputs] → [N, new outputs]; earlier ones are remembered.
    """

    def __init__(self, inputs: Units, outputs: Units, condition: int | None = None, bias: bool = True):
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        degrees_in, degrees_out = torch.tensor(inputs.degrees), torch.tensor(outputs.degrees)
        mask = degrees_in[None] <= degrees_out[:, None]
        # A product with a floating-point mask is several times faster than one with bools.
        self.register_buffer("mask", mask.to(torch.get_default_dtype()), persistent=False)
        fan_in = mask.sum(1, keepdim=True).float()
        if outputs.pixels:  # a pixel may stand anywhere
            fan_in = fan_in.mean(0, keepdim=True)
        bound = fan_in.clamp(min=1).rsqrt()
        self.weight = _uniform(bound, len(outputs.degrees), len(inputs.degrees))
        if bias:
            self.bias = _uniform(bound[:, 0], len(outputs.degrees))
        if condition is not None:
            self.condition = _uniform(torch.tensor(condition**-0.5), len(outputs.degrees), condition)

    def forward(self, x: Tensor, condition: Tensor | None, steps: range, run: Run) -> Tensor:
        if isinstance(run, Cursor):
            return self._step(x, condition, steps, run)
        rows, columns = self.outputs.among(steps).stop, self.inputs.among(steps).stop
        weight = self._by_position(self.weight, run.order, columns=True)[:rows, :columns]
        y = F.linear(x, weight * self.get_buffer("mask")[:rows, :columns])
        if run.memory is not None:
            known = run.memory.stores[self] = _Known(run.memory.like.new_zeros(len(x), len(self.inputs.degrees)))
            known.write(0, x)
        for given in self._everywhere(condition, run.order):
            y = y + given[..., :rows]
        return y

    def _by_position(self, weight: Tensor, order: Tensor | None, columns: bool = False) -> Tensor:
        weight = self.outputs.sorted_by(order, weight, 0)
        return self.inputs.sorted_by(order, weight, 1) if columns else weight

    def _everywhere(self, condition: Tensor | None, order: Tensor | None) -> list[Tensor]:
        """What is added to the units whatever the picture: [N or 1, outputs] each."""
        added = [self._by_position(self.bias, order)] if hasattr(self, "bias") else []
        if condition is not None and hasattr(self, "condition"):
            added.append(F.linear(condition, self._by_position(self.condition, order)))
        return added

    def _step(self, x: Tensor, condition: Tensor | None, steps: range, run: Cursor) -> Tensor:
        memory, (new_inputs, new) = run.memory, (self.inputs.among(steps), self.outputs.among(steps))
        plan = memory.plan(self, lambda: _Plan(self, memory.order))
        known = memory.stores.get(self)
        if known is None:
            known = memory.stores[self] = _Known(memory.like.new_zeros(memory.n, len(self.inputs.degrees)))
        assert isinstance(known, _Known)
        known.write(new_inputs.start, x)
        y = F.linear(known.until(new_inputs.stop), plan.weight[new, : new_inputs.stop], plan.bias[new])
        return y if condition is None or plan.condition is None else y + F.linear(condition, plan.condition[new])


class _Plan:
    """A layer's weights sorted by position; what the mask takes away is never read."""

    def __init__(self, layer: MaskedLinear, order: Tensor | None):
        self.weight = layer._by_position(layer.weight.detach(), order, columns=True)
        bias = layer.bias.detach() if hasattr(layer, "bias") else self.weight.new_zeros(len(self.weight))
        self.bias = layer._by_position(bias, order)
        self.condition = layer._by_position(layer.condition.detach(), order) if hasattr(layer, "condition") else None


class _Known:
    """A layer's inputs so far, [N, inputs]."""

    def __init__(self, data: Tensor, filled: int = 0):
        self.data, self.filled = data, filled

    def write(self, start: int, x: Tensor) -> None:
        """Writing twice at one place is harmless."""
        if start > self.filled:
            raise UnwrittenError(f"unit {start} of a masked layer: the ones before it were never computed")
        self.data[:, start : start + x.shape[1]] = x
        self.filled = start + x.shape[1]

    def until(self, count: int) -> Tensor:
        if count > self.filled:
            raise UnwrittenError(f"unit {count - 1} of a masked layer was read before it was computed")
        return self.data[:, :count]

    def fork(self, indices: Tensor) -> _Known:
        return _Known(self.data[indices], self.filled)


def _uniform(bound: Tensor, *shape: int) -> nn.Parameter:
    return nn.Parameter((2 * torch.rand(shape) - 1) * bound)
