"""docs/results.md says what the cards say, and its pictures are there."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nextpixel as npx

pytest.importorskip("benchmarks.pictures", reason="the benchmarks are in the source tree only")

from benchmarks import ladder, table_text
from benchmarks.documents import RESULTS_PAGE, markdown, part, rewrite
from benchmarks.figures import Row, by_levels, compute, sample_rows
from benchmarks.multiply_adds import multiply_adds
from benchmarks.papers import BINARISED, CIFAR10
from benchmarks.pictures import all_parts
from benchmarks.sittings import Notes, held

PARTS = all_parts()
PAGE = RESULTS_PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(PARTS))
def test_the_page_agrees_with_the_cards(name):
    written = part(PAGE, name)
    assert written == PARTS[name], "run: python -m benchmarks.pictures (or benchmarks.table show --write)"


def test_every_marked_part_is_made_by_something():
    assert set(re.findall(r"^<!-- made: (.*) -->$", PAGE, re.MULTILINE)) == set(PARTS)


def test_the_table_of_the_families_has_the_figures_of_the_cards():
    """Read back from the text: the mean over seeds of each model, from the files themselves."""
    figures: dict[tuple[str, str], list[float]] = {}
    for path in table_text.CARDS.glob("*.json"):
        card = json.loads(path.read_text())
        figures.setdefault((card["data"], card["label"]), []).append(card["test"]["nats"])
    for (data, label), values in figures.items():
        rows = [row for row in part(PAGE, f"table {data}").splitlines() if row.startswith(f"| `{label}`:")]
        cells = [cell.strip() for cell in rows[0].split("|")]
        assert len(rows) == 1
        assert int(cells[3]) == len(values)
        assert float(cells[4].split(" ± ")[0]) == pytest.approx(sum(values) / len(values), abs=0.0051)


def test_the_pictures_of_the_page_exist():
    named = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", PAGE)
    assert not [name for name in named if not (RESULTS_PAGE.parent / name).is_file()]


def test_a_document_is_rewritten_between_its_markers_only(tmp_path):
    path = tmp_path / "page.md"
    text = "before\n<!-- made: a -->\nold\n\n<!-- end: a -->\nbetween\n<!-- made: a b -->\n<!-- end: a b -->\nafter\n"
    path.write_text(text)
    new = markdown(["x"], [["1 \\1 \\g<2>"]])
    rewrite(path, {"a": new, "a b": "second"})
    again = path.read_text()
    assert part(again, "a") == new
    assert part(again, "a b") == "second"
    assert re.sub(r"(<!-- made.*?-->).*?(<!-- end)", r"\1\n\2", again, flags=re.DOTALL) == text.replace("old\n\n", "")
    rewrite(path, {"a": new, "a b": "second"})
    assert path.read_text() == again


def test_a_document_without_markers_is_left_alone(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("<!-- made: a -->\n<!-- end: a -->\n")
    with pytest.raises(SystemExit, match="made: b"):
        rewrite(path, {"a": "new", "b": "new"})
    assert path.read_text() == "<!-- made: a -->\n<!-- end: a -->\n"


@pytest.mark.parametrize("figure", [*BINARISED, *CIFAR10], ids=lambda figure: f"{figure.model} {figure.value}")
def test_figures_of_others_have_a_source_and_a_kind(figure):
    assert figure.source
    assert figure.protocol
    assert figure.kind in ("exact", "mixture", "bound")
    assert not figure.ours
    assert ("≤" in figure.cells()[1]) == (figure.kind == "bound")


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("row_lstm", {"layers": 2, "features": 16}),
        ("diagonal_bilstm", {"layers": 2, "features": 16}),
        ("gated_pixelcnn", {"layers": 3, "features": 16, "first_kernel": 3}),
    ],
)
def test_multiply_adds_are_every_weight_once_a_pixel(family, options):
    """Up to what is added without a product, such as biases, and first states."""
    model = npx.build(family, shape=(1, 6, 7), levels=2, **options)
    assert 0.93 < multiply_adds(model) / (42 * model.parameter_count) < 1.02


def test_processor_time_is_counted_in_every_sitting(tmp_path, monkeypatch):
    clock = iter([10.0, 13.0, 100.0, 104.0])
    monkeypatch.setattr("time.process_time", lambda: next(clock))
    notes = Notes(tmp_path / "notes.json")
    with pytest.raises(KeyboardInterrupt), notes.counting():
        raise KeyboardInterrupt
    again = Notes(tmp_path / "notes.json")
    with again.counting():
        pass
    again.save()
    assert json.loads((tmp_path / "notes.json").read_text())["cpu_seconds"] == 7.0


def test_a_job_is_held_by_one_process(tmp_path):
    lines = "from pathlib import Path", "from benchmarks.sittings import held"
    program = "\n".join([*lines, f"with held(Path({str(tmp_path / 'l')!r})) as mine: print(mine)"])

    def other():
        run = [sys.executable, "-c", program]
        root = Path(ladder.__file__).parents[1]
        return subprocess.run(run, cwd=root, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    with held(tmp_path / "l") as mine:
        assert mine
        assert other() == "False"
    assert other() == "True"


def test_the_figures_are_drawn_from_cards():
    """Of made-up cards: two sizes of one family and two seeds; what is drawn is where the card says."""
    cards = [
        {
            "data": "digits",
            "label": label,
            "family": "made",
            "options": {"hidden": 8},
            "seed": seed,
            "cpu_seconds": 10.0,
            "training": {"batch_size": 4},
            "test": {"bits_per_dim": 2.0},
            "valid": [{"step": 1, "valid": 3.0}, {"step": 2, "valid": 2.1}, {"step": 4, "valid": 2.5}],
        }
        for label, seed in (("made", 0), ("made", 1), ("made, 500 hidden", 0))
    ]
    axes = compute(cards).axes
    dots = [line for line in axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in dots] == [[5.0]] * 3  # step 2 of 4, of 10 seconds
    lines = [line for line in axes[0].lines if line.get_marker() == "None"]
    assert lines[0].get_ydata().tolist() == [3.0, 2.1, 2.1]
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["made", "made, 500 hidden"]

    steps = [{"levels": k, "head": "categorical", "test": {"bits_per_dim": math.log2(k) / 4}} for k in (4, 16)]
    shown = by_levels(steps, {4: {"xz": 1.0}}, {"xz": "xz"}).axes
    assert shown[1].lines[0].get_ydata() == pytest.approx([0.25, 0.25])
    assert shown[1].lines[1].get_ydata() == pytest.approx([0.5])

    rows = [Row("a", "1 bit", 1.0, torch.zeros(3, 1, 4, 4, dtype=torch.uint8), 2)] * 2
    assert len(sample_rows(rows).axes) == 2


def test_the_steps_of_the_ladder_are_the_powers_of_two():
    assert sorted({levels for levels, _ in ladder.STEPS}) == [2**power for power in range(1, 9)]
    assert all((head == "bernoulli") == (levels == 2) for levels, head in ladder.STEPS)
