"""Doing again, compiled, what a network does at every pixel."""

from nextpixel.replay.replay import Replay

__all__ = ["Replay"]
