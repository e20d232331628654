"""The third schedule: all positions of a diagonal at once (a wavefront).

Where a network sees at most `slope`·m − 1 columns to the right in the m-th row above, row i may be at column
t − slope·i at time t: everything it needs was computed at earlier times. A picture then takes W + slope·(H − 1) steps
instead of H·W. Features lie sheared, by time and row, so that the positions of a diagonal, and every tap of a kernel
seen from all of them, are one block of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NoReturn

import torch
from torch import Tensor, nn

from nextpixel.causal.runs import Cursor, Memory, UnwrittenError


class Stream:
    """The last `times` diagonals of one stream of features: [times, above + H, N, D], zero outside the picture.

    Rows above the picture are padding too; with `top` [D], the row just above it holds these features instead (as far
    as the picture is wide). A slot knows which time it holds and how much of it was written.
    """

    def __init__(self, memory: WaveMemory, times: int, features: int, above: int, top: Tensor | None = None):
        self.data = memory.like.new_zeros(times, above + memory.height, memory.n, features)
        self.memory, self.times, self.features, self.above, self.top = memory, times, features, above, top
        self.held = [slot - times for slot in range(times)]  # before the first diagonal: all padding, all "written"
        self.filled = [features] * times
        if top is not None:
            for time in range(-times, 0):
                self._set_top(time)
        self.begin(memory.time)

    def begin(self, time: int) -> None:
        """Make room for a new diagonal: what its slot held long ago is zeroed where it will not be written."""
        slot, (first, last) = time % self.times, self.memory.rows
        stale, end = self.memory.rows_at(self.held[slot])
        if stale < first:
            self.data[slot, self.above + stale : self.above + min(first, end + 1)] = 0
        self.held[slot] = time
        self.filled[slot] = 0 if first <= last else self.features  # none in pictures narrower than the slope
        if self.top is not None:
            self._set_top(time)

    def _set_top(self, time: int) -> None:
        inside = 0 <= time + self.memory.slope < self.memory.width
        self.data[time % self.times, self.above - 1] = self.top if inside and self.top is not None else 0

    def write(self, run: Wave, start: int, x: Tensor) -> None:
        """Store x [A·N, d] as features start..start+d of the current diagonal."""
        slot = run.time % self.times
        if start > self.filled[slot]:
            raise UnwrittenError(f"diagonal {run.time}: features before {start} were never written")
        rows = self.data[slot, self.above + run.first : self.above + run.last + 1]
        rows.flatten(0, 1)[:, start : start + x.shape[1]].copy_(x)
        self.filled[slot] = start + x.shape[1]

    def tap(self, run: Wave, up: int, right: int, features: int) -> Tensor:
        """Of the pixels `up` rows above and `right` columns to the right of the diagonal's, the first features: a view
        [A·N, features]."""
        back = run.memory.slope * up - right
        slot = (run.time - back) % self.times
        if back < 0 or self.held[slot] != run.time - back or self.filled[slot] < features:
            raise UnwrittenError(f"diagonal {run.time - back} was read at {run.time}, before it was written")
        top = self.above + run.first - up
        return self.data[slot, top : top + run.last - run.first + 1].flatten(0, 1)[:, :features]


class WaveMemory(Memory):
    """What a `Wave` remembers: a `Stream` a layer. Grows with H, not with H·W."""

    def __init__(self, like: Tensor, n: int, height: int, width: int, slope: int):
        super().__init__(like, n, height, width)
        self.slope = slope
        self.streams: dict[Hashable, Stream] = {}
        self.begin(0)

    @property
    def steps(self) -> int:
        """Diagonals of a picture."""
        return self.width + self.slope * (self.height - 1)

    def rows_at(self, time: int) -> tuple[int, int]:
        """First and last row that lie on a diagonal; last < first where none does."""
        return max(0, -(-(time - self.width + 1) // self.slope)), min(self.height - 1, time // self.slope)

    def stream(self, owner: Hashable, times: int, features: int, above: int = 0, top: Tensor | None = None) -> Stream:
        stream = self.streams.get(owner)
        if stream is None:
            stream = self.streams[owner] = Stream(self, times, features, above, top)
        return stream

    def begin(self, time: int) -> None:
        """Go on to the next diagonal."""
        self.time, self.rows = time, self.rows_at(time)
        for stream in self.streams.values():
            stream.begin(time)

    def numbers(self) -> int:
        return sum(stream.data.numel() for stream in self.streams.values())

    def ring(self, *args: object, **kwargs: object) -> NoReturn:
        raise UnwrittenError("this layer needs finished rows above: it cannot be run by diagonals")

    def once_a_row(self, owner: nn.Module, run: Cursor, make: Callable[[Cursor], Tensor]) -> NoReturn:
        self.ring()

    def half(self) -> NoReturn:
        self.ring()


class Wave(Cursor):
    """One diagonal after another: pixel work sees [A·N, D] for the A rows first..last, all pictures of a row in turn.
    `time` and `group` are set by whoever steps."""

    memory: WaveMemory

    def __init__(self, memory: WaveMemory):
        self.memory = memory
        self.group = 0
        self.at(0)

    def at(self, time: int) -> None:
        """Go to a diagonal: the next one, or the first."""
        self.time = time
        if time != self.memory.time:
            self.memory.begin(time)
        self.first, self.last = self.memory.rows

    def row_of(self, condition: Tensor) -> Tensor:
        """All rows: what depends on the condition only is computed once for the whole picture."""
        return condition

    def take(self, context: Tensor) -> Tensor:
        return context

    def contexts(self, whole: list[Tensor]) -> list[Tensor]:
        """Of row work done for the whole picture, [N, 1 or H, 1 or W, D], what belongs to this diagonal, [A·N, D]."""
        rows = torch.arange(self.first, self.last + 1, device=self.memory.like.device)
        columns = self.time - self.memory.slope * rows
        chosen = [
            context[:, rows if context.shape[1] > 1 else 0 * rows, columns if context.shape[2] > 1 else 0 * columns]
            for context in whole
        ]
        return [context.transpose(0, 1).flatten(0, 1).contiguous() for context in chosen]
