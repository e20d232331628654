"""Causal primitives: the only code that knows in which schedule a network is being run."""

from nextpixel.causal.attention import CausalAttention, Positions
from nextpixel.causal.convolution import PixelConv, RowConv, ShiftDown
from nextpixel.causal.layout import Layout, Mask, centre_mask, map_channels
from nextpixel.causal.normalisation import initialise_from_data
from nextpixel.causal.pointwise import Add, Concat, ConcatELU, Dropout, Gate, Highway, LinearGate, ReLU, Split
from nextpixel.causal.recurrence import DiagonalBiLSTM, RowLSTM
from nextpixel.causal.resampling import DoublePixels, DoubleRows, Halve
from nextpixel.causal.runs import Cursor, Memory, Ring, Run, UnwrittenError, Whole

__all__ = [
    "Add",
    "CausalAttention",
    "Concat",
    "ConcatELU",
    "Cursor",
    "DiagonalBiLSTM",
    "DoublePixels",
    "DoubleRows",
    "Dropout",
    "Gate",
    "Halve",
    "Highway",
    "Layout",
    "LinearGate",
    "Mask",
    "Memory",
    "PixelConv",
    "Positions",
    "ReLU",
    "Ring",
    "RowConv",
    "RowLSTM",
    "Run",
    "ShiftDown",
    "Split",
    "UnwrittenError",
    "Whole",
    "centre_mask",
    "initialise_from_data",
    "map_channels",
]
