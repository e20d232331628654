"""MADE (Germain et al. 2015): a masked autoencoder over the flattened picture, for any order of the pixels.

Fully connected layers in which every hidden unit has a degree m and depends on the first m positions only. The output
of a position is connected to the hidden units whose degree is no higher than the number of earlier positions and,
directly, to all earlier inputs (section 4, "Masked Autoencoders"). The channels of a pixel are ordered by the head.

Differences from the paper: the degrees of hidden units are spread evenly over the positions and the same in every layer
instead of drawn at random, and masks are not drawn anew in training. The constant 1 beside every input pixel has masked
weights of its own, which tell a unit what it sees, as the paper's weights for conditioning on the masks do. Pixels have
any number of values, through the embedding and the head. A condition is added to all hidden units and outputs.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import torch
from torch import Tensor, nn

from nextpixel.causal import Add, Dropout, EarlierInputs, Layout, MaskedLinear, ReLU, Run, Units, steps_of
from nextpixel.networks.flat import FlatNetwork
from nextpixel.networks.network import check_options, register


@register(
    "made",
    summary="masked autoencoder over all pixels, of one image size (MADE)",
    channel_masks=False,
    full_context=True,
    conditions=("class", "vector"),
    any_size=False,
    orders="any",
)
class MADE(FlatNetwork):
    @dataclasses.dataclass(frozen=True)
    class Config:
        layers: int = 1
        """hidden layers"""
        hidden: int = 500
        """units of a hidden layer"""
        direct: bool = True
        """connect every output to all earlier inputs directly too"""
        dropout: float = 0.0
        """dropped share of each hidden layer's units, in training"""

        def __post_init__(self) -> None:
            check_options(self, counts="layers hidden", shares="dropout")

    def __init__(
        self, config: Config, inputs: Layout, outputs: Layout, condition: int | None = None, *, size: tuple[int, int]
    ):
        super().__init__(config, inputs, outputs, condition, size=size)
        before, after = Units.inputs(self.positions, inputs.width), Units.outputs(self.positions, outputs.width)
        self.hidden = Units.hidden(config.hidden, self.positions)
        self.earlier = EarlierInputs()
        self.layers = nn.ModuleList(
            MaskedLinear(below, above, condition) for below, above in pairwise([before, *[self.hidden] * config.layers])
        )
        self.out = MaskedLinear(self.hidden, after, condition)
        if config.direct:
            self.direct = MaskedLinear(before, after, bias=False)
        self.relu, self.add, self.dropout = ReLU(), Add(), Dropout(config.dropout)

    def rows(self, x: Tensor | None, condition: Tensor | None, run: Run) -> list[Tensor]:
        super().rows(x, condition, run)
        return [] if condition is None else [condition]

    def pixels(self, x: Tensor | None, contexts: list[Tensor], run: Run) -> Tensor:
        condition = contexts[0][:, 0, 0] if contexts else None
        steps = steps_of(x, run)
        earlier = h = self.earlier(x, run)
        for layer in self.layers:
            h = self.dropout(self.relu(layer(h, condition, steps, run)))
        y = self.out(h, condition, steps, run)
        if self.config.direct:
            y = self.add(y, self.direct(earlier, None, steps, run))
        return y if x is None else y.view(*x.shape[:3], self.outputs.width)

    def receptive_field(self, height: int, width: int, row: int, column: int) -> Tensor:
        """Without direct connections, the positions that the unit of the highest degree within reach has seen."""
        self.check_size(height, width)
        at = row * width + column
        reached = self.hidden.degrees[: self.hidden.until(at)]
        seen = at if self.config.direct else max(reached, default=0)
        return (torch.arange(height * width) < seen).view(height, width)
