"""PixelCNN (van den Oord et al. 2016, "Pixel Recurrent Neural Networks", sections 3.3-3.5, figure 5 and table 1).

A 7×7 convolution with mask A, residual blocks (ReLU, 2h→h 1×1, ReLU, h→h 3×3, ReLU, h→2h 1×1, all mask B), then twice
ReLU and 1×1. Stacked masked convolutions have a blind spot: of the rows above, a triangle to the right is never seen.
It belongs to the model and stays; `nextpixel check` shows it, the Gated PixelCNN removes it.

Difference from the paper: a condition, when there is one, is added after the 3×3 convolution of every block; the paper
has none.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from nextpixel.causal import Add, Dropout, Layout, PixelConv, ReLU, Run
from nextpixel.networks.network import Network, check_first_kernel, check_options, mask_a_row, register, spread
from nextpixel.networks.output import OutputLayers


@register(
    "pixelcnn",
    summary="masked convolutions in residual blocks; keeps the blind spot of the 2016 paper",
    channel_masks=True,
    full_context=False,
    conditions=("class", "vector", "map"),
    schedules=("raster", "wavefront"),
    freezable=True,
)
class PixelCNN(Network):
    @dataclasses.dataclass(frozen=True)
    class Config:
        blocks: int = 8
        """residual blocks"""
        features: int = 64
        """h: the blocks work on h features between layers of 2h"""
        kernel: int = 3
        """kernel size of the blocks (odd)"""
        first_kernel: int = 7
        """kernel size of the first layer (odd)"""
        out_features: int = 0
        """features of the output layers; 0 means 2h"""
        dropout: float = 0.0
        """dropped share of the features inside each block, in training"""

        def __post_init__(self) -> None:
            check_options(self, counts="blocks features", kernels="kernel first_kernel", shares="dropout")
            check_first_kernel(self.first_kernel)

    blocks: Any  # of _Block; a ModuleList does not say of what

    def __init__(self, config: Config, inputs: Layout, outputs: Layout, condition: int | None = None):
        super().__init__(config, inputs, outputs, condition)
        half = config.first_kernel // 2
        hidden, wide = (Layout.of(width, inputs.groups) for width in (config.features, 2 * config.features))
        out = Layout.of(config.out_features or 2 * config.features, inputs.groups)
        self.first = PixelConv(inputs, wide, "A", left=half, rows=half, side=half)
        self.blocks = nn.ModuleList(_Block(wide, hidden, config, condition) for _ in range(config.blocks))
        self.out = OutputLayers(wide, out, outputs)

    def rows(self, x: Tensor | None, condition: Tensor | None, run: Run) -> list[Tensor]:
        if condition is None:
            return []
        return [block.condition(run.row_of(condition)) for block in self.blocks]

    def pixels(self, x: Tensor | None, contexts: list[Tensor], run: Run) -> Tensor:
        h = self.first(x, run)
        for index, block in enumerate(self.blocks):
            h = run.block(block, h, contexts[index] if contexts else None)
        return self.out(h, run)

    def receptive_field(self, height: int, width: int, row: int, column: int) -> Tensor:
        seen = torch.zeros(height, width, dtype=torch.bool)
        seen[row, column] = True
        half = self.config.kernel // 2
        for _ in range(self.config.blocks):
            seen = spread(seen, range(-half, 0), range(-half, half + 1)) | spread(seen, range(1), range(-half, 1))
        half = self.config.first_kernel // 2
        above = spread(seen, range(-half, 0), range(-half, half + 1))
        return above | mask_a_row(seen, half, self.inputs.groups, (row, column))


class _Block(nn.Module):
    def __init__(self, wide: Layout, hidden: Layout, config: PixelCNN.Config, condition: int | None):
        super().__init__()
        half = config.kernel // 2
        self.hidden = hidden
        self.narrow = PixelConv(wide, hidden, "B")
        self.spatial = PixelConv(hidden, hidden, "B", left=half, rows=half, side=half)
        self.widen = PixelConv(hidden, wide, "B")
        if condition is not None:
            self.condition = nn.Linear(condition, hidden.width, bias=False)
        self.relu, self.add, self.dropout = ReLU(), Add(), Dropout(config.dropout)

    def forward(self, x: Tensor, context: Tensor | None, run: Run) -> Tensor:
        h = self.narrow(self.relu(x), run)
        h = self.spatial(self.relu(h), run)
        if context is not None:
            h = self.add(h, run.here(context, self.hidden))
        return self.add(x, self.widen(self.dropout(self.relu(h)), run))
