"""Values and their probabilities: what quantising does to a picture, and the distribution of the next pixel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.figures.style import ALSO, NEVER, SEEN, as_picture, mark, new_figure, styled
from nextpixel.images.levels import dequantise, quantise
from nextpixel.model import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LADDER = (2, 4, 8, 16, 64, 256)


def scene(height: int = 72, width: int = 96) -> Tensor:
    """A drawn landscape of smooth gradients, 256 levels, uint8 [3, H, W]: what quantising shows best on."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    sky = np.stack([0.98 - 0.62 * (0.62 - y), 0.72 - 0.25 * (0.62 - y), 0.45 + 0.75 * (0.62 - y)])
    glow = np.exp(-(((x - 0.68) * width / height) ** 2 + (y - 0.34) ** 2) / 0.02)
    sky = sky + glow * np.array([0.25, 0.3, 0.15])[:, None, None]
    far, near = 0.60 + 0.06 * np.sin(7 * x + 0.6), 0.76 + 0.07 * np.sin(4.2 * x + 2.2)
    hills = np.stack([0.30 + 0.25 * (1 - y), 0.34 + 0.2 * x, 0.42 - 0.1 * x])
    front = np.stack([0.12 + 0.18 * x, 0.26 + 0.25 * (y - 0.6), 0.14 + 0.06 * x])
    picture = np.where(y < far, sky, np.where(y < near, hills, front))
    return torch.from_numpy((255 * picture.clip(0, 1)).round().astype(np.uint8))


@styled
def ladder(picture: Tensor, steps: tuple[int, ...] = LADDER) -> Figure:
    """A picture of 256 levels, uint8 [C, H, W], quantised to fewer; below each, the values of its last channel down the
    middle column."""
    across = 3
    down = -(-len(steps) // across)
    aspect = picture.shape[1] / picture.shape[2]
    figure = new_figure(1, 1, (6.9, (2.2 * aspect + 0.95) * down))[0]
    figure.clear()
    places = figure.add_gridspec(2 * down, across, height_ratios=[2.2 * aspect, 0.6] * down)
    middle = picture.shape[2] // 2
    for index, levels in enumerate(steps):
        row, column = 2 * (index // across), index % across
        few = dequantise(quantise(picture, levels), levels)
        shown, plot = figure.add_subplot(places[row, column]), figure.add_subplot(places[row + 1, column])
        shown.imshow(as_picture(few, 256), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        name = f"{levels} levels, {math.log2(levels):g} bit{'' if levels == 2 else 's'}"
        error = float((few.double() - picture.double()).pow(2).mean().sqrt())
        shown.set_title(f"{name}, error {error:.1f}" if error else f"{name}, as it was")
        shown.set_xticks([])
        shown.set_yticks([])
        shown.spines[:].set(visible=True, color="#cccccc")
        plot.plot(picture[-1, :, middle].tolist(), color=NEVER, linewidth=1.2)
        plot.step(range(picture.shape[1]), few[-1, :, middle].tolist(), where="mid", color=SEEN, linewidth=1)
        plot.set_ylim(-8, 263)
        plot.set_yticks([0, 255])
        plot.set_xticks([])
    return figure


@torch.no_grad()
def next_pmf(model: Model, image: Tensor, pixel: tuple[int, int], channel: int = 0, condition: Any = None) -> Tensor:
    """p(value | what comes before) of one symbol of an image [C, H, W], float64 [K], summing to 1. UserError for a
    pixel outside. Of a model of several orders the first one; a class-conditional model must be told the class."""
    height, width = image.shape[1:]
    if not (0 <= pixel[0] < height and 0 <= pixel[1] < width and 0 <= channel < image.shape[0]):
        raise UserError(f"There is no pixel {pixel[0]},{pixel[1]} in a picture of {height}x{width}.")
    one = model.each_order()[0]
    return one.log_pmf(image[None], condition)[0, channel, pixel[0], pixel[1]].double().exp()


@styled
def next_pixel(model: Model, image: Tensor, pixel: tuple[int, int], channel: int = 0, condition: Any = None) -> Figure:
    """The model's distribution of one symbol of an image [C, H, W] as bars, the true value marked, beside the picture
    as far as the model knows it there."""
    pmf = next_pmf(model, image, pixel, channel, condition)
    truth = int(image[channel, pixel[0], pixel[1]])
    figure, axes = new_figure(1, 2, (6.9, 2.7))
    left, right = axes[0]
    from matplotlib.colors import to_rgb

    shown = as_picture(image, model.levels) / 255.0
    shown = shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, 2)
    one = model.each_order()[0]
    numbers = torch.arange(image[0].numel() * len(image)).view(1, -1)
    steps = one.from_sequence(numbers, (image.shape[1], image.shape[2]))[0, 0]
    unknown = (steps >= steps[pixel]).numpy()
    shown[unknown] = np.asarray(to_rgb(ALSO)) * 0.35 + 0.65
    left.imshow(shown, interpolation="nearest")
    mark(left, pixel)
    left.axis("off")
    left.set_title("what is known")
    values = np.arange(len(pmf))
    colours = [NEVER if value == truth else SEEN for value in values]
    right.bar(values, pmf.numpy(), width=0.85 if len(pmf) <= 64 else 1.0, color=colours)
    if len(pmf) <= 64:
        right.bar(truth, float(pmf[truth]), width=0.85, color=NEVER, hatch="///", edgecolor="#7a4a12", linewidth=0)
    side = "left" if truth < 0.15 * len(pmf) else "right" if truth > 0.85 * len(pmf) else "center"
    text = {"textcoords": "offset points", "ha": side, "fontsize": 8}
    line = {"arrowstyle": "-", "color": "#7a4a12", "linewidth": 1}
    right.annotate(f"true value {truth}", (truth, float(pmf[truth])), (0, 12), arrowprops=line, **text)
    right.set_ylim(0, float(pmf.max()) * 1.25)
    right.xaxis.get_major_locator().set_params(integer=True)
    right.set_xlabel("value (0 is black)")
    right.set_ylabel("probability")
    entropy = -float((pmf * pmf.clamp(min=1e-300).log2()).sum())
    spent = -math.log2(max(float(pmf[truth]), 1e-300))
    right.set_title(f"next pixel: {entropy:.2f} bits of doubt, {spent:.2f} bits spent")
    return figure
