"""The recurrent layers on integers: the same layers with other numbers in their cells.

The weights of the states have the same number of bits for all outputs, so that sums of states may be kept in any order
of features. A cell is a number within ±8 in the activations' format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nextpixel.causal import CELL_LIMIT, DiagonalBiLSTM, Diagonals, RowLSTM, Run
from nextpixel.exact.layers import (
    ExactLinear,
    ExactPixelConv,
    IntegerWeights,
    UnprovableError,
    as_matrix,
    product,
    taps,
)
from nextpixel.exact.numbers import Formats, rounded, saturated, scales, shifted, without_bits
from nextpixel.exact.tables import Tables

Part = Callable[..., Tensor]


class IntegerStates(IntegerWeights):
    """What both layers share; mixed into a `Recurrent`."""

    tables: Tables
    first_hidden: nn.Parameter
    first_cell: nn.Parameter

    def make_recurrent(self, formats: Formats, tables: Tables) -> None:
        self.make_exact(formats, 0)
        self.__dict__["tables"] = tables  # the model's, not a part of this module
        tables.need("tanh")
        tables.need("sigmoid")

    def kernel(self) -> Tensor:
        """The weights of the states, [outputs, inputs, ...]."""
        raise NotImplementedError

    def take_states(self, layer: Any, bits: int) -> None:
        """Round the weights of the states to that many fractional bits, and the first state of a row."""
        module: Any = self
        self.shift.fill_(bits)
        module.state_to_state.copy_(rounded(layer.state_to_state, bits))
        module.bias.fill_((1 << bits) // 2)
        one = self.formats.one
        self.first_hidden.copy_(saturated(rounded(layer.first_hidden, self.formats.activation), one))
        self.first_cell.copy_(saturated(rounded(layer.first_cell, self.formats.activation), int(CELL_LIMIT) * one))

    def states_bound(self) -> None:
        """The proof of what states add to gates, and of the cell."""
        module: Any = self
        one, largest = self.formats.one, int(CELL_LIMIT) * self.formats.one
        if int(self.first_hidden.abs().max()) > one or int(self.first_cell.abs().max()) > largest:
            raise UnprovableError("the first state of a row is out of bounds")
        if len(set(self.shift.tolist())) > 1 or len(set(module.bias.tolist())) > 1:
            raise UnprovableError("the outputs have several numbers of bits")
        self.prove_sums([one] * module.kernel().shape[1])
        if one * largest + one * one + one >= self.formats.exact_below or self.formats.limit < largest:
            raise UnprovableError("its cells do not fit")

    def gates_of(self, sums: Tensor) -> Tensor:
        """Sums of states, without the half that makes leaving off bits round, as activations."""
        module: Any = self
        sums = sums + module.bias[0]
        return saturated(shifted(sums, scales(self.shift[:1], sums)), self.formats.limit)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return saturated(x + y, self.formats.limit)

    def cell(self, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        bits = self.formats.activation
        take, keep, show, content = self.tables.look_up(gates, *3 * ["sigmoid"], "tanh").chunk(4, -1)
        new = without_bits(keep * cell + take * content, bits)
        new = saturated(new, int(CELL_LIMIT) * self.formats.one)
        return without_bits(show * self.tables.look_up(new, "tanh"), bits), new


class ExactRowLSTM(IntegerStates, RowLSTM):
    def __init__(self, layer: RowLSTM, formats: Formats, tables: Tables):
        RowLSTM.__init__(self, layer.hidden, 2 * layer.side + 1)
        self.make_recurrent(formats, tables)

    def kernel(self) -> Tensor:
        return self.state_to_state

    def bound(self, x: Tensor, run: Run) -> Tensor:
        self.states_bound()
        return torch.full_like(x[..., : self.hidden.width], self.formats.one)

    def from_states(self, hidden: Tensor, kernel: Tensor) -> Tensor:
        sums = hidden.new_zeros(len(kernel))
        sums = product(sums, taps(hidden, 1, 2 * self.side + 1), as_matrix(kernel))
        return self.gates_of(sums).view(len(hidden), 1, -1, len(kernel))

    def with_states(self, x: Tensor, states: Tensor, weight: Tensor) -> Tensor:
        sums = product(states.new_zeros(weight.shape[1]), states, weight)
        return self.add(x, self.gates_of(sums))


class ExactDiagonalBiLSTM(IntegerStates, DiagonalBiLSTM):
    def __init__(self, layer: DiagonalBiLSTM, formats: Formats, tables: Tables, name: str):
        raw = layer.mirrored_raw
        DiagonalBiLSTM.__init__(self, layer.inputs, layer.hidden, None)
        self.input_reach = layer.input_reach
        self.make_recurrent(formats, tables)
        parts = {
            key: formats.drops.get(f"{name}.{key}", 0) for key in ("input_to_state", "mirrored_input", "mirrored_raw")
        }
        self.input_to_state = ExactPixelConv(layer.input_to_state, formats, parts["input_to_state"])
        self.mirrored_input = ExactLinear(layer.mirrored_input, formats, parts["mirrored_input"])
        self.mirrored_raw = None if raw is None else ExactLinear(raw, formats, parts["mirrored_raw"])

    def kernel(self) -> Tensor:
        """[2 directions · outputs, states, 1]"""
        return self.state_to_state.transpose(1, 2).flatten(0, 1)[..., None]

    def bound_with(self, prove: Part, x: Tensor, raw: Tensor | None, run: Run) -> Tensor:
        """The proof; prove(part's name, part, *inputs) is that of a part."""
        prove("input_to_state", self.input_to_state, x, run)
        prove("mirrored_input", self.mirrored_input, x)
        if self.mirrored_raw is not None:
            prove("mirrored_raw", self.mirrored_raw, raw)
        self.states_bound()
        return torch.full_like(x[..., :1], 2 * self.formats.one).expand(*x.shape[:-1], self.hidden.width)

    def gates(self, inputs: Tensor, from_above: Tensor, behind: Tensor, weight: Tensor) -> Tensor:
        return self.add(inputs, self.gates_of(torch.addmm(from_above, behind, weight)))

    def scan(self, gates: Tensor) -> Tensor:
        directions, n, height, width, _ = gates.shape
        d = self.hidden.width
        diagonals = Diagonals(height, width, gates.device)
        inputs = diagonals.sort(gates)  # [directions, pixels by diagonal, n, 4d]
        hiddens = inputs.new_empty(directions, height * width, n, d)
        # the newest state of each row, below that of the row above the first; cells of the rows only
        newest = inputs.new_zeros(directions, height + 1, n, d)
        newest[:, 1:] = self.first_hidden[:, None, None]
        cells = self.first_cell[:, None, None].expand(-1, height, n, -1).clone()
        for first, end, here in diagonals.steps:
            above = newest[:, first:end]
            states = torch.cat([newest[:, first + 1 : end + 1], above], -1)
            sums = torch.stack(
                [
                    product(weight.new_zeros(4 * d), one.flatten(0, 1), weight)
                    for one, weight in zip(states, self.state_to_state, strict=True)
                ]
            ).view(directions, end - first, n, 4 * d)
            hidden, cells[:, first:end] = self.cell(self.add(inputs[:, here], self.gates_of(sums)), cells[:, first:end])
            newest[:, first + 1 : end + 1] = hiddens[:, here] = hidden
        return diagonals.unsort(hiddens)
