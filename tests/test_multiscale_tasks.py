"""Multi-scale models saved, trained, evaluated, and on the command line."""

import json
import math
import re
import signal
import sys
import warnings

import pytest
import torch
from multiscale_models import map_by_hand, multi

import nextpixel as npx
from nextpixel import cli
from nextpixel.errors import UserError
from nextpixel.figures import surprise, surprise_map
from nextpixel.image_model import ImageModel
from nextpixel.multiscale import MultiScaleModel
from nextpixel.tasks import training
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.train import Interrupted

# Saving


@pytest.fixture
def saved(tmp_path):
    model = multi(classes=2, embedding="learned", small_family="pixelcnn", seed=3)
    model.set_class_prior(torch.tensor([0.25, 0.75]))
    model.card = {"data": "drawn", "training": {"epochs": 3}}
    model.save_pretrained(tmp_path / "saved")
    return model, tmp_path / "saved"


def test_saved_and_loaded_is_bit_equal(saved, tmp_path):
    model, folder = saved
    x = torch.randint(3, (2, 1, 5, 7))
    for loaded in (npx.load(folder), npx.MultiScaleModel.from_pretrained(folder)):
        assert type(loaded) is MultiScaleModel
        assert not loaded.training
        assert loaded.card == model.card
        assert loaded.state_dict().keys() == model.state_dict().keys()
        assert torch.equal(loaded.log_prob(x), model.log_prob(x))
        assert loaded.small.network.config == model.small.network.config
        loaded.save_pretrained(tmp_path / "again")
        for file in ("config.json", "model.safetensors", "README.md"):
            assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()


def test_what_the_config_holds(saved):
    _, folder = saved
    config = json.loads((folder / "config.json").read_text())
    assert (config["format_version"], config["model"], config["scale"]) == (1, "multiscale", 2)
    assert (config["shape"], config["levels"], config["classes"]) == ([1, 5, 7], 3, 2)
    assert config["embedding"] == "learned"
    assert config["small"]["options"].keys() == npx.families()["pixelcnn"].options.keys()  # defaults included
    assert config["large"]["options"].keys() == npx.families()["gated_pixelcnn"].options.keys()
    assert not {"shape", "levels", "classes", "embedding", "map_shape"} & config["small"].keys()
    card = (folder / "README.md").read_text()
    assert "multiscale_gated_pixelcnn" in card
    assert "small family" in card


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "multiscales"}, "kind 'multiscales', which this nextpixel"),
        ({"model": 1}, "kind 1, which this nextpixel"),
        ({"model": ["multiscale"]}, "which this nextpixel"),
        ({"model": None}, "unknown key"),
        ({"format_version": 2}, "newer nextpixel"),
        ({"scales": 2}, "unknown key 'scales'"),
        ({"family": "pixelcnn"}, "unknown key 'family'"),
        ({"scale": 4}, "belongs to another model"),
        ({"scale": "2"}, "power of two"),
        ({"small": {"family": "pixelcnn"}}, "must be a table"),
        ({"small": 3}, "must be a table"),
        ({"large": {"family": "pixelcnn", "head": "categorical"}}, "tensor"),
        ({"large": {"family": "gated_pixelcnn", "head": "categorical", "options": {"layer": 1}}}, "layers"),
        ({"large": {"family": "gated_pixelcnn", "head": "categorical", "options": 5}}, "does not describe"),
        ({"large": {"family": [], "head": "categorical"}}, "does not describe"),
        ({"embedding": "scaled"}, "tensor"),
    ],
)
def test_a_config_that_is_not_right_is_refused(saved, change, words, assert_sentence):
    _, folder = saved
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=words) as caught:
        npx.load(folder)
    assert_sentence(caught)


def test_a_key_that_is_missing_is_an_error(saved, assert_sentence):
    _, folder = saved
    config = json.loads((folder / "config.json").read_text())
    for key in ("scale", "small", "large", "shape"):
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != key}))
        with pytest.raises(UserError, match="does not describe a model") as caught:
            npx.load(folder)
        assert_sentence(caught)


def test_the_wrong_class_says_so(saved, tiny, tmp_path, assert_sentence):
    with pytest.raises(UserError, match=re.escape("open it with nextpixel.load")) as caught:
        ImageModel.from_pretrained(saved[1])
    assert_sentence(caught)
    tiny().save_pretrained(tmp_path / "image")
    with pytest.raises(UserError, match="an image model, not a model of the kind 'multiscale'") as caught:
        MultiScaleModel.from_pretrained(tmp_path / "image")
    assert_sentence(caught)
    assert "model" not in json.loads((tmp_path / "image" / "config.json").read_text())  # as older readers expect


