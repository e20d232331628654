"""Models in other orders than raster, or in several: each order in its own grid, and that it lies right on the picture.

In an order's own grid raster is the order, so that all other checks hold there as they are. What is left is that the
answers for pictures are the same ones, put where the order says, that stepping goes by the order, that the network is
told which order it is in, and that p(x) is the mixture.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TypeVar

import torch

from nextpixel.checking.agreement import gap
from nextpixel.checking.report import Faults, Finding, Report, collector
from nextpixel.checking.subject import Size, canvas_for, condition_for, images, private_copy, redrawn
from nextpixel.checking.totals import all_images
from nextpixel.image_model import ImageModel
from nextpixel.orders import shortened

WHOLLY, BRIEFLY = 3, 8  # orders that are checked in their own grid, and in coordinates of the picture

T = TypeVar("T")
Progress = Callable[[str], None] | None


def spread_over(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0..count-1, evenly spread, the first and the last included."""
    return list(range(count)) if count <= most else [k * (count - 1) // (most - 1) for k in range(most)]


def check_orders(
    model: ImageModel, check_one: Callable[..., Report], size: Size | None = None, progress: Progress = None
) -> Report:
    """Up to three orders by `check_one` (the checks of a model in raster order), each in its own grid; then all
    together: see `nextpixel.check`."""
    findings: list[Finding] = []
    each = model.each_order()
    for number in spread_over(len(each), WHOLLY):
        name = model.orders[number].name

        def tell(what: str, whose: str = name) -> None:
            if progress is not None:
                progress(f"{whose}: {what}")

        for finding in check_one(each[number].own_grid(), size=size, progress=tell).findings:
            findings.append(dataclasses.replace(finding, name=f"{name}: {finding.name}"))

    run = collector(findings, progress)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        canvas, any_size = canvas_for(each[0], size)
        try:
            some = [private_copy(model), redrawn(model, 0, canvas), redrawn(model, 1, canvas)]
        except Exception as error:
            detail = f"it raised {type(error).__name__}: {error}"
            return Report([*findings, Finding("orders: runs", False, detail, "does not run")], model.family)
        run("orders: places", lambda: places(some[:2], canvas))
        run("orders: Whole = Cursor", lambda: stepping(some[:2], canvas))
        if len(each) > 1:
            run("orders: told", lambda: told(some, canvas))
            run("orders: mixture", lambda: mixture(some, canvas))
            run(
                "orders: all images",
                lambda: [dataclasses.replace(f, name=f"orders: {f.name}") for f in all_images(model, any_size, canvas)],
            )
    channels, height, width = model.shape
    names = shortened([order.name for order in model.orders])
    return Report(findings, f"{model.family}, {channels}x{height}x{width}, {model.levels} levels, predicts in {names}")


def _some(listed: list[T]) -> list[T]:
    return [listed[number] for number in spread_over(len(listed), BRIEFLY)]


@torch.no_grad()
def places(models: list[ImageModel], size: Size) -> list[Finding]:
    """What is said of a picture is what is said of it in the order's own grid, put where the order's list of pixels
    says; and that list holds every pixel once."""
    faults, worst, count = Faults("orders: places"), 0.0, 0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(1400 + seed)
        x = images(model, 2, size, generator)
        for one in _some(model.each_order()):
            count, order = count + 1, one.order
            pixels = order.pixels(*size)
            if sorted(pixels.tolist()) != list(range(size[0] * size[1])):
                faults.add("wrong order", f"the order {order.name} does not hold every pixel once")
                continue
            condition = condition_for(one, 2, size, generator)
            own, grid = one.own_grid(), order.grid(*size)
            arranged = x.flatten(2)[:, :, pixels].unflatten(2, grid)
            difference = max(
                gap(
                    one.log_pmf(x, condition).flatten(2, 3)[:, :, pixels],
                    own.log_pmf(arranged, condition).flatten(2, 3),
                ),
                gap(
                    one.log_prob_per_symbol(x, condition).flatten(2)[:, :, pixels],
                    own.log_prob_per_symbol(arranged, condition).flatten(2),
                ),
                gap(one.log_prob(x, condition), own.log_prob(arranged, condition)),
            )
            worst = max(worst, difference)
            if not difference <= 1e-10:
                faults.add(
                    "order misplaced", f"{order.name}: the picture's answer differs from the grid's by {difference:.1e}"
                )
    return faults.findings(f"every pixel in its place within {worst:.1e} (allowed 1e-10), on {size[0]}x{size[1]}")


@torch.no_grad()
def stepping(models: list[ImageModel], size: Size) -> list[Finding]:
    """The stepper asks for the pixels in the order's turn, in coordinates of the picture, channels in order, and gives
    the pmfs of the parallel pass. Forks and known first rows are tried in the order's own grid."""
    faults, worst = Faults("orders: Whole = Cursor"), 0.0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(1500 + seed)
        x = images(model, 2, size, generator)
        for one in _some(model.each_order()):
            condition = condition_for(one, 2, size, generator)
            expected = one.log_pmf(x, condition)
            stepper = one.stepper(2, condition, size)
            for pixel in one.order.pixels(*size).tolist():
                for channel in range(model.shape[0]):
                    row, column = divmod(pixel, size[1])
                    if stepper.position != (row, column, channel):
                        faults.add(
                            "wrong order", f"{one.order.name}: {stepper.position} instead of {row, column, channel}"
                        )
                    worst = max(worst, gap(stepper.log_pmf(), expected[:, channel, row, column]))
                    stepper.push(x[:, channel, row, column])
            if not torch.equal(stepper.images, x):
                faults.add("wrong order", f"{one.order.name}: what was pushed lies elsewhere in the picture")
            if not worst <= 1e-10:
                faults.add("whole differs from cursor", f"{one.order.name}: by {worst:.1e} (allowed 1e-10)")
    return faults.findings(f"in the order's turn, within {worst:.1e} (allowed 1e-10) on {size[0]}x{size[1]}")


@torch.no_grad()
def told(models: list[ImageModel], size: Size) -> list[Finding]:
    """The network goes by the order it is told: another one moves probabilities in the same grid, under some of the
    models. Of the learned vectors, each moves its own order's and no other's."""
    faults = Faults("orders: told")
    chosen = spread_over(len(models[0].order_names), BRIEFLY)
    ignored = set(chosen[1:])
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(1600 + seed)
        y = images(model, 2, size, generator)
        own = {number: model.in_order(number).own_grid() for number in chosen}
        given = {number: condition_for(own[number], 2, size, generator) for number in chosen}
        before = {number: own[number].log_pmf(y, given[number]) for number in chosen}
        for number in chosen[1:]:
            if model.order_table is None:  # told by the run, and free of maps: the same grid in another order
                pixels, others = (model.orders[k].pixels(*size) for k in (number, chosen[0]))
                same = torch.equal(pixels, others)  # of a single row, flip-y is raster
                if same or not torch.equal(before[number], own[chosen[0]].log_pmf(y, given[number])):
                    ignored.discard(number)
                continue
            kept = model.order_table.weight[number].clone()
            model.order_table.weight[number] += 1
            if not torch.equal(before[number], own[number].log_pmf(y, given[number])):
                ignored.discard(number)
            if not torch.equal(before[chosen[0]], own[chosen[0]].log_pmf(y, given[chosen[0]])):
                faults.add("orders confused", f"the vector of order {number} moves probabilities in order {chosen[0]}")
            model.order_table.weight[number] = kept
    for number in sorted(ignored):
        faults.add("order ignored", f"the network does not go by the order {models[0].orders[number].name}")
    return faults.findings("another order changes the probabilities of the same grid")


@torch.no_grad()
def mixture(models: list[ImageModel], size: Size) -> list[Finding]:
    """log_prob without a choice is the log of the mean of the probabilities in all orders."""
    faults, worst = Faults("orders: mixture"), 0.0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(1700 + seed)
        x = images(model, 2, size, generator)
        each = model.each_order()
        condition = condition_for(each[0], 2, size, generator)
        given = torch.stack([one.log_prob_per_symbol(x, condition).flatten(1).sum(1) for one in each], 1)
        difference = gap(model.log_prob(x, condition), torch.logsumexp(given, 1) - math.log(len(each)))
        difference = max(difference, gap(model.log_prob_given_orders(x, condition), given))
        worst = max(worst, difference)
        if not difference <= 1e-10:
            faults.add("mixture wrong", f"log_prob differs from the log of the mean over orders by {difference:.1e}")
    return faults.findings(f"log_prob is the log of the mean over orders within {worst:.1e} (allowed 1e-10)")
