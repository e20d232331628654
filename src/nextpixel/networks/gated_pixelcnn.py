"""Gated PixelCNN (van den Oord et al. 2016b, "Conditional Image Generation with PixelCNN Decoders", section 2, fig. 2).

Two stacks instead of one: the vertical stack sees all rows above, the horizontal stack what lies to the left; together
they have no blind spot. The vertical stack is shifted down once, in front of its first layer, and feeds the horizontal
one, before the gate, in every layer.

Differences from the paper: the output of every layer also goes to a sum of skip connections with weights of their own
(the paper's figure adds residuals only; its authors' other models use skips); the 1×1 for the residual and the one for
the skip are one product. `factorised` replaces a vertical k×k convolution by 1×k, then k×1 (Reed et al. 2017, "Parallel
Multiscale Autoregressive Density Estimation").
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from nextpixel.causal import (
    Add,
    Dropout,
    Gate,
    Layout,
    PixelConv,
    Pointwise,
    ReLU,
    RowConv,
    Run,
    ShiftDown,
    Split,
    Whole,
)
from nextpixel.networks.network import Network, check_first_kernel, check_options, mask_a_row, register, spread


@register(
    "gated_pixelcnn",
    summary="two gated convolution stacks without blind spot",
    channel_masks=True,
    full_context=True,
    conditions=("class", "vector", "map"),
    freezable=True,
)
class GatedPixelCNN(Network):
    @dataclasses.dataclass(frozen=True)
    class Config:
        layers: int = 10
        """gated layers, the first one included"""
        features: int = 64
        """features of each stack"""
        kernel: int = 3
        """kernel size of the later layers (odd)"""
        first_kernel: int = 7
        """kernel size of the first layer (odd)"""
        out_features: int = 0
        """features of the output layers; 0 means the same as `features`"""
        factorised: bool = False
        """vertical k×k convolutions as 1×k then k×1"""
        dropout: float = 0.0
        """dropped share of the features between the gate and the residual, in training"""

        def __post_init__(self) -> None:
            check_options(self, counts="layers features", kernels="kernel first_kernel", shares="dropout")
            check_first_kernel(self.first_kernel)

    layers: Any  # of _Layer; a ModuleList does not say of what

    def __init__(self, config: Config, inputs: Layout, outputs: Layout, condition: int | None = None):
        super().__init__(config, inputs, outputs, condition)
        groups, features = inputs.groups, config.features
        hidden = Layout.of(features, groups)
        self.shift = ShiftDown()
        self.layers = nn.ModuleList(
            _Layer(
                inputs if first else hidden,
                hidden,
                kernel=config.first_kernel if first else config.kernel,
                first=first,
                last=index == config.layers - 1,
                condition=condition,
                factorised=config.factorised,
                dropout=config.dropout,
            )
            for index in range(config.layers)
            for first in [index == 0]
        )
        out = Layout.of(config.out_features or features, groups)
        self.add = Add()
        self.out = nn.ModuleList([ReLU(), PixelConv(hidden, out, "B"), ReLU(), PixelConv(out, outputs, "B")])

    def rows(self, x: Tensor | None, condition: Tensor | None, run: Run) -> list[Tensor]:
        vertical = self.shift(x, run)
        contexts = []
        for layer in self.layers:
            vertical, context = layer.vertical(vertical, condition, run)
            contexts.append(context)
        return contexts

    def pixels(self, x: Tensor | None, contexts: list[Tensor], run: Run) -> Tensor:
        horizontal, skips = run.block(self.layers[0].horizontal, x, contexts[0])
        for layer, context in zip(self.layers[1:], contexts[1:], strict=True):
            horizontal, skip = run.block(layer.horizontal, horizontal, context)
            skips = self.add(skips, skip)
        return self._output(skips, run)

    def _output(self, skips: Tensor, run: Run) -> Tensor:
        relu_1, mix, relu_2, out = self.out
        return out(relu_2(mix(relu_1(skips), run)), run)

    def forward(self, x: Tensor, condition: Tensor | None = None, run: Whole | None = None) -> Tensor:
        if run is None or not run.recompute:
            return super().forward(x, condition, run)
        # Both stacks layer by layer: the contexts, twice as wide as what the layers hand on, need not be kept either.
        vertical, horizontal, skips = run.block(self.layers[0], self.shift(x, run), x, condition)
        for layer in self.layers[1:]:
            vertical, horizontal, skip = run.block(layer, vertical, horizontal, condition)
            skips = self.add(skips, skip)
        return self._output(skips, run)

    def receptive_field(self, height: int, width: int, row: int, column: int) -> Tensor:
        horizontal = torch.zeros(height, width, dtype=torch.bool)
        horizontal[row, column] = True
        vertical = torch.zeros_like(horizontal)
        for index in reversed(range(self.config.layers)):
            half = (self.config.kernel if index else self.config.first_kernel) // 2
            vertical = vertical | horizontal
            side = range(-half, half + 1)
            if index:
                vertical, horizontal = (
                    spread(vertical, range(-half, 1), side),
                    spread(horizontal, range(1), range(-half, 1)),
                )
        half = self.config.first_kernel // 2
        above = spread(vertical, range(-half, 0), range(-half, half + 1))
        return above | mask_a_row(horizontal, half, self.inputs.groups, (row, column))


class _Layer(nn.Module):
    def __init__(
        self,
        inputs: Layout,
        hidden: Layout,
        *,
        kernel: int,
        first: bool,
        last: bool,
        condition: int | None,
        factorised: bool,
        dropout: float,
    ):
        super().__init__()
        half, features = kernel // 2, hidden.width
        self.first, self.last = first, last
        self.gated = Layout(hidden.sizes, pieces=2)
        # The first layer comes after the shift: k//2 rows. Later ones include their own, already shifted row.
        height = half if first else half + 1
        if factorised:
            self.across = RowConv(inputs.width, features, 1, kernel)
            self.down = RowConv(features, 2 * features, height, 1)
        else:
            self.down = RowConv(inputs.width, 2 * features, height, kernel)
        self.link = Pointwise(2 * features, self.gated.width)
        if condition is not None:
            self.condition_across = nn.Linear(condition, self.gated.width, bias=False)
            if not last:
                self.condition_down = nn.Linear(condition, 2 * features, bias=False)
        self.left = PixelConv(inputs, self.gated, "A" if first else "B", left=half)
        self.gate, self.split, self.add = Gate(), Split(), Add()
        self.dropout = Dropout(dropout)
        # Residual and skip as two pieces of one product. The last layer has no use for a residual.
        self.mix = PixelConv(hidden, hidden if last else Layout(hidden.sizes, pieces=2), "B")

    def vertical(self, x: Tensor, condition: Tensor | None, run: Run) -> tuple[Tensor, Tensor]:
        down = self.down(self.across(x, run) if hasattr(self, "across") else x, run)
        context = self.link(down)
        if condition is not None:
            here = run.row_of(condition)
            context = self.add(context, self.condition_across(here))
            if not self.last:
                down = self.add(down, self.condition_down(here))
        return (down if self.last else self.gate(down)), context

    def forward(self, vertical: Tensor, x: Tensor, condition: Tensor | None, run: Run) -> tuple[Tensor, Tensor, Tensor]:
        """Both stacks: their new features, and the skip."""
        vertical, context = self.vertical(vertical, condition, run)
        return vertical, *self.horizontal(x, context, run)

    def horizontal(self, x: Tensor | None, context: Tensor, run: Run) -> tuple[Tensor, Tensor]:
        gated = self.gate(self.add(self.left(x, run), run.here(context, self.gated)))
        mixed = self.mix(self.dropout(gated), run)
        if self.last:
            return mixed, mixed
        residual, skip = self.split(mixed)
        # No residual around the masked first layer: its input includes the pixel to be predicted.
        return (residual if x is None or self.first else self.add(x, residual)), skip
