"""The compiled half of replaying: the functions of kernels.c, where they can be had."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

from nextpixel.native import library

SOURCE = Path(__file__).with_name("kernels.c")


@functools.cache
def kernels() -> dict[str, Callable[..., None]]:
    """The functions of kernels.c by the name of their number type; empty if they cannot be had on this machine."""
    found: dict[str, Callable[..., None]] = {}
    compiled = library(SOURCE)
    if compiled is None:
        return found
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    for name in ("float", "double"):
        function = getattr(compiled, f"replay_{name}")
        function.argtypes, function.restype = [pointer, count, *[pointer] * 4, count, count, count, count], None
        found[name] = function
    return found
