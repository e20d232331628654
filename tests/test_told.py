"""Vectors and maps that go with images: from the file through training to figures; priors of two levels of codes."""

import json
import math

import numpy as np
import pytest
import torch

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.images import Dataset, Split

TOP, BOTTOM = 5, 6  # levels of the codes


def two_levels(count, seed=0):
    """Bottom grids [N, 4, 6] that follow from their top grids [N, 2, 3] but for rare noise."""
    generator = torch.Generator().manual_seed(seed)
    top = torch.randint(TOP, (count, 2, 3), generator=generator)
    bottom = top.repeat_interleave(2, 1).repeat_interleave(2, 2)
    noisy = torch.rand(bottom.shape, generator=generator) < 0.1
    return top, torch.where(noisy, BOTTOM - 1, bottom)


@pytest.fixture
def codes(tmp_path):
    arrays = {}
    for seed, (name, count) in enumerate({"train": 256, "valid": 64, "test": 64}.items()):
        top, bottom = two_levels(count, seed)
        arrays |= {name: bottom.numpy(), f"{name}_map": top.numpy(), f"{name}_vector": np.ones((count, 2), "f4")}
    np.savez(tmp_path / "codes.npz", **arrays)
    return tmp_path / "codes.npz"


def test_a_file_holds_them_beside_the_images(codes):
    data = npx.dataset(codes, levels=BOTTOM)
    top, _ = two_levels(64, 2)
    assert torch.equal(data.test.told["map"], top[:, None])
    assert data.test.told["vector"].dtype == torch.float32
    some = data.test[[5, 3]]
    assert torch.equal(some.told["map"], top[[5, 3]][:, None])
    assert some.condition().keys() == {"vector", "map"}
    without = Split(data.test.images, None, BOTTOM, "codes/test", data.test.protocol)
    assert data.test.sha256 != without.sha256


def test_they_are_cut_and_shuffled_with_the_images(tmp_path):
    _, bottom = two_levels(60)
    np.savez(tmp_path / "all.npz", images=bottom.numpy(), map=bottom.numpy())
    data = npx.dataset(tmp_path / "all.npz", levels=BOTTOM)
    for split in (data.train, data.valid, data.test):
        assert torch.equal(split.told["map"], split.images.long())


@pytest.mark.filterwarnings("error")
def test_a_prior_of_two_levels_is_trained_evaluated_and_drawn_from(codes, run):
    """What the lower level costs falls from log2 5 and more, without the upper one, to about that of the noise."""
    data = npx.dataset(codes, levels=BOTTOM)
    model = npx.build(
        "gated_pixelcnn",
        like=data,
        embedding="learned",
        map_shape=(1, 2, 3),
        map_levels=TOP,
        layers=2,
        features=12,
        first_kernel=3,
    )
    npx.train(
        model, data, epochs=16, batch_size=16, learning_rate=1e-2, ema=0.9, sample_every=16, run=run, progress=False
    )
    noise = -(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1))
    loaded = npx.load(run)
    found = npx.evaluate(loaded, data.test)
    assert noise * 0.8 < found.bits_per_dim < 0.75
    assert "given the vectors or maps" in found.why
    by_hand = -loaded.log_prob(data.test.images, {"map": data.test.told["map"]}).detach().double().mean()
    assert found.nats == pytest.approx(float(by_hand), rel=1e-6)
    drawn = npx.sample(loaded, n=32, condition={"map": data.test.told["map"][:32]}, seed=0)[:, 0]
    same = drawn == data.test.told["map"][:32, 0].repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert same.float().mean() > 0.7
    assert list((run / "samples").glob("epoch-*.png"))


SMALL = ["--option", "layers=1", "--option", "features=4", "--epochs", "1"]


def test_on_the_command_line(codes, run, nextpixel):
    options = ["--levels", "6", "--embedding", "learned", "--map-conditional", *SMALL]
    assert nextpixel("train", codes, *options, "--run", run).status == 0
    assert npx.load(run).condition.map_levels == TOP
    nextpixel("evaluate", run, "--json", run / "card.json")
    assert "given" in json.loads((run / "card.json").read_text())["why"]
    ended = nextpixel("train", "digits", "--map-conditional")
    assert ended.status == 2
    assert "no maps to condition on" in ended.error()


