"""The page about a run: what it holds, that nothing of it is markup of somebody else's, and what is said where
something is missing. And the pictures that a training draws on its way."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import nextpixel as npx
from nextpixel import figures
from nextpixel.images import Dataset
from nextpixel.tasks import training_pictures
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.training_pictures import TrainingPictures

HEADINGS = [
    "Figures", "Curve", "Samples", "Completions", "Easiest and hardest", "What a pixel sees", "What was trained",
    "To make it again",
]  # fmt: skip


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.heads, self.text, self.alts = [""], [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag == "img":
            self.alts.append(dict(attributes).get("alt"))

    def handle_data(self, data):
        if self.tags[-1] == "h2" and data.strip():
            self.heads.append(data)
        if self.tags[-1] != "style":
            self.text += data


def read(path):
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not set(page.tags) & {"script", "link", "iframe", "object", "embed"}
    for name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith("data:image/png;base64,")
        assert not name.startswith("on"), name
    assert not re.search(r"https?:|url\(|@import", text)
    assert all(page.alts)
    return page


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the command line's terms: its data can be found again."""
    from nextpixel.tasks.data import DataOptions, describe_data

    whole = npx.dataset("digits")
    data = Dataset("digits", whole.train[:64], whole.valid[:24], whole.test[:16])
    torch.manual_seed(0)
    model = npx.build("gated_pixelcnn", like=data, classes=10, layers=1, features=4)
    run = tmp_path_factory.mktemp("runs") / "run"
    describe = {"data": {**describe_data("digits", DataOptions()), "protocol": data.protocol}}
    npx.train(model, data, epochs=2, run=run, sample_every=1, describe=describe, progress=False)
    return run, data


@pytest.fixture
def copied(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "receptive_field", lambda *_, **__: figures.curve([]))  # takes seconds; shown above
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run"


def test_a_finished_run(trained, tmp_path):
    run, data = trained
    page = read(npx.report(run, tmp_path / "r.html", data=data))
    assert page.heads == HEADINGS
    assert len(page.alts) == 6
    best = min(line["valid"] for line in RunFolder(run).read_metrics() if "valid" in line)
    assert f"{best:.4f} bits/dim" in page.text
    assert "Finished: 2 of 2 epochs validated" in page.text
    assert "over 24 validation pictures, given the class, exact" in page.text
    assert "No evaluation of a whole split was found" in page.text
    model = npx.load(run)
    with torch.no_grad():
        bits = -model.log_prob(data.valid.images, data.valid.labels).double().numpy() / (np.log(2) * 64)
    assert f"{bits.mean():.4f} ± {bits.std(ddof=1) / 24**0.5:.4f} bits/dim over" in page.text
    for fact in ("gated_pixelcnn", "17 levels", "learning rate", str(torch.__version__), npx.__version__):
        assert fact in page.text


def test_an_evaluation_is_shown_whether_saved_or_asked_for(copied, trained):
    data = trained[1]
    result = npx.evaluate(npx.load(copied), data.test)
    (copied / "other.json").write_text('{"bits_per_dim": "<b>no</b>"}')
    (copied / "broken.json").write_text("{")
    (copied / "evaluation.json").write_text(json.dumps(result.to_dict()))
    figure = f"{result.bits_per_dim:.4f} ± {result.stderr:.4f}"
    for asked in (False, True):
        page = read(npx.report(copied, data=data, evaluate=asked))
        assert figure in page.text
        assert f"exact: {result.why}" in page.text
        (copied / "evaluation.json").unlink(missing_ok=True)


def test_names_are_text_and_never_markup(copied):
    config = yaml.safe_load((copied / "config.yaml").read_text())
    bad = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    config["data"] = {"name": bad, "source": bad, "protocol": bad, bad: {bad: bad}}
    config["command"] = config["torch"] = bad
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    (copied / "evaluation.json").write_text(
        json.dumps({"bits_per_dim": bad, "protocol": bad, "exact": bad, "data": bad, "why": bad, "stderr": bad})
    )
    page = read(npx.report(copied, why_no_data=bad))
    assert page.text.count(bad) >= 6
    assert f"gated_pixelcnn on {bad}" in page.text


def test_a_run_that_has_just_begun(copied):
    for path in ("model", "metrics.jsonl", "samples"):
        target = copied / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    page = read(npx.report(copied, check=True))
    assert [head for head in page.heads if head != "Check"] == HEADINGS
    assert not page.alts
    assert "Nothing has been logged yet" in page.text
    assert page.text.count("No model has been saved yet") >= 2
    assert "There is no validation figure yet" in page.text
    assert "There is no curve yet" in page.text
    assert "The data of the run were not given" in page.text


