"""Whole = Cursor: the same probabilities in parallel and step by step, however the stepping is cut up."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from nextpixel.checking.report import Faults, Finding
from nextpixel.checking.subject import Condition, Size, choose, condition_for, images, in_order, named, symbols
from nextpixel.image_model import ImageModel
from nextpixel.stepping import Stepper

FORK = [2, 0, 0, 1]
LONG_WALK = 400  # symbols: in larger pictures fewer forks and known rows are tried


def gap(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to log-probabilities beyond 1 nat; infinite if something is not a number."""
    worst = ((found - expected).abs() / expected.abs().clamp(min=1)).max()
    return float("inf") if bool(worst.isnan()) else float(worst)


@dataclasses.dataclass
class _Walk:
    """One stepper on its way through known pictures."""

    stepper: Stepper
    values: Tensor  # [n, symbols]
    expected: Tensor  # [n, symbols, K]
    worst: float = 0.0
    at: int = 0

    def step(self, index: int) -> Tensor:
        found = self.stepper.log_pmf()
        difference = gap(found, self.expected[:, index])
        if difference > self.worst:
            self.worst, self.at = difference, index
        self.stepper.push(self.values[:, index])
        return found


def stepped(model: ImageModel, x: Tensor, condition: Condition) -> Tensor:
    """Log-pmfs by stepping, [n, symbols, K]."""
    stepper = model.stepper(len(x), condition, (x.shape[2], x.shape[3]))
    found = []
    for values in in_order(x).unbind(1):
        found.append(stepper.log_pmf().clone())
        stepper.push(values)
    return torch.stack(found, 1)


@torch.no_grad()
def whole_is_cursor(
    models: list[ImageModel], size: Size, name: str, allowed: float, forked: int = 2, prefill: bool = True
) -> list[Finding]:
    """Plain stepping of 3 pictures; of the first `forked` models also of 1 picture, forks that go on beside the
    original, and known first rows (`prefill`: the network must run at other heights)."""
    faults, worst = Faults(name), 0.0
    cases = []
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(seed)
        x = images(model, 3, size, generator)
        condition = condition_for(model, 3, size, generator)
        expected = in_order(model.log_pmf(x, condition))
        try:
            worst = max(worst, _plain(model, x, condition, expected, faults, allowed, seed < forked))
        except Exception as error:
            faults.add("cursor fails", f"stepping raised {type(error).__name__}: {error}")
        cases.append((model, x, condition, expected, generator))
    # Forks and known rows of a Cursor that is wrong anyway would say nothing new.
    for model, x, condition, expected, generator in [] if faults.found else cases[:forked]:
        for fault, part in (("fork differs", _forks), ("prefill differs", _prefill))[: 1 + prefill]:
            try:
                worst = max(worst, part(model, x, condition, expected, faults, allowed, generator))
            except Exception as error:
                faults.add(fault, f"it raised {type(error).__name__}: {error}")
    return faults.findings(
        f"within {worst:.1e} (allowed {allowed:.0e}, relative beyond 1 nat) on {size[0]}x{size[1]}: 3 pictures"
        f"{', 1 picture, forks' if forked else ''}{', known first rows' if forked and prefill else ''}"
    )


def _plain(
    model: ImageModel, x: Tensor, condition: Condition, expected: Tensor, faults: Faults, allowed: float, alone: bool
) -> float:
    """`alone`: a second time, with the middle one of the three pictures only."""
    largest = 0.0
    every = symbols(model.shape[0], (x.shape[2], x.shape[3]))
    for rows in [[0, 1, 2], [1]][: 1 + alone]:
        found = stepped(model, x[rows], choose(condition, rows))
        differences = [gap(found[:, index], expected[rows, index]) for index in range(len(every))]
        worst = max(range(len(every)), key=differences.__getitem__)
        if not differences[worst] <= allowed:
            faults.add(
                "whole differs from cursor",
                f"by up to {differences[worst]:.1e} (allowed {allowed:.0e}), at "
                f"{named(every[worst], model.shape[0])}, with {len(rows)} picture(s)",
            )
        largest = max(largest, differences[worst])
    return largest