def test_the_lower_codes_are_drawn_given_the_upper_ones_on_the_command_line(codes, run, tmp_path, nextpixel):
    """From what `sample` wrote of an upper model to codes that know it; the true maps for completing and scoring."""
    given = ["--map-conditional", "--map-levels", "8", "--vector-conditional"]
    assert (
        nextpixel("train", codes, "--levels", "6", "--embedding", "learned", *given, *SMALL, "--run", run).status == 0
    )
    model = npx.load(run)
    assert (model.condition.map_levels, model.condition.vector_width) == (8, 2)
    upper = np.random.default_rng(0).integers(0, 8, (5, 1, 2, 3))  # as `sample` writes it: [n, 1, h, w]
    vectors = np.ones((5, 2), "f4")
    np.savez(tmp_path / "told.npz", map=upper, vector=vectors)
    assert nextpixel("sample", run, "--condition", tmp_path / "told.npz", "--out", tmp_path / "all.npy").status == 0
    assert (
        nextpixel("sample", run, "--condition", tmp_path / "told.npz", "-n", "2", "--out", tmp_path / "two.npy").status
        == 0
    )
    told = {"map": torch.from_numpy(upper), "vector": torch.from_numpy(vectors)}
    assert np.array_equal(np.load(tmp_path / "all.npy"), npx.sample(model, n=5, condition=told, seed=0).numpy())
    assert np.array_equal(np.load(tmp_path / "two.npy"), np.load(tmp_path / "all.npy")[:2])
    assert nextpixel("complete", run, "-n", "2", "--rows", "2", "--out", tmp_path / "completed.npy").status == 0
    assert nextpixel("score", run, "--limit", "2", "--out", tmp_path / "scores.csv").status == 0


def test_a_map_alone_may_be_an_array_and_the_class_a_flag(tmp_path, nextpixel):
    model = npx.build("gated_pixelcnn", shape=(1, 4, 6), levels=6, classes=3, map_shape=(1, 2, 3), layers=1, features=4)
    model.save_pretrained(tmp_path / "model")
    upper = np.random.default_rng(0).normal(size=(3, 2, 3)).astype("f4")
    np.save(tmp_path / "map.npy", upper)
    assert (
        nextpixel(
            "sample",
            tmp_path / "model",
            "--condition",
            tmp_path / "map.npy",
            "--class",
            "2",
            "--out",
            tmp_path / "a.npy",
        ).status
        == 0
    )
    told = {"map": torch.from_numpy(upper)[:, None], "class": torch.full((3,), 2)}
    assert np.array_equal(np.load(tmp_path / "a.npy"), npx.sample(model, n=3, condition=told, seed=0).numpy())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("sample {model}", "--condition"),
        ("sample {plain} --condition {map}", "not conditional"),
        ("sample {model} --condition {map} -n 9", "for 3 pictures"),
        ("sample {model} --condition {other}", "map, vector or labels"),
        ("sample {model} --condition {wide}", "different sizes"),
        ("sample {model} --condition {floats}", "integers"),
        ("sample {model} --condition {empty}", "no pictures"),
        ("sample {model} --condition missing.npy", "no file"),
        ("train digits --vector-conditional", "no vectors to condition on"),
        ("train digits --map-levels 4", "--map-conditional"),
        ("train {codes} --levels 6 --map-conditional --map-levels 2", "--map-levels 5 or more"),
        ("train digits --vector-conditional --multiscale 2", "no vectors"),
    ],
)
def test_conditions_that_do_not_fit_on_the_command_line(arguments, words, codes, tmp_path, nextpixel):
    files = {
        "map": np.zeros((3, 2, 3), int),
        "wide": np.zeros((3, 2, 4), int),
        "floats": np.zeros((3, 2, 3)),
        "empty": np.zeros((0, 2, 3), int),
    }
    paths = {"codes": codes, "model": tmp_path / "model", "plain": tmp_path / "plain", "other": tmp_path / "other.npz"}
    for name, values in files.items():
        paths[name] = tmp_path / f"{name}.npy"
        np.save(paths[name], values)
    np.savez(paths["other"], sound=np.zeros((3, 2)), picture=np.zeros((3, 2)))
    small = {"shape": (1, 4, 6), "levels": 6, "layers": 1, "features": 4}
    npx.build("gated_pixelcnn", **small, map_shape=(1, 2, 3), map_levels=4).save_pretrained(paths["model"])
    npx.build("gated_pixelcnn", **small).save_pretrained(paths["plain"])
    ended = nextpixel(*arguments.format(**paths).split())
    assert ended.status == 2
    assert words in ended.error()