# Training and evaluating


def tiny_multi(data, seed=1, **options):
    torch.manual_seed(seed)
    return npx.build_multiscale(
        "gated_pixelcnn", like=data, **{"layers": 2, "features": 6, "first_kernel": 3, **options}
    )


def fit(model, data, run, **options):
    settings = {"epochs": 2, "batch_size": 32, "device": "cpu", "progress": False, **options}
    return npx.train(model, data, run=run, **settings)


def test_training_lowers_the_loss_of_both_parts(digits, run):
    model = tiny_multi(digits, features=12)
    x = digits.valid.images

    def parts(model):
        each = -model.log_prob_per_symbol(x).detach()
        return float(model.small_of(each).mean()), float(each.mean())

    before = parts(model)
    fit(model, digits, run, epochs=8, batch_size=16, learning_rate=1e-2, ema=0.9)
    after = parts(model)
    assert before[1] / math.log(2) == pytest.approx(math.log2(17), abs=0.3)  # nearly uniform at first
    assert after[0] < before[0] - 0.5
    assert after[1] < before[1] - 0.5
    assert type(npx.load(run)) is MultiScaleModel
    assert torch.equal(npx.load(run).log_prob(x), model.log_prob(x))
    assert model.card["training"]["valid_bits_per_dim"] == pytest.approx(after[1] / math.log(2), abs=1e-4)


