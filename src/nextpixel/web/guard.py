"""What stands before the operations: who may ask, how much may be sent, and what browsers are told.

A page of some other site, open in the same browser, must not be able to use the server. It cannot read answers, as no
other origin is allowed to; requests that name another origin are refused; and so are host names that are not this
machine's, under which a site could make its own name point here (DNS rebinding). There are no cookies.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextpixel.web.limits import UPLOAD_SECONDS

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str], request_bytes: int):
        self.app, self._bytes = app, request_bytes
        self._hosts = {"localhost", socket.gethostname().lower(), *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(headers)
        if refusal:
            await _refuse(guarded, *refusal)
            return
        try:
            body = await asyncio.wait_for(self._body(receive), UPLOAD_SECONDS)
        except TimeoutError:
            await _refuse(guarded, 408, f"The request did not come in whole within {UPLOAD_SECONDS:g} seconds.")
            return
        if body is None:
            await _refuse(guarded, 413, f"A request may have {self._bytes / 1e6:g} MB: send less.")
            return
        await self.app(scope, _again(body, receive), guarded)

    def _refusal(self, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._known(host):
            return 421, "The server is not known by this name: open it by its address, or start it with --allow-host."
        origin = headers.get("origin")
        if origin is not None and _place(origin) != host.lower():
            return 403, "Requests from pages of other sites are refused."
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > self._bytes:
            return 413, f"A request may have {self._bytes / 1e6:g} MB: send less."
        return None

    def _known(self, host: str) -> bool:
        """Whether a Host header is an address or one of our names: no name of somebody else's can point to it."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body, or None if it is longer than it may be."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > self._bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """`receive` with the body that has been read, in one piece."""
    given = False

    async def once_more() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once_more


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body: Any = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _place(origin: str) -> str:
    """Host and port of an Origin header; "" for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
