"""The values of symbols as the integers that a frozen network reads: a table, so that nothing is scaled or rounded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextpixel.embedding import SymbolEmbedding
from nextpixel.exact.numbers import Formats, rounded, saturated


class ExactEmbedding(nn.Module):
    """Integer images [N, C, H, W] → [N, H, W, D] in the activations' format."""

    def __init__(self, embedding: SymbolEmbedding, formats: Formats):
        super().__init__()
        self.channels, self.layout, self.formats = embedding.channels, embedding.layout, formats
        like = torch.zeros(0)
        every = torch.arange(embedding.levels)
        widths = [embedding.channel(every, channel, like).shape[1] for channel in range(self.channels)]
        self.tables = nn.ParameterList(
            nn.Parameter(torch.zeros(embedding.levels, width), requires_grad=False) for width in widths
        )

    def take(self, embedding: SymbolEmbedding) -> None:
        """Round the vectors of `embedding`."""
        like = torch.zeros(0, dtype=torch.float64)
        for channel, table in enumerate(self.tables):
            vectors = embedding.channel(torch.arange(len(table), device=table.device), channel, like)
            table.copy_(saturated(rounded(vectors, self.formats.activation), self.formats.limit))

    def channel(self, values: Tensor, channel: int, like: Tensor) -> Tensor:
        """Values [...] of one channel → [..., d]."""
        return self.tables[channel][values.long()]

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return torch.cat([self.channel(x[:, c], c, like) for c in range(self.channels)], -1)

    def bounds(self) -> Tensor:
        """The largest magnitude of every feature, [D]."""
        return torch.cat([table.abs().amax(0) for table in self.tables]).double()
