"""In which order pixels are made: the steps of the schedules and the orders of prediction, asked of the code that
makes pictures by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nextpixel.causal import ShiftDown
from nextpixel.errors import UserError
from nextpixel.figures.style import NUMBERS, new_figure, show_cells, styled
from nextpixel.image_model import ImageModel
from nextpixel.orders import Order
from nextpixel.wavefront import Wavefront

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Size = tuple[int, int]


def steps_by_pixel(model: ImageModel, size: Size) -> Tensor:
    """At which step (from 0) a Stepper makes each pixel, long [H, W]."""
    stepper, steps = model.stepper(1, _no_condition(model), size), torch.full(size, -1)
    while (position := stepper.position) is not None:
        if position[2] == 0:
            steps[position[:2]] = int(steps.max()) + 1
        stepper.push(torch.zeros(1, dtype=torch.long))
    return steps


def steps_by_row(model: ImageModel, size: Size) -> Tensor:
    """At which of its steps (from 0) the vertical stack is ready for each pixel, long [H, W]: one step a row."""
    shift = next((module for module in model.network.modules() if isinstance(module, ShiftDown)), None)
    if shift is None:
        raise UserError(f"The family {model.family} has no vertical stack, whose rows are made at once.")
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    stepper, steps = model.stepper(1, _no_condition(model), size), torch.full(size, -1)
    handle = shift.register_forward_hook(count)
    try:
        while (position := stepper.position) is not None:
            stepper.work()
            steps[position[:2]] = calls - 1
            stepper.push(torch.zeros(1, dtype=torch.long))
    finally:
        handle.remove()
    return steps


def steps_by_diagonal(model: ImageModel, size: Size) -> Tensor:
    """At which step (from 0) a Wavefront makes each pixel, long [H, W]; UserError for networks without one."""
    wave, steps = Wavefront(model, 1, _no_condition(model), size), torch.full((size[0] * size[1],), -1)
    step = 0
    while (here := wave.here) is not None:
        where, channel = here
        steps[where] = step
        wave.push(torch.zeros(len(steps[where]), dtype=torch.long))
        step += channel == model.shape[0] - 1
    return model.placement.back(steps.view(model.placement.grid(*size)))


def _no_condition(model: ImageModel) -> object:
    return 0 if model.classes is not None else None


@styled
def schedule_page(schedules: dict[str, Tensor]) -> Figure:
    """Step numbers [H, W] by name of the schedule: pixels with the same number are made at once."""
    height, width = next(iter(schedules.values())).shape
    across = min(len(schedules), 2)
    down = -(-len(schedules) // across)
    figure, axes = new_figure(down, across, (0.36 * width * across + 0.3, (0.36 * height + 0.45) * down))
    for axis, (name, steps) in zip(axes.flat, schedules.items(), strict=False):
        last = int(steps.max())
        show_cells(axis, steps.numpy(), f"{name}: {last + 1} steps", cmap=NUMBERS, vmin=0, vmax=max(last, 1))
        _write(axis, steps)
    for axis in list(axes.flat)[len(schedules) :]:
        axis.axis("off")
    return figure


@styled
def order_page(orders: list[Order], size: Size) -> Figure:
    """For each order of prediction, which pixel comes when: a number in every pixel, and a line through them."""
    across = min(len(orders), 4)
    down = -(-len(orders) // across)
    height, width = size
    figure, axes = new_figure(down, across, (0.3 * width * across + 0.4, (0.3 * height + 0.4) * down))
    for axis, order in zip(axes.flat, orders, strict=False):
        pixels = order.pixels(height, width)
        steps = torch.empty_like(pixels)
        steps[pixels] = torch.arange(height * width)
        show_cells(axis, steps.view(height, width).numpy(), order.name, cmap=NUMBERS, vmin=0, vmax=height * width)
        if height * width <= 64:
            _write(axis, steps.view(height, width))
    for axis in list(axes.flat)[len(orders) :]:
        axis.axis("off")
    return figure


def _write(axis: object, numbers: Tensor) -> None:
    """Every number in its cell, light on dark and dark on light."""
    top = max(int(numbers.max()), 1)
    for (i, j), value in ((divmod(index, numbers.shape[1]), int(v)) for index, v in enumerate(numbers.flatten())):
        colour = "white" if value < 0.55 * top else "black"
        axis.text(j, i, str(value + 1), ha="center", va="center", fontsize=7, color=colour)  # type: ignore[attr-defined]
