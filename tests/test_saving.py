"""Saved models: bit-equal when read again, and one sentence for everything that can be wrong with a folder."""

import errno
import json
import os
import re
import shutil
import stat
from pathlib import Path

import pytest
import safetensors.torch
import torch

import nextpixel as npx
import nextpixel.saving as saving
from nextpixel import durable
from nextpixel.errors import UserError
from nextpixel.image_model import ImageModel

SOURCE = Path(npx.__file__).parent

KINDS = {
    "gated": ("gated_pixelcnn", {}),
    "plain, RGB": ("pixelcnn", {"shape": (3, 3, 4), "levels": 5}),
    "head orders": (
        "gated_pixelcnn",
        {"shape": (3, 3, 4), "head": "autoregressive_categorical", "head_options": {"features": 7}},
    ),
    "binary, classes": ("pixelcnn", {"levels": 2, "classes": 3}),
    "codes, vector, map": ("gated_pixelcnn", {"embedding": "learned", "vector": 2, "map_shape": (1, 2, 3)}),
    "factorised": ("gated_pixelcnn", {"factorised": True, "kernel": 5, "dropout": 0.25}),
}


def condition_of(model):
    parts = {"class": model.classes and torch.tensor([1, 0]), "vector": None, "map": None}
    if model.condition is not None and model.condition.vector_width:
        parts |= {"vector": torch.ones(2, 2), "map": torch.ones(2, 1, 2, 3)}
    return {kind: value for kind, value in parts.items() if value is not None} or None


@pytest.fixture
def saved(tiny, tmp_path):
    folder = tmp_path / "saved"
    tiny().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_is_bit_equal(tiny, tmp_path, kind, dtype):
    family, options = KINDS[kind]
    model = tiny(family, spread=0.3, **options).to(dtype)
    if model.classes:
        model.class_prior.copy_(torch.tensor([0.25, 0.5, 0.25]))
    model.card = {"data": "drawn", "training": {"epochs": 3}}
    model.save_pretrained(tmp_path / "saved")
    x = torch.randint(model.levels, (2, *model.shape))
    condition = condition_of(model)
    for loaded in (npx.load(tmp_path / "saved"), ImageModel.from_pretrained(str(tmp_path / "saved"))):
        assert not loaded.training
        assert type(loaded) is ImageModel
        assert (loaded.shape, loaded.levels, loaded.classes) == (model.shape, model.levels, model.classes)
        assert loaded.card == model.card
        assert loaded.network.config == model.network.config
        assert torch.equal(loaded.log_prob(x, condition), model.log_prob(x, condition))
        assert loaded.state_dict().keys() == model.state_dict().keys()
        for name, value in model.state_dict().items():
            assert loaded.state_dict()[name].dtype == value.dtype
            assert torch.equal(loaded.state_dict()[name], value)
    if model.classes:
        assert torch.equal(loaded.log_prob(x), model.log_prob(x))


def test_what_the_folder_holds(saved):
    assert sorted(os.listdir(saved)) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((saved / "config.json").read_text())
    assert config["format_version"] == 1
    assert config["family"] == "gated_pixelcnn"
    asked = {"layers": 2, "features": 6, "first_kernel": 3}
    assert {name: config["options"][name] for name in asked} == asked
    assert config["options"].keys() == npx.families()["gated_pixelcnn"].options.keys()  # defaults included
    assert config["dtype"] == "float32"
    card = (saved / "README.md").read_text()
    assert card.startswith("---\n")
    assert "library_name: nextpixel" in card
    assert sorted(os.listdir(saved.parent)) == ["saved"]  # nothing of the writing aside is left


def test_the_folder_can_be_read_by_those_the_umask_allows(tiny, tmp_path):
    before = os.umask(0o022)
    try:
        tiny().save_pretrained(tmp_path / "saved")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "saved").stat().st_mode) == 0o755
    for path in (tmp_path / "saved").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644, path.name


