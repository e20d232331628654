"""The next diagonal: what a Stepper does symbol by symbol, for all pixels at once whose context is ready.

For networks that declare the schedule (`Network.slope`): a picture of H×W takes W + slope·(H − 1) steps instead of H·W.
That pays where a step costs its calls more than its arithmetic: for few pictures at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from nextpixel.causal import Wave, WaveMemory
from nextpixel.errors import UserError
from nextpixel.precision import without_autocast
from nextpixel.replay import WaveReplay

if TYPE_CHECKING:
    from nextpixel.exact.model import ExactModel
    from nextpixel.image_model import ImageModel


class Wavefront:
    """n pictures made diagonal by diagonal, the channels of a pixel one after another: `log_pmf()` of the next symbols,
    `push(values)`, until `here` is None.

    `images` [n, C, H, W] is what has been pushed so far. The model must be in eval mode and must not be trained while
    it is stepped. UserError for a model whose network has no such schedule, and for one of several orders, none of
    which was chosen.
    """

    replays: ClassVar[bool] = True  # whether compiled kernels may do the pixel work

    @without_autocast
    def __init__(
        self, model: ImageModel | ExactModel, n: int, condition: object = None, size: tuple[int, int] | None = None
    ):
        slope = model.network.slope
        if slope is None:
            raise UserError(f"The family {model.family} cannot make pictures by diagonals: use method='cursor'.")
        if model.training:
            raise UserError("Stepping needs the model in evaluation mode: call model.eval() first.")
        self.model, self.n, self.channels = model, n, model.shape[0]
        self._size = size or model.shape[1:]
        self._order = model.placement
        height, self._width = self._order.grid(*self._size)
        like = model.like()
        # By position in the order's own grid: those of a diagonal lie at equal distances.
        self._values = torch.zeros(height * self._width, n, self.channels, dtype=torch.long, device=like.device)
        self._memory = WaveMemory(like, n, height, self._width, slope)
        self._input = model.network.input_stream(self._memory)
        self._wave = Wave(self._memory)
        self._replay = WaveReplay(model.network, self._memory) if self.replays else None
        with torch.no_grad():
            given = model.embed_condition(condition, n, self._size)
            self._contexts = model.network.rows(None, given, self._wave)
            every = torch.arange(model.levels, device=like.device)
            self._vectors = [model.embedding.channel(every, c, like) for c in range(self.channels)]  # by value
        self._starts = [0, *model.embedding.layout.ends()[:-1]]
        self._channel = self._offset = 0
        self._here: list[Tensor] | None = None  # contexts of this diagonal; None when they are to be computed
        self._features: Tensor | None = None  # this group's
        self._log_pmf: Tensor | None = None

    @property
    def here(self) -> tuple[slice, int] | None:
        """Which symbols come next: positions in the order's own grid (row-major), and the channel; None at the end."""
        wave = self._wave
        if wave.time >= self._memory.steps:
            return None
        step = self._width - self._memory.slope
        start = wave.first * step + wave.time
        count = wave.last - wave.first + 1
        return (slice(start, start + (count - 1) * step + 1, step) if count > 1 else slice(start, start + 1)), (
            self._channel
        )

    @property
    def images(self) -> Tensor:
        """What has been pushed so far, [n, C, H, W]; zero elsewhere."""
        grid = self._values.permute(1, 2, 0).unflatten(2, self._order.grid(*self._size))
        return self._order.back(grid).contiguous()

    def by_position(self, noise: Tensor) -> Tensor:
        """One number a symbol, [n, C, H, W], as [positions, n, C]: what `here` takes a slice of."""
        return self._order.forth(noise).flatten(2).permute(2, 0, 1)

    @torch.no_grad()
    @without_autocast
    def log_pmf(self) -> Tensor:
        """Log-probabilities of the next symbols' values, nats, [A · n, K]: all pictures of the first position, then
        those of the next. Asking twice changes nothing."""
        if self._log_pmf is None:
            self._log_pmf = self.model.head.log_pmf(*self.work())
        return self._log_pmf

    @without_autocast
    def work(self) -> tuple[Tensor, int, Tensor]:
        """What the head is asked with for the next symbols: features [A · n, ·], channel, earlier values of the pixels.
        The network does its work for them when this is first called there."""
        where, channel = self._next()
        if self._here is None:
            self._here = self._wave.contexts(self._contexts)
        if self._features is None:
            if self._replay is None:
                self._features = self.model.network.pixels(None, self._here, self._wave)
            else:
                self._features = self._replay.pixels(self._here, self._wave)
        return self._features, channel, self._values[where, :, :channel].flatten(0, 1)

    @torch.no_grad()
    def push(self, values: Tensor) -> None:
        """Say what the next symbols are, [A · n] integers in the order of `log_pmf`, and go on to those after them."""
        where, channel = self._next()
        self.work()  # the layers must have seen these positions before they are left
        known = self._values[where, :, channel]
        known.copy_(values.view_as(known))
        vector = self._vectors[channel][values]
        start = self._starts[channel] if self.model.channels_by == "network" else self._offset
        self._input.write(self._wave, start, vector)
        self._offset = start + vector.shape[1]
        self._advance()

    def _next(self) -> tuple[slice, int]:
        here = self.here
        if here is None:
            raise UserError("The pictures are finished: there is no next symbol.")
        return here

    def _advance(self) -> None:
        wave, self._log_pmf = self._wave, None
        self._channel += 1
        if self.model.channels_by == "network":
            self._features = None
            wave.group = self._channel
        if self._channel == self.channels:
            self._channel = wave.group = self._offset = 0
            self._features = self._here = None
            wave.at(wave.time + 1)
            while wave.last < wave.first and wave.time < self._memory.steps:  # narrower than the slope
                wave.at(wave.time + 1)
