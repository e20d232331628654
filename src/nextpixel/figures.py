"""Pictures of what a model does: surprise maps, curves, completions, pages of samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nextpixel.images.pictures import grid, tinted, to_uint8
from nextpixel.model import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nextpixel.image_model import ImageModel


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray[Any, Any]]:
    """A figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def as_picture(image: Tensor, levels: int) -> np.ndarray[Any, Any]:
    """One image [C, H, W] as uint8 [H, W] or [H, W, 3] for imshow."""
    pixels = to_uint8(image[None], levels)[0].numpy()
    return pixels[0] if len(pixels) != 3 else pixels.transpose(1, 2, 0)


def show(axes: Axes, image: Tensor, levels: int, title: str = "") -> None:
    """Draw one image [C, H, W]."""
    axes.imshow(as_picture(image, levels), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.axis("off")


@torch.no_grad()
def surprise(model: Model, images: Tensor, condition: Any = None) -> Tensor:
    """Bits that each pixel cost given the pixels before it, summed over its channels, [N, H, W]."""
    return -model.log_prob_per_symbol(images, condition).sum(1) / float(np.log(2))


def surprise_map(model: Model, images: Tensor, condition: Any = None) -> Figure:
    """Each image above the bits its pixels cost; [N, C, H, W] with N of about 4 to 12."""
    title = "Surprise: what each pixel cost, given the pixels before it"
    return bits_page(images, surprise(model, images, condition), model.levels, title)


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


def receptive_field(model: ImageModel, size: tuple[int, int] = (15, 15), seeds: int = 8) -> Figure:
    """Above, how strongly three pixels (asked about: the ring) depend on the earlier ones, by the gradients of the
    model as it is; below, which earlier pixels they depend on at all, by gradients under many random weights. Earlier
    pixels that are never seen are red."""
    from nextpixel.checking.fields import measured_fields, own_sensitivity

    height, width = size
    row = height * 2 // 3
    pixels = [(row, 1), (row, width // 2), (row, width - 2)]
    strength, seen = own_sensitivity(model, size, pixels), measured_fields(model, size, pixels, seeds)
    figure, axes = new_figure(2, len(pixels), (1.9 * len(pixels) + 0.2, 4.3))
    earlier = torch.arange(height * width).view(height, width)
    for column, (i, j) in enumerate(pixels):
        past = earlier < i * width + j
        shares = strength[column] / strength[column].max()
        heat = torch.log10(shares.clamp(min=1e-6)).where(past, torch.nan)
        axes[0, column].imshow(heat.numpy(), cmap="viridis", vmin=-6, vmax=0, interpolation="nearest")
        colours = torch.full((height, width, 3), 0.93)
        colours[past] = torch.tensor([0.86, 0.25, 0.2])
        colours[seen[column] & past] = torch.tensor([0.16, 0.42, 0.62])
        axes[1, column].imshow(colours.numpy(), interpolation="nearest")
        axes[1, column].set_title(f"{int((seen[column] & past).sum())} of {int(past.sum())} pixels", fontsize=8)
        for axis in axes[:, column]:
            axis.plot(j, i, "o", markersize=7, markerfacecolor="none", markeredgecolor="black")
            axis.set_xticks([])
            axis.set_yticks([])
    axes[0, 0].set_ylabel("how strongly", fontsize=9)
    axes[1, 0].set_ylabel("at all", fontsize=9)
    return figure


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


def curve(metrics: Sequence[dict[str, Any]], baselines: dict[str, float] | None = None) -> Figure:
    """Training and validation bits/dim against steps, from the lines of a run's metrics.jsonl."""
    figure, axes = new_figure(1, 1, (6.4, 3.8))
    plot = axes[0, 0]
    for key, style in (("train", {"alpha": 0.6, "linewidth": 1}), ("valid", {"marker": "o", "markersize": 3})):
        points = [(line["step"], line[key]) for line in metrics if key in line]
        if points:
            plot.plot(*zip(*points, strict=True), label=key, **style)
    drawn = [line[key] for line in metrics for key in ("train", "valid") if key in line]
    top = sorted(drawn)[int(0.97 * (len(drawn) - 1))] if drawn else 1.0
    for index, (name, value) in enumerate((baselines or {}).items()):
        if value <= top * 1.15:
            plot.axhline(value, color=f"C{index + 3}", linewidth=0.9, linestyle="--", label=f"{name} {value:.2f}")
    if drawn:
        plot.set_ylim(min(drawn) - 0.05 * (top - min(drawn)), top * 1.15)
    plot.set_xlabel("step")
    plot.set_ylabel("bits/dim")
    if drawn:
        plot.legend(fontsize=8)
    plot.grid(alpha=0.3)
    return figure


def save_samples_by_class(pictures: Tensor, levels: int, classes: int, path: Path) -> None:
    """A sheet with one column a class: pictures [N, C, H, W], whose classes go round (0, 1, ..., 0, 1, ...)."""
    grid(pictures, levels, columns=classes).save(path)
