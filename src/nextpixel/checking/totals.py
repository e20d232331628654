"""Probabilities are probabilities: a pmf sums to 1, all images together sum to 1, log_prob is the sum of the steps."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from nextpixel.checking.agreement import gap, stepped
from nextpixel.checking.report import Faults, Finding
from nextpixel.checking.subject import Condition, Size, condition_for, images, in_order, private_copy, redrawn, rows_of
from nextpixel.image_model import ImageModel

TINY: list[Size] = [(2, 3), (3, 2), (2, 2), (1, 3), (1, 2), (1, 1)]
MANY, FEW = 5000, 600  # images at most, for small and for large networks
LARGE = 300_000  # parameters


@torch.no_grad()
def pmfs(models: list[ImageModel], size: Size) -> list[Finding]:
    faults, worst = Faults("pmf sums"), 0.0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(800 + seed)
        x = images(model, 3, size, generator)
        total = model.log_pmf(x, condition_for(model, 3, size, generator)).exp().sum(-1)
        error = float((total - 1).abs().max())
        worst = max(worst, error)
        if not error <= 1e-12:
            faults.add("not normalised", f"the probabilities of a symbol sum to {1 + error:.12g} or {1 - error:.12g}")
    return faults.findings(f"1 within {worst:.1e} (allowed 1e-12)")


@torch.no_grad()
def log_probs(models: list[ImageModel], size: Size) -> list[Finding]:
    """log_prob and log_prob_per_symbol against the log-probabilities of the steps; the marginal against the classes."""
    faults, worst = Faults("log_prob"), 0.0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(900 + seed)
        x = images(model, 3, size, generator)
        condition = condition_for(model, 3, size, generator)
        try:
            log_pmf = stepped(model, x, condition)
        except Exception:  # a Cursor that fails has a finding of its own
            log_pmf = in_order(model.log_pmf(x, condition))
        steps = log_pmf.gather(-1, in_order(x)[..., None])[..., 0]
        each = in_order(model.log_prob_per_symbol(x, condition))
        total = model.log_prob(x, condition)
        worst = max(worst, gap(each, steps), gap(total, steps.sum(1)))
        if not gap(each, steps) <= 1e-10:
            _name(faults, "log_prob_per_symbol", gap(each, steps), gap(each[:, 1:], steps[:, 1:]) <= 1e-10)
        if not gap(total, steps.sum(1)) <= 1e-10:
            _name(faults, "log_prob", gap(total, steps.sum(1)), gap(total, steps[:, 1:].sum(1)) <= 1e-10)
        if not gap(total, each.sum(1)) <= 1e-10:
            faults.add("log_prob differs", "log_prob is not the sum of log_prob_per_symbol")
        if _has_marginal(model):
            _marginal(model, x, faults)
    return faults.findings(f"the sum over all steps, the first one included, within {worst:.1e} (allowed 1e-10)")


def _name(faults: Faults, what: str, difference: float, only_first: bool) -> None:
    if only_first:
        faults.add("first symbol lost", f"{what} leaves out the first symbol: it is off by {difference:.1e}")
    else:
        faults.add("log_prob differs", f"{what} differs from the steps by {difference:.1e} (relative beyond 1 nat)")


def _has_marginal(model: ImageModel) -> bool:
    return model.classes is not None and model.condition is not None and model.condition.only_classes


def _marginal(model: ImageModel, x: Tensor, faults: Faults) -> None:
    prior = model.get_buffer("class_prior")
    given = torch.stack([model.log_prob(x, label) for label in range(model.classes or 0)], 1)
    wanted = torch.logsumexp(given + (prior / prior.sum()).log(), 1)
    for what, found in (
        ("log_prob", model.log_prob(x)),
        ("log_prob_per_symbol", model.log_prob_per_symbol(x).flatten(1).sum(1)),
    ):
        if not gap(found, wanted) <= 1e-10:
            faults.add(
                "marginal wrong", f"{what} without a class is off by {gap(found, wanted):.1e} from Σ p(y) p(x|y)"
            )


@torch.no_grad()
def all_images(model: ImageModel, any_size: bool, fixed: Size) -> list[Finding]:
    """The probabilities of all images of a tiny size sum to 1: of this model, or of one like it with fewer levels."""
    faults, name = Faults("all images"), "all images"
    subjects, what = _tiny(model, any_size, fixed)
    if not subjects:
        return [Finding(name, True, f"not checked: {what}")]
    worst = 0.0
    for seed, (subject, size) in enumerate(subjects):
        generator = torch.Generator().manual_seed(seed)
        condition = condition_for(subject, 1, size, generator)
        x = _every_image(subject, size)
        totals = {"": _total(subject, x, condition)}
        if _has_marginal(subject) and (subject.classes or 0) * len(x) <= 4 * MANY:
            totals[" without a class"] = _total(subject, x, None)
        for how, total in totals.items():
            worst = max(worst, abs(total - 1))
            if not abs(total - 1) <= 1e-10:
                faults.add("not normalised", f"the probabilities of all {len(x)} images sum to {total:.12g}{how}")
    return faults.findings(f"{what} sum to 1 within {worst:.1e} (allowed 1e-10)")


def _tiny(model: ImageModel, any_size: bool, fixed: Size) -> tuple[list[tuple[ImageModel, Size]], str]:
    """Models whose images can be counted, each with their size, and what the images are."""
    maps = model.condition is not None and model.condition.map_shape is not None
    limit = FEW if model.parameter_count > LARGE or maps else MANY  # growing a map for every image takes long
    channels = model.shape[0]
    own = [size for size in (TINY if any_size else [fixed]) if model.levels ** (channels * size[0] * size[1]) <= limit]
    if own and own[0] != (1, 1):
        models = [private_copy(model), redrawn(model, 1, own[0])]
        count = model.levels ** (channels * own[0][0] * own[0][1])
        words = f"{count} images of {channels}x{own[0][0]}x{own[0][1]} with {model.levels} levels"
        return [(other, own[0]) for other in models], words
    # hub models keep the arguments they were made with
    config: dict[str, Any] = dict(model._hub_mixin_config or {})  # type: ignore[arg-type]
    reason = f"with {channels} channels there are too many images"
    for levels, size in itertools.product((2, 3, 4, model.levels), TINY):
        if levels ** (channels * size[0] * size[1]) > limit or type(model.head).refusal(levels):
            continue
        try:
            like = type(model)(**{**config, "shape": [channels, *size], "levels": levels}).in_view_of(model)
            models = [redrawn(like, 1, size), redrawn(like, 2, size)]
        except Exception as error:
            reason = f"a tiny model of the same kind could not be made ({error})"
            continue
        count = levels ** (channels * size[0] * size[1])
        words = f"{count} images of {channels}x{size[0]}x{size[1]} under a model of the same kind with {levels} levels"
        return [(other, size) for other in models], words
    return [], reason


def _every_image(model: ImageModel, size: Size) -> Tensor:
    symbols = model.shape[0] * size[0] * size[1]
    values = torch.cartesian_prod(*[torch.arange(model.levels)] * symbols)
    return values.view(-1, model.shape[0], *size)


def _total(model: ImageModel, x: Tensor, condition: Condition) -> float:
    total = 0.0
    for part in x.split(1024):
        total += float(model.log_prob(part, rows_of(condition, len(part))).exp().sum())
    return total
