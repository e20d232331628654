"""Causal primitives: the only code that knows in which schedule a network is being run."""

from nextpixel.causal.attention import CausalAttention, Positions
from nextpixel.causal.convolution import PixelConv, RowConv, ShiftDown
from nextpixel.causal.diagonals import Stream, Wave, WaveMemory
from nextpixel.causal.layout import Layout, Mask, centre_mask, map_channels
from nextpixel.causal.lstm import CELL_LIMIT, Diagonals
from nextpixel.causal.masked import EarlierInputs, MaskedLinear, Units, steps_of
from nextpixel.causal.normalisation import initialise_from_data
from nextpixel.causal.pointwise import Add, Concat, ConcatELU, Dropout, Gate, Highway, LinearGate, ReLU, Sigmoid, Split
from nextpixel.causal.products import Pointwise
from nextpixel.causal.recurrence import DiagonalBiLSTM, RowLSTM
from nextpixel.causal.resampling import DoublePixels, DoubleRows, Halve
from nextpixel.causal.running_sum import PixelLinear, RunningSum
from nextpixel.causal.runs import Cursor, Memory, Ring, Run, UnwrittenError, Whole

__all__ = [
    "CELL_LIMIT",
    "Add",
    "CausalAttention",
    "Concat",
    "ConcatELU",
    "Cursor",
    "DiagonalBiLSTM",
    "Diagonals",
    "DoublePixels",
    "DoubleRows",
    "Dropout",
    "EarlierInputs",
    "Gate",
    "Halve",
    "Highway",
    "Layout",
    "LinearGate",
    "Mask",
    "MaskedLinear",
    "Memory",
    "PixelConv",
    "PixelLinear",
    "Pointwise",
    "Positions",
    "ReLU",
    "Ring",
    "RowConv",
    "RowLSTM",
    "Run",
    "RunningSum",
    "ShiftDown",
    "Sigmoid",
    "Split",
    "Stream",
    "Units",
    "UnwrittenError",
    "Wave",
    "WaveMemory",
    "Whole",
    "centre_mask",
    "initialise_from_data",
    "map_channels",
    "steps_of",
]
