"""What is known: masks from sides, boxes, chance and picture files."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nextpixel.errors import UserError
from nextpixel.tasks.masks import SIDES, box_unknown, known_pixels, random_unknown, read_mask, side_known


def rows_of(mask):
    return ["".join("#" if known else "." for known in row) for row in mask.tolist()]


def test_sides():
    assert rows_of(side_known("left", (2, 5))) == ["##...", "##..."]
    assert rows_of(side_known("right", (2, 5))) == ["...##", "...##"]
    assert rows_of(side_known("top", (3, 2))) == ["##", "..", ".."]
    assert rows_of(side_known("bottom", (3, 2))) == ["..", "..", "##"]
    assert len(SIDES) == 4


@given(st.integers(0, 5), st.integers(0, 5), st.integers(-1, 6), st.integers(-1, 6))
def test_a_box_is_unknown_or_refused(top, left, height, width):
    inside = height > 0 and width > 0 and top + height <= 4 and left + width <= 5
    if not inside:
        with pytest.raises(UserError, match="does not lie in a picture of 4x5"):
            box_unknown(top, left, height, width, (4, 5))
        return
    mask = box_unknown(top, left, height, width, (4, 5))
    for i in range(4):
        for j in range(5):
            assert bool(mask[i, j]) != (top <= i < top + height and left <= j < left + width)


@given(st.floats(0.001, 0.999), st.integers(1, 4), st.integers(2, 6))
def test_random_holes(share, n, width):
    masks = random_unknown(share, n, (3, width), seed=1)
    unknown = (~masks).flatten(1).sum(1)
    assert (unknown == min(max(round(share * 3 * width), 1), 3 * width - 1)).all()
    assert torch.equal(random_unknown(share, n + 1, (3, width), seed=1)[:n], masks)
    known_pixels(masks, n, (3, width))  # never refused


def test_random_holes_differ_between_pictures_and_seeds():
    masks = random_unknown(0.5, 2, (6, 6))
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks, random_unknown(0.5, 2, (6, 6), seed=1))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_random_shares_that_cannot_be(share, assert_sentence):
    with pytest.raises(UserError, match="between 0 and 1") as caught:
        random_unknown(share, 1, (2, 2))
    assert_sentence(caught)
    with pytest.raises(UserError, match="one pixel"):
        random_unknown(0.5, 1, (1, 1))


def test_masks_from_picture_files(tmp_path):
    pixels = np.zeros((3, 4), np.uint8)
    pixels[1, 2:] = 255
    grey = Image.fromarray(pixels)
    for mode in ("L", "RGB", "1", "P"):
        grey.convert(mode).save(tmp_path / "mask.png")
        assert rows_of(read_mask(tmp_path / "mask.png")) == ["####", "##..", "####"]


@pytest.mark.parametrize("faulty", ["grey", "colour", "nothing", "text"])
def test_pictures_that_are_no_masks(tmp_path, faulty, assert_sentence):
    path = tmp_path / "mask.png"
    if faulty == "grey":
        Image.fromarray(np.array([[0, 255, 128]], np.uint8)).save(path)
    elif faulty == "colour":
        Image.fromarray(np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8)).save(path)
    elif faulty == "text":
        path.write_text("no picture")
    with pytest.raises(UserError, match=r"black|cannot be read|no picture") as caught:
        read_mask(path)
    assert_sentence(caught)


def test_a_side_that_there_is_not(assert_sentence):
    with pytest.raises(UserError, match="Did you mean 'left'") as caught:
        side_known("lft", (2, 2))
    assert_sentence(caught)
