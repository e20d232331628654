"""Score images: how badly the model expected them, looked at in several ways (`tasks/scores.py` says which)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.model import Model, condition_of
from nextpixel.orders import shortened
from nextpixel.tasks.codecs import file_bits
from nextpixel.tasks.drawing import chosen
from nextpixel.tasks.evaluate import check_split
from nextpixel.tasks.normality import Normality
from nextpixel.tasks.progress import Steps
from nextpixel.tasks.sample import with_overrides
from nextpixel.tasks.scores import Scores, Sums
from nextpixel.tasks.surprise import Surprise, images_at_once, surprise


@dataclasses.dataclass(frozen=True)
class ScoreOptions:
    """How to score."""

    batch_size: int = 64
    """images per pass, fewer where their log-probabilities would take too much memory"""
    complexity: bool = True
    """also the score that is corrected by the length of the image as a PNG or WebP file"""
    given_class: bool = False
    """score each image given its true class, not under the mixture of all classes"""
    order: str = ""
    """order of prediction, for a model of several"""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size must be positive, not {self.batch_size}.")


@torch.no_grad()
def score(
    model: Model,
    data: Split | Tensor,
    options: ScoreOptions | None = None,
    *,
    against: Model | None = None,
    maps: bool = False,
    names: list[str] | None = None,
    normality: Normality | None = None,
    condition: Any = None,
    progress: bool = False,
    **overrides: Any,
) -> Scores:
    """Score images by all means that are at hand.

    data: a Split, or integers [N, C, H, W], of the model's size and levels. options or overrides: fields of
    ScoreOptions. against: a second model for images of the same size and levels, as the background of the ratio: one of
    the family `local`, or one trained on perturbed images. maps: also keep bits, H and V of every symbol. names: of the
    images; default: their numbers. normality: normal images to compare with (`calibrated_on` makes it). condition: one
    for all images or one each, for models of vectors or maps; a class-conditional model is otherwise scored as the
    mixture over its classes, symbol by symbol. Raises UserError where these do not fit.
    """
    options = with_overrides(options or ScoreOptions(), overrides)
    images, labels = check(model, data)
    if names is not None and len(names) != len(images):
        raise UserError(f"There are {len(images)} images but {len(names)} names: give one each.")
    if against is not None and (against.shape, against.levels) != (model.shape, model.levels):
        raise UserError(
            f"The model is for images of {model.shape} with {model.levels} levels, the one to compare with for "
            f"{against.shape} with {against.levels}: they must be equal."
        )
    if options.given_class:
        if condition is not None or model.classes is None:
            raise UserError("given_class is for class-conditional models, and without another condition.")
        condition = condition_of(model, labels)
    filed = file_bits(images, model.levels) if options.complexity and _can_be_files(model) else {}
    total = len(images) * (1 if against is None else 2)
    with Steps(total, "scoring", unit=" images", show=progress) as steps:
        own, kept = _sums(_one_order(model, options.order), images, condition, options, steps, maps)
        other = None
        if against is not None:
            told = condition if against.classes == model.classes else None
            other, _ = _sums(_one_order(against, ""), images, told, options, steps, False)
    called = names or [str(number) for number in range(len(images))]
    return Scores(own, other, filed, kept, model.dims, called, labels, normality)


def check(model: Model, data: Split | Tensor) -> tuple[Tensor, Tensor | None]:
    """Images and labels, if the model can score them; UserError if not."""
    if isinstance(data, Tensor):
        images, labels = model.check_images(data).cpu(), None
    else:
        check_split(model, data)
        images, labels = data.images, data.labels
    if len(images) == 0:
        raise UserError("There are no images to score.")
    if tuple(images.shape[2:]) != model.shape[1:]:
        (h, w), (mh, mw) = images.shape[2:], model.shape[1:]
        raise UserError(
            f"The images are {h}x{w}, the model is for {mh}x{mw} (height x width): bring them to its size "
            f"(size=({mh}, {mw}), --size {mh}x{mw})."
        )
    return images, labels


def _can_be_files(model: Model) -> bool:
    return model.shape[0] in (1, 3) and model.levels <= 256


def _one_order(model: Model, order: str) -> Model:
    """The model in one order of prediction: entropies are those of one chain of conditionals."""
    if order:
        return model.in_order(order)
    if len(model.order_names) > 1:
        raise UserError(
            f"The model predicts in {len(model.order_names)} orders ({shortened(list(model.order_names))}), and scores "
            f"are those of one: name it (order={model.order_names[0]!r}, --order {model.order_names[0]})."
        )
    return model


def _sums(
    model: Model, images: Tensor, condition: Any, options: ScoreOptions, steps: Steps, keep: bool
) -> tuple[Sums, Surprise | None]:
    """Sums over symbols, and the symbols' own numbers if they are to be kept."""
    marginal = condition is None and model.classes is not None
    conditions = None if marginal else model.condition_parts(condition, len(images))
    size = images_at_once(model, options.batch_size)
    sums: list[list[Tensor]] = [[], [], []]
    kept: list[Surprise] = []
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(images), size):
            numbers = torch.arange(start, min(start + size, len(images)))
            part = surprise(model, images[numbers], chosen(conditions, numbers))
            for whole, value in zip(sums, part, strict=True):
                whole.append(value.flatten(1).sum(1))
            kept += [part] if keep else []
            bits = float(torch.cat(sums[0]).mean()) / (math.prod(images.shape[1:]))
            steps.to(steps.done + len(numbers), f"{bits:.4f} bits/dim,")
    finally:
        model.train(was_training)
    maps = Surprise(*(torch.cat(values) for values in zip(*kept, strict=True))) if keep else None
    return Sums(*map(torch.cat, sums)), maps
