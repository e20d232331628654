"""The recurrent layers of the PixelRNN paper (van den Oord et al. 2016a, sections 3.1 and 3.2).

In Whole a layer is a short loop, one step a row (Row LSTM) or one step a diagonal (Diagonal BiLSTM), never one a pixel.
In a Cursor what depends on finished rows is done once a row. Cells are clamped to ±8, so that a trained layer can be
converted to fixed point without changing what it computes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextpixel.causal.convolution import PixelConv
from nextpixel.causal.diagonals import Wave
from nextpixel.causal.layout import Layout
from nextpixel.causal.lstm import diagonal_scan, lstm_cell
from nextpixel.causal.products import convolve
from nextpixel.causal.runs import Cursor, Memory, Ring, Run


class Recurrent(nn.Module):
    """The arithmetic of both layers, apart, so that it can be done in other numbers."""

    def cell(self, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        return lstm_cell(gates, cell)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class RowLSTM(Recurrent):
    """Row by row from the top: the state of a row comes from the row above by a convolution of `width` columns.

    Takes the input-to-state part, [..., 4 pieces] of the layout `hidden`, and gives the hidden states. The paper's
    "k×1" state-to-state convolution is (1, k) here. The state above the first row is learned.
    """

    def __init__(self, hidden: Layout, width: int):
        super().__init__()
        if width % 2 == 0:
            raise ValueError("the width of the state-to-state convolution must be odd")
        self.hidden, self.side = hidden, width // 2
        self.slope = self.side + 1  # of the diagonals by which pictures can be made
        self.gates = Layout(hidden.sizes, pieces=4)
        features = hidden.width
        self.state_to_state = nn.Parameter(torch.empty(4 * features, features, 1, width))
        nn.init.uniform_(self.state_to_state, -1 / math.sqrt(features * width), 1 / math.sqrt(features * width))
        self.first_hidden, self.first_cell = nn.Parameter(torch.zeros(features)), nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, run: Run) -> Tensor:
        if isinstance(run, Wave):
            return self._wave(x, run)
        if isinstance(run, Cursor):
            return self._step(x, run)
        n, _, width, _ = x.shape
        hidden, cell = (first.expand(n, 1, width, -1) for first in (self.first_hidden, self.first_cell))
        rows, cells = [], []
        for row in x.split(1, 1):
            above = self.from_states(F.pad(hidden, (0, 0, self.side, self.side)), self.state_to_state)
            hidden, cell = self.cell(self.add(row, above), cell)
            rows.append(hidden)
            cells.append(cell)
        states = torch.cat(rows, 1)
        if run.memory is not None:
            hiddens, kept = self._rings(run.memory)
            hiddens.write_last_rows(states)
            kept.write_last_rows(torch.cat(cells, 1))
        return states

    def _rings(self, memory: Memory) -> tuple[Ring, Ring]:
        width = self.hidden.width
        return memory.ring(self, 2, width, self.side, self.side), memory.ring((self, "cell"), 2, width)

    def _step(self, x: Tensor, run: Cursor) -> Tensor:
        memory, group, column = run.memory, run.group, run.column
        starts, ends = memory.plan((self, "groups"), lambda: group_ranges(self.hidden))
        from_above = memory.once_a_row(self, run, self._row_above)[:, column, 4 * starts[group] : 4 * ends[group]]
        hiddens, cells = self._rings(memory)
        if run.row:
            cell = cells.block(run.row - 1, run.row - 1)[:, 0, column, starts[group] : ends[group]]
        else:
            cell = self.first_cell.detach()[starts[group] : ends[group]]
        hidden, cell = self.cell(self.add(x, from_above), cell)
        hiddens.write(run.row, column, starts[group], hidden)
        cells.write(run.row, column, starts[group], cell)
        return hidden

    def _wave(self, x: Tensor, run: Wave) -> Tensor:
        memory, group = run.memory, run.group
        starts, ends = memory.plan((self, "groups"), lambda: group_ranges(self.hidden))
        weights = memory.plan((self, "taps"), self._weights_by_tap)
        times, features = memory.slope + self.side + 1, self.hidden.width
        hiddens = memory.stream(self, times, features, 1, self.first_hidden.detach())
        cells = memory.stream((self, "cell"), memory.slope + 1, features, 1, self.first_cell.detach())
        above = [hiddens.tap(run, 1, d, features) for d in range(-self.side, self.side + 1)]
        gates = self.with_states(x, torch.cat(above, 1), weights[group])
        cell = cells.tap(run, 1, 0, features)[:, starts[group] : ends[group]]
        hidden, cell = self.cell(gates, cell)
        hiddens.write(run, starts[group], hidden)
        cells.write(run, starts[group], cell)
        return hidden

    def _weights_by_tap(self) -> list[Tensor]:
        """State-to-state weights of every channel group, [width · features, outputs of the group]."""
        taps = self.state_to_state.detach()[:, :, 0].permute(2, 1, 0).flatten(0, 1)
        return [taps[:, self.gates.members(group)].contiguous() for group in range(self.gates.groups)]

    def _row_above(self, run: Cursor) -> Tensor:
        """The state-to-state part of the whole current row, [N, W, 4·features] in group-major order."""
        memory = run.memory
        kernel = memory.plan(self, lambda: self.state_to_state.detach()[self.gates.group_major()])
        if run.row:
            above = self._rings(memory)[0].block(run.row - 1, run.row - 1)
        else:
            first = self.first_hidden.detach().expand(memory.n, 1, memory.width, -1)
            above = F.pad(first, (0, 0, self.side, self.side))
        return self.from_states(above, kernel)[:, 0].contiguous()

    def with_states(self, x: Tensor, states: Tensor, weight: Tensor) -> Tensor:
        """Gates [n, outputs] from the input's part and states [n, width · d] in the row above."""
        return torch.addmm(x, states, weight)

    def from_states(self, hidden: Tensor, kernel: Tensor) -> Tensor:
        """What a row of hidden states, padded [N, 1, W + 2·side, d], adds to the gates of the row below."""
        return convolve(hidden, kernel, None)


