"""Models behind a server, for the tests of the page: in this process, and listening at a port."""

import contextlib
import json
import socket
import threading
import time

import uvicorn
from starlette.testclient import TestClient

from nextpixel.web.limits import Limits
from nextpixel.web.served import Served
from nextpixel.web.server import app


def client(*models, limits=None, names=None):
    """A client of these models, called a, b, c, ...; use it as a context."""
    served = [
        model if isinstance(model, Served) else Served(name, model)
        for name, model in zip(names or "abcdef", models, strict=False)
    ]
    return TestClient(app(served, limits or Limits()), base_url="http://127.0.0.1", raise_server_exceptions=False)


@contextlib.contextmanager
def listening(application):
    """The address of a real server in a thread."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    config = uvicorn.Config(application, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def events(response):
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def named(found, name):
    return [event for event in found if event["event"] == name]


def until(condition, seconds=10.0):
    """Whether the condition comes to hold in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False
