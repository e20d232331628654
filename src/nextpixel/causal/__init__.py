"""Causal primitives: the only code that knows in which schedule a network is being run."""

from nextpixel.causal.convolution import PixelConv, RowConv, ShiftDown
from nextpixel.causal.layout import Layout, Mask, centre_mask, map_channels
from nextpixel.causal.pointwise import Add, Concat, Gate, ReLU, Split
from nextpixel.causal.runs import Cursor, Memory, Ring, Run, UnwrittenError, Whole

__all__ = [
    "Add",
    "Concat",
    "Cursor",
    "Gate",
    "Layout",
    "Mask",
    "Memory",
    "PixelConv",
    "ReLU",
    "Ring",
    "RowConv",
    "Run",
    "ShiftDown",
    "Split",
    "UnwrittenError",
    "Whole",
    "centre_mask",
    "map_channels",
]
