"""The server survives what is thrown at it: garbage, bombs, crowds, visitors who leave, work that takes too long."""

import base64
import contextlib
import gc
import io
import json
import struct
import threading
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from nextpixel.errors import UserError
from nextpixel.web.limits import Limits

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx2")

from web_server import client, events, listening, named, until  # noqa: E402

from nextpixel.web import drawing  # noqa: E402
from nextpixel.web.served import Served  # noqa: E402
from nextpixel.web.server import app  # noqa: E402

BLANK = [[[0] * 5] * 4]
KNOWN = [[True] * 5] * 2 + [[False] * 5] * 2
GOOD = {
    "/api/generate": {"n": 1},
    "/api/complete": {"image": BLANK, "known": KNOWN},
    "/api/surprise": {"image": BLANK},
    "/api/distributions": {"image": BLANK},
    "/api/compress": {"image": BLANK},
    "/api/field": {"row": 1, "column": 1},
    "/api/gif": {"images": [BLANK]},
}
WITH_IMAGE = [path for path, body in GOOD.items() if "image" in body]


def sentence_of(response, status):
    """The one sentence of an error."""
    if response.status_code == 200:
        failed = named(events(response), "error")
        assert failed, response.text
        assert failed[0]["status"] == status
        text = failed[0]["error"]
    else:
        assert response.status_code == status, response.text
        text = response.json()["error"]
    assert text.endswith(".")
    assert "\n" not in text
    assert "Traceback" not in text
    return text


@pytest.fixture
def asked(tiny):
    with client(tiny()) as one:
        yield one
        assert one.get("/api/models").status_code == 200  # it still stands
        assert until(lambda: one.app.app.state.worker.load == 0)


