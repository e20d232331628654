"""A local network whose context is cut to a slope, so that pictures can be made by diagonals (the masks of wavefront
decoders: Zhang et al. 2022, "Parallel Neural Local Lossless Compression"; here in every layer of a deep
network, at any depth).

Gated layers with a residual around each, over one stream: as a horizontal stack of the Gated PixelCNN that also sees
the rows above. Of the m-th row above a pixel depends on at most slope·m − 1 columns to the right, whatever the depth
and the kernels: at slope 2 a picture of H×W takes W + 2(H − 1) steps. What lies further right is a blind spot by
choice; a symbol sees `first_kernel`//2 + layers · `kernel`//2 rows and columns.

With `neighbours` a linear prediction from the nearest known values is added to the output, as in the classical lossless
codecs (Weinberger, Seroussi and Sapiro 2000, "LOCO-I", section II): training begins where those stand, and learns what
they do not know. It is meant for `logistic_mixture` with a zoom, which begins with it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nextpixel.causal import Add, Dropout, Gate, Layout, PixelConv, Run
from nextpixel.errors import UserError
from nextpixel.networks.network import Network, check_first_kernel, check_options, mask_a_row, register, spread
from nextpixel.networks.output import LinearPart, OutputLayers, begin_with_differences


@register(
    "local",
    summary="gated layers cut to a slope: pictures are made by diagonals",
    channel_masks=True,
    full_context=False,
    conditions=("class", "vector", "map"),
    schedules=("raster", "wavefront"),
    freezable=True,
)
class LocalNetwork(Network):
    added: ClassVar[dict[str, Any]] = {"neighbours": 0}

    @dataclasses.dataclass(frozen=True)
    class Config:
        layers: int = 6
        """gated layers after the first"""
        features: int = 64
        """features of a layer"""
        kernel: int = 3
        """kernel size of the layers (odd)"""
        first_kernel: int = 7
        """kernel size of the first layer (odd)"""
        neighbours: int = 0
        """rows and columns of known values that the outputs are also weighted sums of, for pictures of many levels: the
        network begins as a prediction from them; 0 means none"""
        slope: int = 2
        """columns by which a row is ahead of the one below when pictures are made by diagonals"""
        out_features: int = 0
        """features of the output layers; 0 means the same as `features`"""
        dropout: float = 0.0
        """dropped share of the features between the gate and the residual, in training"""

        def __post_init__(self) -> None:
            check_options(self, counts="layers features slope", kernels="kernel first_kernel", shares="dropout")
            check_first_kernel(self.first_kernel)
            most = self.first_kernel // 2
            if not 0 <= self.neighbours <= most:
                raise UserError(
                    f"The option neighbours must be between 0 and {most} at this first_kernel, not {self.neighbours}."
                )

    layers: Any  # of _Layer; a ModuleList does not say of what

    def __init__(self, config: Config, inputs: Layout, outputs: Layout, condition: int | None = None):
        super().__init__(config, inputs, outputs, condition)
        half, hidden = config.first_kernel // 2, Layout.of(config.features, inputs.groups)
        out = Layout.of(config.out_features or config.features, inputs.groups)
        self.first = PixelConv(inputs, hidden, "A", left=half, rows=half, side=half, cut=config.slope)
        self.layers = nn.ModuleList(_Layer(hidden, config, condition) for _ in range(config.layers))
        self.out = OutputLayers(hidden, out, outputs)
        if config.neighbours:
            self.linear = LinearPart(inputs, outputs, config.neighbours, config.slope)

    def rows(self, x: Tensor | None, condition: Tensor | None, run: Run) -> list[Tensor]:
        if condition is None:
            return []
        return [layer.condition(run.row_of(condition)) for layer in self.layers]

    def pixels(self, x: Tensor | None, contexts: list[Tensor], run: Run) -> Tensor:
        h = self.first(x, run)
        for index, layer in enumerate(self.layers):
            h = run.block(layer, h, contexts[index] if contexts else None)
        return self.linear(x, self.out(h, run), run) if self.config.neighbours else self.out(h, run)

    def begin(self, gain: Tensor, bias: Tensor) -> None:
        if self.config.neighbours:
            self.linear.begin(gain, bias)
            self.out.begin_small()
            begin_with_differences(self.first)

    def receptive_field(self, height: int, width: int, row: int, column: int) -> Tensor:
        seen = torch.zeros(height, width, dtype=torch.bool)
        seen[row, column] = True
        half = self.config.kernel // 2
        for _ in range(self.config.layers):
            seen = self._above(seen, half) | spread(seen, range(1), range(-half, 1))
        half = self.config.first_kernel // 2
        return self._above(seen, half) | mask_a_row(seen, half, self.inputs.groups, (row, column))

    def _above(self, seen: Tensor, half: int) -> Tensor:
        reached = torch.zeros_like(seen)
        for up in range(1, half + 1):
            reached |= spread(seen, range(-up, 1 - up), range(-half, min(half, self.config.slope * up - 1) + 1))
        return reached


class _Layer(nn.Module):
    def __init__(self, hidden: Layout, config: LocalNetwork.Config, condition: int | None):
        super().__init__()
        half = config.kernel // 2
        self.gates = Layout(hidden.sizes, pieces=2)
        self.spatial = PixelConv(hidden, self.gates, "B", left=half, rows=half, side=half, cut=config.slope)
        self.residual = PixelConv(hidden, hidden, "B")
        if condition is not None:
            self.condition = nn.Linear(condition, self.gates.width, bias=False)
        self.gate, self.add, self.dropout = Gate(), Add(), Dropout(config.dropout)

    def forward(self, x: Tensor, context: Tensor | None, run: Run) -> Tensor:
        h = self.spatial(x, run)
        if context is not None:
            h = self.add(h, run.here(context, self.gates))
        return self.add(x, self.residual(self.dropout(self.gate(h)), run))
