"""The command `serve`."""

import os
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")


@pytest.fixture
def saved(tiny, tmp_path):
    tiny().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("presses", [1, 2])
def test_it_says_where_serves_and_ends_with_ctrl_c(saved, presses):
    command = [sys.executable, "-m", "nextpixel", "serve", str(saved), "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as served:
        try:
            line = served.stdout.readline()
            address = line.split()[4]
            assert line == f"The page is at {address} (Ctrl-C ends it)\n"
            assert address.startswith("http://127.0.0.1:")
            with urlopen(address) as answer:
                assert b"<title>nextpixel</title>" in answer.read()
            for _ in range(presses):
                served.send_signal(signal.SIGINT)
            out, err = served.communicate(timeout=20)
        finally:
            served.kill()
    assert (served.returncode, out, err) == (0, "", "Stopped.\n")


@pytest.fixture
def at_once(monkeypatch):
    """The server ends as soon as it is run."""
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: [one.close() for one in sockets])


def test_whoever_can_be_reached_is_warned(nextpixel, saved, at_once):
    done = nextpixel("serve", saved, "--port", 0, "--host", "0.0.0.0")
    assert done.status == 0
    assert done.err.startswith("Warning: 0.0.0.0 can be reached from other machines, and there is no password: ")
    done = nextpixel("serve", saved, "--port", 0, "--host", "localhost")
    assert (done.status, done.err) == (0, "")


def test_without_a_model_it_is_the_shipped_ones(nextpixel, at_once, monkeypatch):
    names = []
    monkeypatch.setattr("nextpixel.web.served.Served.warm", lambda self: names.append(self.name))
    assert nextpixel("serve", "--port", 0).status == 0
    from nextpixel import shipped

    assert names == shipped()


def test_mistakes_end_with_a_sentence(nextpixel, saved, at_once, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = nextpixel("serve", saved, "--port", port)
        assert (done.status, done.error()) == (
            2,
            f"Error: The server cannot listen at 127.0.0.1, port {port} (Address already in use): "
            "give another --port, such as 0 for a free one, or another --host.",
        )
    nowhere = nextpixel("serve", saved, "--host", "no.such.host.invalid")
    assert "cannot listen at no.such.host.invalid" in nowhere.error()
    (tmp_path / "empty").mkdir()
    assert "holds no saved model" in nextpixel("serve", tmp_path / "empty").error()
    assert "seconds must be a positive number" in nextpixel("serve", saved, "--seconds", 0).error()
    assert nextpixel("serve", saved, "--port", 70000).status == 2


def python(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_without_its_packages_it_says_what_to_install(saved):
    program = f"""
import sys
sys.modules["fastapi"], sys.argv = None, ["nextpixel", "serve", {str(saved)!r}]
from nextpixel import cli
cli.main()"""
    done = python(program)
    assert done.stderr == "Error: The page needs the package fastapi: pip install 'nextpixel[web]'.\n"
    assert done.returncode == 2


def test_no_other_command_needs_them():
    listed = "[name for name in ('fastapi', 'uvicorn', 'starlette') if name in sys.modules]"
    assert python(f"import sys, nextpixel.cli.app; print({listed})").stdout == "[]\n"