class DiagonalBiLSTM(Recurrent):
    """Two LSTMs that scan the image along its diagonals, from the top left and from the top right.

    The state of a pixel comes from its neighbour behind and from the one above: in the paper's skewed map a column of
    height 2, (2, 1) in PyTorch. The right-to-left map is shifted down by one row before it is added, so that no pixel
    of the own row to the right is seen; that makes it row work. Input-to-state is a 1×1 (channel-masked left to right).
    `raw` also feeds the network's input into the right-to-left direction: without it the row above is seen through the
    first layer's window only where that reaches (the paper's layout). The states left of the image are learned.
    """

    slope = None  # needs finished rows

    def __init__(self, inputs: Layout, hidden: Layout, raw: Layout | None):
        super().__init__()
        self.inputs, self.hidden = inputs, hidden
        features = hidden.width
        self.input_to_state = PixelConv(inputs, Layout(hidden.sizes, pieces=4), "B")
        self.mirrored_input = nn.Linear(inputs.width, 4 * features)
        self.mirrored_raw = nn.Linear(raw.width, 4 * features, bias=False) if raw is not None else None
        # [direction, behind and above, outputs]; directions: left to right, right to left
        self.state_to_state = nn.Parameter(torch.empty(2, 2 * features, 4 * features))
        nn.init.uniform_(self.state_to_state, -1 / math.sqrt(2 * features), 1 / math.sqrt(2 * features))
        self.first_hidden = nn.Parameter(torch.zeros(2, features))
        self.first_cell = nn.Parameter(torch.zeros(2, features))
        self.input_reach = (1, 0, 0) if raw is not None else None

    def forward(self, x: Tensor, raw: Tensor | None, run: Run) -> Tensor:
        """x: features of the layer below, raw: the network's input (None in a Cursor) → hidden states."""
        if isinstance(run, Cursor):
            return self._step(x, run)
        forward, mirrored = self.input_to_state(x, run), self._mirrored_gates(x, raw)
        gates = torch.stack([forward, mirrored.flip(2)])
        states = self.scan(gates)
        ahead, back = states[0], states[1].flip(2)
        if run.memory is not None:
            self._ring(run.memory, "ahead").write_last_rows(ahead)
            self._ring(run.memory, "back").write_last_rows(back)
            self._inputs(run.memory).write_last_rows(x)
        return self.add(ahead, F.pad(back, (0, 0, 0, 0, 1, 0))[:, :-1])

    def scan(self, gates: Tensor) -> Tensor:
        """Hidden states of both directions, [2, N, H, W, d], from the inputs' part of their gates."""
        return diagonal_scan(gates, self.state_to_state, self.first_hidden, self.first_cell)

    def gates(self, inputs: Tensor, from_above: Tensor, behind: Tensor, weight: Tensor) -> Tensor:
        """A pixel's gates: the inputs' part, what the state above adds, and that of the neighbour behind [N, d]."""
        return torch.addmm(inputs + from_above, behind, weight)

    def _mirrored_gates(self, x: Tensor, raw: Tensor | None) -> Tensor:
        gates = self.mirrored_input(x)
        return gates if self.mirrored_raw is None or raw is None else self.add(gates, self.mirrored_raw(raw))

    def _ring(self, memory: Memory, what: str) -> Ring:
        return memory.ring((self, what), 2, self.hidden.width, 1)

    def _inputs(self, memory: Memory) -> Ring:
        return memory.ring((self, "inputs"), 1, self.inputs.width)

    def _step(self, x: Tensor, run: Cursor) -> Tensor:
        memory, group, row, column = run.memory, run.group, run.row, run.column
        starts, ends = memory.plan((self, "groups"), lambda: group_ranges(self.hidden))
        plan = memory.plan(self, lambda: _DiagonalPlan(self))
        here = slice(starts[group], ends[group])
        row_work = memory.once_a_row(self, run, self._row_work)
        from_above, mirrored = row_work.split([4 * self.hidden.width, self.hidden.width], -1)
        self._inputs(memory).write(row, column, plan.input_starts[group], x)
        above = from_above[:, column, 4 * starts[group] : 4 * ends[group]]
        ahead, cells = self._ring(memory, "ahead"), self._ring(memory, "cell")
        if column:
            behind, kept = ahead.window(row, column, 1, 0), cells.window(row, column, 1, 0)[:, here]
        else:
            behind, kept = plan.first_hidden.expand(memory.n, -1), plan.first_cell[here]
        gates = self.gates(self.input_to_state(x, run), above, behind, plan.behind[group])
        hidden, cell = self.cell(gates, kept)
        ahead.write(row, column, starts[group], hidden)
        cells.write(row, column, starts[group], cell)
        return self.add(hidden, mirrored[:, column, here])

    def _row_work(self, run: Cursor) -> Tensor:
        """Of the current row, [N, W, 4d + d]: the left-to-right gates' part from above, in group-major order, and the
        right-to-left states of the row above."""
        memory, row = run.memory, run.row
        plan = memory.plan(self, lambda: _DiagonalPlan(self))
        above = self._ring(memory, "ahead").block(row - 1, row - 1)[:, 0, 1:]
        back = self._mirrored_row(run) if row else torch.zeros_like(above)
        return torch.cat([above @ plan.above, back], -1)

    def _mirrored_row(self, run: Cursor) -> Tensor:
        """Right-to-left states of the finished row above the current one, [N, W, d]."""
        memory, row = run.memory, run.row - 1
        ring, source = self._ring(memory, "back"), memory.input
        raw = source.block(row, row)[:, 0, source.left : source.left + source.width]
        gates = self._mirrored_gates(self._inputs(memory).block(row, row)[:, 0], raw)
        weight = self.state_to_state[1]
        behind_weight, above_weight = weight.split(self.hidden.width)
        above = ring.block(row - 1, row - 1)[:, 0, 1:] @ above_weight
        hidden, cell = (first[1].expand(memory.n, -1) for first in (self.first_hidden, self.first_cell))
        states = []
        for column in reversed(range(memory.width)):
            hidden, cell = self.cell(self.gates(gates[:, column], above[:, column], hidden, behind_weight), cell)
            states.append(hidden)
        back = torch.stack(states[::-1], 1)
        ring.write_row(row, back)
        return back


class _DiagonalPlan:
    """The left-to-right direction's weights as a Cursor uses them."""

    def __init__(self, layer: DiagonalBiLSTM):
        gates = Layout(layer.hidden.sizes, pieces=4)
        behind, above = layer.state_to_state.detach()[0].split(layer.hidden.width)
        self.above = above[:, gates.group_major()].contiguous()
        self.behind = [behind[:, gates.members(group)].contiguous() for group in range(gates.groups)]
        self.first_hidden, self.first_cell = layer.first_hidden.detach()[0], layer.first_cell.detach()[0]
        self.input_starts = group_ranges(layer.inputs)[0]


def group_ranges(layout: Layout) -> tuple[list[int], list[int]]:
    """Where each group's features begin and end, in group-major order."""
    ends = layout.ends()
    return [0, *ends[:-1]], ends
