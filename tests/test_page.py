"""The page in a real browser: Chromium, without a window.

NEXTPIXEL_SCREENSHOTS=FOLDER keeps pictures of it there; NEXTPIXEL_BROWSER names the program.
"""

import io
import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from PIL import Image

import nextpixel as npx

pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")

from web_server import listening  # noqa: E402

from nextpixel.web.served import Served  # noqa: E402
from nextpixel.web.server import app  # noqa: E402

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = os.environ.get("NEXTPIXEL_BROWSER") or next((found for name in NAMES if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here (apt-get install chromium)")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
KEPT = os.environ.get("NEXTPIXEL_SCREENSHOTS")
SIZES = {"light": (1200, 800), "dark": (1200, 800), "phone": (375, 800)}


@pytest.fixture(scope="module")
def address():
    torch.manual_seed(0)
    digits = npx.dataset("digits")
    grey = npx.build("gated_pixelcnn", like=digits, layers=2, features=8, first_kernel=3).eval()
    rgb = npx.build("pixelcnn", shape=(3, 5, 7), levels=4, blocks=1, features=6, first_kernel=3, classes=2).eval()
    bright = npx.build("pixelcnn", shape=(1, 5, 7), levels=256, blocks=1, features=6, first_kernel=3).eval()
    served = [Served("digits", grey, lambda: digits.test), Served("colours", rgb), Served("bytes", bright)]
    with listening(app(served)) as where:
        yield where


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """A page, what went wrong on it, and what it asked for."""

    def __init__(self, browser, address, kind):
        width, height = SIZES[kind]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if kind == "dark" else "light",
            reduced_motion="reduce",
        )
        self.kind, self.page, self.wrong, self.asked = kind, context.new_page(), [], []
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("response", lambda answer: answer.ok or self.wrong.append(f"{answer.status} {answer.url}"))
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]")

    def open(self, tab):
        self.page.click(f"#tab-{tab}")

    def picture(self, selector):
        """What is seen there."""
        return self.page.locator(selector).screenshot()

    def keep(self, name):
        if KEPT:
            path = Path(KEPT) / f"page-{name}-{self.kind}.png"
            self.page.screenshot(path=path, full_page=self.kind == "phone")

    def spot(self, selector, across, down):
        """A point of an element, by shares of its width and height."""
        box = self.page.locator(selector).bounding_box()
        return box["x"] + across * box["width"], box["y"] + down * box["height"]


@pytest.fixture(params=["light"])
def visit(request, chromium, address):
    visited = Visit(chromium, address, request.param)
    yield visited
    visited.page.context.close()
    assert visited.wrong == []
    hosts = {urlsplit(url).hostname for url in visited.asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}


def test_generate_streams_and_downloads(visit):
    page = visit.page
    page.fill("#generate-n", "3")
    page.select_option("#generate-pace", "2")
    page.click("#generate-go")
    page.wait_for_selector("#generate-after:not([hidden])")
    assert int(page.get_attribute("#generate-pictures", "data-frames")) > 1
    shown = [canvas.screenshot() for canvas in page.locator("#generate-pictures canvas").all()]
    assert len(set(shown)) == 3
    for kind, begins in (("png", b"\x89PNG"), ("gif", b"GIF89a")):
        with page.expect_download() as download:
            page.click(f"#generate-{kind}")
        assert Path(download.value.path()).read_bytes().startswith(begins)
    visit.keep("generate")
    page.fill("#generate-seed", "1")
    page.select_option("#generate-pace", "0")
    page.click("#generate-go")
    page.wait_for_selector("#generate-after:not([hidden])")
    assert not set(shown) & {canvas.screenshot() for canvas in page.locator("#generate-pictures canvas").all()}
    page.locator("#generate-pictures button").first.click()  # "use": on to completing it
    assert page.is_visible("#complete")


def test_stop_stops(visit):
    page = visit.page
    page.select_option("#generate-pace", "10")
    page.click("#generate-go")
    page.wait_for_selector("#generate-pictures canvas")
    early = visit.picture("#generate-pictures canvas >> nth=0")
    page.click("#generate-stop")
    page.wait_for_selector("#status:has-text('Stopped.')")
    page.wait_for_selector("#generate-stop:disabled")
    halted = visit.picture("#generate-pictures canvas >> nth=0")
    page.wait_for_timeout(300)
    assert visit.picture("#generate-pictures canvas >> nth=0") == halted
    assert not page.is_visible("#generate-after")
    page.select_option("#generate-pace", "0")
    page.click("#generate-go")
    page.wait_for_selector("#generate-after:not([hidden])")
    assert visit.picture("#generate-pictures canvas >> nth=0") not in (early, halted)


