"""How much every symbol surprised the model, and how much it should have: from the model's own conditionals, exactly.

With p(v) the model's probability that a symbol has the value v, given those before it, the symbol x costs
b = −log2 p(x) bits. By the model itself b has the expectation H = Σ_v p(v) (−log2 p(v)), the entropy, and the variance
V = Σ_v p(v) log2² p(v) − H². The differences b − H have expectation 0 given all earlier symbols (their sums are a
martingale), so over all symbols Σ(b − H) has expectation 0 and the variance that ΣV has as its expectation: under the
model Σ(b − H) / √ΣV is about standard normal where there are many symbols.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.model import Model

AT_ONCE = 1 << 23
"""log-probabilities held at a time, of all values of all symbols for all classes"""


class Surprise(NamedTuple):
    """Of every symbol, float64 [N, C, H, W]: what it cost, and the expectation and the variance of that."""

    bits: Tensor
    entropy: Tensor
    variance: Tensor


@torch.no_grad()
def surprise(model: Model, x: Tensor, condition: Any = None) -> Surprise:
    """Bits, entropy [bits] and variance [bits²] of every symbol of images [N, C, H, W], in one parallel pass (one a
    class, where a class-conditional model is given none). UserError for a model of several orders of prediction, and
    where probabilities are not numbers. What the model rules out costs infinitely many bits."""
    x = model.check_images(x)
    log_pmf = conditionals(model, x, condition)
    cost = log_pmf / -math.log(2)
    probability = log_pmf.exp()
    # 0 · log² 0 = 0: a value that cannot be adds nothing.
    known = torch.where(probability > 0, cost, 0)
    entropy = (probability * known).sum(-1)
    variance = (probability * (known - entropy[..., None]).square()).sum(-1)
    bits = cost.gather(-1, x.long()[..., None])[..., 0]
    if torch.isnan(bits).any() or not torch.isfinite(variance).all():
        raise UserError("The model gives probabilities that are not numbers: its weights are damaged.")
    return Surprise(bits.cpu(), entropy.cpu(), variance.cpu())


@torch.no_grad()
def conditionals(model: Model, x: Tensor, condition: Any = None) -> Tensor:
    """Log-probabilities of all values of every symbol given the earlier ones, nats, float64 [N, C, H, W, K].

    They are brought to sum to 1 in float64, so that entropies and variances are those of a distribution. Of a
    class-conditional model without a class they are those of the mixture over classes,
    p(x_i | x_<i) = Σ_y p(y | x_<i) p(x_i | x_<i, y).
    """
    if condition is not None or model.classes is None:
        return _normalised(model.log_pmf(x, condition))
    each = torch.stack([_normalised(model.log_pmf(x, label)) for label in range(model.classes)])
    true = each.gather(-1, x.long().expand(len(each), *x.shape)[..., None])[..., 0]
    steps = model.in_sequence(true)  # [classes, N, symbols in the order of prediction]
    before = torch.cat([torch.zeros_like(steps[..., :1]), steps[..., :-1]], -1).cumsum(-1)
    weights = torch.log_softmax(before + model.log_class_prior().to(each)[:, None, None], 0)  # log p(y | x_<i)
    weights = model.from_sequence(weights, (x.shape[2], x.shape[3]))
    return _normalised(torch.logsumexp(weights[..., None] + each, 0))


def images_at_once(model: Model, most: int) -> int:
    """How many images fit into one pass of `surprise`, at most `most`."""
    return max(1, min(most, AT_ONCE // (model.dims * model.levels * (model.classes or 1))))


def calibrated(excess: Tensor, variance: Tensor) -> Tensor:
    """z = excess / √variance, of any shape: mean 0 and variance 1 under the model.

    Where the variance is 0 the model was certain: z is 0 for what it was certain of, and ±∞ for anything else.
    """
    certain = torch.where(excess == 0, 0.0, torch.copysign(torch.full_like(excess, math.inf), excess))
    return torch.where(variance > 0, excess / variance.clamp(min=torch.finfo(excess.dtype).tiny).sqrt(), certain)


def _normalised(log_pmf: Tensor) -> Tensor:
    return torch.log_softmax(log_pmf.double(), -1)
