"""Progress on standard error: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nextpixel.tasks.batches import Batches, Item

LINE_EVERY = 30.0  # seconds between lines when standard error is not a terminal
RARELY = 60.0  # seconds between lines about what may happen often
FIRST_LINE = 5.0  # seconds to the first one: soon enough to see that it runs, and for how long


Watcher = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is."""

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextlib.contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Every task of this thread calls `watcher` at each of its steps; what the watcher raises ends the task."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


class Steps:
    """`with Steps(total, "sampling") as steps: steps.to(n, "some figure")`."""

    def __init__(self, total: int, what: str, *, unit: str = "", show: bool = True):
        self.total, self.what, self.unit, self.show = total, what, unit, show
        self.live = show and sys.stderr.isatty()
        self.done = self.first = 0
        self.began = self.spoke = time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> Self:
        self.began = self.spoke = time.monotonic()
        if self.live:
            columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
            columns += [
                TextColumn("{task.fields[figure]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            ]
            self.bar = Progress(*columns, console=Console(stderr=True), transient=False)
            self.bar.start()
            self.task = self.bar.add_task(self.what, total=self.total, completed=self.done, figure="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def start_at(self, done: int) -> None:
        """Work that was done before (a resumed run)."""
        self.done = self.first = done
        if self.bar is not None:
            self.bar.update(self.task, completed=done)

    def to(self, done: int, figure: str = "") -> None:
        self.done = done
        if (watcher := _watcher.get()) is not None:
            watcher(self.what, done, self.total)
        if self.bar is not None:
            self.bar.update(self.task, completed=done, figure=figure)
        elif self.show and time.monotonic() - self.spoke > (FIRST_LINE if self.spoke == self.began else LINE_EVERY):
            self.spoke = time.monotonic()
            left = self.seconds_left()
            self.say(f"{self.what} {done}/{self.total}{self.unit} {figure} {clock(left)} left")

    def seconds_left(self) -> float:
        done = max(self.done - self.first, 1)
        return (time.monotonic() - self.began) / done * (self.total - self.done)

    def say(self, line: str) -> None:
        if not self.show:
            return
        if self.bar is not None:
            self.bar.console.print(line)
        else:
            print(line, file=sys.stderr, flush=True)


class TrainProgress(Steps):
    """Step, bits/dim of the last steps, images per second, share of the time spent waiting for data, time left; a line
    at the end of every epoch. Validation and saving count for the time left only."""

    smooth: float | None

    def __init__(self, steps: int, batch_size: int, dims: int, *, show: bool):
        super().__init__(steps, "training", unit=" steps", show=show)
        self.batch_size, self.dims, self.smooth = batch_size, dims, None
        self.rare = -math.inf  # when something rare was last told
        self.waited = 0.0  # seconds, since restart_clock
        self.restart_clock()

    def waiting_for(self, batches: Batches) -> TimedBatches:
        """The same batches; how long each is waited for is counted here."""
        return TimedBatches(batches, self)

    def restart_clock(self) -> None:
        """Something else than training steps is over."""
        self.clock_began, self.clock_step, self.waited = time.monotonic(), self.done, 0.0

    def speed(self, step: int) -> dict[str, float]:
        """Of the steps since the clock was started: images a second, the share of time (0..1) spent waiting for
        data; and the seconds that are left."""
        spent = max(time.monotonic() - self.clock_began, 1e-9)
        images = (step - self.clock_step) * self.batch_size / spent
        self.done = step
        return {
            "images_per_second": images,
            "waiting": min(self.waited / spent, 1.0),
            "seconds_left": self.seconds_left(),
        }

    def step(self, step: int, loss: Any) -> None:
        self.done = step
        if step % 10 and step < self.total:
            return
        bits = float(loss)
        self.smooth = bits if self.smooth is None else 0.9 * self.smooth + 0.1 * bits
        speed = self.speed(step)
        figures = f"{self.smooth:.4f} bits/dim, {speed['images_per_second']:,.0f} images/s"
        self.to(step, f"{figures}, {speed['waiting']:.0%} waiting for data,")

    def now_and_then(self, line: str) -> None:
        """Say it, unless something of this kind was said within the last minute."""
        if time.monotonic() - self.rare > RARELY:
            self.rare = time.monotonic()
            self.say(line)

    def valid(self, epoch: int, bits: float, expected: float | None = None) -> None:
        spent = clock(time.monotonic() - self.began)
        left = f", about {clock(self.seconds_left())} left" if self.done < self.total else ""
        beside = "" if expected is None else f" (expected {expected:.4f})"
        self.say(f"epoch {epoch}: valid {bits:.4f} bits/dim{beside}, {spent} since the start{left}")


class TimedBatches:
    def __init__(self, batches: Batches, progress: TrainProgress):
        self.batches, self.progress = batches, progress

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Item]:
        ahead = iter(self.batches)
        while True:
            began = time.monotonic()
            batch = next(ahead, None)
            self.progress.waited += time.monotonic() - began
            if batch is None:
                return
            yield batch


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    whole = int(seconds + 0.5)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
