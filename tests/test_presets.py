"""Presets: every file is read by the command that takes it, builds what it says, and can be overridden."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from nextpixel.cli import make
from nextpixel.cli.presets import known_presets, preset_for
from nextpixel.errors import UserError
from nextpixel.images import Dataset, Split, info, names
from nextpixel.tasks.data import DataOptions
from nextpixel.tasks.train import TrainOptions

PRESETS = known_presets()
ALL = pytest.mark.parametrize("preset", PRESETS, ids=lambda one: one.title)
BUDGETS = ["cpu-5-minutes", "cpu-2-hours", "gpu-30-minutes", "gpu-1-day"]
TINY = {
    "gated_pixelcnn": {"layers": 2, "features": 4},
    "pixelcnnpp": {"blocks": 1, "features": 6, "scales": 2},
    "pixelcnn": {"blocks": 1, "features": 4},
    "row_lstm": {"layers": 1, "features": 4},
    "diagonal_bilstm": {"layers": 1, "features": 4},
    "pixelsnail": {"blocks": 1, "layers": 1, "features": 4},
    "local": {"layers": 1, "features": 4},
    "made": {"hidden": 4},
    "nade": {"hidden": 4},
}


class Seen(Exception):  # noqa: N818 - it ends a command, it is no error
    """What the command was about to do."""


def test_there_is_one_for_each_data_set_and_budget():
    groups = ["binarized_mnist", "cifar10", "digits", "fashion_mnist", "mnist", "pneumonia_mnist", "pictures"]
    assert {f"{group}/{budget}" for group in groups for budget in BUDGETS} <= {one.title for one in PRESETS}
    assert list(dict.fromkeys(one.data for one in PRESETS)) == groups
    assert set(groups) - {"pictures"} <= set(names())


def test_those_of_one_budget_say_whose_they_are():
    """BUDGET-FAMILY, with a word more where a family has several."""
    for one in PRESETS:
        assert one.budget, one.title
        assert one.name == one.budget or one.name.startswith(f"{one.budget}-"), one.title
    assert {one.budget for one in PRESETS} >= set(BUDGETS)


@ALL
def test_every_option_exists_and_has_a_legal_value(preset):
    values = content(preset)
    kinds = (make.ModelOptions, TrainOptions, DataOptions)
    fields = {field.name: kind for kind in kinds for field in dataclasses.fields(kind)}
    assert set(values) <= set(fields)
    for kind in kinds:
        kind(**{name: value for name, value in values.items() if fields[name] is kind})


def content(preset):
    return {name: value for name, value in yaml.safe_load(preset.path.read_text()).items() if name != "expected"}


def like(preset, count=6):
    """A few images of what the preset is for."""
    values = content(preset)
    shape, levels = (
        ((3, 32, 32), 256) if preset.data == "pictures" else (info(preset.data).shape, info(preset.data).levels)
    )
    levels = 2 if "binarise" in values else values.get("levels", levels)
    images = torch.randint(0, levels, (count, *shape)).to(torch.uint8)
    return Split(images, torch.arange(count) % 10, levels, "few", "random", 10)


@pytest.mark.parametrize(
    "preset",
    [pytest.param(p, marks=pytest.mark.full if p.parameters > 20_000_000 else ()) for p in PRESETS],
    ids=lambda one: one.title,
)
def test_the_model_has_the_parameters_that_the_file_says(preset, recorded, monkeypatch):
    few = like(preset, 1)
    monkeypatch.setattr(make, "load_data", lambda source, images: Dataset("few", few, few, few))
    monkeypatch.setattr(make, "check_training_device", lambda device: None)
    assert recorded(preset.data, "--preset", preset.title)[0].parameter_count == preset.parameters


def command(*arguments):
    """The command line, in this process."""
    from nextpixel.cli.app import app

    return app(list(arguments), standalone_mode=False)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """What a run of `train` with these arguments records, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXTPIXEL_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        monkeypatch.setattr(
            make, "run_training", lambda *args, describe, **kwargs: (_ for _ in ()).throw(Seen(args, describe))
        )
        with pytest.raises(Seen) as seen:
            command("train", *arguments)
        (model, data, training), describe = seen.value.args
        return model, data, training, describe["data"]

    return run


