"""Recipes: what they expect is what figures can be; one command trains, looks at the test part once, and compares."""

import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import nextpixel as npx
from nextpixel import figures
from nextpixel.cli import reproduce as command
from nextpixel.cli.presets import known_presets, markdown, recipe_for
from nextpixel.errors import UserError
from nextpixel.images import info
from nextpixel.tasks import looked_once
from nextpixel.tasks.expected import compare_curve, compare_test, expected_from
from nextpixel.tasks.run_folder import RunFolder, read_lines

ROOT = Path(__file__).resolve().parent.parent
RECIPES = known_presets()
MEASURED = pytest.mark.parametrize("recipe", [one for one in RECIPES if one.expected], ids=lambda one: one.title)
TRAIN = {
    **{"digits": 1350, "pneumonia_mnist": 4708, "binarized_mnist": 50_000},
    **{"mnist": 55_000, "fashion_mnist": 55_000, "cifar10": 45_000},
}


@MEASURED
def test_the_expected_curve_has_a_figure_for_every_epoch(recipe):
    steps = math.ceil(TRAIN[recipe.data] / int(recipe.settings["batch_size"]))
    epochs = len(recipe.expected.valid) if "max_minutes" in recipe.settings else int(recipe.settings["epochs"])
    assert list(recipe.expected.valid) == [steps * (i + 1) for i in range(epochs)]
    assert all(0 < bits < 8 for bits in recipe.expected.valid.values())


@MEASURED
def test_the_expected_figure_is_one_figure_in_two_units(recipe):
    test, dims = recipe.expected.test, math.prod(info(recipe.data).shape)
    nats_of_a_bit = math.log(2) * dims
    for bits, nats in (("bits_per_dim", "nats"), ("stderr", "nats_stderr")):
        assert test[nats] == pytest.approx(test[bits] * nats_of_a_bit, abs=1e-6 * nats_of_a_bit)  # six decimals
    assert test["bits_per_dim"] == pytest.approx(min(recipe.expected.valid.values()), rel=0.05), "another data set?"


@MEASURED
def test_the_expected_figure_has_a_command_that_exists_and_the_seed_of_the_recipe(recipe):
    assert recipe.expected.seed == int(recipe.settings.get("seed", 0))
    assert recipe.expected.hardware
    for line in recipe.expected.command.split(" && "):
        module = re.match(r"python -m (benchmarks\.\w+) |nextpixel (evaluate|reproduce) ", line)
        assert module, line
        if module[1]:
            assert (ROOT / f"{module[1].replace('.', '/')}.py").is_file(), line


def test_the_table_in_the_docs_is_that_of_the_files():
    assert markdown(RECIPES) in (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


GOOD = {"seed": 0, "hardware": "a core", "command": "nextpixel reproduce x"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"seed": 0}, "must have seed, hardware and command"),
        ({**GOOD, "curve": {}}, "must have"),
        ([], "must have"),
        ({**GOOD, "valid": [1.0]}, "bits/dim by step"),
        ({**GOOD, "test": {"nats": 1.0}}, "test must have bits_per_dim"),
        ({**GOOD, "valid": {1: math.inf}}, "finite"),
        ({**GOOD, "valid": {1: "2.0"}}, "finite"),
        ({**GOOD, "cpu_minutes": -1}, "positive"),
        ({**GOOD, "valid": {2: 1.0, 1: 2.0}}, "steps of valid"),
        ({**GOOD, "valid": {"a": 1.0}}, "steps of valid"),
        ({**GOOD, "test_sha256": 12}, "test_sha256 text"),
        ({**GOOD, "seed": "0"}, "seed must be a number"),
    ],
)
def test_a_damaged_expectation_is_refused(values, says, assert_sentence):
    with pytest.raises(UserError, match=says) as error:
        expected_from(values, "r.yaml")
    assert_sentence(error)


EXPECTED = expected_from(
    {
        **GOOD,
        "valid": {10: 2.5, 20: 2.25},
        "test": {"bits_per_dim": 2.0, "stderr": 0.01, "nats": 88.7, "nats_stderr": 0.44},
    },
    "r.yaml",
)


@pytest.mark.parametrize(
    ("bits", "agrees", "says"),
    [
        (2.0, True, "agrees with the expected 2.0000 ± 0.0100"),
        (2.015, True, "0.0150 bits/dim apart, within 2"),
        (2.025, False, "does not agree .* 0.0250 bits/dim apart, more than 2 standard errors. It is worse"),
        (1.97, False, "does not agree .* It is better"),
    ],
)
def test_agreement_is_said_both_ways(bits, agrees, says, assert_sentence):
    found, sentence = compare_test(EXPECTED, {"bits_per_dim": bits, "nats": bits * 44.36})
    assert found is agrees
    assert re.search(says, sentence)
    assert_sentence(sentence)


