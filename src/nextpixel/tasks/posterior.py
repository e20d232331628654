"""p(class | image) by Bayes' rule, from a class-conditional model of images: how often it is right, and how honest.

p(y | x) = p(y) p(x | y) / Σ_y' p(y') p(x | y'), with the class frequencies of the training images as p(y). Nothing is
trained for it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from nextpixel.brief import Brief
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.model import Model, check_model
from nextpixel.tasks.evaluate import check_split
from nextpixel.tasks.progress import Steps

BINS = 10


@dataclasses.dataclass(frozen=True)
class Bin:
    """A row of the reliability table: the images whose highest p(class | x) lies in (low, high]."""

    low: float
    high: float
    images: int
    confidence: float
    """mean of that highest probability"""
    accuracy: float
    """share of the images whose true class it was"""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How good posteriors are on labelled images.

    accuracy: share of the images whose likeliest class is the true one; accuracy_interval: Wilson's interval for it, at
    95 %. log_loss: mean of −ln p(true class | x), nats. brier: mean of Σ_y (p(y | x) − [y is true])². ece: expected
    calibration error, Σ_bins share · |accuracy − confidence| (Guo et al. 2017, "On Calibration of Modern Neural
    Networks"), over the bins of `reliability`, of equal width, those without images left out.
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    log_loss: float
    brier: float
    ece: float
    images: int
    reliability: list[Bin]


@dataclasses.dataclass(frozen=True, repr=False)
class Posterior(Brief):
    """log_prob: log p(class | x), nats, float64 [N, classes]; log_joint: log p(class) p(x | class), whose logsumexp is
    log p(x). calibration: on the true labels, None where there are none."""

    log_prob: Tensor
    log_joint: Tensor
    calibration: Calibration | None

    @property
    def prob(self) -> Tensor:
        """p(class | x), [N, classes]; rows sum to 1."""
        return self.log_prob.exp()

    @property
    def predicted(self) -> Tensor:
        """The likeliest class of each image, [N]."""
        return self.log_prob.argmax(1)


@torch.no_grad()
def posterior(
    model: Model, data: Split | Tensor, *, batch_size: int = 64, bins: int = BINS, progress: bool = False
) -> Posterior:
    """p(class | x) of images, exactly, in one pass a class (and an order of prediction).

    data: a Split, or integers [N, C, H, W]; with labels the answer says how good it is. bins: of the reliability table.
    Raises UserError for a model without classes, and where model and data do not fit.
    """
    check_model(model)
    if model.classes is None:
        raise UserError("The model is not class-conditional: there is no p(class | x). Train with --class-conditional.")
    if model.condition is not None and not model.condition.only_classes:
        raise UserError("p(class | x) is for models of classes alone; this one is also told a vector or a map.")
    if batch_size < 1 or bins < 1:
        raise UserError("batch_size and bins must be positive.")
    images, labels = (data, None) if isinstance(data, Tensor) else (data.images, data.labels)
    if not isinstance(data, Tensor):
        check_split(model, data)
    if len(images) == 0:
        raise UserError("There are no images to find the classes of.")
    prior, found, was_training = model.log_class_prior().cpu(), [], model.training
    model.eval()
    try:
        with Steps(len(images), "finding classes", unit=" images", show=progress) as steps:
            for batch in images.split(batch_size):
                each = torch.stack([one.log_prob_given_classes(batch) for one in model.each_order()]).cpu().double()
                found.append(torch.logsumexp(each, 0) - math.log(len(each)) + prior)
                steps.to(steps.done + len(batch))
    finally:
        model.train(was_training)
    log_joint = torch.cat(found)
    if not torch.isfinite(torch.logsumexp(log_joint, 1)).all():
        raise UserError("The model gives likelihoods that are not finite: its weights are damaged.")
    log_prob = torch.log_softmax(log_joint, 1)
    return Posterior(log_prob, log_joint, None if labels is None else calibration(log_prob, labels, bins))


def calibration(log_prob: Tensor, labels: Tensor, bins: int = BINS) -> Calibration:
    """Of log p(class | x) [N, classes] at the true labels [N]."""
    labels = labels.long().cpu()
    prob, n = log_prob.exp(), len(labels)
    confidence, predicted = prob.max(1)
    right = (predicted == labels).double()
    # (low, high]: a confidence of exactly 1 belongs to the last bin
    which = (confidence * bins).ceil().long().clamp(1, bins) - 1
    table = []
    for number in range(bins):
        inside = which == number
        if inside.any():
            means = float(confidence[inside].mean()), float(right[inside].mean())
            table.append(Bin(number / bins, (number + 1) / bins, int(inside.sum()), *means))
    return Calibration(
        accuracy=float(right.mean()),
        accuracy_interval=wilson(int(right.sum()), n),
        log_loss=-float(log_prob.gather(1, labels[:, None]).mean()),
        brier=float((prob - torch.nn.functional.one_hot(labels, prob.shape[1])).square().sum(1).mean()),
        ece=sum(row.images / n * abs(row.accuracy - row.confidence) for row in table),
        images=n,
        reliability=table,
    )


def wilson(right: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval for a share, right of n (at 95 % by default); it never leaves [0, 1]."""
    share, z2 = right / n, z * z
    centre, half = (share + z2 / (2 * n)), z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z2 / n)), min(1.0, (centre + half) / (1 + z2 / n))


def to_dict(found: Posterior) -> dict[str, Any]:
    """What `--json` writes: the figures, not the images'."""
    return {} if found.calibration is None else dataclasses.asdict(found.calibration)