def test_flags_win_over_a_config_file_and_that_over_a_preset_in_any_order(recorded, tmp_path):
    (tmp_path / "c.yaml").write_text("epochs: 7\nbatch_size: 5\n")
    small = ["--option", "layers=2", "--option", "features=4"]
    words = ["--preset", "cpu-5-minutes"], ["--config", "c.yaml"], ["digits"], ["--batch-size", "3"]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]):
        model, _, training, _ = recorded(*[word for at in order for word in words[at]], *small)
        assert (training.epochs, training.batch_size, training.learning_rate) == (7, 3, 3e-3)
        assert model.family == "gated_pixelcnn"
    model, _, training, _ = recorded("digits", "--preset", "cpu-5-minutes")
    assert (training.epochs, model.parameter_count) == (60, 123_953)


def test_a_path_gets_the_general_one_and_another_sets_is_had_by_its_name(recorded, tmp_path):
    for i in range(12):
        Image.fromarray(np.full((40, 50, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    model, data, _, described = recorded(str(tmp_path), "--preset", "cpu-5-minutes")
    assert (data.shape, described["fit"]) == ((3, 32, 32), "resize")
    assert model.parameter_count == preset_for("pictures", "cpu-5-minutes").parameters
    _, _, training, _ = recorded("digits", "--preset", "mnist/cpu-2-hours", "--binarise", "threshold")
    assert (training.epochs, training.ema) == (16, 0.9995)


@pytest.mark.parametrize(
    ("data", "wanted", "says"),
    [
        ("mnist", "cpu-5-minute", r"no preset 'cpu-5-minute' for mnist, but cpu.*Did you mean 'cpu-5-minutes'"),
        ("imagenet32", "cpu-2-hours", "no presets for imagenet32, but for binarized_mnist"),
        ("mnist", "nothing/cpu-2-hours", "no presets for nothing"),
        ("mnist", "../../secrets", "no presets for"),
    ],
)
def test_what_is_not_there_is_said(data, wanted, says):
    with pytest.raises(UserError, match=says):
        preset_for(data, wanted)


def test_config_presets_lists_all(capsys, tmp_path):
    command("config", "presets", "--json", str(tmp_path / "p.json"))
    assert "gated_pixelcnn" in capsys.readouterr().out
    found = json.loads((tmp_path / "p.json").read_text())["presets"]
    assert [one["title"] for one in found] == [one.title for one in PRESETS]


QUICK = ("digits/cpu-5-minutes", "digits/cpu-5-minutes-multiscale", "pictures/cpu-5-minutes")


@pytest.mark.parametrize(
    "preset",
    [pytest.param(p, marks=() if p.title in QUICK else pytest.mark.full) for p in PRESETS],
    ids=lambda one: one.title,
)
def test_a_training_starts_with_it(preset, tmp_path, monkeypatch):
    """One step of a tiny model of the preset's family, with all its other settings but the device's."""
    monkeypatch.chdir(tmp_path)
    few = like(preset)
    data = Dataset("few", few, few[:2], few[:2])
    monkeypatch.setattr(make, "load_data", lambda source, images: data)
    tiny = [f"{name}={value}" for name, value in TINY[preset.family].items()]
    flags = ["--option", "--small-option"] if "multiscale" in preset.settings else ["--option"]
    small = [word for flag in flags for one in tiny for word in (flag, one)]
    run = ["--epochs", "1", "--run", "run", "--device", "cpu", "--precision", "32", "--no-compile"]
    monkeypatch.setattr(make, "_finish", lambda *args: None)
    command("train", preset.data, "--preset", preset.title, *small, *run, "--sample-every", "0")
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert recorded["train"]["batch_size"] == int(preset.settings["batch_size"])
    assert (tmp_path / "run" / "model").is_dir()
