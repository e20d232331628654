"""Training batches whose order is a pure function of (seed, epoch, position), so that a resumed run sees what the
uninterrupted one would have seen; and, for models of several orders of prediction, the order of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from nextpixel.images import Split
from nextpixel.model import Model
from nextpixel.tasks.loading import read_ahead


class Batches:
    """Shuffled (images, labels or empty) batches of a training split; the last one of an epoch may be short.

    Every iteration begins at the batch after those that were *trained* on, not after those that were handed out: a
    trainer may fetch batches ahead, or begin an epoch anew after a resumption, and none is lost or seen twice.
    """

    def __init__(
        self, split: Split, batch_size: int, seed: int, trained: Callable[[], int] = lambda: 0, workers: int = 0
    ):
        """trained: tells how many batches have been trained on since the start of the run. workers: threads that read
        ahead, which changes nothing in the batches."""
        self.split, self.batch_size, self.seed, self.trained, self.workers = split, batch_size, seed, trained, workers

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, first = divmod(self.trained(), len(self))
        order = torch.randperm(len(self.split), generator=self._generator(epoch, 0))

        def batch(at: int) -> tuple[Tensor, Tensor]:
            indices = order[at * self.batch_size : (at + 1) * self.batch_size]
            images = self.split.draw(indices, self._generator(epoch, at + 1))
            return images, images.new_zeros(0) if self.split.labels is None else self.split.labels[indices]

        yield from read_ahead(batch, range(first, len(self)), self.workers)

    def _generator(self, epoch: int, draw: int) -> torch.Generator:
        # Distinct for every (seed, epoch, draw) as long as an epoch has fewer than 2^24 batches and 63 bits suffice.
        return torch.Generator().manual_seed(((self.seed * 1_000_003 + epoch) * 2**24 + draw) % 2**63)


class InOrder:
    """Validation batches in the split's own order, every image once."""

    def __init__(self, split: Split, batch_size: int):
        self.split, self.batch_size = split, batch_size

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.split), self.batch_size):
            part = self.split[start : start + self.batch_size]
            images = part.images
            yield images, images.new_zeros(0) if part.labels is None else part.labels


def in_order_of_step(model: Model, seed: int, step: int, fresh: bool) -> Model:
    """The model in the order of prediction of a training step: one of its orders at random, or, if `fresh`, a new
    permutation of the pixels (order-agnostic training; Uria, Murray and Larochelle 2014)."""
    generator = np.random.default_rng([seed, step, 3])
    if fresh:
        return model.in_order(torch.from_numpy(generator.permutation(model.shape[1] * model.shape[2])))
    count = len(model.order_names)
    return model.in_order(int(generator.integers(count))) if count > 1 else model


@torch.no_grad()
def log_prob_among_orders(model: Model, x: Tensor, condition: Tensor | None, first: int) -> Tensor:
    """log p of x [N, C, H, W] with the orders of prediction dealt out: picture i of x is the (first + i)-th of its
    split and is scored in order (first + i) mod O. Over a split, the mean over orders in the time of one; no gradient.
    """
    several = model.each_order()
    log_prob = model.like().new_zeros(len(x))
    turn = (torch.arange(len(x)) + first) % len(several)
    for number in turn.unique().tolist():
        which = torch.nonzero(turn == number)[:, 0].to(x.device)
        log_prob[which] = several[number].log_prob(x[which], None if condition is None else condition[which])
    return log_prob


def spaced(split: Split, count: int) -> Split:
    """`count` images at equal distances (some sets are sorted by class, so never the first ones); 0 means all."""
    if not 0 < count < len(split):
        return split
    return split[torch.arange(count) * len(split) // count]