def test_other_test_images_are_not_compared(assert_sentence):
    """Binarised anew, or from another source: the fault that makes figures of this field wrong."""
    expected = dataclasses.replace(EXPECTED, test_sha256="5f7e")
    same, other = ({"bits_per_dim": 2.0, "nats": 88.7, "data_sha256": sha} for sha in ("5f7e75", "ab5f7e"))
    assert compare_test(expected, same)[0] is True
    found, sentence = compare_test(expected, other)
    assert found is False
    assert "not those of the expected figure (SHA-256 ab5f7e, not 5f7e)" in sentence
    assert_sentence(sentence)


def test_without_a_figure_there_is_nothing_to_agree_with():
    for expected in (None, expected_from(GOOD, "r.yaml")):
        found, sentence = compare_test(expected, {"bits_per_dim": 2.0, "nats": 88.7})
        assert found is None
        assert "not been measured" in sentence
    assert compare_curve(None, {10: 2.0}) == ""
    assert compare_curve(EXPECTED, {11: 2.0}) == ""


def test_curves_are_compared_where_both_have_a_figure():
    assert "the expected one, to a millionth" in compare_curve(EXPECTED, {10: 2.5 + 5e-7, 15: 9.0})
    assert "0.2500 bits/dim from the expected one (at step 20, of the 2" in compare_curve(EXPECTED, {10: 2.4, 20: 2.5})


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("digits/cpu-5-minutes-mad", "Did you mean 'digits/cpu-5-minutes-made'"),
        ("digits", "Of digits there are digits/cpu-2-hours, "),
        ("", "no recipe ''"),
        ("pictures/cpu-5-minutes", "for pictures of your own"),
        ("nowhere.yaml", "cannot be read"),
        ("../../secrets", "no recipe"),
    ],
)
def test_a_recipe_that_is_not_there_gives_one_sentence(wanted, says, assert_sentence):
    with pytest.raises(UserError, match=re.escape(says)) as error:
        recipe_for(wanted)
    assert_sentence(error)


TOY = """\
data: small.npz
family: made
option: {hidden: 6}
epochs: 3
batch_size: 16
sample_every: 0
device: cpu
threads: 1
"""
PROMISE = """\
expected:
  valid: {3: 2.9, 6: 2.8, 9: 2.7}
  test: {bits_per_dim: 2.7, stderr: 0.2, nats: 37.4, nats_stderr: 2.8}
  seed: 0
  cpu_minutes: 0.1
  hardware: a core
  command: nextpixel reproduce toy.yaml
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """toy.yaml in the current folder: three epochs of three steps on digits cut to 5x4."""
    monkeypatch.chdir(tmp_path)
    whole = npx.dataset("digits")
    parts = {"train": whole.train, "valid": whole.valid, "test": whole.test}
    cut = {name: part[:40].images[:, 0, 2:7, 2:6].numpy() for name, part in parts.items()}
    np.savez(tmp_path / "small.npz", **cut)
    path = tmp_path / "toy.yaml"
    path.write_text(TOY + PROMISE)
    monkeypatch.setattr(command, "report", lambda folder, data: None)  # seconds; tests/test_report.py has it
    return path


OF_THE_DAY = {"cost", "written", "test_scored"}  # what differs between two runs of a recipe


def cards_of(run):
    return read_lines(Path(run) / "cards.jsonl")


def without_times(card):
    return {name: value for name, value in card.items() if name not in OF_THE_DAY}


KILLED = """
import os, signal, sys
from nextpixel.tasks.keeper import Keeper
after = Keeper.on_train_batch_end
def end(self, trainer, *args):
    after(self, trainer, *args)
    if trainer.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
