"""Pictures beside the training images nearest to them, and how near that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from nextpixel.figures.style import new_figure, show, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NEIGHBOURS = 10  # pictures shown


@styled
def neighbour_page(
    pictures: Tensor, neighbours: Tensor, distances: Tensor, nearest: Tensor, test_nearest: Tensor, levels: int
) -> Figure:
    """Up to ten pictures [N, C, H, W], below each its nearest training images [N, n, C, H, W] with their distances
    [N, n]; beside them how many of all pictures (`nearest`, [M]) and of test images (`test_nearest`, [T]) are how far
    from the training image nearest to them."""
    pictures, neighbours, distances = (x[:MOST_NEIGHBOURS] for x in (pictures, neighbours, distances))
    count, rows = len(pictures), 1 + neighbours.shape[1]
    figure, axes = new_figure(rows, count + 4, (0.92 * count + 3.6, max(1.12 * rows + 0.3, 2.6)))
    for column in range(count):
        show(axes[0, column], pictures[column], levels)
        for row in range(1, rows):
            shown = f"{distances[column, row - 1]:.2f}"
            show(axes[row, column], neighbours[column, row - 1], levels, shown)
    names = ["drawn", "nearest", *(f"{row}." for row in range(2, rows))]
    for row, name in enumerate(names):
        axes[row, 0].text(-0.15, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center", fontsize=8)
    grid = axes[0, 0].get_gridspec()
    for axis in axes[:, count:].flat:
        axis.remove()
    _spread(figure.add_subplot(grid[:, count:]), nearest, test_nearest)
    return figure


def _spread(axes: Axes, nearest: Tensor, test_nearest: Tensor) -> None:
    top = float(max(nearest.max(), test_nearest.max())) or 1.0
    edges = np.linspace(0, 1.02 * top, 25).tolist()
    for colour, values, name in (("C0", nearest, "drawn"), ("C1", test_nearest, "test images")):
        shares = np.full(len(values), 100 / len(values))
        median = float(values.quantile(0.5))
        axes.hist(values.numpy(), edges, weights=shares, histtype="stepfilled", alpha=0.45, color=colour)
        axes.axvline(median, color=colour, linewidth=1.4, label=f"{name}: median {median:.2f}")
    axes.set_xlabel("distance to the nearest training image, levels")
    axes.set_ylabel("%")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1))
