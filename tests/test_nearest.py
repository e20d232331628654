"""Nearest images against a search by plain loops over Python's integers."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import nextpixel as npx
from nextpixel import cli
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.tasks import nearest as module


def searched(images, among, n):
    """Indices and squared distances, pair by pair; of equally near ones the first."""
    indices, squares = [], []
    for image in images.flatten(1).tolist():
        far = [sum((a - b) ** 2 for a, b in zip(image, other, strict=True)) for other in among.flatten(1).tolist()]
        order = sorted(range(len(far)), key=lambda i: (far[i], i))[:n]
        indices.append(order)
        squares.append([far[i] for i in order])
    return torch.tensor(indices), torch.tensor(squares, dtype=torch.float64)


def blurred(image):
    """One image [H][W] of integers, sixteen times blurred: the weights 1, 2, 1 along rows and columns."""
    height, width = len(image), len(image[0])

    def at(i, j):
        return image[min(max(i, 0), height - 1)][min(max(j, 0), width - 1)]

    weights = {-1: 1, 0: 2, 1: 1}
    return [
        [sum(weights[a] * weights[b] * at(i + a, j + b) for a in weights for b in weights) for j in range(width)]
        for i in range(height)
    ]


@given(
    st.integers(2, 5),
    st.integers(1, 7),
    st.integers(1, 30),
    st.sampled_from([(1, 2, 3), (3, 1, 2), (2, 3, 1)]),
    st.integers(1, 9),
    st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_as_a_search_pair_by_pair_whatever_the_blocks(levels, few, many, shape, block, seed):
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, levels, (few, *shape), generator=draw, dtype=torch.uint8)
    among = torch.randint(0, levels, (many, *shape), generator=draw, dtype=torch.uint8)  # few values: many ties
    n = 1 + seed % many
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST", block)
        found = npx.nearest(images, among, n)
    indices, squares = searched(images, among, n)
    assert torch.equal(found.indices, indices)
    assert torch.equal(found.distances, squares.sqrt())


@pytest.mark.parametrize("top", [255, 65535])
def test_sums_that_float32_cannot_hold_are_exact(top):
    """Two images that differ from a bright one by 1 and by nothing, in one symbol of many."""
    bright = torch.full((1, 1, 40, 50), top, dtype=torch.int32)
    other = bright.clone()
    other[0, 0, 39, 49] -= 1
    found = npx.nearest(bright, torch.cat([other, bright]), 2)
    assert found.indices.tolist() == [[1, 0]]
    assert found.distances.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("blur", [1, 2])
def test_blur_is_the_binomial_filter_with_the_border_repeated(blur):
    images = torch.randint(0, 256, (3, 2, 4, 5), dtype=torch.uint8)
    among = torch.randint(0, 256, (11, 2, 4, 5), dtype=torch.uint8)

    def filtered(stack):
        rows = [[channel.tolist() for channel in image] for image in stack]
        for _ in range(blur):
            rows = [[blurred(channel) for channel in image] for image in rows]
        return torch.tensor(rows)

    indices, squares = searched(filtered(images), filtered(among), 4)
    found = npx.nearest(images, among, 4, blur=blur)
    assert torch.equal(found.indices, indices)
    torch.testing.assert_close(found.distances, squares.sqrt() / 16**blur, rtol=1e-14, atol=0)


def test_a_stroke_that_has_moved_is_nearer_when_blurred():
    stroke, moved, other = (torch.zeros(1, 1, 9, 9, dtype=torch.uint8) for _ in range(3))
    stroke[..., 4], moved[..., 5], other[..., 4, 1:4] = 1, 1, 1
    among = torch.cat([other, moved])
    assert npx.nearest(stroke, among).indices.item() == 0  # 12 symbols differ, of the moved one 18
    assert npx.nearest(stroke, among, blur=2).indices.item() == 1


def test_the_images_of_a_split_are_read_a_block_at_a_time(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 5, (50, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    lazily = npx.dataset(tmp_path / "images.npy", levels=5, lazy=True).train
    at_once = lazily.images
    monkeypatch.setattr(module, "MOST", 7)
    some = at_once[[3, 9]]
    read = []
    whole = type(lazily).images.fget
    monkeypatch.setattr(type(lazily), "images", property(lambda self: read.append(len(self)) or whole(self)))
    found = npx.nearest(some, lazily, 3)
    assert max(read) == 7
    assert sum(read) == len(lazily)
    assert torch.equal(found.indices, npx.nearest(some, at_once, 3).indices)


def test_planted_copies_are_counted(digits):
    drawn = torch.cat([digits.train[[5, 80, 5]].images, digits.valid[:6].images])
    planted = {5, 80}
    assert not any((digits.train.images == image).flatten(1).all(1).any() for image in digits.valid[:6].images)
    found = npx.closeness(drawn, digits.train, digits.test)
    assert found.copies == 3
    assert found.test_copies == 0
    assert set(found.pictures.indices[:3, 0].tolist()) == planted
    mine = found.pictures.distances[:, 0]
    assert found.median == pytest.approx(float(np.median(mine.numpy())))
    assert len(found.test.indices) == len(digits.test)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: npx.nearest(x.float(), x), "integers"),
        (lambda x: npx.nearest(x[0], x), "integers"),
        (lambda x: npx.nearest(x, x[..., :2]), "cannot be compared"),
        (lambda x: npx.nearest(x, x, 0), "between 1 and the 6"),
        (lambda x: npx.nearest(x, x, 7), "between 1 and the 6"),
        (lambda x: npx.nearest(x, x, blur=-1), "negative"),
        (lambda x: npx.nearest(x, x, blur=6), "take less"),
        (lambda x: npx.closeness(x[:0], split(x), split(x)), "There must be"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, words, assert_sentence):
    with pytest.raises(UserError, match=words) as error:
        call(torch.full((6, 1, 3, 3), 200, dtype=torch.uint8))
    assert_sentence(error)


def split(images):
    return Split(images, None, 256, "s", "8-bit")


def test_nobody_has_no_neighbours():
    some = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    assert npx.nearest(some[:0], some, 2).indices.shape == (0, 2)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.chdir(tmp_path)
    tiny(shape=(1, 6, 5), levels=2).save_pretrained("model")
    rng = np.random.default_rng(0)
    np.savez("bits.npz", images=rng.integers(0, 2, (60, 6, 5), dtype=np.uint8))
    np.savez("wide.npz", images=rng.integers(0, 2, (60, 6, 6), dtype=np.uint8))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["nextpixel", "sample", "model", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return ended.value.code, told.out + told.err

    return run


def test_sample_draws_the_sheet_and_finds_a_planted_copy(command):
    assert command("-n", 3, "--out", "drawn.npy")[0] == 0
    images = np.load("bits.npz")["images"]
    images[:] = np.load("drawn.npy")[0, 0]  # all training images are the first picture
    np.savez("copies.npz", images=images)
    status, said = command("-n", 3, "--nearest", "new/near.png", "--among", "copies.npz")
    assert status == 0
    assert "1 of 3" in said
    assert "6 of 6" in said  # test images equal to training images: a tenth of 60
    assert Image.open("new/near.png").width > 300


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--nearest", "near.jpg"], "must end in .png"),
        (["--nearest", "near.png"], "Say which data"),
        (["--nearest", "near.png", "--among", "wide.npz"], "cannot be compared"),
        (["--nearest", "near.png", "--among", "bits.npz", "--blur", "20"], "take less"),
        (["--blur", "2"], "--nearest near.png"),
        (["--levels", "2"], "--nearest near.png"),
        (["--nearest", "near.png", "--among", "nowhere.npz"], "neither a file"),
    ],
)
def test_a_mistake_is_told_before_anything_is_drawn(command, flags, words):
    status, said = command("-n", 2, *flags)
    assert status == 2
    assert words in said
    assert not Path("samples.png").exists()
