"""GIFs of pictures being filled in."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from nextpixel.errors import UserError
from nextpixel.images.animation import save_filling, turns_of
from nextpixel.images.pictures import UNKNOWN_COLOUR


def frames_of(path):
    with Image.open(path) as opened:
        return [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(opened)]


def test_turns():
    columns = torch.tensor([[0, 2, 4], [1, 3, 5]])
    two_channels = torch.stack([2 * columns, 2 * columns + 1])
    assert torch.equal(turns_of(two_channels), columns)
    known = torch.tensor([[True, False, True], [False, False, True]])
    assert turns_of(two_channels, known).tolist() == [[-1, 1, -1], [0, 2, -1]]
    both = turns_of(two_channels, torch.stack([known, ~known]))
    assert both.tolist() == [[[-1, 1, -1], [0, 2, -1]], [[0, -1, 1], [-1, -1, 2]]]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_frames_show_what_was_made_so_far(tmp_path, channels):
    levels = 2 if channels == 1 else 3
    image = torch.randint(levels, (1, channels, 8, 8))
    turns = torch.arange(64).view(8, 8) - 20
    path = tmp_path / "filling.gif"
    count = save_filling(path, image, levels, turns, frames=11)
    frames = frames_of(path)
    assert len(frames) == count == 12
    colours = (image[0] * (255 // (levels - 1))).expand(3, 8, 8).permute(1, 2, 0).numpy()
    zoom = len(frames[0]) // 8
    for number, frame in enumerate(frames):
        pixels = frame[zoom // 2 :: zoom, zoom // 2 :: zoom]
        made = (turns < 44 * number // 11).numpy()
        assert (abs(pixels[made] - colours[made]) <= 3).all()  # a palette of 256 colours
        assert (abs(pixels[~made] - UNKNOWN_COLOUR) <= 3).all()


def test_fewer_pixels_than_frames_and_several_pictures(tmp_path):
    images = torch.randint(2, (3, 1, 2, 2))
    turns = torch.tensor([[[-1, -1], [0, 1]], [[-1, 0], [1, 2]], [[-1, -1], [-1, 0]]])
    assert save_filling(tmp_path / "a.gif", images, 2, turns) == 4
    assert len(frames_of(tmp_path / "a.gif")) == 4


@pytest.mark.parametrize("name", ["a.png", "a", "nowhere/a.gif"])
def test_names_that_cannot_be_written(tmp_path, name, assert_sentence):
    with pytest.raises(UserError) as caught:
        save_filling(tmp_path / name, torch.zeros(1, 1, 2, 2, dtype=torch.long), 2, torch.arange(4).view(2, 2))
    assert_sentence(caught)
