"""What a model says of a picture: the bits of its pixels, and the distribution of every symbol."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.model import Model
from nextpixel.web.jobs import Job
from nextpixel.web.limits import VALUES_AT_MOST
from nextpixel.web.pixels import floats
from nextpixel.web.served import Served, bits_per_dim, class_for, one_order


def surprise(served: Served, image: Tensor, condition: int | None, job: Job) -> dict[str, Any]:
    """Bits of every pixel of an image [1, C, H, W], and how far they are from what the model itself expected.

    Given the pixels before it, the model expects of a symbol the entropy H of its distribution, with a variance V. Of
    pictures that come from the model (Σ bits − H) / √ΣV is about standard normal, whatever the picture: that is `z`,
    pixel by pixel and for the whole. `normal` are the bits/dim of pictures that the model drew itself.
    """
    model, given = one_order(served.model), class_for(served.model, image, condition)
    log_pmf = _log_pmf(model, image, given)
    bits = -log_pmf / math.log(2)
    pmf = log_pmf.exp()
    cost = bits.gather(-1, image[0].long().cpu().unsqueeze(-1)).squeeze(-1)
    finite = torch.where(pmf > 0, bits, torch.zeros_like(bits))
    entropy = (pmf * finite).sum(-1)
    variance = ((pmf * finite**2).sum(-1) - entropy**2).clamp(min=0)
    excess, spread = (cost - entropy).sum(0), variance.sum(0)
    job.check()
    normal = served.normal(job)
    figure = float(bits_per_dim(served.model, image))
    lowest, highest = (float(torch.quantile(normal, share)) for share in (0.025, 0.975))
    return {
        "bits": floats(cost.sum(0)),
        "z": floats(excess / (spread + 1e-4).sqrt()),
        "total_bits": float(cost.sum()),
        "expected_bits": float(entropy.sum()),
        "total_z": float(excess.sum() / (spread.sum() + 1e-12).sqrt()),
        "bits_per_dim": figure,
        "normal": {
            "low": lowest,
            "high": highest,
            "median": float(normal.median()),
            "pictures": len(normal),
            "values": normal.tolist(),
        },
        "above": float((normal >= figure).double().mean()),
        "class": given,
        "class_was_guessed": given is not None and condition is None,
        "order": model.order_in_words,
    }


def distributions(served: Served, image: Tensor, condition: int | None, job: Job) -> dict[str, Any]:
    """The distribution of every symbol of an image [1, C, H, W] given the symbols before it: `p` is [C, H, W, K], and
    `places` says where in the order of prediction a pixel comes, [H, W]."""
    model, given = one_order(served.model), class_for(served.model, image, condition)
    pmf = _log_pmf(model, image, given).exp()
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


def _log_pmf(model: Model, image: Tensor, given: int | None) -> Tensor:
    """[C, H, W, K], float64; UserError if that is too much for one answer."""
    if image.numel() * model.levels > VALUES_AT_MOST:
        raise UserError(
            f"The distributions of all {image.numel()} symbols over {model.levels} levels are too many for the page."
        )
    return model.log_pmf(image, given)[0].double().cpu()
