"""`nextpixel score` and `nextpixel detect`, from the command line to the files they leave."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

import nextpixel as npx
from nextpixel.tasks.data import DataOptions
from nextpixel.tasks.image_source import load_images
from nextpixel.tasks.score_files import save_table
from nextpixel.tasks.threshold import FILE


@pytest.fixture
def saved(tiny, tmp_path):
    """Class-conditional, for the digits, not trained."""
    model = tiny(like=npx.dataset("digits"), classes=10, spread=0.2)
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_round_trip(saved, tmp_path, nextpixel):
    out, page, numbers = tmp_path / "s.csv", tmp_path / "heat.png", tmp_path / "maps.npz"
    ended = nextpixel(
        *("score", saved, "digits", "--limit", 12, "--out", out, "--maps", page, "--maps", numbers, "--posterior"),
        *("--calibrate", "digits", "--false-alarms", 0.1, "--json", tmp_path / "s.json"),
    )
    assert ended.status == 0, ended.err
    rows, facts = rows_of(out), json.loads((tmp_path / "s.json").read_text())
    assert len(rows) == 12
    model, test = npx.load(saved), npx.dataset("digits").test[torch.arange(12) * 297 // 12]
    bits = -model.log_prob(test.images).detach() / np.log(2) / 64
    assert [float(row["bits_per_dim"]) for row in rows] == pytest.approx(bits.tolist(), rel=1e-5)
    assert [int(row["label"]) for row in rows] == test.labels.tolist()
    assert [int(row["class"]) for row in rows] == npx.posterior(model, test).predicted.tolist()
    assert facts["threshold"]["score"] == "distance"
    assert facts["threshold"]["n"] == 75
    assert facts["anomalies"] == [row["name"] for row in rows if row["anomaly"] == "True"]
    assert all((row["anomaly"] == "True") == (float(row["p_value"]) <= 0.1) for row in rows)
    assert 0 <= facts["posterior"]["accuracy"] <= 1
    assert "How sure, how right" in ended.out
    assert Image.open(page).width > 400
    with np.load(numbers) as maps:
        assert sorted(maps.files) == ["bits", "expected_bits", "names", "variance", "z"]
        assert maps["bits"].shape == (12, 8, 8)
        assert maps["bits"].sum((1, 2)) / 64 == pytest.approx(bits.numpy(), rel=1e-5)

    again = nextpixel("score", saved, "digits", "--limit", 12, "--out", tmp_path / "again.parquet")
    assert again.status == 0, again.err
    import pyarrow.parquet as parquet

    table = parquet.read_table(tmp_path / "again.parquet").to_pydict()
    assert [str(called) for called in table["anomaly"]] == [row["anomaly"] for row in rows]
    assert table["name"] == [row["name"] for row in rows]


def test_files_of_a_folder_keep_their_names(saved, tmp_path, nextpixel):
    pictures = tmp_path / "pictures"
    (pictures / "inner").mkdir(parents=True)
    for number, name in enumerate(["b.png", "a.png", "inner/c.bmp", "d.png", "e.png"]):
        Image.fromarray(np.full((8, 8), 40 * number, np.uint8)).save(pictures / name)
    (pictures / "broken.png").write_bytes(b"no picture")
    ended = nextpixel(
        *("score", saved, pictures, "--levels", 17, "--out", tmp_path / "s.csv", "--maps", tmp_path / "heat"),
        "--no-complexity",
    )
    assert ended.status == 0, ended.err
    assert "broken.png" in ended.err
    rows = rows_of(tmp_path / "s.csv")
    assert [row["name"] for row in rows] == ["a.png", "b.png", "d.png", "e.png", "inner/c.bmp"]
    values = torch.tensor([40, 0, 120, 160, 80]) * 17 // 256
    images = values.view(5, 1, 1, 1).expand(5, 1, 8, 8)
    bits = -npx.load(saved).log_prob(images).detach() / np.log(2) / 64
    assert [float(row["bits_per_dim"]) for row in rows] == pytest.approx(bits.tolist(), rel=1e-5)
    assert "complexity" not in rows[0]
    assert (tmp_path / "heat" / "inner" / "c.bmp.png").is_file()


def test_all_of_an_array_is_scored_and_a_named_set_by_split(saved, tmp_path, nextpixel):
    np.save(tmp_path / "images.npy", np.zeros((5, 8, 8), np.uint8))
    assert nextpixel("score", saved, tmp_path / "images.npy", "--out", tmp_path / "a.csv").status == 0
    assert len(rows_of(tmp_path / "a.csv")) == 5
    assert nextpixel("score", saved, "digits", "--split", "valid", "--out", tmp_path / "b.csv").status == 0
    assert len(rows_of(tmp_path / "b.csv")) == 150


def test_a_threshold_of_other_weights_gives_no_verdicts(saved, tiny, tmp_path, nextpixel):
    assert nextpixel("score", saved, "digits", "--limit", 5, "--calibrate", "digits", "--by", "bits").status == 0
    assert (saved / FILE).is_file()
    tiny(like=npx.dataset("digits"), classes=10, seed=9).save_pretrained(saved)
    ended = nextpixel("score", saved, "digits", "--limit", 5, "--out", tmp_path / "s.csv")
    assert ended.status == 0
    assert "No verdicts are given. The saved threshold is of other weights" in ended.err
    assert "anomaly" not in rows_of(tmp_path / "s.csv")[0]


def test_detect(saved, tmp_path, nextpixel):
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(0, 17, (30, 8, 8)))
    ended = nextpixel(
        *("detect", saved, saved, "--normal", "digits", "--anomalies", tmp_path / "noise.npy", "--limit", 40),
        *("--json", tmp_path / "d.json", "--against", saved),
    )
    assert ended.status == 0, ended.err
    card = json.loads((tmp_path / "d.json").read_text())
    assert card["models"][0]["path"] == str(saved)
    first, second = (model["scores"] for model in card["models"])
    assert first == second
    assert set(first) == {"bits", "typicality", "complexity", "ratio", "distance"}
    assert first["ratio"]["auroc"]["value"] == 0.5  # against itself
    assert first["distance"]["auroc"]["low"] <= first["distance"]["auroc"]["value"] <= 1
    assert "AUROC" in ended.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits", "--out", "s.txt"], "must end in .csv or .parquet"),
        (["digits", "--maps", "heat.jpg"], "must end in .png or .npz"),
        (["digits", "--by", "beauty"], "no score 'beauty'"),
        (["digits", "--by", "ratio"], "needs another model"),
        (["digits", "--calibrate", "digits", "--false-alarms", "0"], "between 0 and 1"),
        (["digits", "--calibrate", "digits"], "too few"),
        (["digits", "--split", "tests"], "train, valid or test"),
        (["digits", "--levels", "4"], "4 levels, the model 17"),
        (["empty"], "no pictures"),
        (["digits", "--calibrate", "empty"], "no pictures"),
        (["small.npy"], "5x5, the model is for 8x8"),
        (["floats.npy"], "integers"),
        (["nowhere"], "neither a file"),
    ],
)
def test_one_sentence(saved, tmp_path, nextpixel, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "small.npy", np.zeros((3, 5, 5), np.uint8))
    np.save(tmp_path / "floats.npy", np.full((3, 8, 8), np.nan))
    ended = nextpixel("score", saved, *arguments, "--limit", 20)
    assert ended.status == 2
    assert words in ended.error()
    assert not (saved / FILE).exists()


def test_no_posterior_without_classes(tiny, tmp_path, nextpixel):
    tiny(like=npx.dataset("digits")).save_pretrained(tmp_path / "plain")
    ended = nextpixel("score", tmp_path / "plain", "digits", "--posterior")
    assert "leave --posterior out" in ended.error()


def test_parquet_without_pyarrow(saved, nextpixel, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ended = nextpixel("score", saved, "digits", "--out", "scores.parquet")
    assert "nextpixel[parquet]" in ended.error()


def test_the_same_split_twice_is_no_reference(saved, nextpixel):
    ended = nextpixel("detect", saved, "--normal", "digits", "--anomalies", "digits", "--reference-split", "test")
    assert "must not be the same" in ended.error()


def test_too_few_images_for_a_reference(saved, nextpixel):
    ended = nextpixel("detect", saved, "--normal", "digits", "--anomalies", "digits", "--limit", "10")
    assert ended.status == 2
    assert "compares with 10 normal images: give it more than 10 as reference (--limit counts" in ended.error()


def test_a_threshold_of_a_shipped_model_needs_a_folder(nextpixel):
    ended = nextpixel("score", "digits", "digits", "--limit", "5", "--calibrate", "digits")
    assert ended.status == 2
    assert "npx.load('digits').save_pretrained('FOLDER')" in ended.error()


def write_folder(folder, **counts):
    """Grey pictures of 8x8, of a shade for each sub-folder."""
    for shade, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((8, 8), 10 * shade, np.uint8)
            pixels[0, 0] = number
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.parametrize("valid", ["val", "valid", None])
def test_of_a_folder_with_splits_only_the_one_that_is_meant(tmp_path, valid):
    """Training images among those that calibrate would void the rate of false alarms."""
    write_folder(tmp_path / "f", train=20, **({valid: 6} if valid else {}), test=4)
    whole = npx.dataset(tmp_path / "f")
    for split in ("train", "valid", "test"):
        found = load_images(str(tmp_path / "f"), DataOptions(), split, 256)
        assert found.divided
        assert torch.equal(found.split.images, getattr(whole, split).images), split
    with pytest.raises(npx.UserError, match="train, valid or test"):
        load_images(str(tmp_path / "f"), DataOptions(), "bogus", 256)


def test_a_folder_without_splits_is_taken_whole(tmp_path):
    write_folder(tmp_path / "f", cats=5, dogs=4)
    found = load_images(str(tmp_path / "f"), DataOptions(), "test", 256)
    assert (len(found.split), found.divided, found.names[0]) == (9, False, "cats/0.png")


def test_the_validation_part_of_a_folder_is_the_reference(tiny, tmp_path, nextpixel):
    tiny(shape=(1, 8, 8), levels=256).save_pretrained(tmp_path / "model")
    write_folder(tmp_path / "f", train=20, val=30, test=20)
    ended = nextpixel("detect", tmp_path / "model", "--normal", tmp_path / "f", "--anomalies", tmp_path / "f" / "test")
    assert ended.status == 0, ended.err
    assert "distance" in ended.out
    assert "no splits" not in ended.err


def test_an_array_without_splits_has_no_reference(tiny, tmp_path, nextpixel):
    tiny(shape=(1, 8, 8), levels=256).save_pretrained(tmp_path / "model")
    train, valid, test = np.random.default_rng(0).integers(0, 256, (3, 20, 8, 8), np.uint8)
    np.savez(tmp_path / "one.npz", images=test)
    np.savez(tmp_path / "three.npz", train=train, valid=valid, test=test)
    for name, divided in (("one.npz", False), ("three.npz", True)):
        ended = nextpixel("detect", tmp_path / "model", "--normal", tmp_path / name, "--anomalies", tmp_path / name)
        assert ended.status == 0, ended.err
        assert ("no splits" in ended.err) is not divided


def test_maps_keep_the_name_that_was_asked_for(saved, tmp_path, nextpixel):
    ended = nextpixel("score", saved, "digits", "--limit", 3, "--maps", tmp_path / "maps.NPZ")
    assert ended.status == 0, ended.err
    assert [path.name for path in tmp_path.glob("maps*")] == ["maps.NPZ"]


def test_names_that_are_no_text_are_written_all_the_same(tmp_path):
    save_table(tmp_path / "s.csv", {"name": ["a\udcff.png"], "bits_per_dim": [1.5]})
    assert rows_of(tmp_path / "s.csv") == [{"name": "a\\udcff.png", "bits_per_dim": "1.5"}]
