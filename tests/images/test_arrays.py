import numpy as np
import pytest
import torch

from nextpixel.errors import UserError
from nextpixel.images import dataset


def array(shape=(10, 4, 5), top=255, dtype=np.uint8):
    values = np.random.default_rng(0).integers(0, top + 1, shape).astype(dtype)
    values.flat[0] = top
    return values


def saved(tmp_path, content):
    path = tmp_path / "mine.npz"
    np.savez(path, **content)
    return path


def every_image(data):
    return torch.cat([data.train.images, data.valid.images, data.test.images])


@pytest.mark.parametrize(
    ("values", "levels", "dtype", "protocol"),
    [
        (array(), 256, torch.uint8, "8-bit"),
        (array(top=1), 2, torch.uint8, "binary"),
        (array(top=3), 256, torch.uint8, "8-bit"),
        (array(top=3, dtype=np.int64), 4, torch.uint8, "4 levels"),
        (array(top=511, dtype=np.int16), 512, torch.int32, "512 levels"),
        (array(top=1, dtype=np.bool_), 2, torch.uint8, "binary"),
    ],
)
def test_levels_follow_the_rule(tmp_path, values, levels, dtype, protocol):
    np.save(tmp_path / "mine.npy", values)
    data = dataset(tmp_path / "mine.npy")
    assert (data.levels, data.protocol, data.name) == (levels, protocol, "mine")
    assert every_image(data).dtype == dtype
    order = np.random.default_rng(0).permutation(10)
    assert np.array_equal(every_image(data)[:, 0].numpy(), values[order])


def test_given_levels_are_checked_not_applied(tmp_path):
    np.save(tmp_path / "mine.npy", array(top=9))
    data = dataset(tmp_path / "mine.npy", levels=10)
    assert data.levels == 10
    assert every_image(data).max() == 9
    with pytest.raises(UserError, match=r"value 9.*levels=10"):
        dataset(tmp_path / "mine.npy", levels=8)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((10, 4, 5), (1, 4, 5)),
        ((10, 3, 4, 5), (3, 4, 5)),
        ((10, 4, 5, 3), (3, 4, 5)),
        ((10, 1, 4, 5), (1, 4, 5)),
        ((10, 4, 5, 1), (1, 4, 5)),
        ((10, 2, 4, 5), (2, 4, 5)),  # stacked codes
        ((10, 8, 7, 7), (8, 7, 7)),
        ((10, 7, 7, 8), (8, 7, 7)),
        ((10, 4, 5, 2), (2, 4, 5)),
        ((10, 1, 3, 3), (1, 3, 3)),  # what `sample` writes of small grids
        ((10, 3, 3, 1), (1, 3, 3)),
        ((10, 1, 1, 1), (1, 1, 1)),
    ],
)
def test_channels_are_found_where_only_one_axis_can_be_them(tmp_path, shape, expected):
    values = array(shape)
    np.save(tmp_path / "mine.npy", values)
    data = dataset(tmp_path / "mine.npy")
    assert data.shape == expected
    image = every_image(data)[0].numpy()
    first = values[np.random.default_rng(0).permutation(10)[0]]
    same = {3: lambda: first.reshape(expected), 4: lambda: first if shape[1:] == expected else first.transpose(2, 0, 1)}
    assert np.array_equal(image, same[len(shape)]())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (array((10, 3, 5, 3)), "ambiguous"),
        (array((10, 3, 3, 3)), "ambiguous"),
        (array((10, 5, 4, 6)), "ambiguous"),
        (array((10, 4)), "shape"),
        (np.zeros((0, 4, 4), np.uint8), "at least one image"),
        (np.array([{}], dtype=object), r"no \.npy or \.npz file of numbers"),
        (array().astype(np.float32), r"mine\.npy holds floats"),
        (np.full((10, 4, 4), -1), "-1"),
        (np.array(["a"]), "integer"),
        (array((1, 4, 5)), r"too few images \(1\): at least 3"),
    ],
)
def test_other_arrays_are_refused_with_a_reason(tmp_path, values, words):
    np.save(tmp_path / "mine.npy", values)
    with pytest.raises(UserError, match=words):
        dataset(tmp_path / "mine.npy")


def test_keys_of_every_style_are_understood(tmp_path):
    train, valid, test = array((8, 4, 5)), array((2, 4, 5)), array((3, 4, 5))
    labels = [np.arange(n) % 2 for n in (8, 2, 3)]
    styles = [
        {"train": train, "val": valid, "test": test}
        | {"train_labels": labels[0], "val_labels": labels[1], "test_labels": labels[2]},
        {"train_images": train, "valid_images": valid, "test_images": test}
        | {"train_labels": labels[0][:, None], "valid_labels": labels[1], "test_labels": labels[2]},
        {"x_train": train, "x_valid": valid, "x_test": test}
        | {"y_train": labels[0], "y_valid": labels[1], "y_test": labels[2]},
    ]
    for style in styles:
        data = dataset(saved(tmp_path, style))
        assert data.classes == 2
        for split, images, wanted in zip(
            (data.train, data.valid, data.test), (train, valid, test), labels, strict=True
        ):
            assert np.array_equal(split.images[:, 0].numpy(), images)
            assert split.labels.tolist() == wanted.tolist()


def test_images_with_labels_and_a_missing_part(tmp_path):
    values = array((20, 4, 5))
    data = dataset(saved(tmp_path, {"images": values, "labels": np.arange(20), "notes": np.zeros(3)}))
    order = np.random.default_rng(0).permutation(20)
    assert data.test.labels.tolist() == order[-2:].tolist()
    data = dataset(saved(tmp_path, {"train": values, "test": values[:3]}))
    assert (len(data.train), len(data.valid), len(data.test)) == (18, 2, 3)
    data = dataset(saved(tmp_path, {"train": values, "valid": values[:3]}))
    assert (len(data.train), len(data.valid), len(data.test)) == (18, 3, 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": array(), "b": array()}, "a, b"),
        ({"images": array(), "labels": np.arange(9)}, "labels"),
        ({"images": array(), "labels": np.arange(10) / 2}, "labels"),
        ({"train": array(), "test": array(), "train_labels": np.arange(10)}, "not for test"),
        ({"images": np.array([None, 1])}, r"mine\.npz"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, content, words):
    with pytest.raises(UserError, match=words):
        dataset(saved(tmp_path, content))


def test_a_cut_file_is_named(tmp_path):
    path = saved(tmp_path, {"images": array()})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"mine\.npz"):
        dataset(path)
