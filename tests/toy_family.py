"""A model family as a third party writes it: one file, and an entry point that names it."""

import dataclasses

import torch

from nextpixel.causal import Layout, PixelConv, ReLU
from nextpixel.networks import Network, register


@register("toy", summary="two masked convolutions", channel_masks=True, full_context=False, conditions=("class",))
class Toy(Network):
    @dataclasses.dataclass(frozen=True)
    class Config:
        features: int = 12
        """features between the two convolutions"""

    def __init__(self, config, inputs, outputs, condition=None):
        super().__init__(config, inputs, outputs, condition)
        self.between = Layout.of(config.features, inputs.groups)
        self.first = PixelConv(inputs, self.between, "A", left=2, rows=2, side=2)
        self.last = PixelConv(self.between, outputs, "B")
        self.relu = ReLU()
        if condition is not None:
            self.given = torch.nn.Linear(condition, config.features)

    def rows(self, x, condition, run):
        return [] if condition is None else [self.given(run.row_of(condition))]

    def pixels(self, x, contexts, run):
        h = self.first(x, run)
        if contexts:
            h = h + run.here(contexts[0], self.between)
        return self.last(self.relu(h), run)

    def receptive_field(self, height, width, row, column):
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        near = (columns - column).abs() <= 2
        above = (rows < row) & (rows >= row - 2) & near
        return above | ((rows == row) & (columns < column) & near)
