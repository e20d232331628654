"""Causal convolutions. No kernel holds weights at positions that must not be seen: a crop says the same as a mask.

Two streams of features run through a network. A *row stream* is finished a row at a time (vertical stacks): `RowConv`.
A *pixel stream* is finished a pixel at a time (horizontal stacks, plain PixelCNN): `PixelConv`. A row stream may be
used by a pixel stream of the same row through `run.here`, never the other way round.

Whole evaluates one dense convolution; Cursor reads windows of its memory and multiplies matrices. Zero memory is zero
padding, so biases come after.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextpixel.causal.diagonals import Stream, Wave, WaveMemory
from nextpixel.causal.layout import Layout, Mask, centre_mask
from nextpixel.causal.products import convolve, pointwise
from nextpixel.causal.runs import Cursor, Memory, Ring, Run, Whole


class ShiftDown(nn.Module):
    """Row r of the result is row r-1 of the network's input; row 0 is zero.

    Belongs in front of the first layer of a vertical stack and nowhere else: a second shift further up is the blind
    spot that the two stacks exist to remove.
    """

    def forward(self, x: Tensor | None, run: Run) -> Tensor:
        if isinstance(run, Whole):
            assert x is not None
            return F.pad(x, (0, 0, 0, 0, 1, 0))[:, :-1]
        ring = run.memory.input
        return ring.block(run.row - 1, run.row - 1)[:, :, ring.left : ring.left + ring.width]

    input_reach = (1, 0, 0)  # rows above, columns left, columns right of the network's input
    slope = None  # needs finished rows


class RowConv(nn.Module):
    """A height × width convolution over a row stream: its own row, the rows above, and width//2 columns either side.

    Whole: [N, H, W, inputs] → [N, H, W, outputs]. Cursor: [N, 1, W, inputs] → [N, 1, W, outputs].
    """

    slope = None  # needs finished rows

    def __init__(self, inputs: int, outputs: int, height: int, width: int, normalised: bool = False):
        super().__init__()
        if width % 2 == 0:
            raise ValueError("the width of a row convolution must be odd: an even one would look further to one side")
        self.inputs, self.height, self.side = inputs, height, width // 2
        self.weight = nn.Parameter(torch.empty(outputs, inputs, height, width))
        self.bias = nn.Parameter(torch.empty(outputs))
        initialise(self, fan_in=inputs * height * width)
        if normalised:
            self.gain = nn.Parameter(torch.ones(outputs))

    def kernel(self) -> Tensor:
        """[outputs, inputs, height, width]"""
        if not hasattr(self, "gain"):
            return self.weight
        return self.weight * (self.gain / self.weight.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)

    def forward(self, x: Tensor, run: Run) -> Tensor:
        if self.height == 1 and self.side == 0:
            return pointwise(x, self.kernel()[:, :, 0, 0], self.bias)
        if self.height == 1 or isinstance(run, Whole):
            if isinstance(run, Whole) and run.memory is not None and self.height > 1:
                self._ring(run.memory).write_last_rows(x)
            return convolve(x, self.kernel(), self.bias, (self.side, self.side, self.height - 1, 0))
        ring = self._ring(run.memory)
        ring.write_row(run.row, x[:, 0])
        kernels = run.memory.plan(self, self._by_slot)
        ring.slots(run.row - self.height + 1, run.row)  # all are there
        return convolve(ring.data, kernels[run.row % self.height], self.bias)

    def _by_slot(self) -> list[Tensor]:
        """For each place of the newest row in the ring, the kernel with its rows where the ring holds theirs: so the
        rows need not be put in order, row after row of pictures."""
        kernel = self.kernel().detach()
        return [kernel.roll(newest + 1, 2).contiguous() for newest in range(self.height)]

    def _ring(self, memory: Memory) -> Ring:
        return memory.ring(self, self.height, self.inputs, self.side, self.side)


class PixelConv(nn.Module):
    """A convolution over a pixel stream: `rows` finished rows above (`side` columns either way, or side=(left, right)),
    `left` pixels to the left, and of the current pixel what the mask allows.

    Mask "A" belongs to the first layer: it reads the network's input and sees only earlier channels of the current
    pixel (nothing of it when there is one channel group). Mask "B" also sees its own channel's features. The k×k masked
    convolution of the papers is rows = left = side = k//2. Whole: [N, H, W, inputs] → [N, H, W, outputs]. Cursor:
    [N, inputs of this group] → [N, outputs of this group]; with mask A the input is read from memory, x is None.

    `cut`: of the m-th row above at most cut·m − 1 columns to the right are seen, so that pictures can be made by
    diagonals of that slope. `slope` says of any PixelConv the flattest slope that it allows.
    """

    def __init__(
        self,
        inputs: Layout,
        outputs: Layout,
        mask: Mask,
        left: int = 0,
        rows: int = 0,
        side: int | tuple[int, int] = 0,
        normalised: bool = False,
        cut: int | None = None,
    ):
        super().__init__()
        self.inputs, self.outputs, self.mask = inputs, outputs, mask
        self.left, self.rows, self.cut = left, rows, cut
        self.side = (side, side) if isinstance(side, int) else side
        if not rows:
            self.side = (0, 0)
        rights = [self.side[1] if cut is None else min(self.side[1], cut * up - 1) for up in range(1, rows + 1)]
        self.taps_above = [(up, d) for up in range(rows, 0, -1) for d in range(-self.side[0], rights[up - 1] + 1)]
        self.slope = max([1, *(-(-(right + 1) // up) for up, right in enumerate(rights, 1))])
        self.ragged = len(self.taps_above) < rows * (sum(self.side) + 1)
        self.reach = max(left, self.side[0])  # columns to the left that are looked at in any row
        allowed = centre_mask(inputs.channel(), outputs.channel(), mask)
        if rows:  # by rows and columns, or by tap where the rows are not equally long
            shape = (len(self.taps_above),) if self.ragged else (rows, sum(self.side) + 1)
            self.above = nn.Parameter(torch.empty(outputs.width, inputs.width, *shape))
        if left:
            self.before = nn.Parameter(torch.empty(outputs.width, inputs.width, left))
        if allowed.any():
            self.centre = nn.Parameter(torch.empty(outputs.width, inputs.width))
            if not allowed.all():
                self.register_buffer("allowed", allowed, persistent=False)
        self.bias = nn.Parameter(torch.empty(outputs.width))
        taps = len(self.taps_above) + left
        initialise(self, fan_in=max(taps * inputs.width + int(allowed.sum(1).max()), 1))
        if normalised:
            self.gain = nn.Parameter(torch.ones(outputs.width))
        self.input_reach = (rows, self.reach, self.side[1]) if mask == "A" else None

    def scale(self) -> Tensor | None:
        """With weight normalisation (Salimans and Kingma 2016), the factor of every output, [outputs]."""
        if not hasattr(self, "gain"):
            return None
        parts = [getattr(self, name).flatten(1) for name in ("above", "before") if hasattr(self, name)]
        centre = self._allowed_centre()
        return self.gain / torch.cat(parts if centre is None else [*parts, centre], 1).norm(dim=1)

    def _scaled(self, weight: Tensor) -> Tensor:
        scale = self.scale()
        return weight if scale is None else weight * scale.view(-1, *[1] * (weight.dim() - 1))

    def centre_weight(self) -> Tensor | None:
        """Connections at the current pixel, [outputs, inputs], zero where the channel order forbids them."""
        centre = self._allowed_centre()
        return None if centre is None else self._scaled(centre)

    def _allowed_centre(self) -> Tensor | None:
        if not hasattr(self, "centre"):
            return None
        return self.centre * self.get_buffer("allowed") if hasattr(self, "allowed") else self.centre

    def kernel(self) -> Tensor:
        """The same as one dense kernel, [outputs, inputs, rows + 1, columns]; the current pixel is in the last row, at
        column `reach`."""
        own = self.bias.new_zeros(self.outputs.width, self.inputs.width, 0)
        if self.left:
            own = self.before
        centre = self._allowed_centre()
        at = self.bias.new_zeros(self.outputs.width, self.inputs.width, 1) if centre is None else centre[..., None]
        own = F.pad(torch.cat([own, at], 2), (self.reach - self.left, self.side[1]))[:, :, None]
        if not self.rows:
            return self._scaled(own)
        return self._scaled(torch.cat([F.pad(self.rectangle(), (self.reach - self.side[0], 0)), own], 2))

    def rectangle(self) -> Tensor:
        """The weights of the rows above as a rectangle, [outputs, inputs, rows, columns]."""
        if not self.ragged:
            return self.above
        columns = sum(self.side) + 1
        cells = [(self.rows - up) * columns + self.side[0] + d for up, d in self.taps_above]
        dense = self.above.new_zeros(*self.above.shape[:2], self.rows * columns)
        filled = dense.index_copy(2, torch.tensor(cells, device=dense.device), self.above)
        return filled.unflatten(2, (self.rows, columns))

    def forward(self, x: Tensor | None, run: Run) -> Tensor:
        if isinstance(run, Wave):
            return self._wave(x, run)
        if isinstance(run, Cursor):
            return self._step(x, run)
        assert x is not None
        if run.memory is not None and self.mask == "B" and self._remembers:
            self._ring(run.memory).write_last_rows(x[..., self.inputs.group_major()])
        if not self.rows and not self.left:
            centre = self.centre_weight()
            return self.bias.expand(*x.shape[:-1], -1) if centre is None else pointwise(x, centre, self.bias)
        if not self.rows and not hasattr(self, "centre"):  # first layer of a horizontal stack: strictly to the left
            return convolve(x[:, :, :-1], self._scaled(self.before)[:, :, None], self.bias, (self.left, 0, 0, 0))
        return convolve(x, self.kernel(), self.bias, (self.reach, self.side[1], self.rows, 0))

    @property
    def _remembers(self) -> bool:
        return bool(self.rows or self.left or self.inputs.groups > 1)

    def _ring(self, memory: Memory) -> Ring:
        if self.mask == "A":
            return memory.input
        return memory.ring(self, self.rows + 1, self.inputs.width, self.reach, self.side[1])

    def _step(self, x: Tensor | None, run: Cursor) -> Tensor:
        memory, group = run.memory, run.group
        plan: _StepPlan = memory.plans.get(self) or memory.plan(self, lambda: _StepPlan(self))
        if plan.pointwise:
            assert x is not None
            return torch.addmm(plan.bias[group], x, plan.weight[group])
        ring = self._ring(memory)
        if self.mask == "B":
            assert x is not None
            ring.write(run.row, run.column, plan.starts[group], x)
        window = ring.window(run.row, run.column, self.left, plan.seen[group])
        if not self.rows:
            return torch.addmm(plan.bias[group], window, plan.weight[group])
        from_above = memory.once_a_row(self, run, self._row_above)[:, run.column]
        return torch.addmm(from_above[:, plan.outputs[group]], window, plan.weight[group])

    def times(self, slope: int) -> int:
        """Diagonals of the input that are looked at, the current one included."""
        return 1 + max([self.left, *(slope * up - d for up, d in self.taps_above)])

    def _stream(self, memory: WaveMemory) -> Stream:
        if self.mask == "A":
            return memory.stream("input", 0, 0)  # made by whoever steps
        return memory.stream(self, self.times(memory.slope), self.inputs.width, self.rows)

    def _wave(self, x: Tensor | None, run: Wave) -> Tensor:
        """The step of a whole diagonal: what `_step` does at one pixel, with the rows above tap by tap."""
        group = run.group
        plan: _StepPlan = run.memory.plan(self, lambda: _StepPlan(self))
        if plan.pointwise:
            assert x is not None
            return torch.addmm(plan.bias[group], x, plan.weight[group])
        stream, width = self._stream(run.memory), self.inputs.width
        if x is not None and self.mask == "B":
            stream.write(run, plan.starts[group], x)
        taps = [stream.tap(run, up, d, width) for up, d in self.taps_above]
        taps += [stream.tap(run, 0, d, width) for d in range(-self.left, 0)]
        if plan.seen[group]:
            taps.append(stream.tap(run, 0, 0, plan.seen[group]))
        return torch.addmm(plan.bias[group], torch.cat(taps, 1), plan.full_weight(self, group))

    def _row_above(self, run: Cursor) -> Tensor:
        """What the finished rows above contribute to the whole current row, [N, W, outputs]."""
        ring, plan = self._ring(run.memory), run.memory.plan(self, lambda: _StepPlan(self))
        first = ring.left - self.side[0]
        block = ring.block(run.row - self.rows, run.row - 1)[:, :, first : first + ring.width + sum(self.side)]
        return convolve(block, plan.above, plan.bias_sorted)[:, 0].contiguous()


class _StepPlan:
    """A PixelConv's weights as a Cursor uses them: [taps, outputs] per channel group, features in group-major order."""

    def __init__(self, conv: PixelConv):
        inputs, outputs = conv.inputs, conv.outputs
        columns, rows = inputs.group_major(), outputs.group_major()
        ends_in, ends_out = [0, *inputs.ends()], [0, *outputs.ends()]
        kernel = conv.kernel().detach()[rows][:, columns]
        own = (
            kernel[:, :, -1, conv.reach - conv.left : conv.reach + 1].permute(0, 2, 1).flatten(1)
        )  # [outputs, taps * inputs]
        self.pointwise = conv.mask == "B" and not conv._remembers  # one product, and nothing to remember
        self.starts = ends_in[:-1]  # where in memory a group's features begin
        self.seen = ends_in[:-1] if conv.mask == "A" else ends_in[1:]  # features seen of the current pixel
        self.outputs = [slice(start, end) for start, end in pairwise(ends_out)]
        taken = [conv.left * inputs.width + seen for seen in self.seen]
        self.weight = [own[out, :n].t().contiguous() for out, n in zip(self.outputs, taken, strict=True)]
        self.bias_sorted = conv.bias.detach()[rows]
        self.bias = [self.bias_sorted[out] for out in self.outputs]
        if conv.rows:
            across = slice(conv.reach - conv.side[0], conv.reach + conv.side[1] + 1)
            self.above = kernel[:, :, :-1, across].contiguous()
        self._full: dict[int, Tensor] = {}

    def full_weight(self, conv: PixelConv, group: int) -> Tensor:
        """The taps above, tap by tap, then those of `weight`: [taps, outputs] of a group."""
        if group not in self._full:
            above = [
                self.above[self.outputs[group], :, conv.rows - up, conv.side[0] + d].t() for up, d in conv.taps_above
            ]
            self._full[group] = torch.cat([*above, self.weight[group]])
        return self._full[group]


def initialise(module: nn.Module, fan_in: int) -> None:
    """PyTorch's default for convolutions, with the fan-in of the taps that are really there."""
    bound = 1 / math.sqrt(fan_in)
    for parameter in module.parameters(recurse=False):
        nn.init.uniform_(parameter, -bound, bound)
