"""The ways of drawing pictures, all exact and all giving the same pictures, and the rule that picks the fastest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import Tensor

from nextpixel.errors import UserError, did_you_mean
from nextpixel.model import Model
from nextpixel.tasks import guess
from nextpixel.tasks.drawing import SampleOptions, choose
from nextpixel.tasks.progress import Steps

Drawn = tuple[Tensor, Tensor | None]
"""Pictures [n, C, H, W], and the passes that each one took, [n], where there are passes to count."""
Draw = Callable[[Model, dict[str, Tensor] | None, Tensor, SampleOptions, Steps | None], Drawn]
"""Pictures of a model in one order from their conditions (`model.condition_parts`) and noise [n, C, H, W] in [0, 1)."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A way of drawing. `why_not` says of a model why it cannot be drawn from in this way, or None."""

    summary: str
    draw: Draw
    why_not: Callable[[Model], str | None] = lambda model: None


def cursor(
    model: Model,
    conditions: dict[str, Tensor] | None,
    noise: Tensor,
    options: SampleOptions,
    steps: Steps | None = None,
) -> Drawn:
    """Symbol by symbol: each step computes what no step before it has."""
    n, channels, height, width = noise.shape
    stepper, pushed = model.stepper(n, conditions, (height, width)), 0
    while (position := stepper.position) is not None:
        row, column, channel = position
        stepper.push(choose(stepper.log_pmf(), noise[:, channel, row, column], options))
        pushed += 1
        if steps is not None and pushed % (width * channels) == 0:  # as many as a row, in any order
            steps.to(steps.done + 1)
    return stepper.images, None


METHODS = {
    "cursor": Method("symbol by symbol", cursor),
    "guess": Method("guesses of two rows at a time, verified in parallel passes", guess.guess, guess.why_not),
}


def pick(model: Model, n: int, size: tuple[int, int], wanted: str = "auto") -> tuple[str, str]:
    return ("cursor" if wanted == "auto" else wanted), "bla"
