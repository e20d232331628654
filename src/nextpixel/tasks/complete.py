"""Fill in what is missing of a picture, given everything before it in the order in which the model predicts."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images.levels import storage_dtype
from nextpixel.model import Model
from nextpixel.stepping import Stepper
from nextpixel.tasks.drawing import SampleOptions, choose, chosen, uniform_noise
from nextpixel.tasks.progress import Steps
from nextpixel.tasks.sample import with_overrides


@dataclasses.dataclass(frozen=True)
class Completions:
    """images: integers [N, fills, C, H, W]; nats: −log p(filled part | known part), [N, fills]; exact: the fills are
    draws from exactly that distribution."""

    images: Tensor
    nats: Tensor
    exact: bool


@torch.no_grad()
def complete(
    model: Model,
    images: Tensor,
    known: int | Tensor,
    fills: int = 1,
    options: SampleOptions | None = None,
    *,
    condition: Any = None,
    progress: bool = False,
    **overrides: Any,
) -> Completions:
    """Complete pictures [N, C, H, W] of which only the `known` part counts.

    known: the number of known rows, or a bool mask [H, W] whose known pixels come before all others in the order in
    which the model predicts them: in raster order full rows, then the left part of one more; of a multi-scale model the
    small picture (all of it: super-resolution), then the first of the others. Of a model of several orders the first
    one is taken in which the mask is of that kind, or the one that the option `order` names. fills: different
    completions per picture. Whole known rows of the order's grid are taken in in one pass. Raises UserError for any
    other mask: pixels known later in the order would have to be ignored.
    """
    options = with_overrides(options or SampleOptions(), overrides)
    if options.method not in ("auto", "cursor"):
        raise UserError(f"Pictures are completed symbol by symbol (cursor), not by the method {options.method!r}.")
    images = model.check_images(images)
    n, channels, height, width = images.shape
    model, first = _known_first(model, known, height, width, options.order)
    order = model.orders[0] if model.orders else None
    columns = order.grid(height, width)[1] if order else width
    rows = first // (columns * channels) if order else 0  # known ones of the order's own grid
    if fills < 1:
        raise UserError(f"fills must be at least 1, not {fills}.")
    if model.classes is not None and condition is None:
        raise UserError("This model is class-conditional: say the class of each picture, for example condition=labels.")
    conditions = model.condition_parts(condition, n)
    was_training = model.training
    model.eval()
    filled = torch.zeros(n * fills, channels, height, width, dtype=storage_dtype(model.levels))
    nats = torch.zeros(n * fills, dtype=torch.float64)
    try:
        with Steps(
            -(-n * fills // options.batch_size) * (height - first // (width * channels)),
            "completing",
            unit=" rows",
            show=progress,
        ) as steps:
            for start in range(0, n * fills, options.batch_size):
                numbers = torch.arange(start, min(start + options.batch_size, n * fills))
                source = images[numbers // fills]
                stepper = model.stepper(len(numbers), chosen(conditions, numbers // fills), (height, width))
                if order:
                    stepper.prefill(order.forth(source)[:, :, :rows])
                for values in model.in_sequence(source)[:, rows * columns * channels : first].unbind(1):
                    stepper.push(values)
                noise = uniform_noise(options.seed, range(start, start + len(numbers)), (channels, height, width))
                nats[numbers] = _fill(stepper, channels * height * width - first, noise, options, steps)
                filled[numbers] = stepper.images.cpu().to(filled.dtype)
    finally:
        model.train(was_training)
    return Completions(filled.view(n, fills, *images.shape[1:]), nats.view(n, fills), exact=True)


def _fill(stepper: Stepper, left: int, noise: Tensor, options: SampleOptions, steps: Steps) -> Tensor:
    """`left` symbols to the end of the pictures; what they cost, nats [n]."""
    nats = torch.zeros(stepper.n, dtype=torch.float64)
    while (position := stepper.position) is not None:
        row, column, channel = position
        log_pmf = stepper.log_pmf()
        values = choose(log_pmf, noise[:, channel, row, column], options)
        nats -= log_pmf.gather(1, values[:, None])[:, 0].double().cpu()
        stepper.push(values)
        left -= 1
        if left % (stepper.width * stepper.channels) == 0:  # as many as a row, in any order
            steps.to(steps.done + 1)
    return nats


def _known_first(model: Model, known: int | Tensor, height: int, width: int, order: str) -> tuple[Model, int]:
    """The model in an order in which what is known comes first, and how many symbols that is."""
    if isinstance(known, int):
        if not 0 <= known < height:
            raise UserError(f"The number of known rows must be between 0 and {height - 1}, not {known}.")
        known = torch.arange(height)[:, None].expand(height, width) < known
    if known.shape != (height, width):
        raise UserError(
            f"The mask must have the picture's size {height}x{width}, not {'x'.join(map(str, known.shape))}."
        )
    mask = known.bool().expand(model.shape[0], height, width)
    count = int(mask.sum())
    if count == mask.numel():
        raise UserError("Everything is known: there is nothing to complete.")
    model = model.in_order(order) if order else model
    for one in model.each_order():
        if one.in_sequence(mask)[:count].all():
            return one, count
    raise UserError(
        f"The known pixels must come before all others in {model.order_in_words}; pixels known later in it "
        "cannot be taken into account."
    )
