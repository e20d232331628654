"""Multi-scale models: both parts, and that the chain of the two is one distribution that is stepped as it is scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nextpixel.checking.agreement import FORK, gap
from nextpixel.checking.report import Faults, Finding, Report, collector
from nextpixel.checking.subject import (
    Condition,
    Size,
    Symbol,
    canvas_for,
    choose,
    condition_for,
    images,
    named,
    pieces,
    private_copy,
    redrawn,
    rows_of,
    sample_of,
)
from nextpixel.multiscale import MultiScaleModel

TINY: list[Size] = [(3, 3), (2, 3), (2, 2), (1, 3), (1, 2)]
MANY = 600  # images at most: a map is grown for each

Progress = Callable[[str], None] | None


def check_chain(
    model: MultiScaleModel, check_part: Callable[..., Report], size: Size | None = None, progress: Progress = None
) -> Report:
    """Both parts by `check_part` (the checks of a single model), then the chain: see `nextpixel.check`."""
    findings: list[Finding] = []
    sizes = (None, None) if size is None else (model.small_size(size), size)
    for name, part, its_size in zip(("small", "large"), (model.small, model.large), sizes, strict=True):

        def tell(what: str, whose: str = name) -> None:
            if progress is not None:
                progress(f"{whose}: {what}")

        for finding in check_part(part, size=its_size, progress=tell).findings:
            findings.append(dataclasses.replace(finding, name=f"{name}: {finding.name}"))

    run = collector(findings, progress)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        try:
            canvas, _ = canvas_for(model, size)
            drawn = [redrawn(model, seed, canvas) for seed in range(3)]
            some = [private_copy(model), *drawn[:2]]
        except Exception as error:
            detail = f"it raised {type(error).__name__}: {error}"
            return Report([*findings, Finding("chain: runs", False, detail, "does not run")], model.family)
        run("chain: Whole = Cursor", lambda: stepping(some, canvas))
        run("chain: later symbols", lambda: later_symbols(some[:2], canvas))
        run("chain: small picture", lambda: small_picture_seen(drawn, canvas))
        run("chain: log_prob", lambda: counted_once(some, canvas))
        run("chain: all images", lambda: all_images(model))
    channels, height, width = model.shape
    return Report(findings, f"{model.family}, {channels}x{height}x{width}, {model.levels} levels, scale {model.scale}")


def order_of(model: MultiScaleModel, size: Size) -> list[Symbol]:
    """All symbols in the order that the model declares."""
    height, width = size
    numbers = torch.arange(model.shape[0] * height * width).view(model.shape[0], height, width)
    return [(n // width % height, n % width, n // (height * width)) for n in model.in_sequence(numbers).tolist()]


def is_small(model: MultiScaleModel, symbol: Symbol) -> bool:
    return symbol[0] % model.scale == 0 and symbol[1] % model.scale == 0


def _log_pmf(model: MultiScaleModel, x: Tensor, condition: Condition) -> Tensor:
    """In the model's order, [n, symbols, K]."""
    return model.in_sequence(model.log_pmf(x, condition).movedim(-1, 0)).movedim(0, -1)


