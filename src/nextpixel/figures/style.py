"""How all figures look: colours that are told apart in grey and by the colour-blind, small type, no ornaments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from nextpixel.images.pictures import to_uint8

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

SEEN = "#1f4e79"  # dark blue
ALSO = "#5aa9c9"  # middle blue: seen in another way
NEVER = "#f2a65a"  # orange: earlier, and never seen
LATER = "#eeeeee"  # not predicted yet
HERE = "#111111"
NUMBERS = "cividis"  # for quantities
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": "cycler('color', ['#1f4e79', '#d97706', '#5aa9c9', '#6b6b6b', '#8c510a', '#01665e'])",
    "axes.edgecolor": "#555555",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "svg.fonttype": "path",
    "svg.hashsalt": "nextpixel",
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """The house style for as long as a figure is drawn; what the caller has set for other figures stays."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(rc=STYLE):
            return draw(*args, **kwargs)

    return inside


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray[Any, Any]]:
    """A figure that needs no display, and its axes [rows, columns]; size in inches."""
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


def earlier_than(size: tuple[int, int], pixel: tuple[int, int]) -> Tensor:
    """Which pixels come before `pixel` in raster order: bool [H, W]."""
    height, width = size
    return (torch.arange(height * width) < pixel[0] * width + pixel[1]).view(height, width)


def show_field(axes: Axes, seen: Tensor, pixel: tuple[int, int], title: str = "", also: Tensor | None = None) -> None:
    """Draw which earlier pixels are seen (dark) from `pixel` (the ring) and which are not (orange); later ones are
    grey. seen, also: bool [H, W]; also: seen in another way (light)."""
    from matplotlib.colors import to_rgb

    past = earlier_than((seen.shape[0], seen.shape[1]), pixel)
    colours = torch.empty(*seen.shape, 3)
    colours[:] = torch.tensor(to_rgb(LATER))
    colours[past] = torch.tensor(to_rgb(NEVER))
    if also is not None:
        colours[also] = torch.tensor(to_rgb(ALSO))
    colours[seen] = torch.tensor(to_rgb(SEEN))
    show_cells(axes, colours.numpy(), title)
    mark(axes, pixel)


def show_cells(axes: Axes, cells: Any, title: str = "", **options: Any) -> Any:
    """imshow of cells [H, W] or [H, W, 3] with thin lines between them and no scale at the sides."""
    height, width = cells.shape[:2]
    drawn = axes.imshow(cells, interpolation="nearest", **options)
    axes.set_xticks(np.arange(width + 1) - 0.5, labels=[])
    axes.set_yticks(np.arange(height + 1) - 0.5, labels=[])
    axes.grid(color="white", linewidth=0.6)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title)
    return drawn


def mark(axes: Axes, pixel: tuple[int, int], colour: str = HERE) -> None:
    """A ring around a pixel."""
    axes.plot(
        pixel[1], pixel[0], "o", markersize=7, markerfacecolor="white", markeredgecolor=colour, markeredgewidth=1.6
    )


def field_legend(figure: Figure, *, also: str = "", seen: str = "seen", never: str = "never seen") -> None:
    """What the colours of `show_field` mean, below the figure."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    ring = Line2D([], [], linestyle="", marker="o", markersize=7, markerfacecolor="white", markeredgecolor=HERE)
    handles: list[tuple[Any, str]] = [(ring, "predicted pixel"), (Patch(color=SEEN), seen)]
    handles += [(Patch(color=ALSO), also)] if also else []
    handles += [(Patch(color=NEVER), never)] if never else []
    handles += [(Patch(color=LATER), "not known yet")]
    shown, names = zip(*handles, strict=True)
    figure.legend(shown, names, loc="outside lower center", ncols=len(handles), handlelength=1.2, columnspacing=1.4)


@styled
def save_figure(figure: Figure, path: Path, title: str, description: str) -> None:
    """Write a figure as .png or .svg, with its title and what is to be seen as the file's metadata. The same figure
    gives the same bytes."""
    metadata: dict[str, Any] = {"Title": title, "Description": description}
    figure.savefig(path, metadata={**metadata, "Date": None} if path.suffix == ".svg" else metadata)
