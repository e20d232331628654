"""The causal layers that have weights, on integers.

They are the same layers with integer weights: memory, channel groups and steps are inherited. What differs: a product
is made of gathered positions, never by a convolution (Winograd, FFT and reduced-precision algorithms are not exact),
and its sums are brought back to the activations' format.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextpixel.causal import Cursor, PixelConv, RowConv, Run, Wave, Whole
from nextpixel.exact.numbers import Formats, rounded, saturated, scales, shifted, without_bits, without_bits_bound


class UnprovableError(Exception):
    """A sum could leave the range in which it is exact."""


class IntegerWeights:
    """What these layers share; mixed into a module with `bias` (or None) and `kernel()` [outputs, inputs, ...]."""

    formats: Formats
    drop: int
    shift: Tensor
    limit: int
    """the results saturate at ± this integer"""
    input_bounds: list[int]
    """of the inputs' magnitudes as they are multiplied, set by the proof"""

    def make_exact(self, formats: Formats, drop: int) -> None:
        """The structure: integer parameters, all zero, and a bias and a shift for every output."""
        module: Any = self
        self.formats, self.drop, self.limit = formats, drop, formats.limit
        for parameter in module.parameters():
            parameter.requires_grad_(False).zero_()
        outputs = len(module.kernel())
        if getattr(module, "bias", None) is None:
            module.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False)
        module.register_buffer("shift", torch.zeros(outputs, dtype=torch.long))

    def take(self, weights: dict[str, Tensor], bias: Tensor | None, bits: Tensor) -> None:
        """Round weights (by parameter, outputs first) and bias once; bits [outputs]: fractional bits of the weights.

        Half a unit of what will be left off is added to the bias, so that leaving off rounds.
        """
        module: Any = self
        self.shift.copy_(bits - self.drop)
        for name, weight in weights.items():
            getattr(module, name).copy_(rounded(weight, bits))
        half = torch.ones_like(self.shift).bitwise_left_shift(self.shift) // 2
        exact_bias = half.double()
        if bias is not None:
            exact_bias += rounded(bias, bits + (self.formats.activation - self.drop))
        module.bias.copy_(exact_bias)

    def prove_sums(self, bounds: list[int]) -> list[int]:
        """The largest magnitude that any partial sum of each output can have, for inputs within ± bounds, in Python's
        integers; UnprovableError if one is not exact."""
        module: Any = self
        if bool((self.shift < 0).any()) or bool((self.shift > 30).any()):
            raise UnprovableError("its numbers of bits are impossible")
        self.input_bounds = [without_bits_bound(bound, self.drop) for bound in bounds]
        weights = np.abs(module.kernel().flatten(2).cpu().double().numpy()).sum(2).astype(np.int64).astype(object)
        biases = np.abs(module.bias.cpu().double().numpy()).astype(np.int64).astype(object)
        totals = [int(total) for total in weights @ np.array(self.input_bounds, dtype=object) + biases]
        if max(totals) >= self.formats.exact_below:
            raise UnprovableError(
                f"a sum could reach {max(totals):,}, but must stay below {self.formats.exact_below:,}"
            )
        return totals

    def bound(self, x: Tensor, run: Run) -> Tensor:
        """The proof: from bounds of the inputs' magnitudes to the outputs'; UnprovableError if there is none."""
        totals = self.prove_sums([int(bound) for bound in x.flatten(0, -2).amax(0)])
        outputs = [min((t >> int(s)) + 1, self.limit) for t, s in zip(totals, self.shift, strict=True)]
        return torch.tensor(outputs, dtype=torch.float64).expand(*x.shape[:-1], -1)

    def activations(self, sums: Tensor) -> Tensor:
        """Sums, overwritten by activations."""
        return saturated(shifted(sums, scales(self.shift, sums)), self.limit)


