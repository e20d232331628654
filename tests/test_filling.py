"""GIFs of pictures being completed and drawn."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from nextpixel import figures
from nextpixel.figures.filling import turns_of
from nextpixel.images.pictures import UNKNOWN_COLOUR, tinted


def frames_of(gif):
    with Image.open(io.BytesIO(gif)) as opened:
        return [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(opened)]


def test_turns():
    columns = torch.tensor([[0, 2, 4], [1, 3, 5]])
    two_channels = torch.stack([2 * columns, 2 * columns + 1])
    assert torch.equal(turns_of(two_channels, torch.zeros(2, 3, dtype=torch.bool)), columns)
    known = torch.tensor([[True, False, True], [False, False, True]])
    assert turns_of(two_channels, known).tolist() == [[-1, 1, -1], [0, 2, -1]]
    both = turns_of(two_channels, torch.stack([known, ~known]))
    assert both.tolist() == [[[-1, 1, -1], [0, 2, -1]], [[0, -1, 1], [-1, -1, 2]]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["raster", "flip-y"])
def test_the_frames_show_what_was_made_so_far(tiny, channels, order):
    levels = 2 if channels == 1 else 3
    model = tiny(shape=(channels, 10, 10), levels=levels, orders=[order])
    image = torch.randint(levels, (1, channels, 10, 10))
    known = torch.arange(100).view(10, 10) < 40
    known = known.flip(0) if order == "flip-y" else known
    frames = frames_of(figures.filling(model, image, known))
    assert len(frames) == 49
    colours = (image[0] * (255 // (levels - 1))).expand(3, 10, 10).permute(1, 2, 0).numpy()
    zoom = len(frames[0]) // 10
    for number, frame in enumerate(frames):
        pixels = frame[zoom // 2 :: zoom, zoom // 2 :: zoom]
        made = torch.arange(100).view(10, 10) < 40 + 60 * number // 48
        made = (made.flip(0) if order == "flip-y" else made).numpy()
        assert (abs(pixels[made] - colours[made]) <= 3).all()
        assert (abs(pixels[~made] - UNKNOWN_COLOUR) <= 3).all()


def test_fewer_pixels_than_frames_and_a_mask_for_each(tiny):
    known = torch.tensor([[[1, 1], [0, 0]], [[1, 0], [0, 0]], [[1, 1], [1, 0]]]).bool()
    images = torch.randint(4, (3, 1, 2, 2))
    assert len(frames_of(figures.filling(tiny(shape=(1, 2, 2)), images, known))) == 4
    assert len(frames_of(figures.filling(tiny(shape=(1, 2, 2)), images))) == 5


def test_pictures_of_two_channels_are_shown_by_the_first():
    images, known = torch.randint(2, (1, 2, 2, 2)), torch.tensor([[True, False], [True, True]])
    shown = tinted(images, 2, known)[0]
    assert shown[:, 0, 1].tolist() == list(UNKNOWN_COLOUR)
    assert shown[:, 1, 1].tolist() == [255 * int(images[0, 0, 1, 1])] * 3
