"""What a pixel's prediction can see: receptive fields, drawn from gradients and never from what a network declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nextpixel.checking.fields import measured_fields, own_sensitivity
from nextpixel.checking.streams import layer_fields, recurrence_fields, stack_fields
from nextpixel.errors import UserError
from nextpixel.figures.style import (
    LATER,
    NUMBERS,
    as_picture,
    earlier_than,
    field_legend,
    mark,
    new_figure,
    show_cells,
    show_field,
    styled,
)
from nextpixel.image_model import ImageModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Size = tuple[int, int]
Pixel = tuple[int, int]
MOST_STAGES = 6  # panels of the growth, beside the end


@styled
def receptive_field(model: ImageModel, size: Size = (15, 15), seeds: int = 8) -> Figure:
    """Above, how strongly three pixels (asked about: the ring) depend on the earlier ones, by the gradients of the
    model as it is; below, which earlier pixels they depend on at all, by gradients under many random weights. Earlier
    pixels that are never seen are orange."""
    height, width = size
    row = height * 2 // 3
    pixels = [(row, min(1, width - 1)), (row, width // 2), (row, max(width - 2, 0))]
    strength, seen = own_sensitivity(model, size, pixels), measured_fields(model, size, pixels, seeds)
    figure, axes = new_figure(2, len(pixels), (1.9 * len(pixels) + 0.6, 4.6))
    for column, pixel in enumerate(pixels):
        past = earlier_than(size, pixel)
        shares = strength[column] / strength[column].max().clamp(min=1e-300)
        heat = torch.log10(shares.clamp(min=1e-6)).where(past, torch.nan)
        axes[0, column].set_facecolor(LATER)
        drawn = show_cells(axes[0, column], heat.numpy(), cmap=NUMBERS, vmin=-6, vmax=0)
        mark(axes[0, column], pixel)
        title = f"{int((seen[column] & past).sum())} of {int(past.sum())} pixels"
        show_field(axes[1, column], seen[column] & past, pixel, title)
    scale = figure.colorbar(drawn, ax=axes[0, :].tolist(), shrink=0.9, ticks=[-6, -3, 0])
    scale.ax.set_yticklabels(["10⁻⁶", "10⁻³", "1"])
    axes[0, 0].set_ylabel("how strongly, as it is")
    axes[1, 0].set_ylabel("at all, any weights")
    field_legend(figure)
    return figure


@styled
def growth(model: ImageModel, size: Size, pixel: Pixel) -> Figure:
    """The receptive field of one pixel after every layer of a network (evenly chosen ones, if there are many).
    UserError for networks that are no row of layers."""
    seen = layer_fields(model, size, pixel)
    if len(seen) == 1:
        raise UserError(f"The family {model.family} is no row of layers after which a field could be shown.")
    past = earlier_than(size, pixel)
    blocks = len(seen) - 1
    names = [f"after layer {index + 1}" for index in range(blocks)] + ["prediction"]
    wanted = sorted({round(k * (blocks - 1) / max(MOST_STAGES - 2, 1)) for k in range(MOST_STAGES - 1)} | {blocks})
    wanted = [index for index in wanted if 0 <= index <= blocks]
    across = min(len(wanted), 3)
    down = -(-len(wanted) // across)
    aspect = size[0] / size[1]
    figure, axes = new_figure(down, across, (2.1 * across, (2.0 * aspect + 0.3) * down + 0.4))
    for axis, index in zip(axes.flat, wanted, strict=False):
        show_field(axis, seen[index] & past, pixel, f"{names[index]}: {int((seen[index] & past).sum())}")
    for axis in list(axes.flat)[len(wanted) :]:
        axis.axis("off")
    field_legend(figure, never="not seen yet")
    return figure


@styled
def blind_spot(plain: ImageModel, gated: ImageModel, size: Size, pixel: Pixel) -> Figure:
    """The plain PixelCNN beside the gated one: which earlier pixels the prediction never depends on."""
    past = earlier_than(size, pixel)
    figure, axes = new_figure(1, 2, (5.6, 2.6 * size[0] / size[1] + 0.7))
    for axis, model, name in ((axes[0, 0], plain, "PixelCNN"), (axes[0, 1], gated, "Gated PixelCNN")):
        seen = measured_fields(model, size, [pixel], seeds=4)[0] & past
        missing = int((past & ~seen).sum())
        show_field(axis, seen, pixel, f"{name}: {f'{missing} pixels never seen' if missing else 'sees all of them'}")
    field_legend(figure)
    return figure


@styled
def stacks(model: ImageModel, size: Size, pixel: Pixel) -> Figure:
    """The vertical and the horizontal stack, each alone and together."""
    past = earlier_than(size, pixel)
    vertical, horizontal = stack_fields(model, size, pixel) & past
    figure, axes = new_figure(1, 3, (6.9, 2.1 * size[0] / size[1] + 0.7))
    nothing = torch.zeros_like(vertical)
    show_field(axes[0, 0], nothing, pixel, "vertical stack: the rows above", also=vertical)
    show_field(axes[0, 1], horizontal, pixel, "horizontal stack: to the left")
    show_field(axes[0, 2], horizontal, pixel, "together", also=vertical)
    field_legend(figure, seen="by the horizontal stack", also="by the vertical stack", never="not seen this way")
    return figure


@styled
def row_lstm(model: ImageModel, size: Size, pixel: Pixel) -> Figure:
    """The triangle of a Row LSTM: one recurrent layer by itself, and the whole network."""
    past = earlier_than(size, pixel)
    layer = recurrence_fields(model, size, pixel)[0]
    network = measured_fields(model, size, [pixel], seeds=4)[0] & past
    figure, axes = new_figure(1, 2, (5.6, 2.6 * size[0] / size[1] + 0.7))
    show_field(axes[0, 0], layer, pixel, "one recurrent layer")
    show_field(axes[0, 1], network, pixel, f"network: masked first layer, {model.network.config.layers} recurrent")
    field_legend(figure)
    return figure


@styled
def diagonal_bilstm(model: ImageModel, size: Size, pixel: Pixel, picture: Tensor, levels: int) -> Figure:
    """A picture [C, H, W] and its skewed map, whose columns are the diagonals that are computed at once; below, what
    each direction of a layer sees, and the network."""
    past = earlier_than(size, pixel)
    left, right = recurrence_fields(model, size, pixel)
    network = measured_fields(model, size, [pixel], seeds=4)[0] & past
    skewed, inside = skew(picture)
    figure = new_figure(1, 1, (6.9, 2.1 * size[0] / size[1] + 3.0))[0]
    figure.clear()
    grid = figure.add_gridspec(2, 6)
    above = figure.add_subplot(grid[0, :2])
    above.imshow(as_picture(picture, levels), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    above.set_title("picture")
    beside = figure.add_subplot(grid[0, 2:])
    shown = as_picture(skewed, levels).copy()
    shown[~inside.numpy()] = 238
    beside.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    beside.set_title(f"skewed: each row one pixel further; {skewed.shape[2]} columns, each one step")
    step = picture.shape[2] // 2 + picture.shape[1] // 2
    rows = [row for row in range(picture.shape[1]) if inside[row, step]]
    beside.plot([step, step], [rows[0], rows[-1]], color="#d97706", linewidth=1.6)
    above.plot([step - rows[0], step - rows[-1]], [rows[0], rows[-1]], color="#d97706", linewidth=1.6)
    for axis in (above, beside):
        axis.axis("off")
    parts = ((left, "from the left"), (right, "from the right, a row up"), (network, "network"))
    for place, (seen, name) in enumerate(parts):
        show_field(figure.add_subplot(grid[1, 2 * place : 2 * place + 2]), seen, pixel, name)
    field_legend(figure)
    return figure


def skew(picture: Tensor) -> tuple[Tensor, Tensor]:
    """A picture [C, H, W] by diagonals, [C, H, H + W − 1]: column t holds the pixels that the Diagonal BiLSTM's scan
    computes at step t, each in its row; and which cells hold pixels, bool [H, H + W − 1]."""
    from nextpixel.causal import Diagonals

    channels, height, width = picture.shape
    diagonals = Diagonals(height, width, picture.device)
    skewed = picture.new_zeros(channels, height, len(diagonals.steps))
    inside = torch.zeros(height, len(diagonals.steps), dtype=torch.bool)
    for step, (first, end, here) in enumerate(diagonals.steps):
        skewed[:, first:end, step] = picture.flatten(1)[:, diagonals.order[here]]
        inside[first:end, step] = True
    return skewed, inside