Keeper.on_train_batch_end = end
sys.argv = ["nextpixel", "reproduce", "toy.yaml", "--run", "killed"]
from nextpixel.cli import main
main()
"""


def test_killed_and_gone_on_with_it_ends_with_the_same_card(toy, nextpixel):
    assert nextpixel("reproduce", toy.name, "--run", "whole").status == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not cards_of("killed")
    again = nextpixel("reproduce", toy.name, "--run", "killed")
    assert again.status == 0, again.err
    assert "Going on with toy.yaml" in again.err
    [whole], [killed] = cards_of("whole"), cards_of("killed")
    assert without_times(whole) == without_times(killed)
    assert (killed["cost"]["sittings"], killed["cost"]["ended"]) == (2, 1)
    assert len(whole["test_scored"]) == 1
    assert list(whole["valid"]) == ["3", "6", "9"]
    assert whole["nearest"]["of"] == 64
    assert Path("whole/nearest.png").stat().st_size


def test_the_test_part_is_looked_at_once(toy, nextpixel, monkeypatch):
    looks = []
    evaluate = looked_once.evaluate

    def counted(model, split, **options):
        looks.append(split.name)
        return evaluate(model, split, **options)

    monkeypatch.setattr(looked_once, "evaluate", counted)
    assert nextpixel("reproduce", toy.name, "--run", "run").status == 0
    assert len(looks) == 1
    again = nextpixel("reproduce", toy.name, "--run", "run", "--cards", "all.jsonl", "--json", "card.json")
    assert (again.status, len(looks)) == (0, 1)
    assert read_lines(Path("all.jsonl")) == cards_of("run") == [json.loads(Path("card.json").read_text())]
    nextpixel("reproduce", toy.name, "--run", "run", "--cards", "all.jsonl")
    assert len(read_lines(Path("all.jsonl"))) == 1, "the same card twice"
    Path("run/cards.jsonl").unlink()  # as if it had been killed between the score and the card
    assert nextpixel("reproduce", toy.name, "--run", "run").status == 0
    assert len(looks) == 1
    assert nextpixel("reproduce", toy.name, "--run", "run", "--score-again").status == 0
    assert len(looks) == 2
    assert [len(card["test_scored"]) for card in cards_of("run")] == [1, 2]


def test_other_weights_are_not_scored_unasked(toy, nextpixel):
    nextpixel("reproduce", toy.name, "--run", "run")
    Path("run/cards.jsonl").unlink()
    model = npx.load("run")
    model.requires_grad_(False)
    next(model.parameters()).add_(1)
    model.save_pretrained("run/model")
    with pytest.raises(UserError, match=r"with other weights .* --score-again"):
        looked_once.scored_once(RunFolder("run"), npx.load("run"), npx.dataset("small.npz").test)


def test_the_expected_curve_stands_beside_the_measured_one(toy, nextpixel):
    ended = nextpixel("reproduce", toy.name, "--run", "run")
    lines = [line for line in ended.err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3
    assert "(expected 2.9000)" in lines[0]
    assert "about" in lines[0], "the time left"
    [card] = cards_of("run")
    assert card["agreement"] in ended.out
    assert "bits/dim from the expected one" in ended.out
    metrics, expected = RunFolder("run").read_metrics(), RunFolder("run").expected_curve()
    drawn = {line.get_label(): line for line in figures.curve(metrics, expected=expected).axes[0].get_lines()}
    assert drawn["valid, expected"].get_xydata().tolist() == [[3, 2.9], [6, 2.8], [9, 2.7]]
    assert drawn["valid, expected"].get_linestyle() == "--"
    upper, lower = figures.curve(metrics[:2], rate=True, expected=expected).axes
    assert upper.get_xlim() == lower.get_xlim(), "a run in training has less of the curve than is expected"
    assert Path("run/samples.png").is_file()
    assert Path("run/curve.png").is_file()


def test_a_sitting_may_be_short_and_the_next_one_goes_on(toy, nextpixel):
    first = nextpixel("reproduce", toy.name, "--run", "run", "--max-minutes", "1e-9")
    assert first.status == 0
    assert first.err.rstrip().endswith("go on with nextpixel reproduce toy.yaml --run run")
    assert not cards_of("run")
    assert nextpixel("reproduce", toy.name, "--run", "run").status == 0
    [card] = cards_of("run")
    assert card["cost"]["sittings"] == card["cost"]["ended"] == 2
    assert card["chosen"]["of_epochs"] == 3


def test_a_recipe_that_gives_a_time_ends_when_it_is_over(toy, nextpixel):
    toy.write_text(TOY + "max_minutes: 0.000001\n")
    ended = nextpixel("reproduce", toy.name, "--run", "run")
    assert ended.status == 0, ended.err
    [card] = cards_of("run")
    assert card["chosen"]["steps"] == 1
    assert card["agrees"] is None
    assert "has not been measured" in ended.out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (TOY.replace("data: small.npz\n", ""), "does not say its data"),
        (TOY + "epoch: 3\n", "Did you mean 'epochs'"),
        (TOY + "expected: {seed: 0}\n", "'expected' of toy.yaml is damaged"),
        (TOY.replace("family: made", "family: mad"), "Did you mean 'made'"),
        ("[", "is not YAML"),
    ],
)
def test_a_mistake_in_a_recipe_gives_one_sentence(toy, nextpixel, content, says):
    toy.write_text(content)
    ended = nextpixel("reproduce", toy.name)
    assert ended.status == 2
    assert says in ended.error()
    assert not Path("runs").exists()


def test_a_run_folder_that_cannot_be_made_gives_one_sentence(toy, nextpixel):
    ended = nextpixel("reproduce", toy.name, "--run", f"{toy.name}/run")
    assert ended.status == 2
    assert "cannot be written" in ended.error()


def test_a_folder_of_another_recipe_is_left_alone(toy, nextpixel):
    nextpixel("reproduce", toy.name, "--run", "run", "--max-minutes", "1e-9")
    before = Path("run/config.yaml").read_bytes()
    toy.write_text(TOY.replace("hidden: 6", "hidden: 7"))
    ended = nextpixel("reproduce", toy.name, "--run", "run")
    assert ended.status == 2
    assert "with other settings" in ended.error()
    config = yaml.safe_load(before)
    del config["recipe"]
    Path("run/config.yaml").write_text(yaml.safe_dump(config))
    assert "follows no recipe" in nextpixel("reproduce", toy.name, "--run", "run").error()