def _forks(
    model: ImageModel,
    x: Tensor,
    condition: Condition,
    expected: Tensor,
    faults: Faults,
    allowed: float,
    generator: torch.Generator,
) -> float:
    """Forks at the start, inside a row (inside a pixel), at a row's start: all go on, a symbol each in turn."""
    (height, width), channels = x.shape[2:], model.shape[0]
    values, count = in_order(x), channels * height * width
    inside = ((height // 2) * width + width // 2) * channels + channels // 2
    times = sorted({0, min(inside, count - 1), (height - 1) * width * channels})
    if count > LONG_WALK:
        times = times[-2:]
    walks = [_Walk(model.stepper(len(x), condition, (height, width)), values, expected)]
    for index in range(count):
        if index in times:
            if index == times[-1]:
                walks[0].stepper.log_pmf()  # here the fork comes after the question, elsewhere before
            other = images(model, len(FORK), (height, width), generator)
            mixed = torch.cat([values[FORK, :index], in_order(other)[:, index:]], 1)
            pictures = mixed.view(len(FORK), height, width, channels).permute(0, 3, 1, 2)
            wanted = in_order(model.log_pmf(pictures, choose(condition, FORK)))
            walks.append(_Walk(walks[0].stepper.fork(FORK), mixed, wanted))
        for walk in reversed(walks):  # the newest fork first: what it wrote must not reach the original
            walk.step(index)
    for number, walk in enumerate(walks):
        if not walk.worst <= allowed:
            which = f"fork {number}" if number else "the original beside its forks"
            where = named(symbols(channels, (height, width))[walk.at], channels)
            faults.add("fork differs", f"{which} is off by {walk.worst:.1e} (allowed {allowed:.0e}) at {where}")
    return max(walk.worst for walk in walks)


def _prefill(
    model: ImageModel,
    x: Tensor,
    condition: Condition,
    expected: Tensor,
    faults: Faults,
    allowed: float,
    generator: torch.Generator,
) -> float:
    (height, width), channels = x.shape[2:], model.shape[0]
    largest = 0.0
    rows = sorted({1, height // 2, height - 1} - {0})
    for known in rows if channels * height * width <= LONG_WALK else rows[-2:]:
        stepper = model.stepper(len(x), condition, (height, width))
        stepper.prefill(x[:, :, :known])
        walk = _Walk(stepper, in_order(x), expected)
        for index in range(known * width * channels, height * width * channels):
            walk.step(index)
        if not walk.worst <= allowed:
            faults.add(
                "prefill differs",
                f"with {known} known rows, by {walk.worst:.1e} (allowed {allowed:.0e}) at "
                f"{named(symbols(channels, (height, width))[walk.at], channels)}",
            )
        largest = max(largest, walk.worst)
    return largest


@torch.no_grad()
def repeatable(models: list[ImageModel], size: Size) -> list[Finding]:
    """Twice the same answer; the caller's images and the embedded input stay as they were; the batch plays no part."""
    faults, worst = Faults("repeatable"), 0.0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(100 + seed)
        x = images(model, 3, size, generator)
        condition = condition_for(model, 3, size, generator)
        before = x.clone()
        embedded: list[Tensor] = []

        def keep(module: object, args: object, output: Tensor, kept: list[Tensor] = embedded) -> None:
            kept.extend((output, output.clone()))

        handle = model.embedding.register_forward_hook(keep)
        first = model.log_pmf(x, condition)
        handle.remove()
        if not torch.equal(x, before) or not torch.equal(embedded[0], embedded[1]):
            faults.add("edits its input", "the images or their embedding were changed in place by log_pmf")
            x = before.clone()
        if not torch.isfinite(first).all():
            faults.add("not a number", f"{int((~torch.isfinite(first)).sum())} log-probabilities are not finite")
        if not torch.equal(first, model.log_pmf(x, condition)):
            faults.add("not repeatable", "the same images scored twice got different log-probabilities")
            continue
        others = torch.cat([x[:1], images(model, 2, size, generator)])
        swapped = model.log_pmf(others, choose(condition, [0, 2, 1]))
        alone = model.log_pmf(x[:1], choose(condition, [0]))
        difference = max(gap(swapped[:1], first[:1]), gap(alone, first[:1]))
        worst = max(worst, difference)
        if not difference <= 1e-12:
            faults.add("batch leak", f"other pictures of the batch move log-probabilities by {difference:.1e}")
    return faults.findings(f"twice the same; other pictures of the batch change it by {worst:.1e} (allowed 1e-12)")


@torch.no_grad()
def condition_matters(models: list[ImageModel], size: Size) -> list[Finding]:
    """Every kind of condition changes the probabilities. `models` must have random weights."""
    faults = Faults("condition")
    kinds: list[str] = []
    for kind in condition_for(models[0], 1, size, torch.Generator()) or {}:
        kinds.append(kind)
        for seed, model in enumerate(models):
            generator = torch.Generator().manual_seed(200 + seed)
            x = images(model, 1, size, generator)
            condition = condition_for(model, 1, size, generator)
            assert condition is not None
            assert model.condition is not None
            other = {**condition, kind: condition[kind] + 1}
            values = {"class": model.classes, "map": model.condition.map_levels}.get(kind)
            if values is not None:
                other[kind] %= values
            if not torch.equal(model.log_pmf(x, condition), model.log_pmf(x, other)) or model.classes == 1:
                break
        else:
            faults.add("condition ignored", f"another {kind} changes no probability")
    return faults.findings(f"another {' or '.join(kinds)} changes the probabilities" if kinds else "none")