def test_the_same_model_gives_the_same_bytes(tiny, tmp_path):
    model = tiny(classes=3)
    for name in "ab":
        model.save_pretrained(tmp_path / name)
    npx.load(tmp_path / "a").save_pretrained(tmp_path / "c")
    for file in ("model.safetensors", "config.json", "README.md"):
        first = (tmp_path / "a" / file).read_bytes()
        assert (tmp_path / "b" / file).read_bytes() == first
        assert (tmp_path / "c" / file).read_bytes() == first


def test_a_new_model_takes_the_place_of_the_old_one_and_other_files_stay(tiny, saved):
    (saved / "notes.txt").write_text("mine")
    (saved / "samples").mkdir()
    new = tiny("pixelcnn", shape=(3, 2, 2), seed=7)
    new.save_pretrained(saved)
    loaded = npx.load(saved)
    assert loaded.family == "pixelcnn"
    x = torch.randint(4, (2, 3, 2, 2))
    assert torch.equal(loaded.log_prob(x), new.log_prob(x))
    assert (saved / "notes.txt").read_text() == "mine"
    assert (saved / "samples").is_dir()


def test_folders_on_the_way_are_made_and_a_relative_path_will_do(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny().save_pretrained("one/two/model")
    tiny().save_pretrained("here")
    npx.load("one/two/model")
    npx.load("here")


def test_a_run_folder_is_loaded_by_its_own_name(tiny, tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path / "run" / "model")
    x = torch.randint(4, (2, 1, 4, 5))
    assert torch.equal(npx.load(tmp_path / "run").log_prob(x), model.log_prob(x))
    assert torch.equal(npx.load(str(tmp_path / "run")).log_prob(x), model.log_prob(x))


def test_a_run_without_a_model_yet_says_so(tmp_path, assert_sentence):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="has saved no model yet") as caught:
        npx.load(tmp_path / "run")
    assert_sentence(caught)


# Everything that can be wrong with a folder