def test_draw_then_complete(visit):
    page = visit.page
    visit.open("complete")
    page.click("#take-blank")
    blank = visit.picture("#board")
    page.mouse.move(*visit.spot("#board", 0.2, 0.2))
    page.mouse.down()
    page.mouse.move(*visit.spot("#board", 0.8, 0.3), steps=5)
    page.mouse.up()
    drawn = visit.picture("#board")
    assert drawn != blank
    page.fill("#complete-fills", "2")
    page.click("#complete-go")
    page.wait_for_selector("#complete-after:not([hidden])")
    first, second = (canvas.screenshot() for canvas in page.locator("#complete-pictures canvas").all())
    assert first != second
    assert page.inner_text("#complete-how").startswith("exact")
    assert "bits" in page.inner_text("#complete-pictures figcaption >> nth=0")
    visit.keep("complete")
    page.check("input[value=erase]", force=True)
    page.mouse.click(*visit.spot("#board", 0.2, 0.2))
    assert visit.picture("#board") != drawn
    page.click("[data-hole=none]")
    page.click("#complete-go")
    page.wait_for_selector("#status.bad")
    assert page.inner_text("#status") == "Everything is known: mark what is to be filled in."


def test_pointing_shows_the_distribution(visit):
    page = visit.page
    visit.open("next")
    page.wait_for_selector("#next-charts canvas")
    page.mouse.move(*visit.spot("#board", 1.5 / 8, 2.5 / 8))
    page.wait_for_selector("#next-charts[data-at='2,1']")
    one, told = visit.picture("#next-charts canvas"), page.get_attribute("#next-charts canvas", "aria-label")
    assert told.startswith("Value ")
    assert "bits" in told
    page.mouse.move(*visit.spot("#board", 4.5 / 8, 3.5 / 8))
    page.wait_for_selector("#next-charts[data-at='3,4']")
    assert visit.picture("#next-charts canvas") != one
    page.focus("#board")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#next-charts[data-at='3,3']")
    assert page.inner_text("#status").startswith("Row 3, column 3. Value ")
    visit.keep("next")


def test_labels_below_256_bars_are_whole(visit):
    page = visit.page
    page.select_option("#model", "bytes")
    visit.open("next")
    page.wait_for_selector("#next-charts canvas")
    labels = page.locator("#next-charts canvas").evaluate(
        """canvas => {
          const tall = 20 * devicePixelRatio, context = canvas.getContext("2d");
          const part = (x, wide) => context.getImageData(x, canvas.height - tall, wide, tall).data;
          const ink = (x, wide) => part(x, wide).some((value) => value > 0);
          return { left: ink(0, 1), right: ink(canvas.width - 1, 1), last: ink(canvas.width - 30, 30) };
        }"""
    )
    assert labels == {"left": False, "right": False, "last": True}


def test_surprise_of_a_picture_that_was_dropped(visit, tmp_path):
    page = visit.page
    visit.open("surprise")
    page.wait_for_selector("#surprise-verdict:not(:empty)")
    before = page.inner_text("#surprise-figure")
    Image.linear_gradient("L").resize((30, 20)).save(tmp_path / "some.png")
    page.set_input_files("#file", tmp_path / "some.png")
    page.wait_for_selector("#board-note:has-text('cut and scaled from 20x30 to 8x8; quantised to 17 levels')")
    page.wait_for_selector(f"#surprise-figure:not(:text-is('{before}'))")
    assert "bits/dim" in page.inner_text("#surprise-figure")
    visit.keep("surprise")


def test_inside_and_compress(visit):
    page = visit.page
    visit.open("inside")
    page.wait_for_selector("#inside-mask span")
    page.wait_for_selector("#inside-plain-text:has-text('blind spot')")
    before = page.inner_text("#inside-strength-text")
    page.mouse.click(*visit.spot("#inside-strength", 0.1, 0.9))
    page.wait_for_selector(f"#inside-strength-text:not(:has-text('{before}'))")
    visit.keep("inside")
    visit.open("compress")
    page.click("#compress-go")
    page.wait_for_selector("#compress-same:has-text('every pixel is the same')")
    assert page.locator("#compress-table tr").count() == 5
    with page.expect_download() as download:
        page.click("#compress-download")
    assert npx.archive_info(Path(download.value.path()).read_bytes())["pictures"] == 1
    visit.keep("compress")


def test_another_model_classes_and_the_card(visit):
    page = visit.page
    page.select_option("#model", "colours")
    page.wait_for_selector("#class-label:not([hidden])")
    page.select_option("#class", "1")
    page.click("#card-button")
    assert "pixelcnn" in page.inner_text("#card")
    page.click("#generate-go")
    page.wait_for_selector("#generate-after:not([hidden])")
    visit.open("next")
    page.wait_for_selector("#next-charts canvas >> nth=2")
    visit.open("inside")
    page.select_option("#inside-from", "0")
    page.select_option("#inside-to", "2")
    page.wait_for_selector("#inside-mask .here.on")
    page.select_option("#inside-from", "2")
    page.select_option("#inside-to", "0")
    page.wait_for_selector("#inside-mask .here:not(.on)")


