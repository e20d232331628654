"""Score images: how badly the model expected them, looked at in several ways (`tasks/scores.py` says which)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import Any

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.model import Model, check_model, condition_of
from nextpixel.orders import shortened
from nextpixel.tasks.codecs import file_bits
from nextpixel.tasks.drawing import chosen
from nextpixel.tasks.evaluate import check_split
from nextpixel.tasks.normality import Normality
from nextpixel.tasks.options import with_overrides
from nextpixel.tasks.pieces import Pieces, Result, fingerprint, joined
from nextpixel.tasks.processes import first_process
from nextpixel.tasks.progress import Steps
from nextpixel.tasks.scores import Scores, Sums
from nextpixel.tasks.surprise import Surprise, images_at_once, surprise

FIELDS = ("bits", "entropy", "variance")  # of Sums and Surprise
FILE = "file "  # in front of a file format's name, in the results of a piece


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
    work: str = ""
    """folder that keeps the scores of pieces: to be stopped and started again, and shared by torchrun's processes"""
    piece: int = 1000
    """images a piece of work; rounded up to whole batches"""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.piece < 1:
            raise UserError("batch_size and piece must be positive.")


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
    size, labels = check(model, data), None if isinstance(data, Tensor) else data.labels
    if names is not None and len(names) != size:
        raise UserError(f"There are {size} images but {len(names)} names: give one each.")
    if against is not None and (against.shape, against.levels) != (model.shape, model.levels):
        raise UserError(
            f"The model is for images of {model.shape} with {model.levels} levels, the one to compare with for "
            f"{against.shape} with {against.levels}: they must be equal."
        )
    if options.work and condition is not None:
        raise UserError("Work in pieces knows the images and their labels only: leave the condition or work out.")
    if options.given_class:
        if condition is not None or model.classes is None:
            raise UserError("given_class is for class-conditional models, and without another condition.")
        condition = condition_of(model, labels)
    elif isinstance(data, Split) and condition is None and model.condition and not model.condition.only_classes:
        condition = condition_of(model, data.condition())
    found = _in_pieces(
        _Work(_one_order(model, options.order), None if against is None else _one_order(against, ""), data, condition),
        options,
        maps,
        progress,
    )
    files = {name.removeprefix(FILE): values for name, values in found.items() if name.startswith(FILE)}
    return Scores(
        Sums(*(found[f"own {field}"] for field in FIELDS)),
        None if against is None else Sums(*(found[f"other {field}"] for field in FIELDS)),
        files,
        Surprise(*(found[f"map {field}"] for field in FIELDS)) if maps else None,
        model.dims,
        names or [str(number) for number in range(size)],
        labels,
        normality,
    )


def check(model: Model, data: Split | Tensor) -> int:
    """How many images there are, if the model can score them; UserError if not."""
    check_model(model)
    if isinstance(data, Tensor):
        model.check_images(data)
    else:
        check_split(model, data)
    if len(data) == 0:
        raise UserError("There are no images to score.")
    shape = data.shape[-3:]
    if tuple(shape[1:]) != model.shape[1:]:
        (h, w), (mh, mw) = shape[1:], model.shape[1:]
        raise UserError(
            f"The images are {h}x{w}, the model is for {mh}x{mw} (height x width): bring them to its size "
            f"(size=({mh}, {mw}), --size {mh}x{mw})."
        )
    return len(data)


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


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is scored, by what. condition: one for all images or one each, or None."""

    model: Model
    against: Model | None
    data: Split | Tensor
    condition: Any

    def images(self, first: int, last: int) -> Tensor:
        part = self.data[first:last]
        return part.cpu() if isinstance(part, Tensor) else part.images

    def about(self, options: ScoreOptions, size: int, maps: bool) -> dict[str, Any]:
        data = self.data
        return {
            "task": "score",
            "model": fingerprint(self.model),
            "against": None if self.against is None else fingerprint(self.against),
            "data": "a tensor" if isinstance(data, Tensor) else data.fingerprint,
            "images a piece": size,
            "images a pass": options.batch_size,
            "order": options.order,
            "given class": options.given_class,
            "files": options.complexity,
            "maps": maps,
            "device": self.model.like().device.type,
        }


def _in_pieces(work: _Work, options: ScoreOptions, maps: bool, progress: bool) -> Result:
    """The fields of the sums and maps, and the files' bits, by name, one entry an image."""
    if options.work and isinstance(work.data, Tensor):
        raise UserError("Work in pieces must know its images again: give a Split, such as npx.dataset(...).test.")
    count, size = len(work.data), -(-options.piece // options.batch_size) * options.batch_size
    folder, number_of = "", -(-count // size)
    if options.work:  # of its own: to calibrate and to compare, several sets are scored
        about = work.about(options, size, maps)
        folder = f"{options.work}/{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]}"
    pieces = Pieces(folder, lambda: about)
    models = 1 if work.against is None else 2
    mine = sum(min(size, count - number * size) for number in pieces.own(number_of))
    each = work.model.condition_parts(work.condition, count) if work.condition is not None else None
    with Steps(models * mine, "scoring", unit=" images", show=progress and first_process()) as steps:

        def piece(number: int) -> Result:
            first, last = number * size, min((number + 1) * size, count)
            images, told = work.images(first, last), chosen(each, slice(first, last))
            own = _sums(work.model, images, told, options, steps, maps)
            filed = file_bits(images, work.model.levels) if options.complexity and _can_be_files(work.model) else {}
            found = {**own, **{f"{FILE}{name}": values for name, values in filed.items()}}
            if work.against is not None:
                same = told if work.against.classes == work.model.classes else None
                other = _sums(work.against, images, same, options, steps, False)
                found |= {f"other {field}": other[f"own {field}"] for field in FIELDS}
            return found

        return joined(list(pieces.results("scores", number_of, piece, steps)))


def _sums(model: Model, images: Tensor, conditions: Any, options: ScoreOptions, steps: Steps, keep: bool) -> Result:
    """Sums over symbols, and the symbols' own numbers if they are to be kept. conditions: parts, as tensors by kind;
    None for an unconditional model, and for the mixture over the classes."""
    size = images_at_once(model, options.batch_size)
    found: dict[str, list[Tensor]] = {}
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(images), size):
            numbers = slice(start, min(start + size, len(images)))
            part = surprise(model, images[numbers], chosen(conditions, numbers))
            for field, values in zip(FIELDS, part, strict=True):
                found.setdefault(f"own {field}", []).append(values.flatten(1).sum(1))
                if keep:
                    found.setdefault(f"map {field}", []).append(values)
            bits = float(torch.cat(found["own bits"]).mean()) / math.prod(images.shape[1:])
            steps.to(steps.done + numbers.stop - start, f"{bits:.4f} bits/dim,")
    finally:
        model.train(was_training)
    return {name: torch.cat(parts) for name, parts in found.items()}
