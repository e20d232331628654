"""Draw pictures from a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError, check_count
from nextpixel.images import Split
from nextpixel.images.levels import storage_dtype
from nextpixel.model import Model, check_model, check_weights, condition_of
from nextpixel.precision import without_autocast
from nextpixel.tasks.batches import spaced
from nextpixel.tasks.drawing import SampleOptions, chosen, uniform_noise
from nextpixel.tasks.methods import METHODS, pick
from nextpixel.tasks.options import with_overrides
from nextpixel.tasks.progress import Steps

MOST_BYTES = 4 * 2**30  # of the pictures of one call


@without_autocast
def sample(
    model: Model,
    n: int = 16,
    options: SampleOptions | None = None,
    *,
    condition: Any = None,
    size: tuple[int, int] | None = None,
    progress: bool = False,
    tell: Callable[[str], None] | None = None,
    **overrides: Any,
) -> Tensor:
    """n pictures, integers [n, C, H, W] with the model's levels.

    options or overrides: fields of SampleOptions, such as seed=0, temperature=0.9. condition: one for all or one each,
    as in `model.log_prob`; "each" goes through the classes in turn, None draws the class from the class frequencies.
    size: (H, W) if other than the model's. Same model, seed and options: same pictures, on the same machine. Of a model
    of several orders each picture is drawn in an order of its own, one as likely as the other, so that the pictures are
    draws from the mixture that `log_prob` scores; the option `order` names one for all. tell: is called with a sentence
    on the method by which the pictures are drawn and why, before it begins, and one on the passes it took, if any.
    """
    options = with_overrides(options or SampleOptions(), overrides)
    check_model(model)
    check_weights(model)
    n = check_count(n)
    height, width = size or model.shape[1:]
    if height < 1 or width < 1:
        raise UserError(f"The size of a picture must be positive, not {height}x{width}.")
    memory = n * model.shape[0] * height * width * storage_dtype(model.levels).itemsize
    if memory > MOST_BYTES:
        raise UserError(
            f"{n} pictures would take {memory / 1e9:.0f} GB: draw fewer at a time, each with a seed of its own."
        )
    conditions = model.condition_parts(classes_of(model, n, condition, options.seed), n)
    pictures = torch.zeros(n, model.shape[0], height, width, dtype=storage_dtype(model.levels))
    batches = _in_batches(model.in_order(options.order) if options.order else model, n, options)
    passes: list[Tensor] = []
    was_training = model.training
    model.eval()
    try:
        together = max((len(numbers) for _, numbers in batches), default=0)
        method, reason = pick(model, together, (height, width), options.method)
        if tell is not None:
            tell(f"Method: {method} ({METHODS[method].summary}): {reason}.")
        with Steps(len(batches) * height, "sampling", unit=" rows", show=progress) as steps:
            for one, numbers in batches:
                noise = uniform_noise(options.seed, numbers, (model.shape[0], height, width))
                told = chosen(conditions, torch.tensor(numbers))
                images, taken = METHODS[method].draw(one, told, noise, options, steps)
                pictures[numbers] = images.cpu().to(pictures.dtype)
                passes += [] if taken is None else [taken.cpu()]
    finally:
        model.train(was_training)
    if tell is not None and passes:
        taken = torch.cat(passes).double()
        tell(f"Passes: {taken.mean():.1f} a picture, {int(taken.max())} at most, for {pictures[0].numel()} symbols.")
    return pictures


def _in_batches(model: Model, n: int, options: SampleOptions) -> list[tuple[Model, list[int]]]:
    """The pictures 0..n-1 in batches of one order each, with the model in that order."""
    several = model.each_order()
    # A stream of its own, as for the classes: pictures stay the same when n grows.
    count = len(several)
    drawn = [int(np.random.default_rng([options.seed, i, 2]).integers(count)) if count > 1 else 0 for i in range(n)]
    batches: list[tuple[Model, list[int]]] = []
    for number, one in enumerate(several):
        numbers = [index for index in range(n) if drawn[index] == number]
        batches += [(one, numbers[i : i + options.batch_size]) for i in range(0, len(numbers), options.batch_size)]
    return batches


def shown_condition(model: Model, split: Split, n: int) -> tuple[int, Any]:
    """How many pictures to draw, of n, to see what a model does, and their condition: every class in turn, or, for a
    model that is told more than a class, what is known of images of the split."""
    if model.condition is None or model.condition.only_classes:
        return n, "each"
    some = spaced(split, n)
    return len(some), condition_of(model, some.condition())


def classes_of(model: Model, n: int, condition: Any, seed: int) -> Any:
    """The condition, with classes chosen where none were given."""
    if model.condition is None or not model.condition.only_classes:
        return None if isinstance(condition, str) else condition
    classes = model.classes or 0
    if isinstance(condition, str):
        if condition != "each":
            raise UserError(f"The condition must be a class, classes, or 'each', not {condition!r}.")
        return torch.arange(n) % classes
    if condition is None:
        prior = model.get_buffer("class_prior").cpu().double().numpy()
        # A stream of its own beside the pictures' noise: pictures stay the same when n grows.
        draws = [np.random.default_rng([seed, index, 1]).random() for index in range(n)]
        drawn = np.searchsorted(np.cumsum(prior / prior.sum()), draws, side="right")
        return torch.from_numpy(np.minimum(drawn, classes - 1))
    return condition
