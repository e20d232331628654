"""What the two recurrent families of the PixelRNN paper share: everything but the layer itself.

A 7×7 convolution with mask A onto 2h features; layers of h hidden features, widened to 2h by a 1×1, with a residual
around each; then ReLU and 1×1 (van den Oord et al. 2016a, sections 3.3 and 3.5, figure 5 and table 1). The paper's
ablation is two flags, `residual` and `skip`; `highway` gates over depth instead.

Difference from the paper: a condition, when there is one, is added to the input of every layer; the paper has none.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from nextpixel.causal import Add, Dropout, Highway, Layout, PixelConv, Run
from nextpixel.errors import UserError
from nextpixel.networks.network import Network, check_first_kernel, check_options, mask_a_row, spread
from nextpixel.networks.output import OutputLayers


@dataclasses.dataclass(frozen=True)
class RecurrentConfig:
    layers: int = 7
    """recurrent layers"""
    features: int = 16
    """h: hidden features of a layer; between layers there are 2h"""
    first_kernel: int = 7
    """kernel size of the first layer (odd)"""
    out_features: int = 0
    """features of the output layers; 0 means 2h"""
    residual: bool = True
    """add each layer's input to its output"""
    skip: bool = False
    """add every layer's hidden features, through a 1×1, to what the output layers see"""
    highway: bool = False
    """mix each layer's input and output by a learned gate instead of adding"""
    dropout: float = 0.0
    """dropped share of each layer's hidden features, in training"""

    def __post_init__(self) -> None:
        check_options(self, counts="layers features", kernels="first_kernel", shares="dropout")
        check_first_kernel(self.first_kernel)
        if self.residual and self.highway:
            raise UserError("Choose residual or highway connections, not both: --option residual=false.")


class RecurrentNetwork(Network):
    Config: Any = RecurrentConfig
    layers: Any  # of _Layer; a ModuleList does not say of what

    def __init__(self, config: RecurrentConfig, inputs: Layout, outputs: Layout, condition: int | None = None):
        super().__init__(config, inputs, outputs, condition)
        half, groups = config.first_kernel // 2, inputs.groups
        hidden, wide = (Layout.of(width, groups) for width in (config.features, 2 * config.features))
        out = Layout.of(config.out_features or 2 * config.features, groups)
        self.first = PixelConv(inputs, wide, "A", left=half, rows=half, side=half)
        self.layers = nn.ModuleList(
            _Layer(self.recurrence(wide, hidden), wide, hidden, config, condition) for _ in range(config.layers)
        )
        self.add = Add()
        self.out = OutputLayers(wide, out, outputs)

    def recurrence(self, wide: Layout, hidden: Layout) -> nn.Module:
        """The layer itself: called with (features, the network's input or None, run), gives hidden features."""
        raise NotImplementedError

    def rows(self, x: Tensor | None, condition: Tensor | None, run: Run) -> list[Tensor]:
        if condition is None:
            return []
        return [layer.condition(run.row_of(condition)) for layer in self.layers]

    def pixels(self, x: Tensor | None, contexts: list[Tensor], run: Run) -> Tensor:
        h = self.first(x, run)
        skips: Tensor | None = None
        for index, layer in enumerate(self.layers):
            h, skip = run.block(layer, h, x, contexts[index] if contexts else None)
            if skip is not None:
                skips = skip if skips is None else self.add(skips, skip)
        if skips is not None:
            h = self.add(h, skips)
        return self.out(h, run)

    def receptive_field(self, height: int, width: int, row: int, column: int) -> Tensor:
        seen = torch.zeros(height, width, dtype=torch.bool)
        seen[row, column] = True
        raw = torch.zeros_like(seen)
        for _ in range(self.config.layers):
            below, directly = self.seen_by_layer(seen)
            seen, raw = seen | below, raw | directly  # around the layer leads the residual
        half = self.config.first_kernel // 2
        above = spread(seen, range(-half, 0), range(-half, half + 1))
        return above | mask_a_row(seen, half, self.inputs.groups, (row, column)) | raw

    def seen_by_layer(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """From which positions of its input, and of the network's, a layer's features at `seen` come: bool [H, W]."""
        raise NotImplementedError


class _Layer(nn.Module):
    def __init__(
        self, recurrence: nn.Module, wide: Layout, hidden: Layout, config: RecurrentConfig, condition: int | None
    ):
        super().__init__()
        self.config, self.wide = config, wide
        self.recurrence = recurrence
        self.widen = PixelConv(hidden, wide, "B")
        if config.skip:
            self.skip = PixelConv(hidden, wide, "B")
        if config.highway:
            self.gate, self.highway = PixelConv(wide, wide, "B"), Highway()
        if condition is not None:
            self.condition = nn.Linear(condition, wide.width, bias=False)
        self.add, self.dropout = Add(), Dropout(config.dropout)

    def forward(self, x: Tensor, raw: Tensor | None, context: Tensor | None, run: Run) -> tuple[Tensor, Tensor | None]:
        if context is not None:
            x = self.add(x, run.here(context, self.wide))
        hidden = self.dropout(self.recurrence(x, raw, run))
        new = self.widen(hidden, run)
        if self.config.highway:
            new = self.highway(self.gate(x, run), new, x)
        elif self.config.residual:
            new = self.add(x, new)
        return new, self.skip(hidden, run) if self.config.skip else None
