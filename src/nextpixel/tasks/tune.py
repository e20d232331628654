"""Freeze a model after a short training with the roundings of its frozen form, where freezing alone costs too much."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from typing import Any, Literal

import torch

from nextpixel.errors import UserError
from nextpixel.exact import ExactModel, check_form, check_freezable, cost_percent, frozen, nats, simulated
from nextpixel.images import Dataset
from nextpixel.model import condition_of
from nextpixel.tasks.acceleration import keep_freed_memory
from nextpixel.tasks.batches import Batches, spaced
from nextpixel.tasks.evaluate import check_split
from nextpixel.tasks.options import with_overrides
from nextpixel.tasks.progress import Steps

AVERAGED = 0.2  # share of the steps over which weights are averaged
LOOKS = 6  # how often the averaged weights so far are tried


@dataclasses.dataclass(frozen=True)
class TuneOptions:
    """How to tune a model to its frozen form."""

    steps: int = 100
    """training steps; each takes about three times as long as one of ordinary training"""
    batch_size: int = 16
    """images per step"""
    learning_rate: float = 5e-5
    """of Adam, at the start; it falls to 0 along a cosine"""
    seed: int = 0
    """of the order of the images"""
    images: int = 256
    """of the validation split on which the cost is measured; as many others choose among the weights on the way"""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.images < 1:
            raise UserError("steps, batch_size and images must be positive.")
        if not 0 < self.learning_rate < 1:
            raise UserError(f"learning_rate must be above 0 and below 1, not {self.learning_rate}.")
        if self.seed < 0:
            raise UserError("seed must not be negative.")


def tune(
    model: Any,
    data: Dataset,
    options: TuneOptions | None = None,
    *,
    form: Literal["float32", "float64"] = "float32",
    progress: bool = False,
    **overrides: Any,
) -> ExactModel:
    """A frozen model, as `freeze` makes one, of weights that were trained for a few steps to be rounded.

    Every step freezes the weights as they are and computes with the frozen network's own integers; the gradients are
    those of the network in floating point at the same activations. What is made small is ½(log p − log q)² of every
    symbol, p being the trained model: about the bits that are lost, and no noise where nothing is lost, as the
    likelihood itself would have. It is a copy that is trained; `model` is not changed. Of the averages of weights tried
    on the way those are kept that cost least on images of data.valid that
    nothing is trained on; on others of data.valid the cost is measured, in per cent of the bits of `model`, before
    and after: `card["freezing"]`. options or overrides: fields of TuneOptions. Same model, data and seed: same result,
    on the same machine.

    UserError for what cannot be frozen in that form.
    """
    options = with_overrides(options or TuneOptions(), overrides)
    if isinstance(model, ExactModel):
        raise UserError("This model is frozen already: tune the model that it was made from.")
    check_freezable(model)
    check_form(form)
    if not isinstance(data, Dataset):
        raise UserError("Tuning learns from images and measures on others: give a whole data set, not a part.")
    check_split(model, data.train)
    check_split(model, data.valid)
    if len(data.valid) < 2:
        raise UserError(f"{data.valid.name} must have two images at least: to choose weights by, and to measure on.")
    held = spaced(data.valid, 2 * options.images)
    measured, choosing = held[::2], held[1::2]
    keep_freed_memory()

    trained, tuned, averaged = (copy.deepcopy(model).eval() for _ in range(3))
    exact = frozen(tuned, form)
    untuned = cost_percent(trained, exact, measured)
    best, least = exact, nats(exact, choosing)
    parameters = list(tuned.requires_grad_(True).parameters())
    optimiser = torch.optim.Adam(parameters, lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step / options.steps))
    done = 0
    epochs = itertools.repeat(Batches(data.train, options.batch_size, options.seed, lambda: done))
    with Steps(options.steps, "tuning", unit=" steps", show=progress) as bar:
        for images, told, _ in itertools.islice(itertools.chain.from_iterable(epochs), options.steps):
            given = condition_of(tuned, told)
            with torch.no_grad():
                wanted = trained.log_prob_per_symbol(images, given)
            lost = simulated(tuned, exact).log_prob_per_symbol(images, given) - wanted
            loss = lost.square().mean() / (2 * math.log(2))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            done += 1
            with torch.no_grad():
                weight = max(1 / (1 + done), 1 / (1 + AVERAGED * options.steps))
                torch._foreach_lerp_(list(averaged.parameters()), parameters, weight)
            exact = frozen(tuned, exact.formats)
            if done % max(1, options.steps // LOOKS) == 0 or done == options.steps:
                attempt = frozen(averaged, exact.formats)
                found = nats(attempt, choosing)
                if found < least:
                    best, least = attempt, found
            bar.to(done, f"{float(loss.detach()):.5f} bits/dim lost,")
    best.card["freezing"] = {
        "form": form,
        "cost_percent": cost_percent(trained, best, measured),
        "untuned_percent": untuned,
        "images": len(measured),
        "tuning": {**dataclasses.asdict(options), "data": data.name},
    }
    return best


def _rate(done: float) -> float:
    """The learning rate, as a share of the highest, when this share of the steps is done: Adam's first steps go as far
    in every weight, whatever the gradients, and would lose what the model knows."""
    warm = 0.2
    return (done + 0.01) / warm if done < warm else 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))
