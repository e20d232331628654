"""The models in the package: they are small, they open by name, and they reach the figures in their cards."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch

import nextpixel as npx
from benchmarks.codec_models import kept_out
from nextpixel.errors import UserError
from nextpixel.saving import WEIGHTS
from nextpixel.shipped import FOLDER
from nextpixel.tasks.data import DataOptions, load_data

DATA = Path(os.environ.get("NEXTPIXEL_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data")
NAMES = npx.shipped()


def test_there_are_some_and_they_are_small():
    assert NAMES
    sizes = [(FOLDER / name / WEIGHTS).stat().st_size for name in NAMES]
    assert max(sizes) <= 3_000_000
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 12_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_where_the_model_comes_from_and_what_it_is_worth(name):
    card = npx.load(name).card
    assert card["licence"]
    assert card["limits"]
    assert card["figures"]["exact"] is True
    assert "limits" in (FOLDER / name / "README.md").read_text()


def images_of_the_figures(card):
    recorded = card["data_options"]
    source = recorded["source"] if recorded else "kodak"
    if source != "digits" and not (DATA / source).is_dir():
        pytest.skip(f"{source} is not in {DATA}: set NEXTPIXEL_DATA to the folder of the data sets")
    if not recorded:
        return kept_out(DATA / source)
    known = {field.name for field in dataclasses.fields(DataOptions)}
    options = DataOptions(**{key: value for key, value in recorded.items() if key in known} | {"data_dir": str(DATA)})
    return load_data(source, options).test


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMES)
def test_it_reaches_its_figure(name):
    model = npx.load(name)
    figures, test = model.card["figures"], images_of_the_figures(model.card)
    found = npx.evaluate(model, test, limit=figures["subset_images"])
    assert found.images == min(len(test), figures["subset_images"])
    assert found.bits_per_dim == pytest.approx(figures["subset_bits_per_dim"], abs=5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_its_weights_have_sixteen_bits(name):
    for tensor in npx.load(name).state_dict().values():
        if tensor.is_floating_point():
            assert torch.equal(tensor, tensor.half().float())


def test_a_folder_of_the_same_name_comes_first(tmp_path, monkeypatch, tiny):
    mine = tiny()
    mine.save_pretrained(tmp_path / NAMES[0])
    monkeypatch.chdir(tmp_path)
    assert npx.load(NAMES[0]).parameter_count == mine.parameter_count


def test_a_name_that_is_nearly_one_is_suggested():
    with pytest.raises(UserError, match=f"Did you mean '?{NAMES[0]}"):
        npx.load(NAMES[0] + "s")
