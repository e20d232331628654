"""Training batches whose order is a pure function of (seed, epoch, position), so that a resumed run sees what the
uninterrupted one would have seen; and, for models of several orders of prediction, the order of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from nextpixel.images import Split
from nextpixel.images.lazy import LazySplit
from nextpixel.model import Model, chosen_condition
from nextpixel.tasks.loading import read_ahead

KEPT = 2**30  # bytes of images that are kept on a GPU, a small part of its memory

Told = dict[str, Tensor]
"""what is known of some images, by kind: as of Split.condition"""
Item = tuple[Tensor, Told, float]
"""images [n, C, H, W], what is known of them, weight"""


class Batches:
    """Shuffled batches of a training split, each cut into the shares of several processes, and those into passes.

    A step has `batch_size` images, the last one of an epoch perhaps fewer, whatever the number of processes and of
    passes. Every process gets `passes` items a step:

        (images, what is known of them, weight)

    The mean over processes and passes of weight · (mean over the item's images) is the mean over the step's images.
    Shares differ by one image at most; where there are fewer images than items, an item is one image of weight 0. In
    one process with one pass every weight is 1. The images, and what is drawn at random of them, are those of the step,
    not of the process.

    Every iteration begins at the step after those that were *trained*, not after those that were handed out: a trainer
    may fetch batches ahead, or begin an epoch anew after a resumption, and none is lost or seen twice.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        trained: Callable[[], int] = lambda: 0,
        *,
        rank: int = 0,
        world: int = 1,
        passes: int = 1,
        workers: int = 0,
        flip: float = 0.0,
    ):
        """trained: tells how many steps have been trained since the start of the run. rank: of `world` processes.
        workers: threads that read ahead, which changes nothing in the batches. flip: the share of the images that are
        mirrored left to right, drawn anew in every step."""
        self.split, self.batch_size, self.seed, self.trained, self.workers = split, batch_size, seed, trained, workers
        self.rank, self.world, self.passes, self.flip = rank, world, passes, flip
        self._images: Tensor | None = None  # all of them, on the device where they are trained on

    def keep_on(self, device: torch.device) -> None:
        """Make the batches on this device, out of all images, where these are in memory and take at most KEPT bytes: no
        image is copied in a step then. The batches are the same. What is read lazily, or drawn at random of grey
        values, is made where it was."""
        split = self.split
        if not isinstance(split, LazySplit) and split.grey is None and split.images.nbytes <= KEPT:
            self._images = split.images.to(device)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-len(self.split) // self.batch_size)

    def __len__(self) -> int:
        return self.steps * self.passes

    def __iter__(self) -> Iterator[Item]:
        epoch, first = divmod(self.trained(), self.steps)
        order = torch.randperm(len(self.split), generator=self._generator(epoch, 0))

        def items(at: int) -> list[Item]:
            indices = order[at * self.batch_size : (at + 1) * self.batch_size]
            return self._items(indices, self._generator(epoch, at + 1), epoch * self.steps + at)

        for step in read_ahead(items, range(first, self.steps), self.workers):
            yield from step

    def _items(self, indices: Tensor, generator: torch.Generator, step: int) -> list[Item]:
        """This process's items of the step of these images."""
        share = share_of(len(indices), self.rank, self.world)
        mine = share.stop - share.start
        share = share if mine else slice(0, 1)
        images, used = self._drawn(indices, share, generator)
        told = self.split.condition(used)
        if self.flip:
            which = to_mirror(len(indices), self.flip, self.seed, step)[share]
            images = mirrored(images, which)
            told = {kind: mirrored(values, which) if kind == "map" else values for kind, values in told.items()}
        found = []
        for number in range(self.passes):
            part = share_of(mine, number, self.passes)
            weight = (part.stop - part.start) * self.world * self.passes / len(indices)
            part = part if weight else slice(0, 1)
            found.append((images[part], {kind: values[part] for kind, values in told.items()}, weight))
        return found

    def _drawn(self, indices: Tensor, share: slice, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The share of the step's images, and which they are. Only these are read, but where images are drawn at random
        all are drawn."""
        if self._images is not None:
            return self._images[indices[share].to(self._images.device, non_blocking=True)], indices[share]
        before = generator.get_state()
        found = self.split.drawn(indices[share], generator)
        if self.world == 1 or torch.equal(before, generator.get_state()):
            return found
        generator.set_state(before)
        images, used = self.split.drawn(indices, generator)
        return images[share], used[share]

    def _generator(self, epoch: int, draw: int) -> torch.Generator:
        # Distinct for every (seed, epoch, draw) as long as an epoch has fewer than 2^24 batches and 63 bits suffice.
        return torch.Generator().manual_seed(((self.seed * 1_000_003 + epoch) * 2**24 + draw) % 2**63)


class InOrder:
    """Batches in the split's own order, every image once: (images, what is known of them, number of the first image).

    Of several processes each gets every `world`-th batch, at least one: without images where there is none for it.
    """

    def __init__(self, split: Split, batch_size: int, *, rank: int = 0, world: int = 1):
        self.split, self.batch_size, self.rank, self.world = split, batch_size, rank, world

    def __len__(self) -> int:
        batches = -(-len(self.split) // self.batch_size)
        return max(1, len(range(self.rank, batches, self.world)))

    def __iter__(self) -> Iterator[tuple[Tensor, Told, int]]:
        for number in range(len(self)):
            first = (self.rank + number * self.world) * self.batch_size
            part = self.split[first : first + self.batch_size]
            yield part.images, part.condition(), first


def share_of(count: int, number: int, of: int) -> slice:
    """The share `number` of `of` shares, one after another, of `count` things: they differ by one at most."""
    return slice(count * number // of, count * (number + 1) // of)


def to_mirror(count: int, share: float, seed: int, step: int) -> Tensor:
    """Which of the `count` images of a training step are mirrored, bool [count]: each with the probability `share`, the
    same ones in whatever processes and passes the step is made."""
    return torch.from_numpy(np.random.default_rng([seed, step, 6]).random(count) < share)


def mirrored(x: Tensor, which: Tensor) -> Tensor:
    """x [n, C, H, W] with the pictures or maps at `which` [n] mirrored left to right."""
    return torch.where(which.to(x.device, non_blocking=True)[:, None, None, None], x.flip(3), x)


def in_order_of_step(model: Model, seed: int, step: int, fresh: bool) -> Model:
    """The model in the order of prediction of a training step: one of its orders at random, or, if `fresh`, a new
    permutation of the pixels (order-agnostic training; Uria, Murray and Larochelle 2014)."""
    generator = np.random.default_rng([seed, step, 3])
    if fresh:
        return model.in_order(torch.from_numpy(generator.permutation(model.shape[1] * model.shape[2])))
    count = len(model.order_names)
    return model.in_order(int(generator.integers(count))) if count > 1 else model


@torch.no_grad()
def log_prob_among_orders(model: Model, x: Tensor, condition: Tensor | Told | None, first: int) -> Tensor:
    """log p of x [N, C, H, W] with the orders of prediction dealt out: picture i of x is the (first + i)-th of its
    split and is scored in order (first + i) mod O. Over a split, the mean over orders in the time of one; no gradient.
    """
    several = model.each_order()
    log_prob = model.like().new_zeros(len(x))
    turn = (torch.arange(len(x)) + first) % len(several)
    for number in turn.unique().tolist():
        which = torch.nonzero(turn == number)[:, 0].to(x.device)
        log_prob[which] = several[number].log_prob(x[which], chosen_condition(condition, which))
    return log_prob


def spaced(split: Split, count: int) -> Split:
    """`count` images at equal distances (some sets are sorted by class, so never the first ones); 0 means all."""
    if not 0 < count < len(split):
        return split
    return split[torch.arange(count) * len(split) // count]
