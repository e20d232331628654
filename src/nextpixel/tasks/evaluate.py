"""How well a model predicts a split: nats per image and bits/dim, with all that is needed to compare the figure."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import torch

from nextpixel.coding import Codable
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.model import Model, condition_of
from nextpixel.tasks.progress import Steps


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """How to evaluate."""

    batch_size: int = 128
    """images per pass; does not change the figures beyond rounding"""
    limit: int = 0
    """use this many images only, evenly spaced; 0 means all"""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.limit < 0:
            raise UserError("batch_size must be positive and limit must not be negative.")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The figures of one model on one split.

    nats: mean of −log p(x) per image; bits_per_dim: the same divided by ln 2 · C·H·W; stderr: standard error of
    bits_per_dim over the images (None for one image). exact: the figure is −log p(x) itself, not a bound; why: the
    reason. For a class-conditional model p(x) is the marginal Σ_y p(y) p(x|y); given_class is the bits/dim of
    −log p(x|y) at the true class, a smaller number that must not be compared with unconditional models.

    For a model of several orders of prediction p(x) is their even mixture 1/O · Σ_o p(x|o). mean_over_orders is the
    mean of −log p(x|o) over images and orders, bits/dim: what a picture costs in an order drawn at random, never less
    than the mixture; by_order the bits/dim of each order. Both are None for a model of one order.
    """

    bits_per_dim: float
    nats: float
    stderr: float | None
    nats_stderr: float | None
    exact: bool
    why: str
    given_class: float | None
    class_accuracy: float | None
    mean_over_orders: float | None
    by_order: dict[str, float] | None
    images: int
    dims: int
    data: str
    data_sha256: str
    protocol: str
    averaged_weights: bool | None
    family: str
    parameters: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@torch.no_grad()
def evaluate(
    model: Model,
    data: Split,
    options: EvaluateOptions | None = None,
    *,
    progress: bool = False,
    **overrides: Any,
) -> Evaluation:
    """Exact likelihood of every image of `data`, each counted once, summed in float64.

    options or overrides: fields of EvaluateOptions. The model's conditions other than classes are not supported here:
    pass a split with labels for class-conditional models. Raises UserError if model and data do not fit.
    """
    from nextpixel.tasks.batches import InOrder, spaced
    from nextpixel.tasks.sample import with_overrides

    options = with_overrides(options or EvaluateOptions(), overrides)
    check_split(model, data)
    data = spaced(data, options.limit)
    began, was_training = time.monotonic(), model.training
    model.eval()
    nats: list[torch.Tensor] = []
    in_orders: list[torch.Tensor] = []
    given: list[torch.Tensor] = []
    right, prior = 0, torch.zeros(1) if model.classes is None else model.log_class_prior().cpu()
    try:
        with Steps(len(data), "evaluating", unit=" images", show=progress) as steps:
            for images, labels, _ in InOrder(data, options.batch_size):
                each = _given_order_and_class(model, images)
                in_orders.append(-torch.logsumexp(each + prior, 2))
                nats.append(math.log(each.shape[1]) - torch.logsumexp(-in_orders[-1], 1))
                if model.classes is not None and data.labels is not None:
                    by_class = torch.logsumexp(each, 1) - math.log(each.shape[1])
                    truth = condition_of(model, labels)
                    assert truth is not None
                    given.append(-by_class.gather(1, truth[:, None].cpu())[:, 0])
                    right += int(((by_class + prior).argmax(1) == truth.cpu()).sum())
                steps.to(steps.done + len(images), f"{_bits(torch.cat(nats).mean(), data):.4f} bits/dim,")
    finally:
        model.train(was_training)
    all_nats, all_orders = torch.cat(nats), torch.cat(in_orders)
    several = all_orders.shape[1] > 1
    if not torch.isfinite(all_nats).all():
        raise UserError("The model gives likelihoods that are not finite: its weights are damaged.")
    error = float(all_nats.std() / math.sqrt(len(all_nats))) if len(all_nats) > 1 else None
    training = getattr(model, "card", {}).get("training", {})
    return Evaluation(
        bits_per_dim=_bits(all_nats.mean(), data),
        nats=float(all_nats.mean()),
        stderr=None if error is None else _bits(error, data),
        nats_stderr=error,
        exact=model.exact,
        why=model.why,
        given_class=_bits(torch.cat(given).mean(), data) if given else None,
        class_accuracy=right / len(all_nats) if given else None,
        mean_over_orders=_bits(all_orders.mean(), data) if several else None,
        by_order={o.name: _bits(all_orders[:, i].mean(), data) for i, o in enumerate(model.orders)}
        if several
        else None,
        images=len(all_nats),
        dims=math.prod(data.shape),
        data=data.name,
        data_sha256=data.sha256,
        protocol=data.protocol,
        averaged_weights=training.get("averaged"),
        family=model.family,
        parameters=model.parameter_count,
        seconds=time.monotonic() - began,
    )


def _given_order_and_class(model: Model, images: torch.Tensor) -> torch.Tensor:
    """log p(x | o, y) in every order for every class, nats, float64 [N, orders or 1, classes or 1]."""
    each = [
        one.log_prob(images)[:, None] if model.classes is None else one.log_prob_given_classes(images)
        for one in model.each_order()
    ]
    return torch.stack(each, 1).double().cpu()


def check_split(model: Model | Codable, data: Split) -> None:
    """UserError unless the images of `data` are ones that the model can score."""
    if len(data) == 0:
        raise UserError(f"{data.name} holds no images.")
    if data.shape[0] != model.shape[0]:
        raise UserError(f"{data.name} has {data.shape[0]} channels, the model is for {model.shape[0]}.")
    if data.levels != model.levels:
        raise UserError(
            f"{data.name} has {data.levels} levels, the model {model.levels}: load the data with levels={model.levels}."
        )
    if model.classes is not None and data.labels is not None and int(data.labels.max()) >= model.classes:
        raise UserError(f"{data.name} has a label {int(data.labels.max())}, the model {model.classes} classes.")


def _bits(nats: float | torch.Tensor, data: Split) -> float:
    return float(nats) / (math.log(2) * math.prod(data.shape))
