"""From probabilities and noise to values: what all ways of drawing pictures share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError
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
    method: str = "auto"
    """auto (the fastest exact one by rule), cursor, wavefront, guess; all draw the same pictures"""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"seed must not be negative, not {self.seed}.")
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature must be a number and not negative, not {self.temperature}.")
        if self.top_k < 0:
            raise UserError(f"top_k must not be negative, not {self.top_k}.")
        if self.batch_size < 1:
            raise UserError(f"batch_size must be positive, not {self.batch_size}.")


def symbols(stepper: Stepper, noise: Tensor, options: SampleOptions) -> Iterator[tuple[Tensor, Tensor]]:
    """Go on to the end of the pictures with noise [n, C, H, W] in [0, 1). Gives each symbol when it has been pushed:
    its values [n], and the log-probabilities [n, K] that they were drawn from."""
    while (position := stepper.position) is not None:
        row, column, channel = position
        log_pmf = stepper.log_pmf()
        values = choose(log_pmf, noise[:, channel, row, column], options)
        stepper.push(values)
        yield values, log_pmf


def draw(stepper: Stepper, noise: Tensor, options: SampleOptions, steps: Steps | None = None) -> None:
    """Go on to the end of the pictures, as `symbols` does."""
    for pushed, _ in enumerate(symbols(stepper, noise, options), 1):
        if steps is not None and pushed % (stepper.width * stepper.channels) == 0:  # as many as a row, in any order
            steps.to(steps.done + 1)


def begun(model: Model, source: Tensor, conditions: dict[str, Tensor] | None, first: int) -> Stepper:
    """A stepper at symbol `first` of the model's one order, with the earlier ones taken from source [n, C, H, W]: whole
    rows of the order's grid in one parallel pass, what is left one by one."""
    n, channels, height, width = source.shape
    stepper: Stepper = model.stepper(n, conditions, (height, width))
    order, pushed = (model.orders or (None,))[0], 0
    if order is not None:
        columns = order.grid(height, width)[1]
        rows = first // (columns * channels)
        stepper.prefill(order.forth(source)[:, :, :rows])
        pushed = rows * columns * channels
    for values in model.in_sequence(source)[:, pushed:first].unbind(1):
        stepper.push(values)
    return stepper


def choose(log_pmf: Tensor, noise: Tensor, options: SampleOptions) -> Tensor:
    """One value a symbol, [n], by inverting the cumulative distribution of log_pmf [n, K] at noise [n]."""
    if options.temperature == 0:
        return log_pmf.argmax(1)
    scaled = log_pmf.double()
    if options.temperature != 1:  # the likeliest at 0, which no temperature, however small, takes to minus infinity
        scaled = (scaled - scaled.amax(1, keepdim=True)) / options.temperature
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


def chosen(conditions: dict[str, Tensor] | None, which: slice | Tensor) -> dict[str, Tensor] | None:
    """The conditions of some of the pictures."""
    return None if conditions is None else {kind: value[which] for kind, value in conditions.items()}