def test_every_model_has_an_address_of_its_own(visit, address):
    page = visit.page
    page.goto(f"{address}/?model=colours#next")
    page.wait_for_selector("#next-charts canvas >> nth=2")
    assert page.locator("#model").input_value() == "1"
    page.select_option("#model", "digits")
    page.wait_for_selector("#next-charts canvas >> nth=1", state="detached")
    assert page.url == f"{address}/?model=digits#next"
    page.evaluate("location.hash = '#inside'")
    page.wait_for_selector("#inside:not([hidden])")
    page.goto(f"{address}/?model=nobody")
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#model").input_value() == "0"


def test_a_picture_that_comes_late_is_not_the_next_models(visit):
    """A test picture of one model that arrives when another has been chosen."""
    page = visit.page
    held = []
    page.route("**/api/test-picture*", lambda route: held.append(route))
    page.click("#tab-next")
    page.click("#take-test")
    page.select_option("#model", "colours")
    page.wait_for_selector("#next-charts canvas >> nth=2")
    assert held
    for route in held:
        with page.expect_response("**/api/test-picture*"):
            route.continue_()
    page.wait_for_timeout(400)  # longer than the page waits after a change before it asks
    assert page.locator("#next-charts canvas").count() == 3
    assert page.inner_text("#board-note").startswith("blank")


def test_what_is_told_of_a_model_goes_with_it(visit):
    page = visit.page
    visit.open("surprise")
    page.wait_for_selector("#surprise-result:not([hidden])")
    visit.open("inside")
    page.wait_for_selector("#inside-seen-text:has-text('gated_pixelcnn')")
    page.route("**/api/surprise", lambda route: None)
    page.route("**/api/field", lambda route: None)
    page.select_option("#model", "colours")
    page.wait_for_selector("#inside-seen-text:not(:has-text('gated_pixelcnn'))")
    assert page.locator("#inside-seen").evaluate("canvas => [canvas.width, canvas.height]") == [7, 5]
    visit.open("surprise")
    page.wait_for_selector("#status:has-text('draws pictures of its own')")
    assert not page.is_visible("#surprise-result")
    assert page.inner_text("#surprise-figure") == page.inner_text("#surprise-verdict") == ""
    assert page.inner_text("#board-note").startswith("blank: draw on it")


@pytest.mark.parametrize("visit", ["phone"], indirect=True)
def test_on_a_phone_the_tabs_and_the_answer_are_seen(visit):
    page = visit.page
    for tab in page.locator("[role=tab]").all():
        box = tab.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= page.viewport_size["width"]
    visit.open("next")
    page.wait_for_selector("#next-charts canvas")
    box = page.locator("#next-charts canvas").bounding_box()
    assert box["y"] + box["height"] < page.viewport_size["height"]


def test_tabs_by_keyboard(visit):
    page = visit.page
    page.focus("#tab-generate")
    for name in ("complete", "surprise"):
        page.keyboard.press("ArrowRight")
        assert page.get_attribute(f"#tab-{name}", "aria-selected") == "true"
        assert page.is_visible(f"#{name}")
    page.wait_for_selector("#surprise-verdict:not(:empty)")
    for key, name in (("Home", "generate"), ("End", "compress")):
        page.keyboard.press(key)
        assert page.get_attribute(f"#tab-{name}", "aria-selected") == "true"
    assert page.locator("button:visible, select:visible, input:visible").count() > 5
    for field in page.locator("input:visible, select:visible").all():
        assert field.locator("xpath=ancestor::label").count() == 1  # every field has a label


@pytest.mark.parametrize("visit", ["phone", "dark"], indirect=True)
def test_nothing_is_wider_than_the_screen(visit):
    page = visit.page
    for name in ("generate", "complete", "surprise", "next", "inside", "compress"):
        visit.open(name)
        if name == "surprise":
            page.wait_for_selector("#surprise-verdict:not(:empty)")
        if name == "inside":
            page.wait_for_selector("#inside-mask span")
        with Image.open(io.BytesIO(page.screenshot(full_page=True))) as whole:
            assert whole.width == page.viewport_size["width"]
        visit.keep(name)


def test_the_schema_page_lists_every_operation(visit, address):
    page = visit.page
    page.goto(f"{address}/static/api.html")
    page.wait_for_selector("article >> nth=9")
    assert "POST /api/generate" in page.inner_text("#operations")
    assert "temperature: number, default 1" in page.inner_text("#operations")
    assert "?model: string or null, optional" in page.inner_text("#operations")
    assert "?number: string" not in page.inner_text("#operations")  # it is part of the path
    for text in page.locator("pre").all():
        assert text.evaluate("part => part.scrollWidth <= part.clientWidth")
