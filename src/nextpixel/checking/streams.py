"""How far the parts of a network see: layer by layer, stack by stack, direction by direction. All by gradients, under
random weights with which little cancels; the union over several draws."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from nextpixel.causal import DiagonalBiLSTM, Whole
from nextpixel.checking.subject import Size, condition_for, images, redrawn
from nextpixel.image_model import ImageModel

T = TypeVar("T")
Pixel = tuple[int, int]
Parts = Callable[[ImageModel, Tensor, Tensor | None], tuple[Tensor, list[Tensor]]]
"""(weights, embedded input, embedded condition) → the tensor looked for, and what may depend on it, [N, H, W, ·]"""
DRAWS = 4  # sets of random weights; every second one has positive weights only


class _Watching(Whole):
    """A parallel pass that keeps what each of the network's blocks of full size hands on."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x, self.handed = x, list[Tensor]()

    def block(self, part: Callable[..., T], *given: object) -> T:
        first = given[0]
        if not self.handed and isinstance(first, Tensor) and first is not self.x:
            self.handed.append(first)  # what the masked first layer has made
        result = part(*given, self)
        self.handed.append(result[0] if isinstance(result, tuple) else result)  # type: ignore[arg-type]
        return result


def layer_fields(model: ImageModel, size: Size, pixel: Pixel) -> Tensor:
    """What the features at `pixel` depend on after the first layer, after every block, and at the end of the network:
    bool [stages, H, W]. One stage, the end, for networks that have no blocks."""

    def stages(weights: ImageModel, x: Tensor, condition: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        run = _Watching(x)
        out = weights.network.pixels(x, weights.network.rows(x, condition, Whole()), run)
        return x, [*run.handed, out]

    return _union(model, size, pixel, stages)


def stack_fields(model: ImageModel, size: Size, pixel: Pixel) -> Tensor:
    """What the prediction at `pixel` learns through the vertical stack (the network's row work) alone, and through the
    horizontal one alone: bool [2, H, W]. Nothing is seen through a vertical stack that a network does not have."""

    def stacks(weights: ImageModel, x: Tensor, condition: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        network = weights.network
        contexts = network.rows(x, condition, Whole())
        by_rows = network.pixels(x.detach(), contexts, Whole())
        return x, [by_rows, network.pixels(x, [context.detach() for context in contexts], Whole())]

    return _union(model, size, pixel, stacks)


def recurrence_fields(model: ImageModel, size: Size, pixel: Pixel) -> Tensor:
    """What the states of a PixelRNN's first recurrent layer at `pixel` depend on in that layer's own input: bool
    [parts, H, W].

    Of a Row LSTM one part; of a Diagonal BiLSTM two, the direction from the left and the one from the right (which is
    moved down by a row). The layer's input is features of the masked first layer, so the pixel itself may be seen.
    """

    def parts(weights: ImageModel, x: Tensor, condition: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        network: Any = weights.network
        layer: Any = network.layers[0].recurrence
        raw = x.detach()
        h = network.first(raw, Whole()).detach().requires_grad_()
        two = isinstance(layer, DiagonalBiLSTM)
        if not two:
            return h, [layer(h, raw, Whole())]
        scan, made = layer.scan, list[Tensor]()  # of a private copy
        for only in torch.eye(2, dtype=h.dtype).view(
            2, 2, 1, 1, 1, 1
        ):  # one direction's states, nothing of the other's
            layer.scan = functools.partial(_times, scan, only)
            made.append(layer(h, raw, Whole()))
        return h, made

    return _union(model, size, pixel, parts)


def _times(make: Callable[[Tensor], Tensor], factor: Tensor, x: Tensor) -> Tensor:
    return make(x) * factor


def _union(model: ImageModel, size: Size, pixel: Pixel, parts: Parts) -> Tensor:
    """On which positions of the tensor that `parts` names each of its results at `pixel` depends: bool [parts, H, W].
    Where a model has several orders, in the first one's own grid."""
    seen: Tensor | None = None
    for draw in range(DRAWS):
        weights = redrawn(model, 1000 + draw, size)
        one = weights.each_order()[0].own_grid()
        generator = torch.Generator().manual_seed(draw)
        given = condition_for(one, 1, size, generator)
        values = images(one, 1, size, generator)
        with torch.enable_grad():
            x = one.embedding(values, one.like()).detach().requires_grad_()
            target, results = parts(one, x, one.embed_condition(given, 1, size))
            found = []
            for result in results:
                here = result[0, pixel[0], pixel[1]]
                onto = (here * torch.randn(here.shape, generator=generator, dtype=torch.float64)).sum()
                (gradient,) = torch.autograd.grad(onto, [target], allow_unused=True, retain_graph=True)
                found.append(torch.zeros(size) if gradient is None else gradient[0].abs().amax(-1))
        now = torch.stack(found) != 0
        seen = now if seen is None else seen | now
    assert seen is not None
    return seen
