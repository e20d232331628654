"""Which implementation of the range coder is used: constriction's where it is installed, else the one in Python.

Both read and write the same words. constriction takes probabilities as floats, but where they are integers f ≥ 0 in
float32 that sum to 2²⁴ − K, every sum is exact, its scale is exactly 1, and it uses the frequencies f + 1 of 2²⁴: no
float decides a bit. `perfect=False` asks for this direct use of the numbers; the other mode would change them.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from nextpixel.coding.frequencies import TOTAL
from nextpixel.coding.range_coder import Integers, InvalidWordsError, PythonDecoder, PythonEncoder, Words
from nextpixel.errors import UserError

Kind = Literal["constriction", "python"]
VARIABLE = "NEXTPIXEL_CODER"
BLOCK = 1 << 18  # symbols a call: bounds what is copied for it


class Encoder(Protocol):
    """Intervals in, words out."""

    def encode(self, left: Integers, size: Integers, values: int) -> None: ...

    def words(self) -> Words: ...


class SymbolDecoder(Protocol):
    """Words and frequencies in, symbols out."""

    def decode(self, frequencies: Integers) -> Integers: ...


def coder_kind(kind: Kind | None = None) -> Kind:
    """The implementation to use: as asked for, else by $NEXTPIXEL_CODER, else constriction if it is installed."""
    wanted = kind or os.environ.get(VARIABLE) or None
    if wanted not in (None, "constriction", "python"):
        raise UserError(f"{VARIABLE} must be constriction or python, not {wanted!r}.")
    if wanted == "python":
        return "python"
    if _constriction() is not None:
        return "constriction"
    if wanted == "constriction":
        raise UserError(f"The package constriction is not installed: install it, or set {VARIABLE}=python.")
    return "python"


def encoder(kind: Kind | None = None) -> Encoder:
    return PythonEncoder() if coder_kind(kind) == "python" else NativeEncoder()


def decoder(words: Words, kind: Kind | None = None) -> SymbolDecoder:
    return PythonDecoder(words) if coder_kind(kind) == "python" else NativeDecoder(words)


class NativeEncoder:
    """constriction's range encoder, told intervals."""

    def __init__(self) -> None:
        library: Any = _constriction()
        self._coder = library.stream.queue.RangeEncoder()
        self._family = library.stream.model.Categorical(perfect=False)

    def encode(self, left: Integers, size: Integers, values: int) -> None:
        """As `PythonEncoder.encode`. Time and memory do not depend on K: of each symbol's distribution only three
        parts are named, what lies below it, itself, and what lies above. Every part needs at least one of 2²⁴, so
        below the first value (above the last) its neighbours' share is cut in two."""
        for at in range(0, len(left), BLOCK):
            symbols, parts = _parts(left[at : at + BLOCK], size[at : at + BLOCK], values)
            self._coder.encode(symbols, self._family, (parts - 1).astype(np.float32))

    def words(self) -> Words:
        words: Words = self._coder.get_compressed()
        return words


class NativeDecoder:
    """constriction's range decoder."""

    def __init__(self, words: Words):
        library: Any = _constriction()
        self._coder = library.stream.queue.RangeDecoder(np.ascontiguousarray(words, np.uint32))
        self._family = library.stream.model.Categorical(perfect=False)

    def decode(self, frequencies: Integers) -> Integers:
        """As `PythonDecoder.decode`."""
        if not len(frequencies):
            return np.empty(0, np.int64)
        try:
            found = self._coder.decode(self._family, frequencies.astype(np.float32))
        except AssertionError as error:  # what constriction raises where words and frequencies contradict each other
            raise InvalidWordsError("the words are damaged") from error
        return np.asarray(found, np.int64)


def _parts(left: Integers, size: Integers, values: int) -> tuple[NDArray[np.int32], Integers]:
    """Each symbol's number among the parts of [0, 2²⁴), and the sizes of the parts: [n], [n, 2 or 3]."""
    above = TOTAL - left - size
    if values == 2:
        second = left > 0
        return second.astype(np.int32), np.stack([np.where(second, left, size), np.where(second, size, above)], 1)
    parts = np.stack([left, size, above], 1)
    symbols = np.ones(len(left), np.int32)
    first, last = left == 0, above == 0
    parts[first] = np.stack([size, above // 2, above - above // 2], 1)[first]
    parts[last] = np.stack([left // 2, left - left // 2, size], 1)[last]
    symbols[first], symbols[last] = 0, 2
    return symbols, parts


def _constriction() -> Any:
    try:
        return importlib.import_module("constriction")
    except ImportError:
        return None
