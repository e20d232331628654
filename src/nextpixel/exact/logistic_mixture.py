"""The discretised logistic mixture on integers: cumulative masses at the edges of the levels, from tables.

Everything here is int64. A cumulative mass grows with the level because the table of the logistic function, the
straight lines between its entries, and every rounding down do; so no mass is negative, whatever means and scales are.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.exact.heads import ExactHead
from nextpixel.exact.numbers import Formats, without_bits
from nextpixel.exact.proof import Before
from nextpixel.exact.tables import Tables
from nextpixel.heads import LogisticMixture
from nextpixel.heads.logistic_mixture import LOG_SCALES
from nextpixel.native import library

PLACE = 20  # bits of edges and means on [-1, 1]
SHARP = 20  # bits of 1 / scale
BETWEEN = 8  # bits of an argument between two entries of the table of the logistic function
MASS = 22  # bits of that table's entries
WEIGHT = 18  # bits of the weights of the components, which add up to 1 or a little less
KEPT = 30  # bits of the sum of the masses of all levels
ARGUMENT = 17  # the logistic function is 0 or 1, to its bits, where its argument is further from 0
AT_ONCE = 2**16  # elements that are worked on together: what stays in the cache


class ExactLogisticMixture(ExactHead):
    mixtures: int

    def __init__(self, head: LogisticMixture, formats: Formats, tables: Tables):
        super().__init__(head, formats, tables)
        tables.need("tanh")
        self.mixtures, self.pairs, self.zoom = head.mixtures, head.pairs, head.zoom
        levels, index = torch.arange(head.levels, dtype=torch.float64), formats.index
        centres = 2 * levels / (head.levels - 1) - 1
        lowest, highest = (int(limit) << index for limit in LOG_SCALES)
        scales = torch.arange(lowest, highest + 1, dtype=torch.float64) / (1 << index)
        at = torch.arange(-(ARGUMENT << index), (ARGUMENT << index) + 2, dtype=torch.float64) / (1 << index)
        for name, values in (
            ("centres", centres * (formats.one if head.zoom == 1 else 2**PLACE)),
            ("edges", (centres[:-1] + 1 / (head.levels - 1)) * 2**PLACE),
            ("sharpness", torch.exp(-scales) * 2**SHARP),
            ("logistic", torch.sigmoid(at) * 2**MASS),
        ):
            self.register_buffer(name, torch.floor(values + 0.5).long())

    def prove(self, features: Tensor, before: Before | None) -> None:
        """That no mass is negative and no product leaves 64 bits follows from the tables and the largest mean."""
        sharpest = math.ceil(math.exp(-LOG_SCALES[0])) << SHARP
        centre = self.formats.one if self.zoom == 1 else 1 << PLACE
        ranges = {
            "centres": (-centre, centre),
            "edges": (-1 << PLACE, 1 << PLACE),
            "sharpness": (0, sharpest),
            "logistic": (0, 1 << MASS),
        }
        for name, (low, high) in ranges.items():
            table = self.get_buffer(name)
            falls = name in ("edges", "logistic") and bool((table.diff() < 0).any())
            if falls or int(table.min()) < low or int(table.max()) > high:
                raise UserError("A table of this frozen model holds impossible values.")
        widest = (self.formats.limit << (PLACE - self.formats.activation)) + 2**PLACE  # of what one channel adds
        if (2**PLACE + (1 + self.channels) * widest) * sharpest >= 2**63:
            raise UserError("The number formats of this frozen model are too wide for its mixture.")

    def masses(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        share, mean, sharpness = self._components(features, channel, earlier.long())
        compiled = compiled_masses() if features.device.type == "cpu" else None
        if compiled is None:
            return self._masses(share, mean, sharpness)
        share, mean, sharpness = (x.contiguous() for x in (share, mean, sharpness))
        masses = share.new_empty(len(share), self.levels)
        index, tables = self.formats.index, (self.get_buffer("edges"), self.get_buffer("logistic"))
        compiled(
            *(x.data_ptr() for x in (share, mean, sharpness, *tables, masses)),
            *(len(share), self.levels, self.mixtures, PLACE + SHARP - index - BETWEEN),
            *(ARGUMENT << (index + BETWEEN), BETWEEN, MASS, WEIGHT + MASS - KEPT, torch.get_num_threads()),
        )
        return masses

    def spans(self, features: Tensor, channel: int, earlier: Tensor, values: Tensor) -> Tensor:
        share, mean, sharpness = self._components(features, channel, earlier)
        value = values[:, None]
        upper = (share * self._below(self._edge(value), mean, sharpness)).sum(1)
        lower = (share * self._below(self._edge(value - 1), mean, sharpness)).sum(1)
        total = share.sum(1) << MASS
        upper = torch.where(values == self.levels - 1, total, upper)
        lower = torch.where(values == 0, 0, lower)
        return torch.stack([lower, upper, total], 1) >> (WEIGHT + MASS - KEPT)

    def _masses(self, share: Tensor, mean: Tensor, sharpness: Tensor) -> Tensor:
        """Masses [n, K] under components [n, M]."""
        found, at_once = [], max(1, AT_ONCE // (self.levels * self.mixtures))
        for start in range(0, len(share), at_once):
            here, centre, sharp = (x[start : start + at_once, None] for x in (share, mean, sharpness))
            below = (here * self._below(self.get_buffer("edges")[:, None], centre, sharp)).sum(-1)  # [n, K - 1]
            total = here.sum(-1) << MASS
            cumulative = torch.cat([torch.zeros_like(total), below, total], -1)
            found.append(torch.diff(cumulative >> (WEIGHT + MASS - KEPT), dim=-1))
        return torch.cat(found) if found else share.new_zeros(0, self.levels)

    def _components(self, features: Tensor, channel: int, earlier: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture of one symbol's components: their weights, means and sharpness, each [n, M]."""
        parts = features.unflatten(-1, (1 + 2 * self.channels + self.pairs, self.mixtures))
        weights, means, scales, pull = parts.split([1, self.channels, self.channels, self.pairs], -2)
        pull = self.tables.look_up(pull, "tanh").long()
        means, sharpness = means.long(), self._sharpness(scales)
        share = _normalised(self._softmax(weights[:, 0]))
        for before in range(channel):
            mean = self._mean(means, pull, before, earlier)
            value = earlier[:, before, None]
            upper = self._below(self._edge(value), mean, sharpness[:, before])
            lower = self._below(self._edge(value - 1), mean, sharpness[:, before])
            upper = torch.where(value == self.levels - 1, 1 << MASS, upper)
            lower = torch.where(value == 0, 0, lower)
            share = _normalised(share * (upper - lower + 1))
        return share, self._mean(means, pull, channel, earlier), sharpness[:, channel]

    def _sharpness(self, log_scales: Tensor) -> Tensor:
        """1 / scale, of [n, C, M] log-scales."""
        table, low = self.get_buffer("sharpness"), -int(LOG_SCALES[0]) << self.formats.index
        index = without_bits(log_scales, self.formats.activation - self.formats.index).long() + low
        return table[index.clamp(0, len(table) - 1)]

    def _mean(self, means: Tensor, pull: Tensor, channel: int, earlier: Tensor) -> Tensor:
        """Means of a channel's components with PLACE bits, [n, M], given the values [n, ≥ channel] of earlier ones."""
        bits, first = self.formats.activation, channel * (channel - 1) // 2
        if self.zoom > 1:
            return self._zoomed_mean(means, pull[:, first : first + channel], earlier[:, :channel])
        mean = means[:, channel]
        for before in range(channel):
            pulled = pull[:, first + before] * self.get_buffer("centres")[earlier[:, before]][:, None]
            mean = mean + ((pulled + (1 << (bits - 1))) >> bits)
        return mean << (PLACE - bits)

    def _zoomed_mean(self, means: Tensor, pull: Tensor, earlier: Tensor) -> Tensor:
        """The same from features that are `zoom` times the means, given `earlier` [n, channel] and their `pull` alone:
        with PLACE bits from the start, because the features say more of the means than an activation could."""
        bits, channel = self.formats.activation, earlier.shape[1]
        means = (means << (PLACE - bits)) // self.zoom
        surprise = self.get_buffer("centres")[earlier][..., None] - means[:, :channel]
        return means[:, channel] + ((pull * surprise + (1 << (bits - 1))) >> bits).sum(1)

    def _edge(self, values: Tensor) -> Tensor:
        """The upper edges of levels; of the last one, and below the first, any."""
        edges = self.get_buffer("edges")
        return edges[values.clamp(0, len(edges) - 1)]

    def _below(self, edges: Tensor, mean: Tensor, sharpness: Tensor) -> Tensor:
        """The mass below edges under logistic components, with MASS bits."""
        index, table = self.formats.index, self.get_buffer("logistic")
        argument = ((edges - mean) * sharpness) >> (PLACE + SHARP - index - BETWEEN)
        last = ARGUMENT << (index + BETWEEN)
        argument = argument.clamp(-last, last) + last
        entry, between = argument >> BETWEEN, argument & ((1 << BETWEEN) - 1)
        low = table[entry]
        return low + (((table[entry + 1] - low) * between) >> BETWEEN)


@functools.cache
def compiled_masses() -> Callable[..., None] | None:
    """The same as `_masses`, compiled; None where it cannot be had."""
    compiled = library(Path(__file__).with_name("mixture.c"))
    if compiled is None:
        return None
    function: Any = compiled.mixture_masses
    function.argtypes, function.restype = [ctypes.c_void_p] * 6 + [ctypes.c_int64] * 9, None
    return function


def _normalised(weights: Tensor) -> Tensor:
    """Weights [n, M] ≥ 0, not all zero, as parts of 2^WEIGHT, rounded down."""
    return torch.div(weights << WEIGHT, weights.sum(-1, keepdim=True), rounding_mode="floor")