def test_the_gradient_of_a_part_is_that_of_its_own_term(digits):
    model = tiny_multi(digits)
    x = digits.train.images[:4]
    (-model.log_prob(x).sum()).backward()
    alone = tiny_multi(digits)
    (-alone.small.log_prob(alone.small_of(x)).sum()).backward()
    for mine, other in zip(model.small.parameters(), alone.small.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert any(parameter.grad.abs().max() > 0 for parameter in model.large.condition.parameters())


@pytest.mark.parametrize("options", [{}, {"classes": 10}])
def test_interrupted_and_resumed_is_bit_identical(digits, tmp_path, monkeypatch, options):
    settings = {"epochs": 2, "learning_rate": 1e-2, "ema": 0.9}
    whole = fit(tiny_multi(digits, dropout=0.3, **options), digits, tmp_path / "whole", **settings)
    original = training.Keeper.on_train_batch_end

    def send(self, trainer, *args):
        if trainer.global_step == 3:
            signal.raise_signal(signal.SIGINT)
        return original(self, trainer, *args)

    with monkeypatch.context() as patch:
        patch.setattr(training.Keeper, "on_train_batch_end", send)
        with pytest.raises(Interrupted):
            fit(tiny_multi(digits, dropout=0.3, **options), digits, tmp_path / "parts", **settings)
    again = tiny_multi(digits, seed=9, dropout=0.3, **options)
    resumed = fit(again, digits, tmp_path / "parts", resume=True, **settings)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    states = [
        torch.load(max((tmp_path / name / "checkpoints").glob("step-*")), weights_only=True)["state_dict"]
        for name in ("whole", "parts")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_training_sets_the_class_frequencies_of_all_parts(digits, run):
    model = fit(tiny_multi(digits, classes=10), digits, run, epochs=1)
    counts = torch.bincount(digits.train.labels, minlength=10)
    wanted = (counts + 1) / (len(digits.train) + 10)
    for part in (model, model.small, model.large):
        torch.testing.assert_close(part.class_prior, wanted)


def test_weight_normalised_layers_of_both_parts_are_initialised_from_data():
    model = multi("pixelcnnpp", shape=(1, 8, 8), levels=5).float()
    alone = multi("pixelcnnpp", shape=(1, 8, 8), levels=5).float()
    x = torch.randint(5, (16, 1, 8, 8))
    count = model.initialise_from_data(x)
    first = alone.small.initialise_from_data(x[:, :, ::2, ::2])
    second = alone.large.initialise_from_data(x, {"map": map_by_hand(alone, x[:, :, ::2, ::2]).float()})
    assert count == first + second > 0
    for name, value in alone.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_evaluation_says_that_it_is_exact_and_why(digits):
    model = tiny_multi(digits).eval()
    found = npx.evaluate(model, digits.test)
    nats = -model.log_prob(digits.test.images).detach().double()
    assert found.nats == pytest.approx(float(nats.mean()), rel=1e-6)
    assert found.dims == 64  # bits/dim of the whole picture
    assert found.exact is True
    assert found.why.startswith("the pixels of the small picture are counted once")
    assert npx.evaluate(npx.build("pixelcnn", like=digits, blocks=1, features=4), digits.test).why.startswith("every")
    labelled = npx.evaluate(tiny_multi(digits, classes=10).eval(), digits.test)
    assert labelled.given_class is not None
    assert "all classes" in labelled.why


def test_surprise_maps_are_in_the_coordinates_of_the_picture(digits):
    model = tiny_multi(digits).eval()
    x = digits.test.images[:2]
    bits = surprise(model, x)
    small = -model.small.log_prob_per_symbol(x[:, :, ::2, ::2]).detach()[:, 0] / math.log(2)
    torch.testing.assert_close(bits[:, ::2, ::2], small)
    surprise_map(model, x)


# The command line


@pytest.fixture
def nextpixel(monkeypatch, capsys, tmp_path):
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(line):
        monkeypatch.setattr(sys, "argv", ["nextpixel", *line.split()])
        capsys.readouterr()
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return call


def test_all_commands_from_training_to_checking(nextpixel, tmp_path):
    train = "train digits --family gated_pixelcnn --multiscale 2 --option layers=2 --option features=4 --run run"
    status, _, err = nextpixel(f"{train} --small-option layers=3 --epochs 2 --device cpu")
    assert status == 0, err
    assert "Training multiscale_gated_pixelcnn" in err
    recorded = RunFolder(tmp_path / "run").read_config()["model"]
    assert (recorded["model"], recorded["scale"]) == ("multiscale", 2)
    model = npx.load("run")
    assert (model.small.network.config.layers, model.large.network.config.layers) == (3, 2)
    assert model.small.network.config.features == 4
    status, out, _ = nextpixel("evaluate run --limit 20 --json result.json")
    assert status == 0
    assert "exact: the pixels of the small picture are counted once" in out
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["exact"] is True
    data = npx.dataset("digits")
    assert result["bits_per_dim"] == pytest.approx(npx.evaluate(model, data.test, limit=20).bits_per_dim, rel=1e-6)
    assert nextpixel("sample run -n 4 --out samples.npz")[0] == 0
    status, out, _ = nextpixel("info run")
    assert status == 0
    assert "small options" in out or "small option layers" in out
    status, out, err = nextpixel("complete run --rows 4 --method exact")
    assert status == 2
    assert "first the small picture" in err
    status, out, err = nextpixel("complete run --rows 4 -n 1 --fills 1 --particles 3")
    assert status == 0, err
    assert "approximate" in out
    status, out, _ = nextpixel("check run")
    assert status == 0
    assert "all checks passed" in out
    assert "chain: all images" in out
    status, _, err = nextpixel("train --resume run")
    assert status == 0
    assert "is finished" in err


def test_a_config_file_and_an_interrupted_run(nextpixel, tmp_path):
    lines = (
        "family: gated_pixelcnn\nmultiscale: 2\nsmall_family: pixelcnn\nepochs: 1\noption: {layers: 2, features: 4}\n"
    )
    (tmp_path / "train.yaml").write_text(f"{lines}small_option: {{blocks: 1, features: 3}}\n")
    line = "train digits --config train.yaml --run run --device cpu"
    status, _, err = nextpixel(f"{line} --max-minutes 0.000001")
    assert status == 0
    assert "--resume run" in err
    status, _, err = nextpixel("train --resume run")
    assert status == 0, err
    model = npx.load("run")
    assert (model.small.family, model.large.family) == ("pixelcnn", "gated_pixelcnn")
    assert model.small.network.config.blocks == 1
    assert npx.evaluate(model, npx.dataset("digits").test[:5]).images == 5


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--multiscale 3", "power of two"),
        ("--multiscale 16", "longer side, 8"),
        ("--multiscale -2", "power of two"),
        ("--small-option layers=2", "--multiscale 2"),
        ("--small-family pixelcnn", "--multiscale 2"),
        ("--multiscale 2 --small-family pixlcnn", "Did you mean 'pixelcnn'"),
        ("--multiscale 2 --small-option lyers=2", "Did you mean 'layers'"),
    ],
)
def test_mistakes_on_the_command_line(nextpixel, flags, words):
    status, _, err = nextpixel(f"train digits {flags}")
    assert status == 2
    assert words in err