class ExactPixelConv(IntegerWeights, PixelConv):
    def __init__(self, layer: PixelConv, formats: Formats, drop: int = 0):
        PixelConv.__init__(
            self, layer.inputs, layer.outputs, layer.mask, layer.left, layer.rows, layer.side, cut=layer.cut
        )
        self.make_exact(formats, drop)

    def bound(self, x: Tensor, run: Run) -> Tensor:
        if self.drop and self.mask == "A":  # in steps it adds what its rows above have, and drops nothing
            raise UnprovableError("a layer with mask A must not leave off bits")
        return super().bound(x, run)

    def forward(self, x: Tensor | None, run: Run) -> Tensor:
        x = None if x is None else without_bits(x, self.drop)
        if isinstance(run, Cursor):
            scale = run.memory.plan((self, "scales"), lambda: self._step_scales(run.memory.like))
            made = self._wave(x, run) if isinstance(run, Wave) else self._step(x, run)
            return saturated(shifted(made, scale[run.group]), self.limit)
        assert x is not None
        if run.memory is not None and self.mask == "B" and self._remembers:
            self._ring(run.memory).write_last_rows(x[..., self.inputs.group_major()])
        sums: Tensor = self.bias
        if self.rows:
            padded = F.pad(x, (0, 0, *self.side, self.rows, 0))[:, :-1]
            sums = product(sums, taps(padded, self.rows, sum(self.side) + 1), as_matrix(self.rectangle()))
        centre = self.centre_weight()
        own = [] if centre is None else [centre[..., None]]
        own = [self.before, *own] if self.left else own
        if own:
            padded = F.pad(x, (0, 0, self.left, 0)) if self.left else x
            padded = padded[:, :, :-1] if centre is None else padded
            weight = as_matrix(torch.cat(own, 2)[:, :, None])
            sums = product(sums, taps(padded, 1, weight.shape[0] // x.shape[3]), weight)
        return self.activations(sums.expand(x[..., 0].numel(), -1).clone() if sums is self.bias else sums).view(
            *x.shape[:-1], -1
        )

    def _step_scales(self, like: Tensor) -> list[Tensor]:
        scale = scales(self.shift[self.outputs.group_major()], like)
        return [scale[start:end] for start, end in pairwise([0, *self.outputs.ends()])]

    def _row_above(self, run: Cursor) -> Tensor:
        """What the finished rows above add to the sums of the whole current row, [N, W, outputs]."""
        ring, order = self._ring(run.memory), self.outputs.group_major()
        first = ring.left - self.side[0]
        block = ring.block(run.row - self.rows, run.row - 1)[:, :, first : first + ring.width + sum(self.side)]
        weight, bias = run.memory.plan(
            (self, "above"),
            lambda: (as_matrix(self.rectangle()[order][:, self.inputs.group_major()]), self.bias[order]),
        )
        return product(bias, taps(block, self.rows, sum(self.side) + 1), weight).view(len(block), ring.width, -1)


class ExactRowConv(IntegerWeights, RowConv):
    def __init__(self, layer: RowConv, formats: Formats, drop: int = 0):
        RowConv.__init__(self, layer.inputs, len(layer.bias), layer.height, 2 * layer.side + 1)
        self.make_exact(formats, drop)

    def forward(self, x: Tensor, run: Run) -> Tensor:
        x = without_bits(x, self.drop)
        if self.height == 1 or isinstance(run, Whole):
            if isinstance(run, Whole) and run.memory is not None and self.height > 1:
                self._ring(run.memory).write_last_rows(x)
            padded = F.pad(x, (0, 0, self.side, self.side, self.height - 1, 0))
        else:
            ring = self._ring(run.memory)
            ring.write_row(run.row, x[:, 0])
            padded = ring.block(run.row - self.height + 1, run.row)
        sums = product(self.bias, taps(padded, self.height, 2 * self.side + 1), as_matrix(self.weight))
        return self.activations(sums).view(*x.shape[:-1], -1)


class ExactLinear(IntegerWeights, nn.Linear):
    def __init__(self, layer: nn.Linear, formats: Formats, drop: int = 0):
        nn.Linear.__init__(self, layer.in_features, layer.out_features, layer.bias is not None)
        self.make_exact(formats, drop)

    def kernel(self) -> Tensor:
        """[outputs, inputs, 1]"""
        return self.weight[..., None]

    def bound(self, x: Tensor, run: Run | None = None) -> Tensor:
        return super().bound(x, run or Whole())

    def forward(self, x: Tensor) -> Tensor:
        sums = product(self.bias, without_bits(x, self.drop).flatten(0, -2), self.weight.t())
        return self.activations(sums).view(*x.shape[:-1], -1)


def product(sums: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """sums [outputs] or [n, outputs] + x [n, inputs] @ weight [inputs, outputs]; the latter sums are overwritten.

    Every product of the exact path is a torch.addmm: this is what the self-test tries.
    """
    return torch.addmm(sums, x, weight, out=sums) if sums.dim() == 2 else torch.addmm(sums, x, weight)


def taps(x: Tensor, height: int, width: int) -> Tensor:
    """Windows of x [N, H, W, D], one below the other: [N · (H−height+1) · (W−width+1), height · width · D]."""
    if height == width == 1:
        return x.reshape(-1, x.shape[3])
    x = x if x.stride(3) == 1 and x.stride(2) == x.shape[3] else x.contiguous()
    n, rows, columns, features = x.shape
    size = (n, rows - height + 1, columns - width + 1, height, width * features)
    windows = x.as_strided(size, (x.stride(0), x.stride(1), features, x.stride(1), 1), x.storage_offset())
    return windows.reshape(size[0] * size[1] * size[2], size[3] * size[4])


def as_matrix(kernel: Tensor) -> Tensor:
    """[outputs, inputs, height, width] → [height · width · inputs, outputs], in the order of `taps`."""
    return kernel.permute(2, 3, 1, 0).reshape(-1, kernel.shape[0])