@torch.no_grad()
def stepping(models: list[MultiScaleModel], size: Size) -> list[Finding]:
    """The stepper asks for every symbol once in the declared order, the small picture's first, gives the pmfs of the
    parallel pass, also after forks within both parts, and ends with what was pushed."""
    faults, worst = Faults("chain: Whole = Cursor"), 0.0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(1000 + seed)
        x = images(model, 3, size, generator)
        condition = condition_for(model, 3, size, generator)
        order, low = order_of(model, size), model.small_size(size)
        count = model.shape[0] * low[0] * low[1]
        if [is_small(model, symbol) for symbol in order] != [index < count for index in range(len(order))]:
            faults.add("wrong order", "the declared order does not begin with the small picture")
        forks = {count // 2, (count + len(order)) // 2}
        walks = [(model.stepper(3, condition, size), x, _log_pmf(model, x, condition))]
        for index in range(len(order)):
            if index in forks:
                other = model.in_sequence(images(model, len(FORK), size, generator))
                mixed = torch.cat([model.in_sequence(x)[FORK, :index], other[:, index:]], 1)
                pictures = model.from_sequence(mixed, size)
                wanted = _log_pmf(model, pictures, choose(condition, FORK))
                walks.append((walks[0][0].fork(FORK), pictures, wanted))
            for number, (stepper, pictures, wanted) in reversed(list(enumerate(walks))):
                if not _at(model, stepper.position, order[index], faults):
                    return faults.findings("")
                difference = gap(stepper.log_pmf(), wanted[:, index])
                worst = max(worst, difference)
                if not difference <= 1e-10:
                    fault = "fork differs" if number else "whole differs from cursor"
                    where = named(order[index], model.shape[0])
                    faults.add(fault, f"by {difference:.1e} (allowed 1e-10) at {where}")
                stepper.push(model.in_sequence(pictures)[:, index])
        for stepper, pictures, _ in walks:
            _at(model, stepper.position, None, faults)
            if not torch.equal(stepper.images, pictures):
                faults.add("small pixels not copied", "the finished pictures are not what was pushed")
    return faults.findings(
        f"within {worst:.1e} (allowed 1e-10) on {size[0]}x{size[1]}, in the declared order, with forks; small pixels "
        "are copied"
    )


def _at(model: MultiScaleModel, position: Symbol | None, wanted: Symbol | None, faults: Faults) -> bool:
    """Whether a stepper is where it should be."""
    if position == wanted:
        return True
    channels = model.shape[0]
    words = [named(symbol, channels) if symbol is not None else "the end" for symbol in (position, wanted)]
    again = position is not None and is_small(model, position) and (wanted is None or not is_small(model, wanted))
    fault = "small pixels not copied" if again else "wrong order"
    faults.add(fault, f"the stepper asks for {words[0]} where it should be at {words[1]}")
    return False


@torch.no_grad()
def later_symbols(models: list[MultiScaleModel], size: Size) -> list[Finding]:
    """Change one symbol at a time: no pmf up to and including it in the chain's order may move by a bit."""
    faults, count = Faults("chain: later symbols"), 0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(1100 + seed)
        x = images(model, 1, size, generator)
        condition = condition_for(model, 1, size, generator)
        order = order_of(model, size)
        changes = sample_of(order)
        count = len(changes)
        for part, moved in _moved(model, x, condition, changes, size):
            late = torch.arange(len(order))[None] > torch.tensor([order.index(symbol) for symbol in part])[:, None]
            for t, s in torch.nonzero(moved & ~late).tolist():
                seer, seen = order[s], part[t]
                fault = "future leak" if seer[:2] != seen[:2] else "sees itself" if seer == seen else "channel leak"
                words = [named(symbol, model.shape[0]) for symbol in (seer, seen)]
                faults.add(fault, f"the pmf at {words[0]} changes with {words[1]}, which is predicted later")
    return faults.findings(f"each of {count} symbols changed in turn: no pmf up to it moved by a bit")


@torch.no_grad()
def small_picture_seen(models: list[MultiScaleModel], size: Size) -> list[Finding]:
    """Each symbol of the small picture moves the pmf of a pixel that comes before it in raster order and is not in the
    small picture: that pixel can know it from the map only. Over several models with random weights."""
    faults = Faults("chain: small picture")
    order = order_of(models[0], size)
    at = [(row * size[1] + column) for row, column, _ in order]
    unseen = {symbol for symbol in order if is_small(models[0], symbol) and symbol[:2] != (0, 0)}
    count = len(unseen)
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(1200 + seed)
        x = images(model, 1, size, generator)
        condition = condition_for(model, 1, size, generator)
        for part, moved in _moved(model, x, condition, sorted(unseen), size):
            for t, (row, column, channel) in enumerate(part):
                seers = [s for s in moved[t].nonzero()[:, 0].tolist() if not is_small(model, order[s])]
                if any(at[s] < row * size[1] + column for s in seers):
                    unseen.discard((row, column, channel))
    for symbol in sorted(unseen):
        faults.add(
            "condition ignored", f"no pixel before it sees the small picture at {named(symbol, models[0].shape[0])}"
        )
    return faults.findings(f"each of {count} symbols of the small picture is seen by pixels before it, through the map")


def _moved(
    model: MultiScaleModel, x: Tensor, condition: Condition, changes: list[Symbol], size: Size
) -> list[tuple[list[Symbol], Tensor]]:
    """Some of the changes at a time, and which pmfs each of them moves: bool [changes, symbols in order]."""
    found = []
    for piece in pieces(len(changes), size):
        part = changes[piece]
        changed = x.repeat(len(part), 1, 1, 1)
        for t, (row, column, channel) in enumerate(part):
            step = 1 + t % (model.levels - 1)
            changed[t, channel, row, column] = (changed[t, channel, row, column] + step) % model.levels
        given = rows_of(condition, len(part))
        before = _log_pmf(model, x.expand_as(changed), given)
        found.append((part, (before != _log_pmf(model, changed, given)).any(-1)))
    return found


@torch.no_grad()
def counted_once(models: list[MultiScaleModel], size: Size) -> list[Finding]:
    """log_prob and log_prob_per_symbol are those of the pmfs; what the large part says of the small picture is not."""
    faults, worst = Faults("chain: log_prob"), 0.0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(1300 + seed)
        x = images(model, 3, size, generator)
        condition = condition_for(model, 3, size, generator)
        steps = model.log_pmf(x, condition).gather(-1, x[..., None])[..., 0]
        each, total = model.log_prob_per_symbol(x, condition), model.log_prob(x, condition)
        difference = max(gap(each, steps), gap(total, steps.flatten(1).sum(1)))
        worst = max(worst, difference)
        if difference <= 1e-10:
            continue
        parts = model.condition_parts(condition, 3)
        again = model.large.log_prob_given(x, model.large_condition(parts, model.small_of(x)))
        twice = steps.clone()
        model.small_of(twice)[:] += model.small_of(again)
        if min(gap(each, twice), gap(total, twice.flatten(1).sum(1))) <= 1e-10:
            faults.add("small pixels counted twice", "log_prob also has what the large part says of the small picture")
        else:
            faults.add("log_prob differs", f"from the steps by {difference:.1e} (relative beyond 1 nat)")
    return faults.findings(f"the sum over all steps, each counted once, within {worst:.1e} (allowed 1e-10)")


@torch.no_grad()
def all_images(model: MultiScaleModel) -> list[Finding]:
    """The probabilities of all images of a tiny size sum to 1, under models of the same kind with random weights."""
    faults, worst = Faults("chain: all images"), 0.0
    tiny, reason = _tiny(model)
    if tiny is None:
        return [Finding(faults.name, True, f"not checked: {reason}")]
    channels, height, width = tiny.shape
    x = torch.cartesian_prod(*[torch.arange(tiny.levels)] * tiny.dims).view(-1, *tiny.shape)
    for seed in (0, 1, 2):
        subject = redrawn(tiny, seed, (height, width))
        one = condition_for(subject, 1, (height, width), torch.Generator().manual_seed(seed))
        for condition in (one,) if one is None else (one, None):
            given = rows_of(condition, len(x))
            total = float(subject.log_prob(x, given).exp().sum())
            worst = max(worst, abs(total - 1))
            if not abs(total - 1) <= 1e-10:
                how = " without a class" if one is not None and condition is None else ""
                faults.add("not normalised", f"the probabilities of all {len(x)} images sum to {total:.12g}{how}")
    return faults.findings(
        f"{len(x)} images of {channels}x{height}x{width} under a model of the same kind with {tiny.levels} levels and "
        f"scale {tiny.scale} sum to 1 within {worst:.1e} (allowed 1e-10)"
    )


def _tiny(model: MultiScaleModel) -> tuple[MultiScaleModel | None, str]:
    """A model like this one whose images can be counted; or why there is none."""
    # hub models keep the arguments they were made with
    config: dict[str, Any] = dict(model._hub_mixin_config or {})  # type: ignore[arg-type]
    channels, reason = model.shape[0], f"with {model.shape[0]} channels there are too many images"
    sizes = TINY if model.scale == 2 else [(1, model.scale + 1), *TINY]  # with its own scale, where that is possible
    for levels in (2, 3, 4, model.levels):
        for size in sizes:
            scale = model.scale if model.scale <= max(size) else 2
            if levels ** (channels * size[0] * size[1]) > MANY:
                continue
            try:
                wanted = {**config, "shape": [channels, *size], "levels": levels, "scale": scale}
                return private_copy(type(model)(**wanted)), ""
            except Exception as error:
                reason = f"a tiny model of the same kind could not be made ({error})"
    return None, reason
