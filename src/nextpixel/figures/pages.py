"""Pictures of what a model does: surprise maps, completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nextpixel.figures.style import new_figure, show, styled
from nextpixel.images.levels import to_rgb
from nextpixel.images.pictures import grid, tinted, to_uint8
from nextpixel.model import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@torch.no_grad()
def surprise(model: Model, images: Tensor, condition: Any = None) -> Tensor:
    """Bits that each pixel cost given the pixels before it, summed over its channels, [N, H, W]."""
    return -model.log_prob_per_symbol(images, condition).sum(1) / float(np.log(2))


def surprise_map(model: Model, images: Tensor, condition: Any = None) -> Figure:
    """Each image above the bits its pixels cost; [N, C, H, W] with N of about 4 to 12."""
    title = "Surprise: what each pixel cost, given the pixels before it"
    return bits_page(images, surprise(model, images, condition), model.levels, title)


@styled
def bits_page(images: Tensor, bits: Tensor, levels: int, title: str) -> Figure:
    """Each image [N, C, H, W] above the bits [N, H, W] of its pixels; N of about 1 to 12."""
    n = len(images)
    figure, axes = new_figure(2, n, (max(1.25 * n, 2.5) + 0.9, 3.1))
    top = float(bits.max())
    for column in range(n):
        show(axes[0, column], images[column], levels)
        heat = axes[1, column].imshow(bits[column].numpy(), cmap="inferno", vmin=0, vmax=top, interpolation="nearest")
        axes[1, column].set_title(f"{bits[column].mean() / images.shape[1]:.2f} bits/dim", fontsize=8)
        axes[1, column].axis("off")
    figure.colorbar(heat, ax=axes[1, :].tolist(), label="bits per pixel", shrink=0.9)
    figure.suptitle(title, fontsize=10)
    return figure


@styled
def completion_page(
    originals: Tensor, completed: Tensor, known: Tensor, levels: int, names: Sequence[str] | None = None
) -> Figure:
    """Originals [N, C, H, W], what was known of them by a mask [H, W] or [N, H, W] (the rest is amber), and fills
    [N, fills, C, H, W], one column a picture; names: of the fills."""
    n, fills = completed.shape[:2]
    figure, axes = new_figure(2 + fills, n, (0.95 * n + 1.1, 1.05 * (2 + fills)))
    seen = tinted(originals, levels, known)
    for column in range(n):
        show(axes[0, column], originals[column], levels)
        show(axes[1, column], seen[column], 256)
        for fill in range(fills):
            show(axes[2 + fill, column], completed[column, fill], levels)
    for row, name in enumerate(["original", "known", *(names or [f"fill {index + 1}" for index in range(fills)])]):
        axes[row, 0].text(-0.15, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center", fontsize=8)
    return figure


def surprise_sheet(images: Tensor, bits: Tensor, levels: int) -> Image.Image:
    """Images [N, C, H, W] in one row, the bits [N, H, W] of their pixels below, bright is more; a sheet without words,
    made in milliseconds."""
    from matplotlib import colormaps

    shares = (bits / bits.max().clamp(min=1e-9)).numpy()
    heat = torch.from_numpy(np.asarray(colormaps["inferno"](shares, bytes=True))[..., :3]).movedim(-1, 1)
    shown = to_rgb(to_uint8(images, levels))
    return grid(torch.cat([shown, heat]), 256, columns=len(images))
