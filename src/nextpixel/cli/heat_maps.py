"""Heat maps of scored images: what every pixel cost, and by how much that was more than expected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from nextpixel import figures
from nextpixel.errors import UserError
from nextpixel.tasks.scores import Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDEST = 4.0  # of z, beyond which colours do not change
MOST = 8  # images on one page
LONGEST = 18  # letters of a name


def heat_map(images: Tensor, bits: Tensor, z: Tensor, levels: int, titles: list[str]) -> Figure:
    """Each image [N, C, H, W] above the bits [N, H, W] of its pixels and above their z = (bits − H) / √V; N of about 1
    to 8."""
    n = len(images)
    figure, axes = figures.new_figure(3, n, (max(1.3 * n, 2.6) + 1.0, 4.8))
    for column in range(n):
        figures.show(axes[0, column], images[column], levels)
        axes[0, column].set_title(titles[column], fontsize=7)
        cost = axes[1, column].imshow(
            bits[column].numpy(), cmap="inferno", vmin=0, vmax=float(bits.max()), interpolation="nearest"
        )
        excess = axes[2, column].imshow(
            z[column].clamp(-WIDEST, WIDEST).numpy(),
            cmap="coolwarm",
            vmin=-WIDEST,
            vmax=WIDEST,
            interpolation="nearest",
        )
        for axis in axes[1:, column]:
            axis.axis("off")
    figure.colorbar(cost, ax=axes[1, :].tolist(), label="bits per pixel", shrink=0.9)
    figure.colorbar(excess, ax=axes[2, :].tolist(), label="z (red: dearer\nthan expected)", shrink=0.9)
    return figure


def save_heat_maps(out: Path, images: Tensor, scores: Scores, levels: int, by: str) -> str:
    """One page of the images with the highest scores `by` (.png), or a heat map of every image, under its name, in a
    folder (a name without ending); says what was written."""
    z, values = scores.pixel_z, scores.anomaly(by)
    assert z is not None
    assert scores.maps is not None
    bits = scores.maps.bits.sum(1)

    def page(numbers: list[int]) -> Figure:
        titles = [f"{_short(scores.names[i])}\n{by} {float(values[i]):.3g}" for i in numbers]
        return heat_map(images[numbers], bits[numbers], z[numbers], levels, titles)

    try:
        if out.suffix.lower() == ".png":
            out.parent.mkdir(parents=True, exist_ok=True)
            first = values.argsort(descending=True)[:MOST].tolist()
            page(first).savefig(out)
            return f"the {len(first)} highest scores in {out}"
        for number, name in enumerate(scores.names):
            path = out / (name if name.lower().endswith(".png") else f"{name}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            page([number]).savefig(path)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error}).") from error
    return f"one of each image in {out}"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