def test_a_run_in_training_shows_what_was_drawn_on_the_way(copied):
    shutil.rmtree(copied / "model")
    lines = [line for line in RunFolder(copied).read_metrics() if line.get("epoch") == 1]
    (copied / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = read(npx.report(copied))
    assert "In training, or stopped: 1 of 2 epochs validated" in page.text
    assert "Drawn while training: epoch-0002.png" in page.text


def test_a_damaged_model_is_said(copied):
    (copied / "model" / "model.safetensors").write_bytes(b"no")
    page = read(npx.report(copied, check=True))
    assert "model.safetensors" in page.text


def test_other_data_than_the_models(copied, tmp_path):
    np.save(tmp_path / "other.npy", np.zeros((40, 8, 8), np.uint8))
    page = read(npx.report(copied, data=npx.dataset(tmp_path / "other.npy", levels=2)))
    assert "No completions: " in page.text
    assert "2 levels, the model 17" in page.text


def test_the_check_is_shown(copied, trained):
    page = read(npx.report(copied, data=trained[1], check=True))
    assert "Check" in page.heads
    assert "All checks passed." in page.text


def test_a_model_of_several_orders_and_one_of_several_scales(tmp_path, digits):
    models = {
        "orders": npx.build("nade", like=digits, hidden=10, orders="raster,flip-x"),
        "scales": npx.build_multiscale("gated_pixelcnn", like=digits, scale=2, layers=1, features=4),
    }
    for name, model in models.items():
        npx.train(model, digits, epochs=1, run=tmp_path / name, sample_every=1, progress=False)
        page = read(npx.report(tmp_path / name, data=digits))
        assert page.heads == HEADINGS
        assert "bits/dim over 48 validation pictures" in page.text


def test_the_command(copied, nextpixel, tmp_path, assert_sentence, monkeypatch):
    ended = nextpixel("report", copied, "--out", tmp_path / "deep" / "page.html")
    assert ended.status == 0, ended.err
    assert "over 150 validation pictures" in read(tmp_path / "deep" / "page.html").text
    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["data"]["source"] = "gone/for/ever"
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    ended = nextpixel("report", copied)
    assert ended.status == 0, ended.err
    assert "No completions: " in read(copied / "report.html").text
    for arguments, sentence in (
        ([tmp_path / "none"], "is no run folder: it has no config.yaml"),
        ([copied, "--out", tmp_path], "cannot be written"),
    ):
        ended = nextpixel("report", *arguments)
        assert ended.status == 2
        assert sentence in ended.error()
        assert_sentence(ended.error())
    (copied / "config.yaml").write_text("data: [")
    assert "is damaged" in nextpixel("report", copied).error()


# Pictures while training.


class Board:
    def __init__(self):
        self.added = {}

    def add_image(self, name, pixels, step, dataformats):
        assert dataformats == "HWC"
        self.added[name] = (pixels, step)


@pytest.fixture
def pictures(tmp_path, digits):
    folder = RunFolder(tmp_path)
    folder.samples.mkdir()
    folder.log({"step": 1, "epoch": 1, "train": 4.0, "rate": 0.1})
    return TrainingPictures(folder, digits, print)


def test_samples_surprise_and_curve(pictures, tmp_path, digits):
    model = npx.build("gated_pixelcnn", like=digits, classes=10, layers=1, features=4, orders="raster,flip-x")
    pictures.began -= 10_000
    board, before = Board(), torch.get_rng_state()
    pictures.draw(model, 3, 17, board)
    assert torch.equal(torch.get_rng_state(), before)
    assert {name: step for name, (_, step) in board.added.items()} == {"samples": 17, "surprise": 17}
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["epoch-0003.png", "surprise-0003.png"]
    assert Image.open(tmp_path / "curve.png").width > 300


def test_they_take_no_more_than_their_share_of_the_time(pictures, tmp_path, digits, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(training_pictures.time, "monotonic", lambda: clock[0])
    pictures.began = clock[0]
    drawn = []

    def slow(*_):
        clock[0] += 3.0
        drawn.append(clock[0])

    monkeypatch.setattr(pictures, "_surprise", slow)
    model = npx.build("nade", like=digits, hidden=4)
    for epoch in range(100):
        clock[0] += 10.0
        pictures.draw(model, epoch, epoch)
        assert not drawn or 3.0 * len(drawn) <= 0.02 * (clock[0] - 1000.0) or len(drawn) == 1
    assert len(drawn) >= 4


def test_what_cannot_be_drawn_is_said_once_and_the_training_goes_on(run, digits, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("no ink\nat all")

    monkeypatch.setattr(training_pictures, "grid", broken)
    model = npx.build("nade", like=digits, hidden=4)
    npx.train(model, digits, epochs=3, run=run, sample_every=1)
    said = "Warning: pictures of the training could not be drawn (no ink); the training goes on.\n"
    assert capsys.readouterr().err.count(said) == 1
    assert len([line for line in RunFolder(run).read_metrics() if "valid" in line]) == 3


def test_the_surprise_sheet_shows_pictures_above_their_bits():
    images = torch.tensor([[[[0, 3]]], [[[3, 0]]]])
    sheet = np.asarray(figures.surprise_sheet(images, torch.tensor([[[0.0, 2.0]], [[1.0, 0.0]]]), 4))
    zoom = sheet.shape[0] // 3  # two rows of one pixel and a gap
    small = sheet[zoom // 2 :: zoom, zoom // 2 :: zoom].astype(int)
    assert small.shape == (3, 5, 3)
    assert small[0, [0, 1, 3, 4], 0].tolist() == [0, 255, 255, 0]
    heat = small[2, [0, 1, 3, 4]].sum(1)
    assert heat[1] > heat[2] > heat[0] == heat[3]
