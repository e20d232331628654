"""The masks of a network's layers, read off their kernels: which weights exist between two channels."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nextpixel.causal import MaskedLinear, PixelConv, RowConv
from nextpixel.errors import UserError
from nextpixel.figures.style import HERE, LATER, SEEN, new_figure, show_cells, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHANNEL_NAMES = {1: ("",), 3: ("R", "G", "B")}


def spatial_layers(network: nn.Module) -> dict[str, PixelConv | RowConv]:
    """The convolutions of a network that look at other pixels, by name."""
    found: dict[str, PixelConv | RowConv] = {}
    for name, layer in network.named_modules():
        pixel = isinstance(layer, PixelConv) and (layer.rows or layer.left)
        if pixel or (isinstance(layer, RowConv) and (layer.height > 1 or layer.side)):
            found[name] = layer
    return found


def masked_layers(network: nn.Module) -> dict[str, MaskedLinear]:
    """The fully connected masked layers (MADE), by name."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, MaskedLinear)}


@torch.no_grad()
def kernel_mask(layer: PixelConv | RowConv) -> tuple[Tensor, tuple[int, int]]:
    """Where a layer has weights: bool [channels to, channels from, rows, columns], and the place of the current pixel.

    Read off the layer's own kernel with all weights set to 1. A RowConv has one group of features, [1, 1, ...].
    """
    ones = copy.deepcopy(layer).requires_grad_(False)
    for parameter in ones.parameters():
        parameter.fill_(1.0)
    kernel = ones.kernel() != 0
    if isinstance(layer, RowConv):
        return kernel.any(0).any(0)[None, None], (layer.height - 1, layer.side)
    onto, source = layer.outputs.channel(), layer.inputs.channel()
    pairs = [
        [kernel[onto == to][:, source == of].any(0).any(0) for of in range(layer.inputs.groups)]
        for to in range(layer.outputs.groups)
    ]
    return torch.stack([torch.stack(row) for row in pairs]), (layer.rows, layer.reach)


@styled
def mask_page(layer: PixelConv | RowConv, title: str = "") -> Figure:
    """One panel a pair of channels: the row is the channel that is computed, the column the one that is looked at.
    Dark cells have a weight; the ring is the current pixel."""
    mask, centre = _square(*kernel_mask(layer))
    to, of, rows, columns = mask.shape
    names = CHANNEL_NAMES.get(max(to, of), tuple(f"channel {index}" for index in range(max(to, of))))
    cell = 1.55 if to > 1 else 2.2
    if max(to, of) == 1:  # a narrow figure: the name of the layer has a line of its own
        title = title.replace(": ", ":\n", 1)
    figure, axes = new_figure(to, of, (cell * of + 0.7, cell * to * rows / columns + 0.75 + 0.2 * title.count("\n")))
    for i in range(to):
        for j in range(of):
            draw_mask(axes[i, j], mask[i, j], centre)
            if i == 0 and names[0]:
                axes[i, j].set_title(f"looks at {names[j]}")
            if j == 0 and names[0]:
                axes[i, j].set_ylabel(f"for {names[i]}")
    figure.suptitle(title, fontsize=10)
    return figure


def draw_mask(axes: object, mask: Tensor, centre: tuple[int, int]) -> None:
    """Cells [rows, columns] with a weight dark, the others light, a ring at the current pixel."""
    from matplotlib.colors import to_rgb

    colours = torch.empty(*mask.shape, 3)
    colours[:] = torch.tensor(to_rgb(LATER))
    colours[mask] = torch.tensor(to_rgb(SEEN))
    show_cells(axes, colours.numpy())  # type: ignore[arg-type]
    here = bool(mask[centre])
    ring = {"markerfacecolor": SEEN if here else "white", "markeredgecolor": "white" if here else HERE}
    axes.plot(centre[1], centre[0], "o", markersize=6, markeredgewidth=1.4, **ring)  # type: ignore[attr-defined]


@styled
def connection_page(layers: dict[str, MaskedLinear]) -> Figure:
    """The masks of fully connected layers as matrices: a row an output, a column an input, dark where connected."""
    if not layers:
        raise UserError("This network has no masked layers to show.")
    figure, axes = new_figure(1, len(layers), (2.3 * len(layers) + 0.4, 2.7))
    for axis, (name, layer) in zip(axes[0], layers.items(), strict=True):
        mask = layer.get_buffer("mask") > 0
        axis.imshow(mask.numpy(), cmap="Greys", vmin=0, vmax=1.3, aspect="auto", interpolation="nearest")
        axis.set_title(f"{name}: {100 * float(mask.float().mean()):.0f} % connected")
        axis.set_xlabel("inputs")
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0, 0].set_ylabel("outputs")
    return figure


def _square(mask: Tensor, centre: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """The cropped kernel inside the k×k window of the papers, the current pixel in the middle."""
    rows, columns = mask.shape[2:]
    half = max(centre[0], rows - 1 - centre[0], centre[1], columns - 1 - centre[1])
    whole = mask.new_zeros(*mask.shape[:2], 2 * half + 1, 2 * half + 1)
    top, left = half - centre[0], half - centre[1]
    whole[:, :, top : top + rows, left : left + columns] = mask
    return whole, (half, half)
