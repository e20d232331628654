"""The next symbol of a multi-scale model: the small picture's symbols, then all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nextpixel.errors import UserError, check_count

if TYPE_CHECKING:
    from nextpixel.multiscale import MultiScaleModel


class ChainStepper:
    """n pictures made symbol by symbol, as by `nextpixel.Stepper`: `pmf()`, `push(values)`, `fork(indices)`.

    `position` is in the coordinates of the whole picture. It goes through the small picture first, then through all
    other pixels: those of the small one are copied and never asked for.
    """

    def __init__(self, model: MultiScaleModel, n: int, condition: object = None, size: tuple[int, int] | None = None):
        n = check_count(n)
        self.model, self.n = model, n
        self.channels, (self.height, self.width) = model.shape[0], size or model.shape[1:]
        device = model.like().device
        self.images = torch.zeros(n, self.channels, self.height, self.width, dtype=torch.long, device=device)
        self._condition = model.condition_parts(condition, n)
        self._part: Any = model.small.stepper(n, self._condition, model.small_size((self.height, self.width)))
        self._scale = model.scale  # of the part's coordinates; 1 once the large part steps

    @property
    def position(self) -> tuple[int, int, int] | None:
        position = self._part.position
        if position is None:
            return None
        row, column, channel = position
        return row * self._scale, column * self._scale, channel

    def log_pmf(self) -> Tensor:
        """Log-probabilities of the next symbol's values, nats, [n, K]. Asking twice changes nothing."""
        log_pmf: Tensor = self._part.log_pmf()
        return log_pmf

    def pmf(self) -> Tensor:
        """Probabilities of the next symbol's values, [n, K]."""
        return self.log_pmf().exp()

    def push(self, values: Tensor) -> None:
        """Say what the next symbol is, [n] integers, and go on to the one after it."""
        position = self.position
        self._part.push(values)
        if position is not None:
            row, column, channel = position
            self.images[:, channel, row, column] = values
        if self._scale > 1 and self._part.position is None:
            self._begin_large()
        if self._scale == 1:
            self._copy_small()

    def fork(self, indices: Tensor | list[int]) -> ChainStepper:
        """Go on with the pictures `indices` [m], each as a picture of its own; this stepper stays as it is."""
        chosen = torch.as_tensor(indices, dtype=torch.long, device=self.images.device)
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._part = self._part.fork(chosen)
        copy.n, copy.images = len(chosen), self.images[chosen]
        if self._condition is not None:
            copy._condition = {kind: value[chosen] for kind, value in self._condition.items()}
        return copy

    def prefill(self, rows: Tensor) -> None:
        """Refused: the first rows are not what this model predicts first. No rows are no knowledge, and fine."""
        if rows.dim() == 4 and rows.shape[2] == 0:
            return
        raise UserError(
            "A multi-scale model predicts the small picture first, which reaches to the last rows: known first rows "
            "cannot be taken in at once; push what is known of the small picture instead."
        )

    def _begin_large(self) -> None:
        model = self.model
        small = model.small_of(self.images)
        self._part = model.large.stepper(
            self.n, model.large_condition(self._condition, small), (self.height, self.width)
        )
        self._scale = 1

    def _copy_small(self) -> None:
        """Go past the pixels of the small picture, whose values the large part must have seen."""
        while (position := self._part.position) is not None:
            row, column, channel = position
            if row % self.model.scale or column % self.model.scale:
                return
            self._part.push(self.images[:, channel, row, column])
