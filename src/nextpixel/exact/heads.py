"""Heads on integers: the masses of a symbol's values, from the network's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextpixel.coding.frequencies import log_probabilities, spans
from nextpixel.exact.halves import ExactHalves
from nextpixel.exact.layers import ExactLinear
from nextpixel.exact.numbers import Formats, rounded, saturated
from nextpixel.exact.proof import Before, proved
from nextpixel.exact.tables import Tables, mass_bits
from nextpixel.heads import AutoregressiveCategorical, Head


class ExactHead(nn.Module):
    """What a head is to a stepper, with integer masses under its probabilities."""

    tables: Tables

    def __init__(self, head: Head, formats: Formats, tables: Tables):
        super().__init__()
        self.sizes, self.orders_channels, self.name = head.sizes, head.orders_channels, head.name
        self.channels, self.levels = head.channels, head.levels
        self.formats = formats
        self.__dict__["tables"] = tables  # the model's, not a part of this module
        tables.need_masses(mass_bits(head.levels))

    def prove(self, features: Tensor, before: Before | None) -> None:
        """Prove that all sums are exact, for features within these bounds [·]."""

    def masses(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        """Masses of all values of one symbol, int64 [n, K]; arguments as of `Head.log_pmf`, features as integers."""
        raise NotImplementedError

    def spans(self, features: Tensor, channel: int, earlier: Tensor, values: Tensor) -> Tensor:
        """Of the masses of one symbol what the interval of its value [n] follows from: see `frequencies.spans`."""
        return spans(self.masses(features, channel, earlier), values)

    def log_pmf(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        return log_probabilities(self.masses(features, channel, earlier))

    def _softmax(self, logits: Tensor) -> Tensor:
        return self.tables.masses(logits.amax(-1, keepdim=True) - logits)


class ExactBernoulli(ExactHead):
    def masses(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        return self._softmax(torch.cat([torch.zeros_like(features), features], -1))


class ExactCategorical(ExactHead):
    def masses(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        return self._softmax(features)


class ExactAutoregressiveCategorical(ExactHead):
    """The embeddings of earlier values are added one after another, each sum saturates."""

    def __init__(self, head: AutoregressiveCategorical, formats: Formats, tables: Tables):
        super().__init__(head, formats, tables)
        layers = [child for child in head.logits.children() if isinstance(child, nn.Linear)]
        self.logits = nn.ModuleList(
            _linear(layer, formats, f"head.logits.{channel}") for channel, layer in enumerate(layers)
        )
        # [earlier channel, value, features] for every channel
        self.earlier = nn.ParameterList(
            nn.Parameter(torch.zeros(channel, head.levels, head.features), requires_grad=False)
            for channel in range(head.channels)
        )

    def take(self, head: AutoregressiveCategorical) -> None:
        """Round the embeddings."""
        for channel, table in enumerate(self.earlier):
            for place, one in enumerate(head.tables(channel)):
                rows = rounded(one.get_parameter("weight"), self.formats.activation)
                table[place].copy_(saturated(rows, self.formats.limit))

    def prove(self, features: Tensor, before: Before | None) -> None:
        for channel, layer in enumerate(self.logits):
            added = self.earlier[channel].abs().amax(1).sum(0).double() if channel else 0
            bounds = (features + added).clamp(max=self.formats.limit)
            proved(f"head.logits.{channel}", layer, (bounds[None],), before)

    def masses(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        for table, values in zip(self.earlier[channel], earlier.long().unbind(1), strict=True):
            features = saturated(features + table[values], self.formats.limit)
        return self._softmax(self.logits[channel](features.clamp(min=0)))


def _linear(layer: nn.Linear, formats: Formats, name: str) -> nn.Module:
    if name in formats.halves:
        return ExactHalves(layer, formats)
    return ExactLinear(layer, formats, formats.drops.get(name, 0))
