"""The ways of drawing pictures, all exact and all giving the same pictures, and the rule that picks the fastest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import Tensor

from nextpixel.errors import UserError, did_you_mean
from nextpixel.image_model import ImageModel
from nextpixel.model import Model
from nextpixel.multiscale import MultiScaleModel
from nextpixel.stepping import replays
from nextpixel.tasks import guess
from nextpixel.tasks.drawing import SampleOptions, choose, draw
from nextpixel.tasks.progress import Steps
from nextpixel.wavefront import Wavefront

Drawn = tuple[Tensor, Tensor | None]
"""Pictures [n, C, H, W], and the passes that each one took, [n], where it is passes that are made."""
Draw = Callable[[Model, dict[str, Tensor] | None, Tensor, SampleOptions, Steps | None], Drawn]
"""Pictures of a model in one order from their conditions (`model.condition_parts`) and noise [n, C, H, W] in [0, 1).
`steps` counts rows: it is taken on by H, according to the symbols that are done."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A way of drawing. `why_not` says why there is none of a model's pictures in this way, or None."""

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
    stepper = model.stepper(len(noise), conditions, (noise.shape[2], noise.shape[3]))
    draw(stepper, noise, options, steps)
    return stepper.images, None


def wavefront(
    model: Model,
    conditions: dict[str, Tensor] | None,
    noise: Tensor,
    options: SampleOptions,
    steps: Steps | None = None,
) -> Drawn:
    """Diagonal by diagonal: each step makes all pixels whose context is ready."""
    n, _, height, width = noise.shape
    assert isinstance(model, ImageModel)  # or why_not was not asked
    wave = Wavefront(model, n, conditions, (height, width))
    places = wave.by_position(noise)
    began, done = 0 if steps is None else steps.done, 0
    while (here := wave.here) is not None:
        positions, channel = here
        values = choose(wave.log_pmf(), places[positions, :, channel].flatten(), options)
        wave.push(values)
        done += len(values)
        if steps is not None:
            steps.to(began + done * height // noise.numel())
    return wave.images, None


def no_wavefront(model: Model) -> str | None:
    """Why a model cannot be drawn from diagonal by diagonal, or None."""
    if isinstance(model, ImageModel) and model.network.slope is not None:
        return None
    return f"the family {model.family} needs finished rows above a pixel"


METHODS = {
    "cursor": Method("symbol by symbol", cursor),
    "wavefront": Method("diagonal by diagonal", wavefront, no_wavefront),
    "guess": Method("guesses, verified in parallel passes", guess.guess, guess.why_not),
}

FEW = {"cpu": 2}
"""pictures at a time, by device, up to which a pass over a guess is cheaper than many steps"""
FEW_ELSEWHERE = 16
"""the same on devices where nothing was measured"""


def pick(model: Model, n: int, size: tuple[int, int], wanted: str = "auto") -> tuple[str, str]:
    """The method by which n pictures of size (H, W) are drawn at a time, and why.

    wanted: its name, or "auto" for the fastest by rule: the wavefront, where the family has one; guesses, if the model
    has two levels, its steps are not replayed by compiled kernels, and pictures are few; else the Cursor. On CPUs it is
    measured (docs/results.md). The wavefront won wherever it was tried, with 1 to 256 pictures. 28×28 binary pictures
    take 20 to 50 passes instead of 784 steps; replayed steps are faster than that all the same, and so are steps that
    many pictures share. With 17 levels of 8×8 pictures the passes are a quarter of the steps, and little is won. On
    GPUs, where no steps are replayed and a pass takes hardly more calls than a step, guesses should win up to
    larger batches; nothing was measured there, and the limit of 16 pictures is an estimate. The model must be
    in eval mode. UserError for a method that does not exist or cannot draw from the model.
    """
    if wanted != "auto":
        if wanted not in METHODS:
            known = ["auto", *METHODS]
            raise UserError(
                f"There is no method {wanted!r} of drawing; there are: {', '.join(known)}."
                + did_you_mean(wanted, known)
            )
        refusal = METHODS[wanted].why_not(model)
        if refusal:
            raise UserError(f"The method {wanted} cannot draw from this model: {refusal}; use method='auto'.")
        return wanted, "as asked"
    if METHODS["wavefront"].why_not(model) is None:
        return "wavefront", "its context allows all pixels of a diagonal at once"
    few = FEW.get(model.like().device.type, FEW_ELSEWHERE)
    if METHODS["guess"].why_not(model):
        return "cursor", "the model allows no other method"
    if model.levels > 2:
        return "cursor", "of more than two levels too few are guessed right"
    if n > few:
        return "cursor", f"with more than {few} pictures at a time a step costs less than the passes it saves"
    if _replays(model, size):
        return "cursor", "its steps are replayed by compiled kernels"
    return "guess", f"no more than {few} pictures at a time, of two levels, whose steps are not replayed"


def _replays(model: Model, size: tuple[int, int]) -> bool:
    network = model.large if isinstance(model, MultiScaleModel) else model
    return isinstance(network, ImageModel) and replays(network, size)