def rewrite(folder, **changes):
    """config.json with other values; ... takes a key out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def reweigh(folder, change):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    change(weights)
    safetensors.torch.save_file(weights, path)


def put(name, value):
    return lambda weights: weights.update({name: value})


NAME = "network.out.1.bias"

DAMAGE = {
    "a tensor is missing": (lambda f: reweigh(f, lambda w: w.pop(NAME)), f"lacks tensor '{NAME}'"),
    "an extra tensor": (lambda f: reweigh(f, put("zebra", torch.ones(2))), "unknown tensor 'zebra'"),
    "a wrong shape": (lambda f: reweigh(f, put(NAME, torch.ones(7))), rf"'{NAME}' has shape \[7\]"),
    "a transposed shape": (lambda f: reweigh(f, put(NAME, torch.ones(1, 6))), "has shape"),
    "no tensors": (lambda f: reweigh(f, dict.clear), "lacks"),
    "weights cut short": (lambda f: cut(f / "model.safetensors", 0.5), "damaged"),
    "weights cut within the header": (lambda f: cut(f / "model.safetensors", 0.01), "damaged"),
    "weights empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "damaged"),
    "weights of another kind": (lambda f: torch.save({"a": torch.ones(1)}, f / "model.safetensors"), "damaged"),
    "weights missing": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "config missing": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "config empty": (lambda f: (f / "config.json").write_text(""), "JSON"),
    "config not JSON": (lambda f: (f / "config.json").write_text("{'family': 1}"), "JSON"),
    "config not text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "JSON"),
    "config cut short": (lambda f: cut(f / "config.json", 0.5), "JSON"),
    "a number that is too long": (lambda f: (f / "config.json").write_text('{"levels": ' + "1" * 5000 + "}"), "JSON"),
    "config nested without end": (lambda f: (f / "config.json").write_text("[" * 100_000), "JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[1]"), "format_version"),
    "config of another library": (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "format_version"),
    "no version": (lambda f: rewrite(f, format_version=...), "format_version"),
    "version as text": (lambda f: rewrite(f, format_version="1"), "format_version"),
    "a newer version": (lambda f: rewrite(f, format_version=2, novelty=True), "newer nextpixel"),
    "a version that never was": (lambda f: rewrite(f, format_version=0), "format version 0"),
    "an unknown key": (lambda f: rewrite(f, colour="red"), "unknown key 'colour'"),
    "an unknown family": (lambda f: rewrite(f, family="gatedpixelcnn"), "Did you mean 'gated_pixelcnn'"),
    "a family of the wrong type": (lambda f: rewrite(f, family=5), ""),
    "no family": (lambda f: rewrite(f, family=...), "family"),
    "an unknown head": (lambda f: rewrite(f, head="categoric"), "Did you mean 'categorical'"),
    "a head of the wrong type": (lambda f: rewrite(f, head=5), ""),
    "an unknown option": (lambda f: rewrite(f, options={"layer": 2}), "Did you mean 'layers'"),
    "an option of the wrong type": (lambda f: rewrite(f, options={"layers": "two"}), ""),
    "options of the wrong type": (lambda f: rewrite(f, options=5), ""),
    "an unknown head option": (lambda f: rewrite(f, head_options={"feature": 2}), "feature"),
    "other options than the weights": (lambda f: rewrite(f, options={"layers": 3}), "tensor"),
    "no dtype": (lambda f: rewrite(f, dtype=...), "dtype"),
    "an unknown dtype": (lambda f: rewrite(f, dtype="float8"), "float8"),
    "a dtype that is no float": (lambda f: rewrite(f, dtype="int64"), "int64"),
    "no shape": (lambda f: rewrite(f, shape=...), "shape"),
    "a shape of two sizes": (lambda f: rewrite(f, shape=[4, 5]), ""),
    "a shape of four sizes": (lambda f: rewrite(f, shape=[1, 1, 4, 5]), ""),
    "a shape of text": (lambda f: rewrite(f, shape="1x4x5"), ""),
    "a shape with zero": (lambda f: rewrite(f, shape=[1, 0, 5]), "shape"),
    "a negative shape": (lambda f: rewrite(f, shape=[1, -4, 5]), "shape"),
    "no levels": (lambda f: rewrite(f, levels=...), "levels"),
    "one level": (lambda f: rewrite(f, levels=1), ""),
    "negative levels": (lambda f: rewrite(f, levels=-4), ""),
    "levels as text": (lambda f: rewrite(f, levels="four"), ""),
    "classes as text": (lambda f: rewrite(f, classes="ten"), ""),
    "no classes": (lambda f: rewrite(f, classes=0), "class"),
    "a map shape of two sizes": (lambda f: rewrite(f, map_shape=[2, 3]), ""),
    "a map shape with zero": (lambda f: rewrite(f, map_shape=[2, 0, 3]), ""),
    "an unknown embedding": (lambda f: rewrite(f, embedding="leaned"), "embedding|leaned"),
    "a card that is no table": (lambda f: rewrite(f, card="text"), "card"),
}


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: max(int(len(content) * share), 1)])


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_wrong_folder_is_one_sentence(saved, damage, assert_sentence):
    harm, words = DAMAGE[damage]
    harm(saved)
    with pytest.raises(UserError, match=words or ".") as caught:
        npx.load(saved)
    assert_sentence(caught)


@pytest.mark.parametrize(
    "where", ["nowhere", "./nowhere", "/nowhere/at/all", "a/b/c", "~/model", "", "..", "runs/none", "a" * 300]
)
def test_a_place_without_a_model_is_one_sentence(tmp_path, monkeypatch, where, assert_sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()

    def no_network(*args, **kwargs):
        raise AssertionError("the hub must not be asked")

    monkeypatch.setattr(saving, "hf_hub_download", no_network)
    with pytest.raises(UserError) as caught:
        npx.load(where)
    assert_sentence(caught)


def test_older_versions_are_brought_up_step_by_step(saved, monkeypatch):
    def from_0(config):
        assert config["format_version"] == 0
        return {**config, "family": config.pop("network"), "format_version": 1}

    config = json.loads((saved / "config.json").read_text())
    rewrite(saved, format_version=0, network=config["family"], family=...)
    monkeypatch.setitem(
        saving.MIGRATIONS, 0, lambda config: {k: v for k, v in from_0(config).items() if k != "network"}
    )
    assert npx.load(saved).family == "gated_pixelcnn"


# A disk that fails


class DiskFullError(OSError):
    def __init__(self):
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_weights(monkeypatch):
    original = Path.write_bytes

    def half(self, data, *args, **kwargs):
        if self.name == "model.safetensors":
            original(self, data[: len(data) // 2])
            raise DiskFullError
        return original(self, data, *args, **kwargs)

    monkeypatch.setattr(Path, "write_bytes", half)


def fail_config(monkeypatch):
    original = Path.write_text

    def half(self, text, *args, **kwargs):
        if self.name == "config.json":
            original(self, text[:10])
            raise DiskFullError
        return original(self, text, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", half)


def fail_sync(monkeypatch):
    def sync(file):
        raise DiskFullError

    monkeypatch.setattr(os, "fsync", sync)


def fail_card(monkeypatch):
    def save(self, *args, **kwargs):
        raise DiskFullError

    monkeypatch.setattr(saving.ModelCard, "save", save)


@pytest.mark.parametrize("fail", [fail_weights, fail_config, fail_sync, fail_card])
def test_a_full_disk_leaves_the_old_model(tiny, saved, monkeypatch, fail, assert_sentence):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with monkeypatch.context() as patch:
        fail(patch)
        with pytest.raises(UserError, match="Could not save") as caught:
            tiny("pixelcnn", shape=(3, 2, 2)).save_pretrained(saved)
        with pytest.raises(UserError):
            tiny().save_pretrained(saved.parent / "new")
    assert_sentence(caught)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert npx.load(saved).family == "gated_pixelcnn"
    assert sorted(os.listdir(saved.parent)) == ["saved"]


@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_failure_while_the_files_are_put_in_place_leaves_one_whole_model(tiny, saved, monkeypatch, which):
    """Never the weights of one model beside the config of another."""
    calls = []
    for name in ("replace", "rename"):
        original = getattr(os, name)

        def move(*args, original=original, **kwargs):
            calls.append(args)
            if len(calls) == which:
                raise DiskFullError
            return original(*args, **kwargs)

        monkeypatch.setattr(os, name, move)
    try:
        tiny("pixelcnn", shape=(3, 2, 2)).save_pretrained(saved)
        expected = "pixelcnn"
    except UserError:
        expected = "gated_pixelcnn"
    assert npx.load(saved).family == expected


@pytest.mark.parametrize("which", [1, 2, 3, 4])
def test_where_folders_cannot_be_exchanged_a_model_can_be_read_at_any_moment(tiny, saved, monkeypatch, which):
    """The files of the same model, trained further, are then replaced one by one."""
    monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    (saved / "notes.txt").write_text("mine")
    calls, original = [], os.replace

    def replace(*args):
        calls.append(args)
        npx.load(saved)
        if len(calls) == which:
            raise DiskFullError
        return original(*args)

    monkeypatch.setattr(os, "replace", replace)
    new = tiny(seed=7)
    if which < 4:
        with pytest.raises(UserError):
            new.save_pretrained(saved)
    else:
        new.save_pretrained(saved)
        assert len(calls) == 3
        assert all(torch.equal(value, new.state_dict()[name]) for name, value in npx.load(saved).state_dict().items())
    npx.load(saved)
    assert (saved / "notes.txt").read_text() == "mine"
    assert sorted(os.listdir(saved.parent)) == ["saved"]


def test_two_folders_change_names_in_one_go(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "which").write_text(name)
    if not durable.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot")
    assert [(tmp_path / name / "which").read_text() for name in "ab"] == ["b", "a"]
    assert not durable.exchange(tmp_path / "a", tmp_path / "missing")


def test_a_target_that_is_a_file(tiny, tmp_path, assert_sentence):
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(UserError, match="Could not save") as caught:
            tiny().save_pretrained(target)
        assert_sentence(caught)
    assert (tmp_path / "file").read_text() == "mine"
    assert os.listdir(tmp_path) == ["file"]


# The hub, without a network


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """What would have been uploaded, by repository."""
    from huggingface_hub import HfApi

    uploads = {}

    class Made:
        repo_id = "somebody/model"

    def create_repo(self, repo_id, **kwargs):
        uploads["private"] = kwargs.get("private")
        Made.repo_id = repo_id
        return Made

    def upload_folder(self, *, repo_id, folder_path, **kwargs):
        shutil.copytree(folder_path, tmp_path / "uploaded")
        uploads[repo_id] = tmp_path / "uploaded"
        return f"https://example.org/{repo_id}"

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    return uploads


def test_push_to_hub_uploads_a_folder_that_loads(tiny, hub):
    model = tiny(classes=3)
    model.push_to_hub("somebody/model", private=True)
    assert hub["private"] is True
    assert sorted(os.listdir(hub["somebody/model"])) == ["README.md", "config.json", "model.safetensors"]
    x = torch.randint(4, (2, 1, 4, 5))
    assert torch.equal(npx.load(hub["somebody/model"]).log_prob(x), model.log_prob(x))


def test_save_and_push_does_both(tiny, hub, tmp_path):
    tiny().save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="somebody/model")
    assert (hub["somebody/model"] / "model.safetensors").is_file()
    assert (tmp_path / "mine" / "model.safetensors").is_file(), "save_pretrained must also save"


def test_loading_from_the_hub_asks_for_two_files_only(saved, monkeypatch):
    asked = []

    def download(repo, name, **kwargs):
        asked.append((repo, name, kwargs))
        return str(saved / name)

    monkeypatch.setattr(saving, "hf_hub_download", download)
    npx.load("somebody/model", revision="v1", token="secret")
    assert [(repo, name) for repo, name, _ in asked] == [
        ("somebody/model", "config.json"),
        ("somebody/model", "model.safetensors"),
    ]
    assert all(kwargs == {"revision": "v1", "token": "secret"} for *_, kwargs in asked)


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch, assert_sentence):
    def download(*args, **kwargs):
        raise saving.LocalEntryNotFoundError("offline\nin two lines")

    monkeypatch.setattr(saving, "hf_hub_download", download)
    with pytest.raises(UserError, match="cannot be reached") as caught:
        npx.load("somebody/model")
    assert_sentence(caught)


# Nothing is executed


def test_no_pickle_in_the_source():
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"^\s*(import pickle\b|from pickle\b|import (dill|cloudpickle|joblib))", text, re.M), path
        assert "pickle.load" not in text, path
        assert "allow_pickle=True" not in text, path
        for call in re.findall(r"torch\.load\((?:[^()]|\([^()]*\))*\)", text):
            assert "weights_only=True" in call, (path, call)
        assert text.count("torch.load(") == len(re.findall(r"torch\.load\((?:[^()]|\([^()]*\))*\)", text)), path


# The card


def test_the_card_names_what_is_known(tiny):
    from nextpixel.card import model_card

    model = tiny("pixelcnn", shape=(3, 4, 5), levels=7, classes=2)
    model.card = {"data": "a|b\nc", "training": {"valid_bits_per_dim": 1.23456789, "epochs": 3}}
    text = model_card(model)
    for words in ("pixelcnn", "categorical", "3 channels, 4x5, 7 levels", f"{model.parameter_count:,}", "1.2346"):
        assert words in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in tables), "a value must not break the table"


def test_a_card_with_a_number_that_is_none(tiny, tmp_path):
    """Python writes NaN, which is not JSON: the page would not show it."""
    model = tiny()
    model.card = {"cost": float("nan"), "words": "kept"}
    model.save_pretrained(tmp_path / "saved")
    assert npx.load(tmp_path / "saved").card == {"cost": None, "words": "kept"}


def test_what_only_its_owner_may_read_stays_so_when_it_is_replaced(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("old")
    path.chmod(0o600)
    durable.write_text(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
