"""How well a model predicts a split: nats per image and bits/dim, with all that is needed to compare the figure."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import torch

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
    bits_per_dim over the images (None for one image). exact: the figure is −log p(x) itself, not a bound. For a
    class-conditional model p(x) is the marginal Σ_y p(y) p(x|y); given_class is the bits/dim of −log p(x|y) at the true
    class, a smaller number that must not be compared with unconditional models.
    """

    bits_per_dim: float
    nats: float
    stderr: float | None
    nats_stderr: float | None
    exact: bool
    given_class: float | None
    class_accuracy: float | None
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
    given: list[torch.Tensor] = []
    right = 0
    try:
        with Steps(len(data), "evaluating", unit=" images", show=progress) as steps:
            for images, labels in InOrder(data, options.batch_size):
                if model.classes is None:
                    nats.append(-model.log_prob(images).double().cpu())
                else:
                    by_class = model.log_prob_given_classes(images).double().cpu()
                    joint = by_class + model.log_class_prior().cpu()
                    nats.append(-joint.logsumexp(1))
                    if data.labels is not None:
                        truth = condition_of(model, labels)
                        assert truth is not None
                        given.append(-by_class.gather(1, truth[:, None].cpu())[:, 0])
                        right += int((joint.argmax(1) == truth.cpu()).sum())
                steps.to(steps.done + len(images), f"{_bits(torch.cat(nats).mean(), data):.4f} bits/dim,")
    finally:
        model.train(was_training)
    all_nats = torch.cat(nats)
    if not torch.isfinite(all_nats).all():
        raise UserError("The model gives likelihoods that are not finite: its weights are damaged.")
    error = float(all_nats.std() / math.sqrt(len(all_nats))) if len(all_nats) > 1 else None
    training = getattr(model, "card", {}).get("training", {})
    return Evaluation(
        bits_per_dim=_bits(all_nats.mean(), data),
        nats=float(all_nats.mean()),
        stderr=None if error is None else _bits(error, data),
        nats_stderr=error,
        exact=True,
        given_class=_bits(torch.cat(given).mean(), data) if given else None,
        class_accuracy=right / len(all_nats) if given else None,
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


def check_split(model: Model, data: Split) -> None:
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
