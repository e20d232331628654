"""Doing again, compiled, what a network does at every pixel."""

from nextpixel.replay.replay import Replay, applies
from nextpixel.replay.waves import WaveReplay

__all__ = ["Replay", "WaveReplay", "applies"]
