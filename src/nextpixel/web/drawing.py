"""Pictures that appear as they are drawn: new ones, and completions."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.model import Model
from nextpixel.tasks.complete import CompleteOptions, Completions, complete
from nextpixel.tasks.drawing import SampleOptions, symbols, uniform_noise
from nextpixel.tasks.sample import classes_of
from nextpixel.web.jobs import Event, Job
from nextpixel.web.pixels import numbers, packed
from nextpixel.web.served import Served, check_class

FRAME_SECONDS = 0.016
IN_ORDER = 3  # number of the random stream from which an order of prediction is drawn


def generate(served: Served, n: int, condition: int | None, options: SampleOptions, job: Job) -> Iterator[Event]:
    """n new pictures: "begin", "frame"s with what was drawn since the last one, "pictures"."""
    check_class(served.model, condition)
    model = _in_one_order(served.model, options)
    labels = classes_of(model, n, condition, options.seed)
    given = None if labels is None else torch.as_tensor(labels).expand(n)
    yield _begin(model, torch.ones(model.shape[1:], dtype=torch.bool), given)
    stepper = model.stepper(n, given)
    noise = uniform_noise(options.seed, range(n), model.shape)
    nats = yield from _frames(model, stepper, noise, options, job)
    yield _pictures(model, stepper.images, nats, exact=True)


def fill(
    served: Served, image: Tensor, known: Tensor, fills: int, condition: int | None, options: SampleOptions, job: Job
) -> Iterator[Event]:
    """Completions of an image [1, C, H, W] of which `known` [H, W] counts: the same events.

    Where what is known comes first in one of the model's orders, completions are drawn symbol by symbol, and come as
    they are drawn. Anything else is left to `nextpixel.complete`, and comes when it is finished.
    """
    if known.all():
        raise UserError("Everything is known: mark what is to be filled in.")
    condition = _class_of(served.model, condition)
    first = int(known.sum()) * served.model.shape[0]
    for model in [served.model.in_order(options.order)] if options.order else served.model.each_order():
        if model.in_sequence(known.expand(model.shape))[:first].all():
            yield from _fill_in_order(model, image, known, fills, condition, options, job)
            return
    done = complete(served.model, image, known, fills, CompleteOptions(**vars(options)), condition=condition)
    model = served.model.in_order(done.order) if len(served.model.order_names) > 1 else served.model
    yield _begin(model, ~known, _labels(condition, fills))
    drawn = model.in_sequence(done.images[0])[:, model.in_sequence((~known).expand(model.shape))]
    yield {"event": "frame", "values": packed(drawn, model.levels), "nats": None}
    yield _pictures(model, done.images[0], done.nats[0], exact=bool(done.exact), **_more(done))


def _fill_in_order(
    model: Model, image: Tensor, known: Tensor, fills: int, condition: int | None, options: SampleOptions, job: Job
) -> Iterator[Event]:
    """Completions of which everything known comes first in the model's one order."""
    yield _begin(model, ~known, _labels(condition, fills))
    stepper = model.stepper(fills, condition)
    for value in model.in_sequence(image[0])[: int(known.sum()) * model.shape[0]]:
        stepper.push(value.expand(fills))
        job.check()
    noise = uniform_noise(options.seed, range(fills), model.shape)
    nats = yield from _frames(model, stepper, noise, options, job)
    yield _pictures(model, stepper.images, nats, exact=True)


def _frames(
    model: Model, stepper: Any, noise: Tensor, options: SampleOptions, job: Job
) -> Generator[Event, None, Tensor]:
    """What is drawn, every few milliseconds; returns −log p of all of it, nats [n]."""
    nats = torch.zeros(len(noise), dtype=torch.float64)
    fresh: list[Tensor] = []
    told = 0.0  # the first symbol is told at once
    for values, log_pmf in symbols(stepper, noise, options):
        job.check()
        nats -= log_pmf.gather(1, values[:, None])[:, 0].double().cpu()
        fresh.append(values)
        now = time.monotonic()
        if now - told >= FRAME_SECONDS:
            told = now
            yield _frame(model, fresh, nats)
            fresh = []
    if fresh:
        yield _frame(model, fresh, nats)
    return nats


def _frame(model: Model, fresh: list[Tensor], nats: Tensor) -> Event:
    return {
        "event": "frame",
        "values": packed(torch.stack(fresh, 1), model.levels),
        "nats": [round(value, 3) for value in nats.tolist()],
    }


def _begin(model: Model, free: Tensor, labels: Tensor | None) -> Event:
    """What is to come: `places` are the positions of its symbols in an image [C, H, W], in their order."""
    at = torch.arange(model.shape[0] * free.numel()).view(model.shape)
    return {
        "event": "begin",
        "shape": list(model.shape),
        "levels": model.levels,
        "places": numbers(model.in_sequence(at)[model.in_sequence(free.expand(model.shape))]),
        "classes": None if labels is None else labels.tolist(),
        "order": model.order_in_words,
    }


def _pictures(model: Model, images: Tensor, nats: Tensor, exact: bool, **more: Any) -> Event:
    """The finished pictures, and −log p of what was drawn of each, given what was known."""
    return {
        "event": "pictures",
        "images": packed(images, model.levels),
        "nats": nats.tolist(),
        "exact": exact,
        **more,
    }


def _more(done: Completions) -> dict[str, Any]:
    """What else is known of completions that are not exact: the number of particles that they are worth."""
    return {} if done.exact else {"ess": done.ess[0].tolist()}


def _labels(condition: int | None, n: int) -> Tensor | None:
    return None if condition is None else torch.full((n,), condition)


def _class_of(model: Model, wanted: int | None) -> int | None:
    """The class that was asked for; a model that has classes must be told one."""
    if model.classes is not None and wanted is None:
        raise UserError("This model is class-conditional: choose the class of the picture.")
    return check_class(model, wanted)


def _in_one_order(model: Model, options: SampleOptions) -> Model:
    """The model in the order that was asked for; of several one drawn from the seed, for all pictures of a request."""
    if options.order:
        return model.in_order(options.order)
    several = model.each_order()
    return several[int(np.random.default_rng([options.seed, 0, IN_ORDER]).integers(len(several)))]
