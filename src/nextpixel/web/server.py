"""The operations over HTTP, and the page."""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import AsyncIterator, Iterable, Iterator
from importlib.resources import files
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from nextpixel.errors import UserError
from nextpixel.tasks.drawing import SampleOptions
from nextpixel.version import __version__
from nextpixel.web import asks, drawing, inside, looking, pixels
from nextpixel.web.answers import FAILURES, failed, result, stream
from nextpixel.web.guard import Guard
from nextpixel.web.jobs import Event, Job, Worker
from nextpixel.web.limits import Limits
from nextpixel.web.served import Served, find
from nextpixel.web.size import size

FILES = {file.name: file.read_bytes() for file in files("nextpixel.web").joinpath("static").iterdir() if file.is_file()}
"""the page: everything there is to be had, read once"""
INDEX = "index.html"


def app(models: Iterable[Served], limits: Limits | None = None, hosts: Iterable[str] = ()) -> Guard:
    """The server of these models as an ASGI application. hosts: names, besides addresses and this machine's own, by
    which it may be called."""
    limits, known = limits or Limits(), {served.name: served for served in models}
    worker = Worker(limits.waiting)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    api = FastAPI(
        title="nextpixel",
        version=__version__,
        description="Exact-likelihood image models that predict the next pixel.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        responses=FAILURES,
        lifespan=life,
    )
    api.state.worker = worker
    _errors(api)
    _page(api)
    _models(api, known, worker, limits)
    _pictures(api, known, worker, limits)
    _looks(api, known, worker, limits)
    return Guard(api, hosts, limits.request_bytes)


def _errors(api: FastAPI) -> None:
    """Every error as one sentence."""

    @api.exception_handler(UserError)
    async def mistake(_: Request, error: UserError) -> JSONResponse:
        return failed(422, str(error))

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])[:100]
        return failed(422, f"{where or 'The request'}: {first['msg']}.")

    @api.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:
            return failed(422, "The body of the request cannot be read as JSON.")
        return failed(error.status_code, {404: "There is nothing here."}.get(error.status_code, f"{error.detail}."))


def _page(api: FastAPI) -> None:
    """The files of the page, by their names and no others."""

    @api.get("/", include_in_schema=False)
    async def index() -> Response:
        return _file(INDEX)

    @api.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        return _file(name) if name in FILES else failed(404, "There is nothing here.")


def _file(name: str) -> Response:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(FILES[name], media_type="text/javascript" if name.endswith(".js") else kind)


def _models(api: FastAPI, known: dict[str, Served], worker: Worker, limits: Limits) -> None:
    @api.get("/api/models", summary="The models: shapes, classes, cards")
    async def models(request: Request) -> Response:
        def work(job: Job) -> Any:
            return {"models": [served.describe() for served in known.values()], "version": __version__}

        return await result(request, worker, limits.seconds, work)

    @api.get("/api/test-picture", summary="A picture that the model was not trained on, where its data are at hand")
    async def test_picture(request: Request, model: str | None = None, number: int = 0) -> Response:
        served = find(known, model)

        def work(job: Job) -> Any:
            split = served.test
            if split is None:
                raise UserError("The data of this model are not at hand.")
            at = number % len(split)
            label = None if split.labels is None else int(split.labels[at])
            return {"image": split.images[at].long().tolist(), "class": label, "number": at, "data": split.name}

        return await result(request, worker, limits.seconds, work)

    @api.post("/api/picture", summary="A picture file as an image of the model; the file is the body")
    async def picture(request: Request, model: str | None = None) -> Response:
        served, content = find(known, model), await request.body()

        def work(job: Job) -> Any:
            image, notes = pixels.read_upload(served.model, content, limits.pixels)
            return {"image": image[0].long().tolist(), "notes": notes}

        return await result(request, worker, limits.seconds, work)

    @api.delete("/api/jobs/{number}", summary="Cancel a job; its number is in the first line of its stream")
    async def cancel(number: str) -> Response:
        job = worker.find(number)
        if job is None:
            return failed(404, "There is no such job: it has ended, or never was.")
        worker.cancel(job)
        return JSONResponse({"cancelled": number})


