"""What a model says of a picture: the bits of its pixels, and the distribution of every symbol."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.model import Model
from nextpixel.tasks.score import score
from nextpixel.tasks.scores import Scores
from nextpixel.tasks.threshold import Threshold, verdicts
from nextpixel.web.jobs import Job
from nextpixel.web.limits import VALUES_AT_MOST
from nextpixel.web.pixels import floats
from nextpixel.web.served import Served, bits_per_dim, check_class, class_for, one_order

MOST = 1e9


def surprise(served: Served, image: Tensor, condition: int | None, job: Job) -> dict[str, Any]:
    """Bits of every pixel of an image [1, C, H, W], and how far they are from what the model itself expected: `z` of
    `nextpixel.score`, pixel by pixel and for the whole. Without a class, of the mixture over classes.

    `normal` are the bits/dim of pictures that the model drew itself; `threshold` is what the saved one says, if any.
    """
    model, given = one_order(served.model), check_class(served.model, condition)
    _check_size(model, image)
    found = score(model, image, maps=True, condition=given, complexity=served.threshold is not None)
    assert found.maps is not None
    assert found.pixel_z is not None
    normal = served.normal(job)
    figure = _finite(bits_per_dim(served.model, image))
    lowest, highest = (float(torch.quantile(normal, share)) for share in (0.025, 0.975))
    return {
        "bits": floats(found.maps.bits[0].sum(0)),
        "z": floats(found.pixel_z[0]),
        "total_bits": _finite(found.model.bits),
        "expected_bits": _finite(found.model.entropy),
        "total_z": _finite(found.typicality),
        "bits_per_dim": figure,
        "normal": {
            "low": lowest,
            "high": highest,
            "median": float(normal.median()),
            "pictures": len(normal),
            "values": normal.tolist(),
        },
        "threshold": None if given is not None or served.threshold is None else _verdict(served.threshold, found),
        "class": given,
        "order": model.order_in_words,
    }


def _verdict(threshold: Threshold, found: Scores) -> dict[str, Any]:
    called, p = verdicts(threshold, found)
    return {
        "anomaly": bool(called[0]),
        "p": float(p[0]),
        "score": threshold.score,
        "false_alarms": threshold.false_alarms,
        "n": threshold.n,
        "data": threshold.data,
    }


def _finite(value: Tensor) -> float:
    """JSON has no infinity."""
    return float(value.clamp(-MOST, MOST))


def distributions(served: Served, image: Tensor, condition: int | None, job: Job) -> dict[str, Any]:
    """The distribution of every symbol of an image [1, C, H, W] given the symbols before it: `p` is [C, H, W, K], and
    `places` says where in the order of prediction a pixel comes, [H, W]."""
    model, given = one_order(served.model), class_for(served.model, image, condition)
    _check_size(model, image)
    pmf = model.log_pmf(image, given)[0].exp()
    job.check()
    _, height, width = model.shape
    numbered = torch.arange(height * width).view(1, height, width).expand(model.shape)
    order = model.in_sequence(numbered)
    turn = torch.zeros(height * width, dtype=torch.long)
    turn[order] = torch.arange(len(order)) // model.shape[0]
    return {
        "p": floats(pmf),
        "turns": turn.view(height, width).tolist(),
        "class": given,
        "class_was_guessed": given is not None and condition is None,
        "order": model.order_in_words,
    }


def _check_size(model: Model, image: Tensor) -> None:
    """UserError if the distributions of all symbols are too much for one answer."""
    if image.numel() * model.levels > VALUES_AT_MOST:
        raise UserError(
            f"The distributions of all {image.numel()} symbols over {model.levels} levels are too many for the page."
        )
