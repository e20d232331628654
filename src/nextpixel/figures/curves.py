"""The curve of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nextpixel.figures.style import new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def curve(
    metrics: Sequence[dict[str, Any]],
    baselines: dict[str, float] | None = None,
    *,
    rate: bool = False,
    expected: Mapping[int, float] | None = None,
) -> Figure:
    """Training and validation bits/dim against steps, from the lines of a run's metrics.jsonl; rate: the learning rate
    below; expected: validation bits/dim by step that a recipe promises, dashed."""
    rates = [(line["step"], line["rate"]) for line in metrics if "rate" in line] if rate else []
    figure, axes = new_figure(2 if rates else 1, 1, (6.4, 4.8 if rates else 3.8))
    plot = axes[0, 0]
    if rates:
        plot.get_gridspec().set_height_ratios([4, 1])
        axes[1, 0].plot(*zip(*rates, strict=True), color="#6b6b6b", linewidth=1)
        axes[1, 0].set_ylabel("learning rate")
    for key, style in (("train", {"alpha": 0.6, "linewidth": 1}), ("valid", {"marker": "o", "markersize": 3})):
        points = [(line["step"], line[key]) for line in metrics if key in line]
        if points:
            plot.plot(*zip(*points, strict=True), label=key, **style)
    promised = dict(expected or {})
    if promised:
        plot.plot(list(promised), list(promised.values()), "--", color="#333333", linewidth=1, label="valid, expected")
    if rates:
        axes[1, 0].set_xlim(plot.get_xlim())  # what is expected may reach farther
    drawn = [line[key] for line in metrics for key in ("train", "valid") if key in line] + list(promised.values())
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
