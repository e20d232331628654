"""Wrong recurrent, attentive and multi-level networks; importing this adds them to `mutants.MUTANTS`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mutants import Without, mutant
from torch.nn.utils import parametrize

import nextpixel as npx
from nextpixel.causal import CausalAttention, DiagonalBiLSTM, DoubleRows, Halve, RowLSTM, Whole


def small(family, **options):
    settings = {"levels": 2, "features": 4} | options
    return npx.build(family, shape=(1, 8, 8), **settings).eval()


def becomes(model, kind, wrong):
    """Every module of one class becomes one of a wrong subclass."""
    for module in model.network.modules():
        if type(module) is kind:
            module.__class__ = wrong
    return model


class NotShifted(DiagonalBiLSTM):
    """The right-to-left map is added to its own row (published code shifts it up, or not at all)."""

    def forward(self, x, raw, run):
        if not isinstance(run, Whole):
            return super().forward(x, raw, run)
        gates = torch.stack([self.input_to_state(x, run), self._mirrored_gates(x, raw).flip(2)])
        states = self._scan(gates)
        return states[0] + states[1].flip(2)


@mutant("future leak")
def right_to_left_map_not_shifted():
    return becomes(small("diagonal_bilstm", layers=1, first_kernel=3), DiagonalBiLSTM, NotShifted)


class ShiftedUp(DiagonalBiLSTM):
    def forward(self, x, raw, run):
        if not isinstance(run, Whole):
            return super().forward(x, raw, run)
        states = self._scan(torch.stack([self.input_to_state(x, run), self._mirrored_gates(x, raw).flip(2)]))
        return states[0] + F.pad(states[1].flip(2), (0, 0, 0, 0, 0, 1))[:, 1:]


@mutant("future leak")
def right_to_left_map_shifted_up():
    return becomes(small("diagonal_bilstm", layers=1, first_kernel=3), DiagonalBiLSTM, ShiftedUp)


class WrongSkew(DiagonalBiLSTM):
    """Skewed the other way: the state of a pixel comes from the row below."""

    def _scan(self, gates):
        return super()._scan(gates.flip(2)).flip(2)


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
