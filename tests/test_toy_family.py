"""A family that another package adds in one file goes through everything that ours go through."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nextpixel as npx
from nextpixel.networks import unregister

FILE = Path(__file__).with_name("toy_family.py")


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.syspath_prepend(FILE.parent)
    __import__("toy_family")
    yield
    unregister("toy")
    del sys.modules["toy_family"]


def test_a_family_is_a_short_file():
    assert len(FILE.read_text().splitlines()) < 60


@pytest.mark.parametrize("settings", [{}, {"classes": 10}])
def test_it_builds_trains_loads_and_samples(toy, digits, run, settings):
    model = npx.build("toy", like=digits, **settings)
    npx.train(model, digits, epochs=2, batch_size=16, learning_rate=1e-2, run=run, progress=False)
    curve = [json.loads(line)["valid"] for line in (run / "metrics.jsonl").read_text().splitlines() if "valid" in line]
    assert curve[1] < curve[0]
    loaded = npx.load(run)
    pictures = npx.sample(loaded, n=3, seed=1)
    assert pictures.shape == (3, 1, 8, 8)
    torch.testing.assert_close(loaded.log_prob(pictures), model.log_prob(pictures))
    assert npx.evaluate(loaded, digits.test).bits_per_dim < npx.baselines(digits)["uniform"]


@pytest.mark.parametrize("shape", [(1, 6, 5), (3, 6, 5)])
def test_it_is_checked(toy, shape):
    report = npx.check(npx.build("toy", shape=shape, levels=3, classes=2), seeds=3)
    assert report.passed, report


def test_the_command_line_offers_it(tmp_path):
    installed = tmp_path / "toy-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[nextpixel.families]\ntoy = toy_family\n")
    (tmp_path / "toy_family.py").write_text(FILE.read_text())

    def nextpixel(*arguments):
        code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from nextpixel.cli import main; main()"
        command = [sys.executable, "-c", code, str(tmp_path), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300)

    assert "two masked convolutions" in nextpixel("families").stdout
    nextpixel("train", "digits", "--family", "toy", "--option", "features=6", "--epochs", "1", "--run", "run")
    assert nextpixel("info", "run").stdout.count("toy")
    nextpixel("sample", "run", "-n", "4", "--out", "four.png")
    assert (tmp_path / "four.png").stat().st_size > 100
    nextpixel("check", "run")
