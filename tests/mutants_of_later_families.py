"""Wrong networks of the later families; importing this adds them to `mutants.MUTANTS`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mutants import Without, mutant
from torch.nn.utils import parametrize

import nextpixel as npx
from nextpixel.causal import (
    CausalAttention,
    Cursor,
    DiagonalBiLSTM,
    DoubleRows,
    Halve,
    MaskedLinear,
    RowLSTM,
    RunningSum,
    Whole,
)
from nextpixel.causal.lstm import diagonal_scan


def small(family, **options):
    settings = {"levels": 2, "features": 4} | options
    return npx.build(family, shape=(1, 8, 8), **settings).eval()


def becomes(model, kind, wrong):
    """Every module of one class becomes one of a wrong subclass."""
    for module in model.network.modules():
        if type(module) is kind:
            module.__class__ = wrong
    return model


def scanned(layer, x, raw, run, upside_down=False):
    """Left-to-right and right-to-left states of a diagonal layer, each in the picture's own coordinates."""
    gates = torch.stack([layer.input_to_state(x, run), layer._mirrored_gates(x, raw).flip(2)])
    rows = [2] if upside_down else []
    states = diagonal_scan(gates.flip(rows), layer.state_to_state, layer.first_hidden, layer.first_cell).flip(rows)
    return states[0], states[1].flip(2)


class NotShifted(DiagonalBiLSTM):
    """The right-to-left map is added to its own row (published code shifts it up, or not at all)."""

    def forward(self, x, raw, run):
        if not isinstance(run, Whole):
            return super().forward(x, raw, run)
        ahead, back = scanned(self, x, raw, run)
        return ahead + back


@mutant("future leak")
def right_to_left_map_not_shifted():
    return becomes(small("diagonal_bilstm", layers=1, first_kernel=3), DiagonalBiLSTM, NotShifted)


class ShiftedUp(DiagonalBiLSTM):
    def forward(self, x, raw, run):
        if not isinstance(run, Whole):
            return super().forward(x, raw, run)
        ahead, back = scanned(self, x, raw, run)
        return ahead + F.pad(back, (0, 0, 0, 0, 0, 1))[:, 1:]


@mutant("future leak")
def right_to_left_map_shifted_up():
    return becomes(small("diagonal_bilstm", layers=1, first_kernel=3), DiagonalBiLSTM, ShiftedUp)


class WrongSkew(DiagonalBiLSTM):
    """Skewed the other way: the state of a pixel comes from the row below."""

    def forward(self, x, raw, run):
        if not isinstance(run, Whole):
            return super().forward(x, raw, run)
        ahead, back = scanned(self, x, raw, run, upside_down=True)
        return ahead + F.pad(back, (0, 0, 0, 0, 1, 0))[:, :-1]


@mutant("future leak")
def skewed_the_wrong_way():
    return becomes(small("diagonal_bilstm", layers=1, first_kernel=3), DiagonalBiLSTM, WrongSkew)


@mutant("too little context")
def diagonal_state_without_the_row_above():
    """The state-to-state convolution has height 1: only the neighbour behind."""
    model = small("diagonal_bilstm", layers=1, first_kernel=3)
    layer = model.network.layers[0].recurrence
    above = torch.zeros_like(layer.state_to_state, dtype=torch.bool)
    above[:, layer.hidden.width :] = True
    parametrize.register_parametrization(layer, "state_to_state", Without(above))
    return model


class FromBelow(RowLSTM):
    def forward(self, x, run):
        return super().forward(x.flip(1), run).flip(1) if isinstance(run, Whole) else super().forward(x, run)


@mutant("future leak")
def row_lstm_from_the_bottom():
    return becomes(small("row_lstm", layers=1, first_kernel=3), RowLSTM, FromBelow)


@mutant("too little context")
def row_lstm_state_without_its_right_neighbour():
    model = small("row_lstm", layers=1, first_kernel=3)
    layer = model.network.layers[0].recurrence.lstm
    right = torch.zeros_like(layer.state_to_state, dtype=torch.bool)
    right[..., -1] = True
    parametrize.register_parametrization(layer, "state_to_state", Without(right))
    return model


class SeesItself(CausalAttention):
    """Keys are not shifted: a position attends to its own pixel."""

    def forward(self, x, raw, run):
        if not isinstance(run, Whole):
            return super().forward(x, raw, run)
        n, height, width, _ = x.shape
        keys, values = self._split(self.memory_of(torch.cat([x, raw], -1)).flatten(1, 2))
        found = F.scaled_dot_product_attention(self._queries(x.flatten(1, 2)), keys, values, is_causal=True)
        return found.transpose(1, 2).reshape(n, height, width, -1)


@mutant("sees itself")
def attention_to_its_own_pixel():
    return becomes(small("pixelsnail", layers=1, blocks=1, heads=2, keys=3, values=2), CausalAttention, SeesItself)


class NoMask(CausalAttention):
    def forward(self, x, raw, run):
        if not isinstance(run, Whole):
            return super().forward(x, raw, run)
        n, height, width, _ = x.shape
        keys, values = self._split(self.memory_of(torch.cat([x, raw], -1)).flatten(1, 2))
        found = F.scaled_dot_product_attention(self._queries(x.flatten(1, 2)), keys, values)
        return found.transpose(1, 2).reshape(n, height, width, -1)


@mutant("future leak")
def attention_without_a_mask():
    return becomes(small("pixelsnail", layers=1, blocks=1, heads=2, keys=3, values=2), CausalAttention, NoMask)


class TakesTheLast(Halve):
    """The lower level is computed from the last of its four positions, and used at all of them."""

    def forward(self, x, run):
        if not isinstance(run, Whole):
            return super().forward(x, run)
        odd = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        return odd[:, 1::2, 1::2]