def _pictures(api: FastAPI, known: dict[str, Served], worker: Worker, limits: Limits) -> None:
    @api.post("/api/generate", summary="New pictures, streamed as they are drawn", response_class=Response)
    async def generate(ask: asks.Generate) -> Response:
        served, n = find(known, ask.model), _at_most(ask.n, limits.pictures)
        return stream(worker, limits.seconds, lambda job: drawing.generate(served, n, ask.class_, _options(ask), job))

    @api.post("/api/complete", summary="Completions of an image, streamed as they are drawn", response_class=Response)
    async def complete(ask: asks.Complete) -> Response:
        served, fills = find(known, ask.model), _at_most(ask.fills, limits.pictures)

        def work(job: Job) -> Iterator[Event]:
            image = pixels.as_images(served.model, ask.image, limits.pixels)
            mask = pixels.as_mask(served.model, ask.known)
            return drawing.fill(served, image, mask, fills, ask.class_, _options(ask), job)

        return stream(worker, limits.seconds, work)

    @api.post("/api/gif", summary="Pictures that come to be in the model's order, as a GIF", response_class=Response)
    async def gif(request: Request, ask: asks.Gif) -> Response:
        served, count = find(known, ask.model), _at_most(len(ask.images), limits.pictures)

        def work(job: Job) -> Response:
            shown = [pixels.as_images(served.model, image, limits.pixels) for image in ask.images[:count]]
            mask = None if ask.known is None else pixels.as_mask(served.model, ask.known)
            return Response(pixels.gif(served.model, torch.cat(shown), mask), media_type="image/gif")

        return await result(request, worker, limits.seconds, work)


def _looks(api: FastAPI, known: dict[str, Served], worker: Worker, limits: Limits) -> None:
    @api.post("/api/surprise", summary="The bits of every pixel, beside what the model expected")
    async def surprise(request: Request, ask: asks.Look) -> Response:
        served = find(known, ask.model)

        def work(job: Job) -> Any:
            image = pixels.as_images(served.model, ask.image, limits.pixels)
            return looking.surprise(served, image, ask.class_, job)

        return await result(request, worker, limits.seconds, work)

    @api.post("/api/distributions", summary="The distribution of every symbol of an image")
    async def distributions(request: Request, ask: asks.Look) -> Response:
        served = find(known, ask.model)

        def work(job: Job) -> Any:
            image = pixels.as_images(served.model, ask.image, limits.pixels)
            return looking.distributions(served, image, ask.class_, job)

        return await result(request, worker, limits.seconds, work)

    @api.post("/api/field", summary="What a pixel sees, by gradients, beside a plain PixelCNN")
    async def field(request: Request, ask: asks.Position) -> Response:
        served = find(known, ask.model)
        return await result(request, worker, limits.seconds, lambda job: inside.field(served, ask.row, ask.column, job))

    @api.get("/api/masks", summary="The taps of every convolution, for each pair of channels")
    async def masks(request: Request, model: str | None = None) -> Response:
        served = find(known, model)
        return await result(request, worker, limits.seconds, lambda job: inside.masks(served, job))

    @api.post("/api/compress", summary="An image's archive beside PNG and WebP, decoded again", response_class=Response)
    async def compress(ask: asks.Look) -> Response:
        served = find(known, ask.model)

        def work(job: Job) -> Iterator[Event]:
            return size(served, pixels.as_images(served.model, ask.image, limits.pixels), ask.class_, job)

        return stream(worker, limits.seconds, work)


def _options(ask: asks.Drawn) -> SampleOptions:
    return SampleOptions(seed=ask.seed, temperature=ask.temperature, top_k=ask.top_k, order=ask.order)


def _at_most(count: int, most: int) -> int:
    if count > most:
        raise UserError(f"At most {most} pictures at a time, not {count}.")
    return count
