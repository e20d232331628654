"""NADE (Larochelle and Murray 2011, "The Neural Autoregressive Distribution Estimator"), for any order of the pixels.

One layer of hidden units, sigmoid(c + Σ W x over all earlier pixels), which share their weights over all positions and
are made for each of them from one running sum (algorithm 1); each pixel has weights V of its own from the hidden units
to its outputs. The channels of a pixel are ordered by the head.

Differences from the paper: pixels have any number of values, through the embedding and the head, instead of two; the
constant 1 beside every input pixel has weights of its own, so the bias c depends on what has been seen; a condition is
added to the hidden units.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from nextpixel.causal import Add, Layout, PixelLinear, Run, RunningSum, Sigmoid
from nextpixel.networks.flat import FlatNetwork
from nextpixel.networks.network import check_options, register


@register(
    "nade",
    summary="one hidden layer over a running sum of all earlier pixels, of one image size (NADE)",
    channel_masks=False,
    full_context=True,
    conditions=("class", "vector"),
    any_size=False,
    orders="any",
)
class NADE(FlatNetwork):
    @dataclasses.dataclass(frozen=True)
    class Config:
        hidden: int = 500
        """hidden units"""

        def __post_init__(self) -> None:
            check_options(self, counts="hidden")

    def __init__(
        self, config: Config, inputs: Layout, outputs: Layout, condition: int | None = None, *, size: tuple[int, int]
    ):
        super().__init__(config, inputs, outputs, condition, size=size)
        self.hidden = Layout((config.hidden,))
        self.sum = RunningSum(self.positions, inputs.width, config.hidden)
        if condition is not None:
            self.given = nn.Linear(condition, config.hidden, bias=False)
        self.out = PixelLinear(self.positions, config.hidden, outputs.width)
        self.add, self.sigmoid = Add(), Sigmoid()

    def rows(self, x: Tensor | None, condition: Tensor | None, run: Run) -> list[Tensor]:
        super().rows(x, condition, run)
        return [] if condition is None else [self.given(run.row_of(condition))]

    def pixels(self, x: Tensor | None, contexts: list[Tensor], run: Run) -> Tensor:
        h = self.sum(x, run)
        if contexts:
            h = self.add(h, run.here(contexts[0], self.hidden))
        return self.out(self.sigmoid(h), run)

    def receptive_field(self, height: int, width: int, row: int, column: int) -> Tensor:
        self.check_size(height, width)
        return (torch.arange(height * width) < row * width + column).view(height, width)
