"""The models, images and conditions that checks work on: private float64 copies, on the CPU, on a small canvas."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.image_model import ImageModel
from nextpixel.model import Model

Size = tuple[int, int]
Symbol = tuple[int, int, int]  # row, column, channel
Condition = dict[str, Tensor] | None
M = TypeVar("M", bound=Model)

CANVAS: Size = (5, 7)
PIXELS_AT_ONCE = 2048  # positions of all pictures of one pass: bounds the memory
SYMBOLS_AT_MOST = 210  # changed one by one; more than a small canvas has
SPREAD = (4.0, 40.0)  # wanted range between the largest and the smallest log-probability, nats


def private_copy(model: M, dtype: torch.dtype = torch.float64) -> M:
    """A copy in eval mode that shares nothing with the model; its weights need no gradient."""
    return copy.deepcopy(model).to("cpu", dtype).eval().requires_grad_(False)


def redrawn(model: M, seed: int, size: Size = CANVAS) -> M:
    """A copy with new random weights under which an error shows.

    Fresh networks give nearly uniform pmfs, in which a wrong dependence is lost in rounding; weights that are too large
    saturate the gates. So weights are drawn with variance 1/fan-in, and their scale is moved until the
    log-probabilities spread over some nats. Odd seeds have positive weights and biases of sum about 1 instead: no ReLU
    is dead then, and nothing cancels, so that even a network of few features passes on all that it sees.
    """
    positive = seed % 2 == 1
    other = private_copy(model)
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for parameter in other.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        fan_in = max(parameter[0].numel(), 1) if parameter.dim() > 1 else 4
        drawn.append(noise.abs() / fan_in if positive else noise / math.sqrt(fan_in))
    x = images(other, 2, size, generator)
    condition = condition_for(other, 2, size, generator)
    gain = 1.0
    for _ in range(12):
        for parameter, values in zip(other.parameters(), drawn, strict=True):
            parameter.copy_(values * (gain if parameter.dim() > 1 else 1.0))
        with torch.no_grad():
            log_pmf = other.each_order()[0].log_pmf(x, condition)
        spread = float(log_pmf.max() - log_pmf.min())
        if positive or SPREAD[0] <= spread <= SPREAD[1]:
            break
        gain *= 1.3 if spread < SPREAD[0] else 0.7
    return other


def images(model: Model, n: int, size: Size, generator: torch.Generator) -> Tensor:
    """Random images, [n, C, H, W]."""
    return torch.randint(model.levels, (n, model.shape[0], *size), generator=generator)


def condition_for(model: Model, n: int, size: Size, generator: torch.Generator) -> Condition:
    """A random condition of n pictures, by kind; None for a model without condition."""
    wanted = model.condition
    if wanted is None:
        return None
    parts: dict[str, Tensor] = {}
    if wanted.classes is not None:
        parts["class"] = torch.randint(wanted.classes, (n,), generator=generator)
    if wanted.vector_width is not None:
        parts["vector"] = torch.randn(n, wanted.vector_width, generator=generator, dtype=torch.float64)
    if wanted.map_shape is not None:
        assert isinstance(model, ImageModel)
        depth, height, width = wanted.map_shape
        while True:  # the map must cover a canvas that may be larger than the model's own images
            size_of_map = (n, depth, height, width)
            if wanted.map_levels is not None:
                parts["map"] = torch.randint(wanted.map_levels, size_of_map, generator=generator)
            else:
                parts["map"] = torch.randn(size_of_map, generator=generator, dtype=torch.float64)
            try:
                model.each_order()[0].embed_condition(parts, n, size)
                break
            except UserError:
                if height > 4 * size[0] and width > 4 * size[1]:
                    raise
                height, width = 2 * height, 2 * width
    return parts


def choose(condition: Condition, indices: Any) -> Condition:
    """The condition of the pictures `indices`."""
    return None if condition is None else {kind: value[indices] for kind, value in condition.items()}


def rows_of(condition: Condition, n: int) -> Condition:
    """The condition of one picture, [1, ...], for n of them."""
    return choose(condition, torch.zeros(n, dtype=torch.long))


def canvas_for(model: Model, size: Size | None) -> tuple[Size, bool]:
    """The canvas to work on, and whether the network runs at other sizes than the model's own."""
    if isinstance(model, ImageModel) and not model.network.family.any_size:
        return size or model.shape[1:], False
    try:
        probe = private_copy(model)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            probe.log_pmf(images(probe, 1, CANVAS, generator), condition_for(probe, 1, CANVAS, generator))
        return size or CANVAS, True
    except Exception:
        return size or model.shape[1:], False


def symbols(channels: int, size: Size) -> list[Symbol]:
    """All symbols in order."""
    return [(i, j, c) for i in range(size[0]) for j in range(size[1]) for c in range(channels)]


def sample_of(every: list[Symbol]) -> list[Symbol]:
    """At most SYMBOLS_AT_MOST of them, evenly spread, the last one included."""
    if len(every) <= SYMBOLS_AT_MOST:
        return every
    step = len(every) / SYMBOLS_AT_MOST
    return [every[len(every) - 1 - int(k * step)] for k in range(SYMBOLS_AT_MOST)][::-1]


def pieces(total: int, size: Size) -> Iterator[slice]:
    """Slices of `total` pictures, each few enough for one pass."""
    n = max(1, PIXELS_AT_ONCE // (size[0] * size[1]))
    for start in range(0, total, n):
        yield slice(start, min(start + n, total))


def in_order(log_pmf: Tensor) -> Tensor:
    """[N, C, H, W, ...] → [N, symbols in order, ...]."""
    return log_pmf.movedim(1, 3).flatten(1, 3)


def named(symbol: Symbol, channels: int) -> str:
    """A symbol in words."""
    where = f"row {symbol[0]}, column {symbol[1]}"
    return where if channels == 1 else f"{where}, channel {symbol[2]}"
