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
from nextpixel.model import Model, check_model, condition_of
from nextpixel.tasks.options import with_overrides
from nextpixel.tasks.pieces import Pieces, Result, fingerprint, joined
from nextpixel.tasks.processes import first_process
from nextpixel.tasks.progress import Steps


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """How to evaluate."""

    batch_size: int = 128
    """images per pass; does not change the figures beyond rounding"""
    limit: int = 0
    """use this many images only, evenly spaced; 0 means all"""
    work: str = ""
    """folder that keeps finished pieces: go on after an interruption, and share the work under torchrun"""
    piece: int = 1000
    """images a piece has, rounded up to whole batches"""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.limit < 0 or self.piece < 1:
            raise UserError("batch_size and piece must be positive and limit must not be negative.")


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

    With options.work the images are scored in pieces that a folder keeps, by all processes that torchrun started; every
    one of them gets the same figures, those of one process bit for bit.

    options or overrides: fields of EvaluateOptions. A model that is conditioned on a vector or a map (and perhaps a
    class) is evaluated given all of that, as the split has it: −log p(x | condition), no marginal. Raises UserError if
    model and data do not fit.
    """
    from nextpixel.tasks.batches import spaced

    options = with_overrides(options or EvaluateOptions(), overrides)
    check_model(model)
    check_split(model, data)
    data = spaced(data, options.limit)
    began, was_training = time.monotonic(), model.training
    model.eval()
    try:
        scored = _scored_in_pieces(model, data, options, progress)
    finally:
        model.train(was_training)
    all_nats, all_orders = scored["nats"], scored["nats_in_orders"]
    given = scored.get("nats_given_class")
    several = all_orders.shape[1] > 1
    if not torch.isfinite(all_nats).all():
        raise UserError("The model gives likelihoods that are not finite: its weights are damaged.")
    error = float(all_nats.std() / math.sqrt(len(all_nats))) if len(all_nats) > 1 else None
    training = getattr(model, "card", {}).get("training")
    return Evaluation(
        bits_per_dim=_bits(all_nats.mean(), data),
        nats=float(all_nats.mean()),
        stderr=None if error is None else _bits(error, data),
        nats_stderr=error,
        exact=model.exact,
        why=model.why if _marginal(model) else f"{model.why}; given the vectors or maps of the images",
        given_class=None if given is None else _bits(given.mean(), data),
        class_accuracy=None if given is None else int(scored["class_is_right"].sum()) / len(all_nats),
        mean_over_orders=_bits(all_orders.mean(), data) if several else None,
        by_order={o.name: _bits(all_orders[:, i].mean(), data) for i, o in enumerate(model.orders)}
        if several
        else None,
        images=len(all_nats),
        dims=math.prod(data.shape),
        data=data.name,
        data_sha256=data.sha256,
        protocol=data.protocol,
        averaged_weights=training.get("averaged") if isinstance(training, dict) else None,
        family=model.family,
        parameters=model.parameter_count,
        seconds=time.monotonic() - began,
    )


def _scored_in_pieces(model: Model, data: Split, options: EvaluateOptions, progress: bool) -> Result:
    """What `_scored` says of every image, in order."""
    from nextpixel.tasks.batches import InOrder

    size = -(-options.piece // options.batch_size) * options.batch_size  # so that batches are the same, cut or not

    def about() -> dict[str, Any]:
        return {
            "task": "evaluate",
            "model": fingerprint(model),
            "data": data.fingerprint,
            "images a piece": size,
            "images a pass": options.batch_size,
            "device": model.like().device.type,
        }

    pieces, count = Pieces(options.work, about), -(-len(data) // size)
    mine = sum(min(size, len(data) - number * size) for number in pieces.own(count))
    with Steps(mine, "evaluating", unit=" images", show=progress and first_process()) as steps:
        total = 0.0

        def piece(number: int) -> Result:
            nonlocal total
            found = []
            for images, told, _ in InOrder(data[number * size : (number + 1) * size], options.batch_size):
                found.append(_scored(model, images, told))
                total += float(found[-1]["nats"].sum())
                done = steps.done + len(images)
                steps.to(done, f"{_bits(total / done, data):.4f} bits/dim,")
            return joined(found)

        return joined(list(pieces.results("nats", count, piece, steps)))


def _marginal(model: Model) -> bool:
    """Whether the figure is −log p(x), nothing else being given."""
    return model.condition is None or model.condition.only_classes


def _scored(model: Model, images: torch.Tensor, told: dict[str, torch.Tensor]) -> Result:
    """Of each image, in float64 on the CPU: "nats" [N], "nats_in_orders" [N, orders or 1], and of a model with classes,
    where there are labels, "nats_given_class" [N] and "class_is_right" [N]."""
    if not _marginal(model):
        condition = condition_of(model, told)
        given = torch.stack([one.log_prob(images, condition) for one in model.each_order()], 1).cpu().double()
        return {"nats": math.log(given.shape[1]) - torch.logsumexp(given, 1), "nats_in_orders": -given}
    each = _given_order_and_class(model, images)
    prior = torch.zeros(1) if model.classes is None else model.log_class_prior().cpu()
    in_orders = -torch.logsumexp(each + prior, 2)
    found = {"nats": math.log(each.shape[1]) - torch.logsumexp(-in_orders, 1), "nats_in_orders": in_orders}
    if model.classes is not None and "class" in told:
        truth = told["class"]
        by_class = torch.logsumexp(each, 1) - math.log(each.shape[1])
        found["nats_given_class"] = -by_class.gather(1, truth[:, None].cpu())[:, 0]
        found["class_is_right"] = (by_class + prior).argmax(1) == truth.cpu()
    return found


def _given_order_and_class(model: Model, images: torch.Tensor) -> torch.Tensor:
    """log p(x | o, y) in every order for every class, nats, float64 [N, orders or 1, classes or 1]."""
    each = [
        one.log_prob(images)[:, None] if model.classes is None else one.log_prob_given_classes(images)
        for one in model.each_order()
    ]
    return torch.stack(each, 1).cpu().double()


def check_split(model: Model | Codable, data: Split) -> None:
    """UserError unless the images of `data` are ones that the model can score."""
    if not isinstance(data, Split):
        raise UserError(f"Images must be a part of a data set, such as data.test, not a {type(data).__name__}.")
    if len(data) == 0:
        raise UserError(f"{data.name} holds no images.")
    if data.shape[0] != model.shape[0]:
        raise UserError(f"{data.name} has {data.shape[0]} channels, the model is for {model.shape[0]}.")
    if data.levels != model.levels:
        raise UserError(
            f"{data.name} has {data.levels} levels, the model {model.levels}: load the data with levels={model.levels} "
            f"(--levels {model.levels})."
        )
    if model.classes is not None and data.labels is not None and int(data.labels.max()) >= model.classes:
        raise UserError(f"{data.name} has a label {int(data.labels.max())}, the model {model.classes} classes.")


def _bits(nats: float | torch.Tensor, data: Split) -> float:
    return float(nats) / (math.log(2) * math.prod(data.shape))
