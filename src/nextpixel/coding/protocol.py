"""What a model must offer to code pictures without loss: integer masses, the same whichever way they are asked for.

The coder never sees a network. It asks for the masses of all symbols of known pictures in one pass (encoding), or of
the next symbol only (decoding); both must give the same integers, on every machine. The order of the symbols is the
model's own: the coder knows only "the next one".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor


class Decoder(Protocol):
    """n pictures of one size that become known in coding order, the next a ≥ 1 symbols of each at a time."""

    def masses(self) -> Tensor:
        """Masses of the next symbols' values, int64 [a, n, K]: each at least 0, their sum 1 to 2³¹. Asking twice
        changes nothing. a depends on the size of the pictures and the position only."""

    def push(self, values: Tensor) -> None:
        """The next symbols are values, int64 [a, n]."""


class Codable(Protocol):
    """A model in integer arithmetic.

    `shape` is (C, H, W); H and W are what the model was made for, pictures of other sizes may be coded if the model
    takes them. T is the number of symbols of a picture, C·H·W for its own H and W.
    """

    @property
    def identity(self) -> bytes:
        """32 bytes: SHA-256 over all integers that the masses depend on. Equal identities give equal masses."""

    @property
    def arithmetic(self) -> int:
        """0..255: in which kind of arithmetic the masses are defined; written into the archive."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def levels(self) -> int:
        """K, 2 to 65536."""

    @property
    def classes(self) -> int | None:
        """Number of classes the model is conditioned on, up to 65536; None for an unconditional model."""

    def in_sequence(self, symbols: Tensor) -> Tensor:
        """[n, C, H, W] as [n, T] in the order in which the model predicts, whatever the type of the entries."""

    def from_sequence(self, symbols: Tensor, size: tuple[int, int]) -> Tensor:
        """The inverse of `in_sequence` for pictures of (H, W) = size."""

    def coding_order(self, size: tuple[int, int]) -> Tensor | None:
        """The numbers, in sequence, of the symbols of a picture as they are coded, int64 [T]; None for 0, 1, 2, …
        Whatever a symbol's masses depend on must be coded before it."""

    def masses(self, images: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
        """Masses of every symbol of images [n, C, H, W] given the symbols before it and labels [n], from one pass over
        whole pictures: consecutive stretches of the sequence, int64 [n, t, K] with Σt = T. The model chooses t so that
        a stretch fits into memory."""

    def decoder(self, n: int, labels: Tensor | None, size: tuple[int, int]) -> Decoder:
        """n pictures of (H, W) = size before their first symbol."""
