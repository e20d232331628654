"""Draw pictures from a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError, did_you_mean
from nextpixel.images.levels import storage_dtype
from nextpixel.model import Model
from nextpixel.stepping import Stepper
from nextpixel.tasks.progress import Steps


@dataclasses.dataclass(frozen=True)
class SampleOptions:
    """How to draw."""

    seed: int = 0
    """picture i of a seed is the same whatever the number of pictures and the batch"""
    temperature: float = 1.0
    """log-probabilities are divided by this; below 1 the pictures are more typical, 0 takes the likeliest value"""
    top_k: int = 0
    """draw from the k likeliest values only; 0 means all"""
    batch_size: int = 64
    """pictures drawn together"""
    order: str = ""
    """order of prediction, for a model of several; default: drawn for each picture, for completions one that fits"""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"seed must not be negative, not {self.seed}.")
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature must be a number and not negative, not {self.temperature}.")
        if self.top_k < 0:
            raise UserError(f"top_k must not be negative, not {self.top_k}.")
        if self.batch_size < 1:
            raise UserError(f"batch_size must be positive, not {self.batch_size}.")


def sample(
    model: Model,
    n: int = 16,
    options: SampleOptions | None = None,
    *,
    condition: Any = None,
    size: tuple[int, int] | None = None,
    progress: bool = False,
    **overrides: Any,
) -> Tensor:
    """n pictures, integers [n, C, H, W] with the model's levels.

    options or overrides: fields of SampleOptions, such as seed=0, temperature=0.9. condition: one for all or one each,
    as in `model.log_prob`; "each" goes through the classes in turn, None draws the class from the class frequencies.
    size: (H, W) if other than the model's. Same model, seed and options: same pictures, on the same machine. Of a model
    of several orders each picture is drawn in an order of its own, one as likely as the other, so that the pictures are
    draws from the mixture that `log_prob` scores; the option `order` names one for all.
    """
    options = with_overrides(options or SampleOptions(), overrides)
    if n < 0:
        raise UserError(f"The number of pictures must not be negative, not {n}.")
    height, width = size or model.shape[1:]
    if height < 1 or width < 1:
        raise UserError(f"The size of a picture must be positive, not {height}x{width}.")
    conditions = model.condition_parts(_classes(model, n, condition, options.seed), n)
    pictures = torch.zeros(n, model.shape[0], height, width, dtype=storage_dtype(model.levels))
    batches = _in_batches(model.in_order(options.order) if options.order else model, n, options)
    was_training = model.training
    model.eval()
    try:
        with Steps(len(batches) * height, "sampling", unit=" rows", show=progress) as steps:
            for one, numbers in batches:
                stepper = one.stepper(len(numbers), chosen(conditions, torch.tensor(numbers)), (height, width))
                noise = uniform_noise(options.seed, numbers, (model.shape[0], height, width))
                draw(stepper, noise, options, steps)
                pictures[numbers] = stepper.images.cpu().to(pictures.dtype)
    finally:
        model.train(was_training)
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


def draw(stepper: Stepper, noise: Tensor, options: SampleOptions, steps: Steps | None = None) -> None:
    """Go on to the end of the pictures with noise [n, C, H, W] in [0, 1)."""
    pushed = 0
    while (position := stepper.position) is not None:
        row, column, channel = position
        stepper.push(choose(stepper.log_pmf(), noise[:, channel, row, column], options))
        pushed += 1
        if steps is not None and pushed % (stepper.width * stepper.channels) == 0:  # as many as a row, in any order
            steps.to(steps.done + 1)


def choose(log_pmf: Tensor, noise: Tensor, options: SampleOptions) -> Tensor:
    """One value a picture, [n], by inverting the cumulative distribution at noise [n]."""
    if options.temperature == 0:
        return log_pmf.argmax(1)
    scaled = log_pmf.double()
    if options.temperature != 1:
        scaled = scaled / options.temperature
    if options.top_k and options.top_k < scaled.shape[1]:
        kept = scaled.topk(options.top_k, dim=1)  # exactly k, also where several are equally likely
        scaled = torch.full_like(scaled, -torch.inf).scatter(1, kept.indices, kept.values)
    cumulative = torch.softmax(scaled, 1).cumsum(1)
    # The last sum is 1 only up to rounding; scaling the noise by it keeps values without probability out of reach.
    wanted = noise.to(cumulative).unsqueeze(1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, wanted, right=True).squeeze(1).clamp_(max=scaled.shape[1] - 1)


def uniform_noise(seed: int, pictures: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """The noise of these pictures, [n, C, H, W] in [0, 1): each picture has a stream of its own."""
    noise = [np.random.default_rng([seed, index]).random(shape) for index in pictures]
    return torch.from_numpy(np.stack(noise)) if noise else torch.zeros(0, *shape, dtype=torch.float64)


def with_overrides(options: Any, overrides: dict[str, Any]) -> Any:
    """An options dataclass with some fields replaced; UserError for a name it has not."""
    known = [field.name for field in dataclasses.fields(options)]
    for name in overrides:
        if name not in known:
            raise UserError(f"There is no option {name!r}; there are: {', '.join(known)}." + did_you_mean(name, known))
    return dataclasses.replace(options, **overrides)


def chosen(conditions: dict[str, Tensor] | None, which: slice | Tensor) -> dict[str, Tensor] | None:
    """The conditions of some of the pictures."""
    return None if conditions is None else {kind: value[which] for kind, value in conditions.items()}


def _classes(model: Model, n: int, condition: Any, seed: int) -> Any:
    """The condition, with classes chosen where none were given."""
    if model.condition is None or not model.condition.only_classes:
        return None if isinstance(condition, str) else condition
    classes = model.classes or 0
    if isinstance(condition, str):
        if condition != "each":
            raise UserError(f"The condition must be a class, classes, or 'each', not {condition!r}.")
        return torch.arange(n) % classes
    if condition is None:
        prior = model.get_buffer("class_prior").double().cpu().numpy()
        # A stream of its own beside the pictures' noise: pictures stay the same when n grows.
        draws = [np.random.default_rng([seed, index, 1]).random() for index in range(n)]
        drawn = np.searchsorted(np.cumsum(prior / prior.sum()), draws, side="right")
        return torch.from_numpy(np.minimum(drawn, classes - 1))
    return condition
