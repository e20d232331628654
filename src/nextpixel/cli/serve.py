"""The command `serve`: trained models as a page."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import socket
from types import FrameType
from typing import Annotated

import typer

from nextpixel.cli.arguments import Device, open_model, recorded_test
from nextpixel.cli.options import flags_of
from nextpixel.cli.score import saved_threshold
from nextpixel.errors import UserError
from nextpixel.shipped import shipped
from nextpixel.tasks.score import ScoreOptions
from nextpixel.web.limits import Limits

CONNECTIONS = 256  # at a time; each may hold a request in memory


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: nextpixel serve digits")(serve)


@flags_of(limits=Limits)
def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="run folders, saved models' folders, shipped names (nextpixel models), or hub ids; "
            "default: the shipped models",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="address to listen at; the default can be reached from this machine only")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    allow_host: Annotated[
        list[str], typer.Option(help="a further name by which browsers may call the server; can be repeated")
    ] = [],  # noqa: B006 - what typer makes of a repeated option
    device: Device = "cpu",
    *,
    limits: Limits,
) -> None:
    """A page on which to generate, complete, and look inside: watch the next pixel. Ctrl-C ends it."""
    try:
        import uvicorn

        from nextpixel.web import served, server
    except ModuleNotFoundError as error:
        raise UserError(f"The page needs the package {error.name}: pip install 'nextpixel[web]'.") from error

    opened, wheres = [], models or shipped()
    for name, where in zip(served.named(wheres), wheres, strict=True):
        model = open_model(where, device)
        threshold = saved_threshold(where, model, None, "", ScoreOptions())
        opened.append(served.Served(name, model, functools.partial(recorded_test, where, model), threshold))
    application = server.app(opened, limits, [host, *allow_host])
    listening = _listen(host, port)
    for one in opened:
        one.warm()
    address = listening.getsockname()[:2]
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    if not ipaddress.ip_address(address[0]).is_loopback:
        typer.echo(
            f"Warning: {host} can be reached from other machines, and there is no password: whoever reaches it may use "
            "the models.",
            err=True,
        )
    typer.echo(f"The page is at http://{shown}:{address[1]}/ (Ctrl-C ends it)")
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        limit_concurrency=CONNECTIONS,
    )

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if not self.should_exit:  # what is left takes two seconds at most: a second Ctrl-C need not cut it short
                super().handle_exit(sig, frame)

    running = Server(config)
    with contextlib.suppress(KeyboardInterrupt):  # raised again after the server has heard it, but not always
        running.run(sockets=[listening])
    if running.should_exit:
        typer.echo("Stopped.", err=True)


def _listen(host: str, port: int) -> socket.socket:
    """A socket; the port is known before anything is said of it."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise UserError(
            f"The server cannot listen at {host}, port {port} ({why}): "
            "give another --port, such as 0 for a free one, or another --host."
        ) from error