@pytest.mark.parametrize("path", GOOD)
def test_garbage_gets_a_sentence(asked, path):
    json_type = {"content-type": "application/json"}
    nested = b'{"image": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    huge = b'{"image": ' + b"9" * 100_000 + b"}"
    for body in (b"", b"\x00\xff" * 500, b"[]", b"null", b'"text"', b"{", nested, huge, b'{"model": 7}'):
        text = sentence_of(asked.post(path, content=body, headers=json_type), 422)
        assert len(text) < 500
    sentence_of(asked.post(path, content=json.dumps(GOOD[path]), headers={"content-type": "text/plain"}), 422)
    sentence_of(asked.post(path, json={**GOOD[path], "path": "/etc/passwd"}), 422)
    unknown = sentence_of(asked.post(path, json={**GOOD[path], "model": "../../etc"}), 422)
    assert unknown == "There is no model '../../etc' here; there are: a."
    assert asked.get(path).status_code == 405
    assert asked.post(path, json=GOOD[path]).status_code == 200


@pytest.mark.parametrize("path", WITH_IMAGE)
def test_images_that_are_none_get_a_sentence(asked, path):
    wrong = {
        "ragged": [[[0] * 5] * 3 + [[0] * 4]],
        "size": [[[0] * 4] * 5],
        "empty": [],
        "empty row": [[[]]],
        "level": [[[4] * 5] * 4],
        "negative": [[[-1] * 5] * 4],
        "large": [[[10**30] * 5] * 4],
        "fraction": [[[0.5] * 5] * 4],
        "text": [[["0"] * 5] * 4],
        "bool": [[[True] * 5] * 4],
        "nothing": None,
        "no base64": "???",
        "no picture": base64.b64encode(b"no picture").decode(),
    }
    for image in wrong.values():
        sentence_of(asked.post(path, json={**GOOD[path], "image": image}), 422)


def test_many_mistakes_cost_no_more_than_one(asked):
    tracemalloc.start()
    try:
        wrong = {"image": [[[0.5] * 200_000]]}
        assert "image" in sentence_of(asked.post("/api/surprise", json=wrong), 422)
        assert tracemalloc.get_traced_memory()[1] < 40e6  # told one by one they are some hundred megabytes
    finally:
        tracemalloc.stop()


def test_numbers_that_are_none_get_a_sentence(asked):
    for change in (
        '"temperature": NaN',
        '"temperature": Infinity',
        '"temperature": -1',
        '"temperature": 1e999',
        '"seed": -1',
        '"seed": 1e300',
        '"seed": 1.5',
        '"n": 0',
        '"n": 17',
        '"n": true',
        '"top_k": -1',
        '"order": "sideways"',
        '"class": 1',
    ):
        body = "{" + change + "}"
        sentence_of(asked.post("/api/generate", content=body, headers={"content-type": "application/json"}), 422)
    for row, column in ((4, 0), (0, 5), (-1, 0), (10**30, 0), (0.5, 0)):
        sentence_of(asked.post("/api/field", json={"row": row, "column": column}), 422)
    for known in ([], [[True]], [[1] * 5] * 4, [[True] * 5] * 3 + [[True] * 4], "all", None):
        sentence_of(asked.post("/api/complete", json={**GOOD["/api/complete"], "known": known}), 422)


def test_nothing_but_the_page_is_served(asked):
    assert asked.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert "javascript" in asked.get("/static/main.js").headers["content-type"]
    for path in (
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/static/%2fetc%2fpasswd",
        "/static/",
        "/static/nothing",
        "/static/main.js%00",
        "/etc/passwd",
        "/docs",
        "/redoc",
        "/api/jobs/none",
        "/api",
    ):
        assert sentence_of(asked.request("GET" if "jobs" not in path else "DELETE", path), 404)


def test_what_the_page_needs_is_its_own(asked):
    """No script, style, font or picture from elsewhere, and none inside the page that its policy would stop."""
    policy = asked.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    for name in ("", "static/api.html", "static/style.css", "static/main.js", "static/icon.svg"):
        text = asked.get(f"/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        assert "<script>" not in text
        assert "style=" not in text
    assert asked.get("/openapi.json").json()["paths"].keys() >= GOOD.keys()
    schemas = asked.get("/openapi.json").json()["components"]["schemas"]
    assert list(schemas["Failure"]["properties"]) == ["error"]  # what `sentence_of` finds
    assert not [name for name in schemas if "Validation" in name]
    assert "set-cookie" not in asked.get("/").headers
    assert "access-control-allow-origin" not in asked.get("/", headers={"origin": "http://127.0.0.1"}).headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8000", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7", 200),
        ("friend.example:8000", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.example@127.0.0.1", 200),  # no browser sends this; what counts is the name after it
        ("[::1", 421),
        ("", 421),
    ],
)
def test_only_our_names_are_answered(tiny, host, status):
    from starlette.testclient import TestClient

    with TestClient(app([Served("a", tiny())], hosts=["friend.example"])) as one:
        assert one.get("/api/models", headers={"host": host}).status_code == status


def test_pages_of_other_sites_are_refused(asked):
    for origin in ("http://evil.example", "null", "https://127.0.0.1.evil.example", "http://127.0.0.1:1", "http://["):
        sentence_of(asked.post("/api/generate", json={}, headers={"origin": origin}), 403)
    assert asked.post("/api/generate", json={}, headers={"origin": "http://127.0.0.1"}).status_code == 200


