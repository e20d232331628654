"""Pictures of what a model does: that they show the right numbers."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from nextpixel import figures
from nextpixel.images.pictures import UNKNOWN_COLOUR


def shown(axes):
    """The pixels of every image drawn, axis by axis."""
    return [np.asarray(image.get_array()) for axis in axes for image in axis.get_images()]


@pytest.mark.parametrize("channels", [1, 3])
def test_surprise_is_bits_and_sums_to_the_image(tiny, channels):
    model = tiny(shape=(channels, 4, 5), double=True, spread=0.4)
    images = torch.randint(4, (3, channels, 4, 5))
    bits = figures.surprise(model, images)
    assert bits.shape == (3, 4, 5)
    assert not bits.requires_grad
    torch.testing.assert_close(bits.flatten(1).sum(1), -model.log_prob(images).detach() / math.log(2))
    assert (bits >= 0).all()


def test_surprise_with_a_condition(tiny):
    model = tiny(classes=3, double=True, spread=0.4)
    images, labels = torch.randint(4, (3, 1, 4, 5)), torch.tensor([0, 2, 1])
    bits = figures.surprise(model, images, labels)
    torch.testing.assert_close(bits.flatten(1).sum(1), -model.log_prob(images, labels).detach() / math.log(2))
    marginal = figures.surprise(model, images)
    torch.testing.assert_close(marginal.flatten(1).sum(1), -model.log_prob(images).detach() / math.log(2))


def test_the_surprise_map_shows_images_above_their_bits(tiny, tmp_path):
    model = tiny(double=True, spread=0.4)
    images = torch.randint(4, (4, 1, 4, 5))
    bits = figures.surprise(model, images)
    figure = figures.surprise_map(model, images)
    axes = figure.axes[:8]
    drawn = shown(axes)
    for column in range(4):
        expected = (images[column, 0].double() * 85).numpy()  # 0..3 spread over 0..255
        assert np.array_equal(drawn[column], expected)
        assert np.allclose(drawn[4 + column], bits[column].numpy())
        assert axes[4 + column].get_title() == f"{float(bits[column].mean()):.2f} bits/dim"
    limits = [image.get_clim() for axis in axes[4:] for image in axis.get_images()]
    assert limits == [(0, pytest.approx(float(bits.max())))] * 4, "one scale for all"
    figure.savefig(tmp_path / "map.png")
    assert Image.open(tmp_path / "map.png").size[0] > 100


def test_the_title_of_a_colour_image_is_per_dim_not_per_pixel(tiny):
    model = tiny(shape=(3, 4, 5), double=True, spread=0.4)
    images = torch.randint(4, (2, 3, 4, 5))
    figure = figures.surprise_map(model, images)
    nats = -model.log_prob(images).detach()
    for column in range(2):
        assert figure.axes[2 + column].get_title() == f"{float(nats[column]) / (math.log(2) * 60):.2f} bits/dim"


def test_the_page_of_completions(tmp_path):
    originals = torch.randint(1, 4, (3, 1, 4, 5))
    completed = torch.randint(1, 4, (3, 2, 1, 4, 5))
    kept = originals.clone()
    mask = torch.arange(4)[:, None].expand(4, 5) < 2
    figure = figures.completion_page(originals, completed, mask, 4)
    drawn = shown(figure.axes)
    assert len(figure.axes) == 4 * 3
    for column in range(3):
        assert np.array_equal(drawn[column], originals[column, 0].numpy() * 85)
        known = drawn[3 + column]
        assert np.array_equal(known[:2], originals[column, 0, :2, :, None].numpy().repeat(3, 2) * 85)
        assert (known[2:] == UNKNOWN_COLOUR).all(), "what was not known must not be shown"
        for fill in range(2):
            assert np.array_equal(drawn[(2 + fill) * 3 + column], completed[column, fill, 0].numpy() * 85)
    assert torch.equal(originals, kept)
    figure.savefig(tmp_path / "page.png")


def test_the_curve_draws_what_was_logged(tmp_path):
    metrics = [
        {"step": 1, "epoch": 1, "train": 4.0, "rate": 0.1},
        {"step": 20, "epoch": 1, "train": 3.0, "rate": 0.1},
        {"step": 30, "epoch": 1, "valid": 3.5},
    ]
    figure = figures.curve(metrics, {"uniform": 3.2, "gzip": 400.0})
    axis = figure.axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert lines["train"].get_xydata().tolist() == [[1, 4], [20, 3]]
    assert lines["valid"].get_xydata().tolist() == [[30, 3.5]]
    assert [label for label in lines if label.startswith("uniform")]
    assert not [label for label in lines if label.startswith("gzip")], "far above everything"
    figure.savefig(tmp_path / "curve.png")


def test_the_curve_of_a_run_without_a_line(tmp_path):
    figures.curve([]).savefig(tmp_path / "curve.png")
    figures.curve([], {"uniform": 4.0}).savefig(tmp_path / "curve.png")


def test_pictures_for_the_screen():
    grey = torch.tensor([[[0, 1], [2, 3]]])
    assert figures.as_picture(grey, 4).tolist() == [[0, 85], [170, 255]]
    colour = torch.randint(256, (3, 4, 5))
    assert np.array_equal(figures.as_picture(colour, 256), colour.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("channels", [1, 2])
def test_the_receptive_field_is_drawn_from_gradients(tiny, channels):
    model = tiny("pixelcnn", blocks=1, features=4, first_kernel=3, shape=(channels, 9, 9), levels=2)
    figure = figures.receptive_field(model, size=(9, 9), seeds=4)
    row, columns = 6, (1, 4, 7)
    for column, strongly, at_all in zip(columns, figure.axes[:3], figure.axes[3:6], strict=True):
        declared = model.network.receptive_field(9, 9, row, column).numpy()
        strength, colours = (np.asarray(axis.get_images()[0].get_array()) for axis in (strongly, at_all))
        earlier = np.arange(81).reshape(9, 9) < row * 9 + column
        masked = np.ma.getmaskarray(strongly.get_images()[0].get_array()) | ~np.isfinite(strength)
        assert (masked == ~earlier).all(), "nothing is drawn at the pixel itself and after it"
        assert (strength[earlier & ~declared] == -6).all(), "no strength where nothing is seen"
        assert (strength[declared] > -6).any()
        blue = colours[..., 2] > colours[..., 0]
        assert (blue == declared).all()
        assert at_all.get_title() == f"{declared.sum()} of {earlier.sum()} pixels"


def test_the_title_of_one_mask_is_whole(tiny, tmp_path):
    name, layer = next(item for item in figures.spatial_layers(tiny().network).items() if not hasattr(item[1], "mask"))
    drawn = figures.mask_page(layer, f"{name}: vertical stack, moved down a row")
    drawn.savefig(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as picture:
        pixels = np.array(picture.convert("L"))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()
