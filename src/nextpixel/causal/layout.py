"""How the features of a layer belong to image channels, and which may see which at the current pixel.

In a channel-masked network every feature belongs to one channel group: features of group c may depend on the channels
0..c of the current pixel (0..c-1 in the first, mask A, layer) and on all channels of earlier pixels
(van den Oord et al. 2016, "Pixel Recurrent Neural Networks", section 3.4 and figure 2). Networks without channel masks
have a single group.

Inside a network features are kept sorted by group. `map_channels` and `centre_mask` also speak the numbering that
public code uses: interleaved (map i belongs to channel i mod C) or in thirds (contiguous blocks).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

Mask = Literal["A", "B"]
Numbering = Literal["interleaved", "thirds"]


@dataclass(frozen=True)
class Layout:
    """The last dimension of a feature tensor: `pieces` stacked parts, each sorted by channel group.

    A gate's two halves are two pieces: with sizes (3, 2, 2) and 2 pieces the 14 features are
    [a0 a0 a0 a1 a1 a2 a2 | b0 b0 b0 b1 b1 b2 b2], so splitting in halves never mixes groups, whatever the sizes.
    "Group-major" order puts all pieces of group 0 first, then those of group 1: the order in which a Cursor computes.
    """

    sizes: tuple[int, ...]
    pieces: int = 1

    @staticmethod
    def of(features: int, groups: int, pieces: int = 1) -> Layout:
        """`features` per piece shared out over `groups`, the first groups taking the remainder."""
        return Layout(tuple(len(range(g, features, groups)) for g in range(groups)), pieces)

    @property
    def width(self) -> int:
        return self.pieces * sum(self.sizes)

    @property
    def groups(self) -> int:
        return len(self.sizes)

    def channel(self) -> Tensor:
        """The group of every feature, [width]."""
        one_piece = torch.repeat_interleave(torch.arange(self.groups), torch.tensor(self.sizes))
        return one_piece.repeat(self.pieces)

    def members(self, group: int) -> Tensor:
        """Indices of the features of one group, piece by piece."""
        return torch.nonzero(self.channel() == group).flatten()

    def group_major(self) -> Tensor:
        """Indices that sort the features group by group, [width]."""
        return torch.cat([self.members(group) for group in range(self.groups)])

    def ends(self) -> list[int]:
        """In group-major order, where each group ends: ends()[g] features belong to groups 0..g."""
        return list(accumulate(self.pieces * size for size in self.sizes))


def map_channels(maps: int, channels: int, numbering: Numbering = "thirds") -> Tensor:
    """The channel of each of `maps` feature maps, [maps]; any numbers, multiples of each other or not.

    Both numberings give every channel the same number of maps; they differ by a permutation only.
    """
    if numbering == "interleaved":
        return torch.arange(maps) % channels
    return Layout.of(maps, channels).channel()


def centre_mask(inputs: Tensor, outputs: Tensor, mask: Mask) -> Tensor:
    """Allowed connections at the current pixel, bool [len(outputs), len(inputs)].

    `inputs` and `outputs` hold the channel of every map. Mask A forbids the map's own channel (first layer), mask B
    allows it (all later layers).
    """
    if mask == "A":
        return inputs[None, :] < outputs[:, None]
    return inputs[None, :] <= outputs[:, None]