def png_head(width, height):
    """A PNG that says it is large and holds nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_bombs_are_refused_by_their_headers(asked, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it was decoded"))
    for width, height in ((5000, 4000), (50_000, 50_000), (2**31 - 1, 1), (4001, 4000)):
        text = sentence_of(asked.post("/api/picture", content=png_head(width, height)), 422)
        assert text == "The picture cannot be read: more than 16000000 pixels."
        coded = {"image": base64.b64encode(png_head(width, height)).decode()}
        assert sentence_of(asked.post("/api/surprise", json=coded), 422) == text


def test_a_real_bomb_costs_no_memory(asked):
    """20,000 × 20,000 black pixels in 0.4 MB would be 400 MB."""
    Image.MAX_IMAGE_PIXELS, before = None, Image.MAX_IMAGE_PIXELS
    try:
        file = io.BytesIO()
        Image.new("1", (20_000, 20_000)).save(file, "PNG")
    finally:
        Image.MAX_IMAGE_PIXELS = before
    assert "16000000 pixels" in sentence_of(asked.post("/api/picture", content=file.getvalue()), 422)


def test_files_that_are_no_pictures_are_refused(asked):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    for content in (b"", b"\x00" * 100, eps, b"<svg xmlns='http://www.w3.org/2000/svg'/>", png_head(5, 4)):
        assert "The picture" in sentence_of(asked.post("/api/picture", content=content), 422)


def test_requests_are_read_up_to_their_limit_only(tiny):
    with client(tiny(), limits=Limits(upload_mb=0.01)) as one:
        assert one.post("/api/picture", content=b"x" * 9_999).status_code == 422
        text = "A request may have 0.01 MB: send less."
        assert sentence_of(one.post("/api/picture", content=b"x" * 10_001), 413) == text
        pieces = (b"x" * 1000 for _ in range(100))  # no length is told
        assert sentence_of(one.post("/api/picture", content=pieces), 413) == text
        assert sentence_of(one.post("/api/picture", content=b"", headers={"content-length": "-1"}), 413) == text


@pytest.fixture
def endless(monkeypatch):
    """Generation that goes on for 60 seconds, and says when it stopped."""
    stopped = threading.Event()

    def generate(served, n, condition, options, job):
        end = time.monotonic() + 60
        try:
            while time.monotonic() < end:
                yield {"event": "frame"}
                time.sleep(0.01)
                job.check()
        finally:
            stopped.set()

    monkeypatch.setattr(drawing, "generate", generate)
    return stopped


def test_a_job_ends_when_its_time_is_up(tiny, endless):
    with client(tiny(), limits=Limits(seconds=0.3)) as one:
        found = events(one.post("/api/generate", json={}))
        assert len(named(found, "frame")) > 1
        assert found[-1]["error"] == "It took longer than 0.3 seconds and was stopped: ask for less."
        assert one.get("/api/models").status_code == 200


def test_time_is_up_inside_a_task_of_the_library_too(tiny, monkeypatch):
    """Tasks tell the job at each of their steps how far they are."""
    from nextpixel.tasks.progress import Steps

    def slow(model, images, known, fills, options, condition):
        with Steps(1000, "completing", show=False) as steps:
            for step in range(1000):
                time.sleep(0.02)
                steps.to(step)

    monkeypatch.setattr(drawing, "complete", slow)
    hole = [[False] + [True] * 4] + [[True] * 5] * 3
    with client(tiny(), limits=Limits(seconds=0.5)) as one:
        found = events(one.post("/api/complete", json={"image": BLANK, "known": hole}))
    assert len(named(found, "progress")) >= 2
    assert "longer than 0.5 seconds" in found[-1]["error"]


def test_a_job_can_be_cancelled_and_nobody_elses(tiny, endless):
    application = app([Served("a", tiny())])
    with listening(application) as address, httpx.stream("POST", f"{address}/api/generate", json={}) as stream:
        lines = stream.iter_lines()
        number = json.loads(next(lines))["id"]
        assert httpx.delete(f"{address}/api/jobs/{number[:-1]}?").status_code == 404
        assert not endless.is_set()
        assert httpx.delete(f"{address}/api/jobs/{number}").json() == {"cancelled": number}
        assert endless.wait(5)
        assert "end" not in [json.loads(line)["event"] for line in lines]
        assert until(lambda: application.app.state.worker.load == 0)
        assert httpx.delete(f"{address}/api/jobs/{number}").status_code == 404


def test_who_leaves_frees_the_job(tiny, endless):
    application = app([Served("a", tiny())])
    with listening(application) as address:
        with httpx.stream("POST", f"{address}/api/generate", json={}) as stream:
            lines = stream.iter_lines()
            assert [json.loads(next(lines))["event"] for _ in range(3)] == ["job", "frame", "frame"]
        assert endless.wait(5)
        assert until(lambda: application.app.state.worker.load == 0)
        assert httpx.get(f"{address}/api/models").status_code == 200


def test_who_leaves_the_queue_is_not_waited_for(tiny, endless):
    """Jobs that have not begun go with those who asked for them, streams and single answers alike."""
    application = app([Served("a", tiny())])
    worker = application.app.state.worker
    with listening(application) as address, contextlib.ExitStack() as first:
        running = first.enter_context(httpx.stream("POST", f"{address}/api/generate", json={}))
        lines = running.iter_lines()
        next(lines)
        with httpx.stream("POST", f"{address}/api/generate", json={}) as waiting:
            assert json.loads(next(waiting.iter_lines()))["ahead"] == 1
        assert until(lambda: worker.load == 1)
        with pytest.raises(httpx.TimeoutException):
            httpx.get(f"{address}/api/models", timeout=0.3)
        assert until(lambda: worker.load == 1)
        assert not endless.is_set()


def test_a_full_queue_says_so(tiny, endless):
    application = app([Served("a", tiny())], Limits(waiting=1))
    worker = application.app.state.worker
    with listening(application) as address, contextlib.ExitStack() as stack:
        for load in (1, 2):  # one runs, one waits
            stack.enter_context(httpx.stream("POST", f"{address}/api/generate", json={}))
            assert until(lambda load=load: worker.load == load)
        refused = [httpx.post(f"{address}/api/generate", json={}), httpx.get(f"{address}/api/models")]
        for answer in refused:
            assert sentence_of(answer, 503) == "The server is busy: try again in 5 seconds."
            assert answer.headers["retry-after"] == "5"
        assert httpx.get(f"{address}/").status_code == 200  # the page itself needs no turn


def test_fifty_at_once_all_get_their_answer(tiny):
    import nextpixel as npx

    model = tiny(spread=1.0)
    expected = [npx.sample(model, 1, seed=seed).flatten().tolist() for seed in range(50)]
    with listening(app([Served("a", model)])) as address:
        gate = threading.Barrier(50)

        def visit(seed):
            gate.wait(10)
            answer = httpx.post(f"{address}/api/generate", json={"seed": seed}, timeout=60)
            last = named(events(answer), "pictures")[0]
            return list(base64.b64decode(last["images"]))

        with ThreadPoolExecutor(50) as crowd:
            assert list(crowd.map(visit, range(50))) == expected


@pytest.mark.parametrize("requests", [200, pytest.param(1000, marks=pytest.mark.full)])
def test_memory_stays_flat(tiny, requests):
    with client(tiny()) as one:

        def ask(times):
            for number in range(times):
                if number % 5 == 0:
                    assert one.post("/api/generate", json={"seed": number % 7}).text.endswith('{"event":"end"}\n')
                elif number % 5 == 1:
                    assert one.post("/api/picture", content=b"none").status_code == 422
                else:
                    assert one.post("/api/distributions", json={"image": BLANK}).status_code == 200
            gc.collect()
            return len(gc.get_objects()), resident()

        ask(100)
        objects, memory = ask(10)
        later, grown = ask(requests)
        assert later - objects < requests / 3  # not one object a request
        assert grown - memory < 16e6


def resident():
    """Bytes of this process in memory, where the system tells (else 0)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        return 0


