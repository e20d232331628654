"""Work on models, one job after another: a bounded queue, one thread, a time limit, cancellation.

Torch works on several cores within a job, so a second thread would only make both slower. A job is made and listened to
in the event loop; its work runs in the worker's thread and sends events back.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import torch

from nextpixel.errors import UserError
from nextpixel.tasks.progress import watched

Event = dict[str, Any]
PROGRESS_SECONDS = 0.1  # between two reports of progress


class StoppedError(Exception):
    """The job was cancelled, or its time is up."""


class BusyError(Exception):
    """Too many jobs are waiting."""


class Job:
    """A piece of work, and the events it sends: dictionaries with an "event" each; the last is "end" or "error"."""

    def __init__(self, work: Callable[[Job], Iterable[Event]], seconds: float):
        self.id = secrets.token_urlsafe(12)
        self.seconds = seconds
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._cancelled = threading.Event()
        self._deadline = float("inf")
        self._told = 0.0

    def check(self) -> None:
        """StoppedError if the work is to end here. Called often by everything that takes long."""
        if self._cancelled.is_set():
            raise StoppedError("It was cancelled.")
        if time.monotonic() > self._deadline:
            raise StoppedError(f"It took longer than {self.seconds:g} seconds and was stopped: ask for less.")

    def tell(self, event: Event) -> None:
        """Send an event to whoever listens."""
        self.check()
        self._send(event)

    def _send(self, event: Event | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, so nobody listens
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _watch(self, what: str, done: int, total: int) -> None:
        self.check()
        now = time.monotonic()
        if now - self._told > PROGRESS_SECONDS:
            self._told = now
            self._send({"event": "progress", "what": what, "done": done, "of": total})

    def cancel(self) -> None:
        self._cancelled.set()
        self._send(None)

    def run(self) -> None:
        """The work, in the worker's thread. Whatever happens, a last event is sent."""
        self._deadline = time.monotonic() + self.seconds
        try:
            with watched(self._watch), torch.no_grad():
                for event in self._work(self):
                    self.tell(event)
            self._send({"event": "end"})
        except StoppedError as stopped:
            self._send(_failure(str(stopped), 503))
        except UserError as error:
            self._send(_failure(str(error), 422))
        except MemoryError:
            self._send(_failure("There is not enough memory for this: ask for less.", 503))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self._send(_failure(f"Something unforeseen went wrong ({type(error).__name__}): please report it.", 500))
        finally:
            self._send(None)

    async def events(self) -> AsyncIterator[Event]:
        """All events, as they come."""
        while (event := await self._events.get()) is not None:
            yield event


def _failure(sentence: str, status: int) -> Event:
    return {"event": "error", "error": sentence, "status": status}


class Worker:
    """Runs jobs one after another in a thread of its own."""

    def __init__(self, waiting: int):
        self._most = waiting
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="nextpixel jobs", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> int:
        """Put a job at the end of the queue; how many are before it. BusyError if the queue is full."""
        with self._changed:
            if len(self._waiting) >= self._most or self._closed:
                raise BusyError
            self._waiting.append(job)
            self._changed.notify()
            return len(self._waiting) - 1 + (self._running is not None)

    def cancel(self, job: Job) -> None:
        """End a job wherever it is; one that has ended stays as it is."""
        with self._changed, contextlib.suppress(ValueError):
            self._waiting.remove(job)
        job.cancel()

    def find(self, number: str) -> Job | None:
        """The waiting or running job of that id."""
        with self._changed:
            live = [*self._waiting, *([self._running] if self._running else [])]
        return next((job for job in live if secrets.compare_digest(job.id.encode(), number.encode())), None)

    @property
    def load(self) -> int:
        """Jobs that wait or run."""
        with self._changed:
            return len(self._waiting) + (self._running is not None)

    def close(self) -> None:
        """Cancel everything and end the thread."""
        with self._changed:
            self._closed = True
            jobs = [*self._waiting, *([self._running] if self._running else [])]
            self._waiting.clear()
            self._changed.notify()
        for job in jobs:
            job.cancel()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                self._running = self._waiting.popleft()
            self._running.run()
