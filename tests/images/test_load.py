import numpy as np
import pytest
import torch

from nextpixel.errors import UserError
from nextpixel.images import dataset
from nextpixel.images import levels as values


@pytest.fixture
def greys(tmp_path):
    """300 grey 8-bit images 6x6 in a file."""
    images = np.random.default_rng(0).integers(0, 256, (300, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "greys.npz", images=images, labels=np.arange(300) % 4)
    return tmp_path / "greys.npz"


def test_quantising_says_so():
    plain, four = dataset("digits"), dataset("digits", levels=4)
    assert torch.equal(four.test.images, values.quantise(plain.test.images, 4, 17))
    assert (four.levels, four.protocol) == (4, "4 levels (quantised from 17)")
    assert dataset("digits", levels=17).protocol == "17 levels"
    with pytest.raises(UserError, match="17"):
        dataset("digits", levels=32)


def test_fixed_binarisation_is_one_draw_for_ever(greys):
    first, again, other = (dataset(greys, binarise="fixed", seed=seed) for seed in (0, 0, 1))
    assert first.levels == 2
    assert first.train.sha256 == again.train.sha256
    assert "seed 0" in first.protocol
    assert "seed 1" in other.protocol
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(first.train.draw(torch.arange(9), generator), first.train.images[:9])


def test_dynamic_binarisation_draws_training_images_only(greys):
    data = dataset(greys, binarise="dynamic")
    assert data.protocol == "dynamic binarisation, evaluated on one fixed draw, seed 0"
    everything = torch.arange(len(data.train))
    generator = torch.Generator().manual_seed(5)
    draws = torch.stack([data.train.draw(everything, generator).float() for _ in range(200)]).mean(dim=0)
    grey = dataset(greys).train.images.float() / 255
    assert (draws - grey).abs().mean() < 0.04  # 200 draws: 0.028 is expected, another image would be at 0.33
    for split in (data.valid, data.test):
        indices = torch.arange(len(split))
        assert torch.equal(split.draw(indices, generator), split.images)
    assert dataset(greys, binarise="dynamic").test.sha256 == data.test.sha256


def test_the_splits_draw_different_random_numbers(tmp_path):
    images = np.full((60, 8, 8), 128, np.uint8)
    np.savez(tmp_path / "flat.npz", train=images, valid=images, test=images)
    data = dataset(tmp_path / "flat.npz", binarise="fixed")
    assert not torch.equal(data.train.images, data.test.images)
    assert not torch.equal(data.valid.images, data.test.images)


def test_threshold(greys):
    data = dataset(greys, binarise="threshold")
    assert torch.equal(data.test.images, (dataset(greys).test.images >= 128).to(torch.uint8))


def test_size_and_channels_work_on_arrays_and_names(greys):
    data = dataset(greys, size=4, channels=3)
    assert data.shape == (3, 4, 4)
    assert data.protocol == "8-bit, centre 4x4, RGB"
    assert torch.equal(data.test.images[:, 2], dataset(greys).test.images[:, 0, 1:5, 1:5])
    assert dataset(greys, size=6, channels=1).protocol == "8-bit"
    assert dataset(greys, size=3, fit="resize", levels=None, binarise="threshold").shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"binarise": "fixed", "levels": 4}, "contradicts"),
        ({"binarise": "dinamic"}, "Did you mean 'dynamic'"),
        ({"channels": 2}, "channels"),
        ({"size": 0}, "size"),
        ({"size": 4, "fit": "rezise"}, "Did you mean 'resize'"),
        ({"size": 4}, "17 levels"),
        ({"seed": -1}, "seed"),
        ({"levels": 1}, "levels"),
    ],
)
def test_contradictions_are_explained(arguments, words):
    with pytest.raises(UserError, match=words):
        dataset("digits", **arguments)


def test_wrong_paths_are_explained(tmp_path):
    (tmp_path / "readme.md").write_text("")
    for path, words in [
        ("digitts", "Did you mean 'digits'"),
        (tmp_path / "no", "neither"),
        (tmp_path / "readme.md", "npz"),
    ]:
        with pytest.raises(UserError, match=words):
            dataset(path)
    np.save(tmp_path / "bits.npy", np.ones((9, 2, 2), np.uint8))
    with pytest.raises(UserError, match="binary already"):
        dataset(tmp_path / "bits.npy", binarise="fixed")


def test_a_name_wins_over_a_folder_unless_it_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert len(dataset("digits").test) == 297
    with pytest.raises(UserError, match="no pictures"):
        dataset("./digits")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (torch.zeros(3, 1, 4, 4), {}, r"a name or a path, not Tensor: save"),
        (3, {}, "not int"),
        ("digits", {"levels": "4"}, "whole number, not '4'"),
        ("digits", {"levels": 4.0}, "whole number, not 4.0"),
    ],
)
def test_arguments_of_other_kinds_are_refused_with_a_sentence(name, options, says):
    with pytest.raises(UserError, match=says):
        dataset(name, **options)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("lazy", [False, True])
def test_channels_are_scaled_each_by_itself(tmp_path, channels, lazy):
    """None of them is transparency."""
    images = np.full((6, channels, 16, 16), 200, np.uint8)
    images[:, -1] = 7
    np.save(tmp_path / "x.npy", images)
    for fit in ("resize", "crop"):
        data = dataset(tmp_path / "x.npy", size=8, fit=fit, lazy=lazy, levels=256)
        assert data.train.images[0, :, 3, 3].tolist() == [*[200] * (channels - 1), 7]


def test_every_part_is_brought_to_the_size(tmp_path):
    np.savez(tmp_path / "x.npz", **{p: np.full((3, n, n), 9, np.uint8) for p, n in (("train", 16), ("test", 20))})
    data = dataset(tmp_path / "x.npz", size=16, levels=256)
    assert data.train.shape == data.test.shape == (1, 16, 16)


def test_vectors_and_maps_that_are_no_numbers_are_refused(tmp_path):
    images, vector = np.zeros((9, 4, 4), np.uint8), np.zeros((9, 2), np.float32)
    vector[4, 1] = np.nan
    np.savez(tmp_path / "x.npz", images=images, vector=vector)
    with pytest.raises(UserError, match="vector with values that are not finite"):
        dataset(tmp_path / "x.npz")
