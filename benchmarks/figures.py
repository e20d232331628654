"""What benchmarks.pictures draws: figures against compute and against levels, and rows of samples."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

import nextpixel as npx
from benchmarks.multiply_adds import TRAINING, multiply_adds
from benchmarks.protocols import PROTOCOLS
from nextpixel.figures.style import new_figure, styled
from nextpixel.images.pictures import grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHAPES = {"digits": ((1, 8, 8), 17), "binarized_mnist": ((1, 28, 28), 2)}
NAMES = {"digits": "Digits", "binarized_mnist": "Fixed binarised MNIST"}
COLOURS = "tab10"  # one a family, the same in all panels; other sizes of a family are dashed


@styled
def compute(cards: list[dict[str, Any]]) -> Figure:
    """The best validation figure so far of every training against the processor time and the multiply-adds until then;
    a dot is the test figure, at the epoch that was best on validation."""
    from matplotlib import colormaps

    first = {label.partition(",")[0]: label for protocol in PROTOCOLS.values() for label in protocol.models}
    colours = {name: colormaps[COLOURS](index) for index, name in enumerate(first)}
    shown = [name for name in PROTOCOLS if any(card["data"] == name for card in cards)]
    figure, axes = new_figure(len(shown), 2, (10, 3.7 * len(shown)))
    for row, name in enumerate(shown):
        mine = [card for card in cards if card["data"] == name]
        for card in mine:
            done, best = _so_far(card)
            operations = TRAINING * multiply_adds(_model(card)) * card["training"]["batch_size"]
            for axis, each in ((axes[row, 0], card["cpu_seconds"] / done[-1]), (axes[row, 1], operations)):
                label = card["label"] if card["seed"] == 0 else None
                base, _, more = card["label"].partition(",")
                look: dict[str, Any] = {"color": colours[base], "linestyle": "--" if more else "-"}
                axis.plot(each * done, best, linewidth=1.2, alpha=0.8, label=label, **look)
                axis.plot(each * done[best.argmin()], card["test"]["bits_per_dim"], "o", markersize=5, **look)
        for axis, what in ((axes[row, 0], "processor seconds"), (axes[row, 1], "multiply-adds")):
            axis.set_xscale("log")
            axis.set_xlabel(f"{what} of training")
            axis.set_ylabel("bits/dim")
            axis.grid(alpha=0.3)
            _close_up(axis, mine)
        axes[row, 0].set_title(f"{NAMES[name]}: validation so far (lines), test (dots)", loc="left")
        axes[row, 1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _so_far(card: dict[str, Any]) -> tuple[Any, Any]:
    """Steps, and the lowest validation figure up to each."""
    steps = np.array([line["step"] for line in card["valid"]])
    return steps, np.minimum.accumulate([line["valid"] for line in card["valid"]])


def _close_up(axis: Axes, cards: list[dict[str, Any]]) -> None:
    """The first epochs are far above what is to be compared."""
    tests = [card["test"]["bits_per_dim"] for card in cards]
    low, high = min(tests), max(tests)
    bottom, top = low - 0.06 * (high - low or 1), high + 0.15 * (high - low or 1)
    axis.set_ylim(bottom, top)
    points = np.concatenate([np.asarray(line.get_xydata()) for line in axis.lines])
    inside = points[points[:, 1] <= top, 0]
    axis.set_xlim(inside.min() / 1.3, inside.max() * 1.3)


def _model(card: dict[str, Any]) -> Any:
    shape, levels = SHAPES[card["data"]]
    build = npx.build_multiscale if "scale" in card["options"] else npx.build
    return build(card["family"], shape=shape, levels=levels, **card["options"])


@styled
def by_levels(cards: list[dict[str, Any]], simple: dict[int, dict[str, float]], shown: dict[str, str]) -> Figure:
    """Bits/dim of the models and of simple codes against the number of levels; and the share of log2 K."""
    figure, axes = new_figure(1, 2, (10, 3.8))
    series: dict[str, dict[int, float]] = {}
    for card in cards:
        name = "Gated PixelCNN" + (", logistic mixture" if card["head"] == "logistic_mixture" else "")
        series.setdefault(name, {})[card["levels"]] = card["test"]["bits_per_dim"]
    for code, name in shown.items():
        series[name] = {levels: found[code] for levels, found in sorted(simple.items()) if code in found}
    for name, points in series.items():
        ours = name.startswith("Gated")
        style: dict[str, Any] = {"marker": "o" if ours else ".", "linewidth": 1.8 if ours else 1.0}
        if "mixture" in name:
            style |= {"linestyle": "", "markerfacecolor": "none", "markersize": 9}
        levels, bits = list(points), list(points.values())
        axes[0, 0].plot(levels, bits, label=name, **style)
        axes[0, 1].plot(levels, [b / math.log2(k) for k, b in points.items()], label=name, **style)
    ticks = [2**power for power in range(1, 9)]
    for axis, what in ((axes[0, 0], "test bits/dim"), (axes[0, 1], "share of log₂ K")):
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [str(levels) for levels in ticks])
        axis.set_xlabel("grey levels K")
        axis.set_ylabel(what)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(loc="upper left")
    return figure


@dataclasses.dataclass(frozen=True)
class Row:
    """Samples [n, C, H, W] of one model, what it is called, and its figure."""

    name: str
    figure: str
    order: float
    pictures: Tensor
    levels: int


@styled
def sample_rows(rows: list[Row]) -> Figure:
    """A row of samples for each model."""
    count = len(rows[0].pictures)
    figure, axes = new_figure(len(rows), 1, (0.48 * count + 1.9, 0.56 * len(rows)))
    for axis, row in zip(axes[:, 0], rows, strict=True):
        strip = grid(row.pictures, row.levels, columns=count, zoom=2)
        axis.imshow(np.asarray(strip), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_anchor("W")  # where the layout leaves room for the words
        axis.set_ylabel(f"{row.name}\n{row.figure}", rotation=0, ha="right", va="center", fontsize=8)
    return figure