def test_posteriors_of_models_that_are_told_more_than_a_class(assert_sentence):
    model = npx.build("gated_pixelcnn", shape=(1, 4, 6), levels=6, classes=3, vector=2, layers=1, features=4)
    with pytest.raises(UserError, match="classes alone") as caught:
        npx.posterior(model, torch.zeros(2, 1, 4, 6, dtype=torch.long))
    assert_sentence(caught)


def test_codes_of_several_channels_go_all_the_way(tmp_path, run, nextpixel):
    """Stacked codes [N, 2, H, W]: no picture file could hold them."""
    np.save(tmp_path / "stacked.npy", np.random.default_rng(0).integers(0, 40, (30, 2, 4, 5)))
    assert (
        nextpixel(
            "train", tmp_path / "stacked.npy", "--levels", "40", "--embedding", "learned", *SMALL, "--run", run
        ).status
        == 0
    )
    assert (run / "samples.png").is_file()
    assert nextpixel("complete", run, "-n", "2", "--out", tmp_path / "completed.png").status == 0
    assert nextpixel("score", run, "--maps", tmp_path / "heat.png", "--limit", "3").status == 0
    assert nextpixel("sample", run, "-n", "3", "--out", tmp_path / "drawn.npy").status == 0
    assert np.load(tmp_path / "drawn.npy").shape == (3, 2, 4, 5)


def test_what_does_not_fit_is_refused(codes, tmp_path, run, assert_sentence):
    data = npx.dataset(codes, levels=BOTTOM)
    for options, words in (
        ({"map_shape": (1, 3, 3)}, "map of 1x3x3"),
        ({"vector": 3}, "vector of 3"),
    ):
        model = npx.build("gated_pixelcnn", like=data, layers=1, features=4, **options)
        with pytest.raises(UserError, match=words) as caught:
            npx.train(model, data, epochs=1, run=run, progress=False)
        assert_sentence(caught)
    model = npx.build("gated_pixelcnn", like=data, layers=1, features=4, map_shape=(1, 2, 3), map_levels=TOP)
    with pytest.raises(UserError, match="conditioned on a map") as caught:
        npx.evaluate(model, Split(data.test.images, None, BOTTOM, "codes/test", ""))
    assert_sentence(caught)
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    for told, words in (
        ({"map": torch.zeros(3, 1, 2, 2)}, "N = 4"),
        ({"map": torch.zeros(4, 2, 2)}, "N,D,h,w"),
        ({"vector": torch.zeros(4, 2, 1)}, "N,V"),
        ({"vector": torch.zeros(4, 2) > 0}, "numbers"),
        ({"sound": torch.zeros(4, 2)}, "vector or a map"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            Split(images, None, 2, "toy", "binary", told=told)
        assert_sentence(caught)
    parts = [Split(images, None, 2, n, "binary", told={"vector": torch.zeros(4, w)}) for n, w in (("a", 2), ("b", 3))]
    with pytest.raises(UserError, match="one shape an image") as caught:
        Dataset("toy", parts[0], parts[1], parts[0])
    assert_sentence(caught)
    np.savez(tmp_path / "bad.npz", images=np.zeros((4, 2, 2), "u1"), map=np.zeros((3, 2, 2)))
    with pytest.raises(UserError, match="map of float64") as caught:
        npx.dataset(tmp_path / "bad.npz")
    assert_sentence(caught)