@mutant("future leak")
def lower_level_from_the_last_of_four():
    return becomes(small("pixelcnnpp", scales=2, blocks=1, dropout=0.0), Halve, TakesTheLast)


class FromTheEnd(Halve):
    """Every second column, counted from the right: right where the width is odd, a pixel too late where it is even."""

    def forward(self, x, run):
        return x[:, ::2, (x.shape[2] - 1) % 2 :: 2] if isinstance(run, Whole) else super().forward(x, run)


@mutant("sees itself")
def lower_level_counted_from_the_right():
    return becomes(small("pixelcnnpp", scales=2, blocks=1, dropout=0.0), Halve, FromTheEnd)


class MixedUp(DoubleRows):
    """Coming up, the two rows change places in a Cursor only."""

    def forward(self, low, width, height, run):
        if isinstance(run, Whole):
            return super().forward(low, width, height, run)
        swapped = low.unflatten(-1, (2, 2, -1)).flip(-3).flatten(-3)
        return super().forward(swapped, width, height, run)


@mutant("whole differs from cursor")
def rows_of_the_lower_level_swapped():
    return becomes(small("pixelcnnpp", scales=2, blocks=1, dropout=0.0), DoubleRows, MixedUp)


# Fully connected families


def flat(family, **options):
    settings = {"levels": 2, "hidden": 14} | options
    return npx.build(family, shape=(1, 3, 4), **settings).eval()


def set_degrees(layer, inputs=None, outputs=None):
    """The mask that belongs to other degrees than the layer's own."""
    below = torch.tensor(layer.inputs.degrees) if inputs is None else inputs
    above = torch.tensor(layer.outputs.degrees) if outputs is None else outputs
    layer.register_buffer("mask", (below[None] <= above[:, None]).float(), persistent=False)


@mutant("sees itself")
def made_output_mask_not_strict():
    """An output is connected to the units of its own degree (>= instead of >)."""
    model = flat("made")
    out = model.network.out
    set_degrees(out, outputs=torch.tensor(out.outputs.degrees) + 1)
    return model


@mutant("sees itself")
def made_direct_connections_not_strict():
    model = flat("made")
    direct = model.network.direct
    set_degrees(direct, outputs=torch.tensor(direct.outputs.degrees) + 1)
    return model


@mutant("future leak")
def made_hidden_mask_transposed():
    """Units are connected to those of a higher degree instead of a lower one."""
    model = flat("made", layers=2)
    second = model.network.layers[1]
    second.register_buffer("mask", second.mask.mT.contiguous(), persistent=False)
    return model


@mutant("whole differs from cursor")
def made_degrees_unsorted():
    """Degrees drawn at random, one mask like the other; a Cursor computes slices of sorted units."""
    model = flat("made")
    layer, out = model.network.layers[0], model.network.out
    degrees = torch.tensor(layer.outputs.degrees)[torch.randperm(14, generator=torch.Generator().manual_seed(0))]
    set_degrees(layer, outputs=degrees)
    set_degrees(out, inputs=degrees)
    return model


@mutant("blind spot")
def made_strict_between_hidden_layers():
    """A unit does not see the units of its own degree below: every position loses the one before it."""
    model = flat("made", layers=2, direct=False)
    second = model.network.layers[1]
    set_degrees(second, inputs=torch.tensor(second.inputs.degrees) + 1)
    return model


class ForgetsRowStarts(MaskedLinear):
    """Nothing becomes known at the first column of a row."""

    def forward(self, x, condition, steps, run):
        y = super().forward(x, condition, steps, run)
        if isinstance(run, Cursor) and run.column == 0 and not self.outputs.pixels:
            return torch.zeros_like(y)
        return y


@mutant("whole differs from cursor")
def made_units_of_row_starts_never_computed():
    return becomes(flat("made"), MaskedLinear, ForgetsRowStarts)


class SumsItself(RunningSum):
    """The running sum includes the position that is being predicted."""

    def forward(self, x, run):
        if not isinstance(run, Whole):
            return super().forward(x, run)
        terms = torch.einsum("ntd,tdh->nth", x.flatten(1, 2), self._by_position(run.order))
        return (self.bias + terms.cumsum(1)).unflatten(1, x.shape[1:3])


@mutant("sees itself")
def nade_sum_with_its_own_input():
    return becomes(flat("nade"), RunningSum, SumsItself)


class StartsAnew(RunningSum):
    """In a Cursor every row begins with an empty sum."""

    def _step(self, run):
        if run.column == 0 and self in run.memory.stores:
            run.memory.stores[self].data = self.bias.expand(run.memory.n, -1)
        return super()._step(run)


@mutant("whole differs from cursor")
def nade_sum_starts_anew_in_each_row():
    return becomes(flat("nade"), RunningSum, StartsAnew)


class ForgetfulFork(RunningSum):
    """A fork begins with an empty sum."""

    def _store(self, memory):
        total = super()._store(memory)
        total.fork = lambda indices: type(total)(self.bias.detach().expand(len(indices), -1), total.terms)
        return total


@mutant("fork differs")
def nade_sum_forgotten_at_a_fork():
    return becomes(flat("nade"), RunningSum, ForgetfulFork)


class RemembersNoRows(RunningSum):
    """Known rows leave no sum behind."""

    def forward(self, x, run):
        return super().forward(x, Whole(order=run.order) if isinstance(run, Whole) else run)


@mutant("prefill differs")
def nade_known_rows_not_remembered():
    return becomes(flat("nade"), RunningSum, RemembersNoRows)
