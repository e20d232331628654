"""PixelSNAIL (Chen et al. 2018): gated residual blocks of causal convolutions, and attention over all earlier pixels.

Each block is a few gated residual layers, then attention whose keys and values come from the features, the pixels and
the positions, then a residual layer that takes in what was found. The channels of a pixel are ordered by the head.

Differences from the paper's code: a position attends to strictly earlier ones and to a learned start, instead of a mask
whose first row is empty; several attention heads; a condition is added inside every residual layer.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from nextpixel.causal import (
    Add,
    CausalAttention,
    Concat,
    ConcatELU,
    Dropout,
    Layout,
    LinearGate,
    PixelConv,
    Positions,
    Run,
)
from nextpixel.networks.network import Network, check_options, register


@register(
    "pixelsnail",
    summary="causal convolutions and attention over all earlier pixels (PixelSNAIL)",
    channel_masks=False,
    full_context=True,
    conditions=("class", "vector", "map"),
)
class PixelSNAIL(Network):
    @dataclasses.dataclass(frozen=True)
    class Config:
        blocks: int = 2
        """blocks, each with one attention"""
        layers: int = 2
        """residual layers before the attention of each block"""
        features: int = 64
        """features of the stream"""
        heads: int = 4
        """attention heads"""
        keys: int = 8
        """features of a key, per head"""
        values: int = 16
        """features of a value, per head"""
        dropout: float = 0.0
        """dropped share inside each residual layer, in training"""

        def __post_init__(self) -> None:
            check_options(self, counts="blocks layers features heads keys values", shares="dropout")

    blocks: Any  # of _Block; a ModuleList does not say of what

    def __init__(self, config: Config, inputs: Layout, outputs: Layout, condition: int | None = None):
        super().__init__(config, inputs, outputs, condition)
        one = Layout((config.features,))
        self.first = PixelConv(inputs, one, "A", left=1, rows=1, side=1)
        self.positions = Positions()
        self.blocks = nn.ModuleList(_Block(config, inputs.width, condition) for _ in range(config.blocks))
        self.elu = ConcatELU()
        self.out = PixelConv(Layout((config.features,), 2), outputs, "B")

    def rows(self, x: Tensor | None, condition: Tensor | None, run: Run) -> list[Tensor]:
        if condition is None:
            return []
        here = run.row_of(condition)
        return [layer.condition(here) for block in self.blocks for layer in block.all_layers()]

    def pixels(self, x: Tensor | None, contexts: list[Tensor], run: Run) -> Tensor:
        h = self.first(x, run)
        places = self.positions(h, run)
        each = len(self.blocks[0].all_layers())
        for index, block in enumerate(self.blocks):
            h = run.block(block, h, x, places, contexts[index * each : (index + 1) * each])
        return self.out(self.elu(h), run)

    def receptive_field(self, height: int, width: int, row: int, column: int) -> Tensor:
        return (torch.arange(height * width) < row * width + column).view(height, width)


class _Block(nn.Module):
    layers: Any  # of _Residual

    def __init__(self, config: PixelSNAIL.Config, inputs: int, condition: int | None):
        super().__init__()
        features, places = config.features, 2
        attended = config.heads * config.values
        self.layers = nn.ModuleList(_Residual(config, condition, attended=0) for _ in range(config.layers))
        made = config.heads * (config.keys + config.values)
        self.attention = CausalAttention(
            _Pointwise(features + places, config.heads * config.keys),
            _Pointwise(features + places + inputs, made),
            config.heads,
            config.keys,
            config.values,
        )
        self.take_in = _Residual(config, condition, attended=attended)
        self.concat = Concat()

    def all_layers(self) -> list[_Residual]:
        return [*self.layers, self.take_in]

    def forward(self, h: Tensor, raw: Tensor | None, places: Tensor, contexts: list[Tensor], run: Run) -> Tensor:
        """`contexts` has one for each residual layer, or is empty."""
        for index, layer in enumerate(self.layers):
            h = layer(h, None, contexts[index] if contexts else None, run)
        found = self.attention(self.concat(h, places), raw, run)
        return self.take_in(h, found, contexts[-1] if contexts else None, run)


class _Residual(nn.Module):
    """Gated residual layer; 2×2 causal convolutions, or 1×1 where something attended is taken in."""

    def __init__(self, config: PixelSNAIL.Config, condition: int | None, attended: int):
        super().__init__()
        features = config.features
        self.one, two = Layout((features,)), Layout((features,), 2)
        left, rows, side = (0, 0, (0, 0)) if attended else (1, 1, (1, 0))
        self.conv_1 = PixelConv(two, self.one, "B", left, rows, side)
        self.conv_2 = PixelConv(two, two, "B", left, rows, side)
        if attended:
            self.found = nn.Linear(2 * attended, features)
        if condition is not None:
            self.condition = nn.Linear(condition, features, bias=False)
        self.elu, self.gate, self.add, self.dropout = ConcatELU(), LinearGate(), Add(), Dropout(config.dropout)

    def forward(self, x: Tensor, found: Tensor | None, context: Tensor | None, run: Run) -> Tensor:
        h = self.conv_1(self.elu(x), run)
        if found is not None:
            h = self.add(h, self.found(self.elu(found)))
        if context is not None:
            h = self.add(h, run.here(context, self.one))
        return self.add(x, self.gate(self.conv_2(self.dropout(self.elu(h)), run)))


class _Pointwise(nn.Module):
    """elu, then 1×1."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.elu, self.linear = ConcatELU(), nn.Linear(2 * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.linear(self.elu(x))
        return made
