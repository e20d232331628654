"""Batches read ahead: while a step runs, a few threads read and decode the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from nextpixel.images import Split
from nextpixel.images.lazy import LazySplit

WORKERS = 2  # for data that are read when asked for
AHEAD = 2  # batches a worker may be ahead

Batch = TypeVar("Batch")


def workers_for(split: Split, asked: int) -> int:
    """How many threads read ahead; `asked` below 0: none for images in memory, else 2."""
    if asked >= 0:
        return asked
    return WORKERS if isinstance(split, LazySplit) else 0


def name_damaged(split: Split, folder: Path) -> None:
    """Note the images that cannot be read in training in skipped.txt of the run folder, a line each."""
    if isinstance(split, LazySplit):
        split.damaged.log = folder / "skipped.txt"


def read_ahead(make: Callable[[int], Batch], positions: Iterable[int], workers: int) -> Iterator[Batch]:
    """``make(position)`` for every position, in order: the same as ``map``, but made ahead by threads.

    `make` must depend on its argument alone. Threads rather than processes: reading files and decoding pictures let
    other threads run, and nothing has to be forked or sent. At most 2 batches a worker are waiting. An error of `make`
    is raised here, at its batch. Left early, by an error or Ctrl-C, it ends when the batches in the making are made.
    """
    if workers == 0:
        yield from map(make, positions)
        return
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(workers, "nextpixel-read") as pool:
        try:
            for position in positions:
                waiting.append(pool.submit(make, position))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
