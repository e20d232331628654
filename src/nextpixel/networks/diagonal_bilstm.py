"""Diagonal BiLSTM (van den Oord et al. 2016a, section 3.2): two LSTMs along the diagonals see all rows above.

With `raw` the right-to-left direction also reads the pixels themselves, through a 1×1: then every earlier pixel is
seen. Without it (the paper's layout) the end of the row above, outside the first layer's window, is not.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from nextpixel.causal import DiagonalBiLSTM, Layout
from nextpixel.networks.network import register
from nextpixel.networks.recurrent import RecurrentConfig, RecurrentNetwork


@register(
    "diagonal_bilstm",
    summary="two LSTMs along the diagonals, full context (PixelRNN)",
    channel_masks=True,
    full_context=True,
    conditions=("class", "vector", "map"),
    freezable=True,
)
class DiagonalBiLSTMNetwork(RecurrentNetwork):
    @dataclasses.dataclass(frozen=True)
    class Config(RecurrentConfig):
        raw: bool = True
        """feed the pixels into the right-to-left direction, which makes the context complete"""

    def recurrence(self, wide: Layout, hidden: Layout) -> nn.Module:
        return DiagonalBiLSTM(wide, hidden, self.inputs if self.config.raw else None)

    def seen_by_layer(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        ahead, back = torch.zeros_like(seen), torch.zeros_like(seen)
        for row, column in torch.nonzero(seen).tolist():
            ahead[: row + 1, : column + 1] = True
            back[:row, column:] = True
        return ahead | back, back if self.config.raw else torch.zeros_like(seen)
