"""The range coder in plain Python integers: the definition of the code, the oracle of tests, and the fallback.

The state is 64 bits, words are 32 bits, probabilities have 24 bits; docs/format.md has the same in pseudo-code. The
words are those of constriction's range coder (Bamler 2022, arXiv 2201.01741), after Martin's range encoding
(1979).
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from nextpixel.coding.frequencies import PRECISION, TOTAL

WORD = 32
FULL = (1 << 64) - 1
FEW = 32  # values; a longer row is searched where it lies, which costs more a look and no copy
WORD_MASK = (1 << WORD) - 1

Words = NDArray[np.uint32]
Integers = NDArray[np.int64]


class InvalidWordsError(ValueError):
    """No encoder wrote these words for these frequencies."""


class PythonEncoder:
    """Intervals in, words out."""

    def __init__(self) -> None:
        self._low, self._range = 0, FULL
        self._words: list[int] = []

    def encode(self, left: Integers, size: Integers, values: int) -> None:
        """Append symbols whose intervals of [0, 2²⁴) are [left, left + size), int64 [n]; `values` is K."""
        for start, width in zip(left.tolist(), size.tolist(), strict=True):
            scale = self._range >> PRECISION
            self._add(scale * start)
            self._range = scale * width
            if self._range <= WORD_MASK:
                self._words.append(self._low >> WORD)
                self._low, self._range = (self._low & WORD_MASK) << WORD, self._range << WORD

    def words(self) -> Words:
        """All words; the encoder is finished."""
        if self._range != FULL:
            upper = (self._low + self._range & FULL) >> WORD
            self._add(WORD_MASK)  # now the upper word by itself names a point of the interval
            self._words.append(self._low >> WORD)
            if upper == self._words[-1]:
                self._words.append(0)
        return np.array(self._words, np.uint32)

    def _add(self, amount: int) -> None:
        self._low += amount
        if self._low > FULL:
            self._low &= FULL
            at = len(self._words) - 1
            while self._words[at] == WORD_MASK:
                self._words[at], at = 0, at - 1
            self._words[at] += 1


class PythonDecoder:
    """Words and frequencies in, symbols out. Words beyond the end are zero."""

    def __init__(self, words: Words):
        self._words, self._at = words.tolist(), 2
        first, second = ([*self._words[:2], 0, 0])[:2]
        self._offset, self._range = first << WORD | second, FULL  # offset: of the point from the interval's lower end

    def decode(self, frequencies: Integers) -> Integers:
        """The next n symbols, int64 [n], of frequencies f int64 [n, K] (sum 2²⁴ − K).

        Raises InvalidWordsError where the words cannot come from these frequencies.
        """
        ends = np.cumsum(frequencies + 1, axis=1)
        found = np.empty(len(ends), np.int64)
        rows = ends.tolist() if ends.shape[1] <= FEW else ends
        for index, row in enumerate(rows):
            scale = self._range >> PRECISION
            quantile = self._offset // scale
            if quantile >= TOTAL:
                raise InvalidWordsError("the words are damaged")
            symbol = bisect_right(row, quantile)
            left = int(row[symbol - 1]) if symbol else 0
            self._offset -= scale * left
            self._range = scale * (int(row[symbol]) - left)
            if self._range <= WORD_MASK:
                word = self._words[self._at] if self._at < len(self._words) else 0
                self._offset, self._range, self._at = self._offset << WORD | word, self._range << WORD, self._at + 1
            found[index] = symbol
        return found
