"""Training batches whose order is a pure function of (seed, epoch, position), so that a resumed run sees what the
uninterrupted one would have seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nextpixel.images import Split


class Batches:
    """Shuffled (images, labels or empty) batches of a training split; the last one of an epoch may be short.

    Every iteration begins at the batch after those that were *trained* on, not after those that were handed out: a
    trainer may fetch batches ahead, or begin an epoch anew after a resumption, and none is lost or seen twice.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, trained: Callable[[], int] = lambda: 0):
        """trained: tells how many batches have been trained on since the start of the run."""
        self.split, self.batch_size, self.seed, self.trained = split, batch_size, seed, trained

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, first = divmod(self.trained(), len(self))
        order = torch.randperm(len(self.split), generator=self._generator(epoch, 0))
        for at in range(first, len(self)):
            indices = order[at * self.batch_size : (at + 1) * self.batch_size]
            images = self.split.draw(indices, self._generator(epoch, at + 1))
            labels = images.new_zeros(0) if self.split.labels is None else self.split.labels[indices]
            yield images, labels

    def _generator(self, epoch: int, draw: int) -> torch.Generator:
        # Distinct seeds for every (seed, epoch, draw) as long as an epoch has fewer than 2^24 batches.
        return torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) * 2**24 + draw)


class InOrder:
    """Validation batches in the split's own order, every image once."""

    def __init__(self, split: Split, batch_size: int):
        self.split, self.batch_size = split, batch_size

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.split), self.batch_size):
            part = self.split[start : start + self.batch_size]
            yield part.images, part.images.new_zeros(0) if part.labels is None else part.labels


def spaced(split: Split, count: int) -> Split:
    """`count` images at equal distances (some sets are sorted by class, so never the first ones); 0 means all."""
    if not 0 < count < len(split):
        return split
    return split[torch.arange(count) * len(split) // count]
