"""From jobs to HTTP answers: a stream of events, or the one result."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from nextpixel.web.jobs import BusyError, Event, Job, Worker

RETRY_SECONDS = 5


class Failure(BaseModel):
    """An error as the server tells it."""

    error: str


FAILURES: dict[int | str, dict[str, Any]] = {
    413: {"model": Failure, "description": "The request is too large"},
    422: {"model": Failure, "description": "What is asked for cannot be done"},
    503: {"model": Failure, "description": "The queue is full, or the time is up"},
}
"""what every operation may answer instead"""


def failed(status: int, sentence: str) -> JSONResponse:
    """An error: {"error": "one sentence"}."""
    headers = {"retry-after": str(RETRY_SECONDS)} if status == 503 else {}
    return JSONResponse({"error": sentence}, status, headers)


def busy() -> JSONResponse:
    return failed(503, f"The server is busy: try again in {RETRY_SECONDS} seconds.")


class Events(StreamingResponse):
    """A job's events, one line of JSON each. Who leaves ends the job, even if it has not begun."""

    def __init__(self, worker: Worker, job: Job, ahead: int):
        super().__init__(self._lines(job, ahead), media_type="application/x-ndjson")
        self._worker, self._job = worker, job

    @staticmethod
    async def _lines(job: Job, ahead: int) -> AsyncIterator[str]:
        yield _line({"event": "job", "id": job.id, "ahead": ahead})
        async for event in job.events():
            yield _line(event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._worker.cancel(self._job)


def _line(event: Event) -> str:
    return json.dumps(event, separators=(",", ":"), allow_nan=False) + "\n"


def stream(worker: Worker, seconds: float, work: Callable[[Job], Iterable[Event]]) -> Response:
    """The events of a job as they come."""
    job = Job(work, seconds)
    try:
        return Events(worker, job, worker.submit(job))
    except BusyError:
        return busy()


async def result(request: Request, worker: Worker, seconds: float, work: Callable[[Job], Any]) -> Response:
    """The result of a job as one answer: JSON, or whatever Response the work gives."""

    def one(job: Job) -> Iterable[Event]:
        yield {"event": "result", "result": work(job)}

    job = Job(one, seconds)
    try:
        worker.submit(job)
    except BusyError:
        return busy()
    ended, left = asyncio.ensure_future(_last(job)), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({ended, left}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        worker.cancel(job)
        left.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await left
    answer = await ended
    if answer["event"] == "error":
        return failed(answer["status"], answer["error"])
    return answer["result"] if isinstance(answer["result"], Response) else JSONResponse(answer["result"])


async def _last(job: Job) -> Event:
    """The result or the error of a job."""
    async for event in job.events():
        if event["event"] in ("result", "error"):
            return event
    return {"event": "error", "error": "It was cancelled.", "status": 503}


async def _left(request: Request) -> None:
    """Ends when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
