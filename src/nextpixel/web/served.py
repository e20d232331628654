"""A loaded model, and what is worked out about it once."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextpixel.coding import Codable
from nextpixel.errors import UserError, did_you_mean
from nextpixel.image_model import ImageModel
from nextpixel.images import Split
from nextpixel.model import Model
from nextpixel.multiscale import MultiScaleModel
from nextpixel.tasks.compress import codable
from nextpixel.tasks.sample import sample
from nextpixel.tasks.threshold import Threshold
from nextpixel.web.jobs import Job
from nextpixel.web.limits import RANGE_BATCH, RANGE_PICTURES, RANGE_SECONDS


class Served:
    """A model by the name under which the page knows it. `test` gives pictures of its data, where they are at hand;
    `threshold` was calibrated for the model's scores as they come, of one order and no class."""

    def __init__(
        self,
        name: str,
        model: Model,
        test: Callable[[], Split | None] = lambda: None,
        threshold: Threshold | None = None,
    ):
        if model.condition is not None and not model.condition.only_classes:
            raise UserError(f"{name} is conditioned on a vector or a map, and the page can give it classes only.")
        if model.shape[0] not in (1, 3):
            raise UserError(f"{name} is for images of {model.shape[0]} channels: the page shows 1 (grey) or 3 (RGB).")
        self.name, self.model = name, model.eval()
        self.threshold = threshold if len(model.order_names) <= 1 else None
        self._test = functools.cache(test)
        self._frozen: Codable | None = None
        self._normal: Tensor | None = None

    @property
    def test(self) -> Split | None:
        return self._test()

    def warm(self) -> None:
        """One step, so that compiled kernels are there when the first visitor comes."""
        model = self.model.each_order()[0]
        model.stepper(1, None if model.classes is None else 0).log_pmf()

    def describe(self) -> dict[str, Any]:
        """What the page must know, and the model's card."""
        model, test = self.model, self.test
        return {
            "name": self.name,
            "shape": list(model.shape),
            "levels": model.levels,
            "classes": model.classes,
            "orders": list(model.order_names) or [model.order_in_words],
            "inside": why_closed(model),
            "test_pictures": 0 if test is None else len(test),
            "facts": {key: str(value) for key, value in model.facts().items()},
            "card": getattr(model, "card", {}),
        }

    def frozen(self) -> Codable:
        """The model in integers, frozen at the first call; UserError for one that cannot be."""
        if self._frozen is None:
            self._frozen = codable(self.model)
        return self._frozen

    def normal(self, job: Job) -> Tensor:
        """Bits/dim of pictures that the model drew itself, sorted: what is normal for it. Drawn at the first call."""
        if self._normal is None:
            began, found = time.monotonic(), list[Tensor]()
            for seed in range(RANGE_PICTURES // RANGE_BATCH):
                drawn = sample(self.model, RANGE_BATCH, seed=1_000_003 + seed)
                found.append(bits_per_dim(self.model, drawn))
                job.check()
                if time.monotonic() - began > min(RANGE_SECONDS, job.seconds / 3):
                    break
            self._normal = torch.cat(found).sort().values
        return self._normal


def bits_per_dim(model: Model, images: Tensor) -> Tensor:
    """Of images [N, C, H, W], summed over classes and orders where there are several, [N]."""
    nats = -model.log_prob(images).double().cpu()
    return nats / (images[0].numel() * torch.log(torch.tensor(2.0, dtype=torch.float64)))


def one_order(model: Model) -> Model:
    """The model in its first order."""
    return model.each_order()[0]


def class_for(model: Model, image: Tensor, wanted: int | None) -> int | None:
    """The class that was asked for, or the likeliest of the image's; None for a model without classes."""
    if model.classes is None or wanted is not None:
        return check_class(model, wanted)
    one = one_order(model)
    return int((one.log_prob_given_classes(image) + one.log_class_prior().to(one.like())).argmax())


def check_class(model: Model, wanted: int | None) -> int | None:
    """The class, or None; UserError for one that the model has not."""
    if wanted is None:
        return None
    if model.classes is None:
        raise UserError("This model is not class-conditional: leave the class out.")
    if not 0 <= wanted < model.classes:
        raise UserError(f"The class must be 0..{model.classes - 1}, not {wanted}.")
    return wanted


def why_closed(model: Model) -> str | None:
    """Why there is nothing to see inside a model, or None."""
    if isinstance(model, MultiScaleModel):
        return "A multi-scale model is two networks, one after the other: serve an image model to look inside."
    if not isinstance(model, ImageModel):
        return "This model computes with integers, which have no gradients: serve the model it was frozen from."
    return None


def named(wheres: Iterable[str]) -> list[str]:
    """A name for each folder or hub id: short, no path of this machine in it, and no two the same."""
    names: list[str] = []
    for where in wheres:
        path = Path(where).resolve()
        name = where if not path.exists() else path.name
        if path.exists() and name in ("run", "model") and path.parent.name:
            name = f"{path.parent.name}/{name}"
        number, unique = 1, name
        while unique in names:
            number += 1
            unique = f"{name} ({number})"
        names.append(unique)
    return names


def find(models: dict[str, Served], name: str | None) -> Served:
    """The model of that name, or the first one."""
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        wanted = name[:80]
        raise UserError(
            f"There is no model {wanted!r} here; there are: {', '.join(models)}." + did_you_mean(wanted, models)
        )
    return models[name]