def test_a_fault_of_ours_is_told_and_survived(asked, monkeypatch, capsys):
    def broken(served, image, condition, job):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("nextpixel.web.looking.surprise", broken)
    text = sentence_of(asked.post("/api/surprise", json=GOOD["/api/surprise"]), 500)
    assert text == "Something unforeseen went wrong (ZeroDivisionError): please report it."
    assert "secret detail" in capsys.readouterr().err  # told to whoever runs the server only


def test_limits_must_be_positive(assert_sentence):
    for name in ("seconds", "waiting", "pictures", "upload_mb", "megapixels"):
        for value in (0, -1, float("nan"), float("inf")):
            with pytest.raises(UserError) as refusal:
                Limits(**{name: value})
            assert_sentence(refusal)


def test_too_many_distributions_are_refused(tiny):
    model = tiny("pixelcnn", shape=(3, 9, 9), levels=256)
    with client(model) as one, pytest.MonkeyPatch.context() as patch:
        patch.setattr("nextpixel.web.looking.VALUES_AT_MOST", 9 * 9 * 3 * 256 - 1)
        ask = {"image": torch.zeros(3, 9, 9, dtype=torch.int).tolist()}
        for path in ("/api/distributions", "/api/surprise"):
            assert "too many" in sentence_of(one.post(path, json=ask), 422)
