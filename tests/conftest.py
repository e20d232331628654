"""What all tests share: one thread, a fixed seed, tiny data and tiny models."""

import os
import re
import sys
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

import nextpixel as npx
from nextpixel import cli
from nextpixel.images import Dataset

TINY = {
    "gated_pixelcnn": {"layers": 2, "features": 6, "first_kernel": 3},
    "pixelcnn": {"blocks": 1, "features": 4, "first_kernel": 3},
}


@pytest.fixture(autouse=True)
def repeatable():
    """The same random numbers in every test, whatever ran before, and one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits():
    """A small part of the embedded digits: 8x8, 17 levels, labelled."""
    whole = npx.dataset("digits")
    return Dataset("digits", whole.train[:112], whole.valid[:48], whole.test[:40])


@pytest.fixture
def run(tmp_path):
    """A run folder that does not exist yet."""
    return tmp_path / "run"


@pytest.fixture
def tiny():
    """Build a tiny model: tiny("pixelcnn", shape=(3, 4, 5), levels=4, double=True, ...)."""

    def make(family="gated_pixelcnn", *, double=False, seed=1, spread=0.0, **options):
        torch.manual_seed(seed)
        if "like" not in options:
            options = {"shape": (1, 4, 5), "levels": 4, **options}
        model = npx.build(family, **{**TINY.get(family, {}), **options}).eval()
        if double:
            model = model.double()
        if spread:
            # Fresh weights give nearly uniform probabilities, under which a wrong dependence would hardly show.
            with torch.no_grad():
                for module in model.modules():
                    for parameter in module.parameters(recurse=False):
                        table = isinstance(module, torch.nn.Embedding)
                        matrix = parameter.dim() > 1 and not table
                        scale = 6 / parameter[0].numel() ** 0.5 if matrix else 5 if table else 0.5
                        parameter.copy_(spread * scale * torch.randn_like(parameter))
        return model

    return make


@pytest.fixture
def assert_sentence():
    """That a UserError reads as one or a few plain sentences on one line."""

    def check(error):
        text = str(error.value if hasattr(error, "value") else error)
        assert text == text.strip()
        assert "\n" not in text, text
        # A command to be copied may stand at the end, without a full stop that would be copied with it.
        assert text.endswith((".", "?")) or re.search(r"nextpixel train --resume \S+$", text), text
        assert "Traceback" not in text

    return check


class Ended:
    def __init__(self, status: int, out: str, err: str):
        self.status, self.out, self.err = status, out, err

    def error(self) -> str:
        """The one sentence; fails if there is a traceback or more than that."""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, self.err
        assert self.err.rstrip().endswith(lines[0]), self.err
        return lines[0]


@pytest.fixture
def nextpixel(monkeypatch, capsys):
    """Run a command in this process."""

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["nextpixel", *map(str, arguments)])
        capsys.readouterr()
        with warnings.catch_warnings():  # main() changes how warnings are shown
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as ended:
                cli.main()
        out, err = capsys.readouterr()
        return Ended(ended.value.code, out, err)

    return call
