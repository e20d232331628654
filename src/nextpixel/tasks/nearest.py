"""The images of a set that are nearest to others: whether a model has learnt its training images by heart.

A distance by itself says little. What tells is the distance of images that the model has never seen, from the same
source: pictures drawn from a model that has learnt no image by heart are about as far from the training images as test
images are, or farther.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nextpixel import figures
from nextpixel.brief import Brief
from nextpixel.errors import UserError
from nextpixel.images import Dataset, Split
from nextpixel.tasks.batches import spaced
from nextpixel.tasks.progress import Steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLOCK = 2**21  # numbers in a block of images, as float64: 16 MiB
MOST = 2048  # images in it; the distances between two such blocks take 32 MiB
SHOWN = 3  # neighbours of a picture on a page
EXACT = 2**53  # integers below are float64 numbers, and so are their sums


@dataclasses.dataclass(frozen=True, repr=False)
class Neighbours(Brief):
    """indices: int64 [N, n], of each image those of the n nearest, the nearest first, of equally near ones the one with
    the lowest index; distances: float64 [N, n], Euclidean, in levels."""

    indices: Tensor
    distances: Tensor


@dataclasses.dataclass(frozen=True)
class Closeness:
    """How near pictures are to training images, and the scale to read it by: how near test images are to them.

    median, test_median: of the distances to the nearest training image, in levels; copies, test_copies: how many are
    equal to a training image (at distance 0, after any blurring).
    """

    pictures: Neighbours
    test: Neighbours
    median: float
    test_median: float
    copies: int
    test_copies: int


def nearest(images: Tensor, among: Split | Tensor, n: int = 1, *, blur: int = 0, progress: bool = False) -> Neighbours:
    """Of each image of [N, C, H, W] the n nearest ones of `among`, by the Euclidean distance over all symbols, in
    levels: of binary images the square root of how many symbols differ.

    among: a Split, also one that is not in memory, or a tensor of images of the same C, H and W. blur: how often both
    are blurred by 1/4, 1/2, 1/4 along rows and columns (the border repeated) before they are compared, so that a stroke
    that has moved by a pixel is near; the standard deviation of the whole is sqrt(blur / 2) pixels. All sums are of
    integers and exact, so that the answer does not depend on the machine, and copies are at distance 0. Reads `among`
    once, a few MiB at a time. UserError where sizes do not fit, for n below 1 or above the number of images, and for
    more blur than can be counted exactly (3 is the most for 8 bits at 28x28).
    """
    count, symbols = len(among), math.prod(images.shape[1:])
    check(images, among, n, blur)
    block = min(MOST, max(1, BLOCK // symbols))
    best = torch.full((len(images), n), math.inf, dtype=torch.float64)
    where = torch.zeros(len(images), n, dtype=torch.int64)
    with Steps(-(-count // block), "comparing", show=progress) as steps:
        for start, others in _blocks(among, block):
            rows = _rows(others, blur)
            for first in range(0, len(images), block):
                here = slice(first, first + block)
                found, at = _lowest(_squares(_rows(images[here], blur), rows), n)
                # Earlier blocks stand first, and equal ones keep their order.
                both, places = torch.cat([best[here], found], 1), torch.cat([where[here], at + start], 1)
                order = both.argsort(dim=1, stable=True)[:, :n]
                best[here], where[here] = both.gather(1, order), places.gather(1, order)
            steps.to(steps.done + 1)
    return Neighbours(where, best.sqrt() / 16**blur)


def closeness(
    images: Tensor, train: Split, test: Split, n: int = 1, *, blur: int = 0, limit: int = 1000, progress: bool = False
) -> Closeness:
    """How near images [N, C, H, W] are to training images, beside `limit` evenly spaced test images (0: all)."""
    if not len(images) or not len(test):
        raise UserError("There must be pictures and test images to compare.")
    pictures = nearest(images, train, n, blur=blur, progress=progress)
    scale = nearest(spaced(test, limit).images, train, 1, blur=blur, progress=progress)
    mine, theirs = pictures.distances[:, 0], scale.distances[:, 0]
    return Closeness(
        pictures,
        scale,
        float(mine.quantile(0.5)),
        float(theirs.quantile(0.5)),
        int((mine == 0).sum()),
        int((theirs == 0).sum()),
    )


def compare(images: Tensor, data: Dataset, path: Path, *, blur: int = 0, progress: bool = False) -> Closeness:
    """`closeness` to the training images of a data set, and the `neighbour_page` of it as a file."""
    found = closeness(images, data.train, data.test, min(SHOWN, len(data.train)), blur=blur, progress=progress)
    page = neighbour_page(images, data.train, found)
    figures.save_figure(page, path, "Pictures drawn and the training images nearest to them", data.name)
    return found


def neighbour_page(images: Tensor, train: Split, found: Closeness) -> Figure:
    """A few images from the one that is nearest to a training image to the one that is farthest from all of them, with
    their neighbours; and how all distances are spread."""
    count = min(len(images), figures.MOST_NEIGHBOURS)
    spaced_evenly = torch.linspace(0, len(images) - 1, count).round().long()
    chosen = found.pictures.distances[:, 0].argsort(stable=True)[spaced_evenly]
    indices = found.pictures.indices[chosen]
    return figures.neighbour_page(
        images[chosen],
        train[indices.flatten()].images.unflatten(0, tuple(indices.shape)),
        found.pictures.distances[chosen],
        found.pictures.distances[:, 0],
        found.test.distances[:, 0],
        train.levels,
    )


def check(images: Tensor, among: Split | Tensor, n: int, blur: int) -> None:
    """UserError unless `nearest` can compare them."""
    shape = tuple(among.shape[1:] if isinstance(among, Tensor) else among.shape)
    if images.dim() != 4 or images.dtype.is_floating_point:
        raise UserError(f"The images must be integers [N,C,H,W], not {images.dtype} {list(images.shape)}.")
    if tuple(images.shape[1:]) != shape:
        raise UserError(f"Images of {tuple(images.shape[1:])} cannot be compared with images of {shape}.")
    if not 1 <= n <= len(among):
        raise UserError(f"n must be between 1 and the {len(among)} images to compare with, not {n}.")
    if blur < 0:
        raise UserError(f"blur must not be negative, not {blur}.")
    highest = int(among.max()) if isinstance(among, Tensor) else among.levels - 1
    top = max(highest, int(images.max()) if len(images) else 0)
    # The largest sum, twice the product of two rows, must be an integer that float64 holds.
    if 2 * (top * 16**blur) ** 2 * math.prod(shape) >= EXACT:
        raise UserError(f"blur={blur} is too much for {top + 1} levels and {math.prod(shape)} symbols: take less.")


def _blocks(among: Split | Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(among), size):
        block: Any = among[start : start + size]
        yield start, block if isinstance(block, Tensor) else block.images


def _rows(images: Tensor, blur: int) -> Tensor:
    """Images as rows of integers in float64, blurred, in 1/16^blur levels."""
    values = images.cpu().double()
    for _ in range(blur):
        for axis in (2, 3):
            size = values.shape[axis]
            before = values.narrow(axis, 0, size - 1)
            after = values.narrow(axis, 1, size - 1)
            first, last = values.narrow(axis, 0, 1), values.narrow(axis, size - 1, 1)
            values = 2 * values + torch.cat([first, before], axis) + torch.cat([after, last], axis)
    return values.flatten(1)


def _squares(some: Tensor, others: Tensor) -> Tensor:
    """Squared distances [n, m] of rows [n, D] and [m, D] of integers: exact."""
    return (some.square().sum(1)[:, None] + others.square().sum(1)).sub_(2 * (some @ others.T))


def _lowest(values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n lowest values of each row and their places; of equal ones the first."""
    n = min(n, values.shape[1])
    found, places = [], []
    for _ in range(n):
        place = values.argmin(1, keepdim=True)
        found.append(values.gather(1, place))
        places.append(place)
        values.scatter_(1, place, math.inf)
    return torch.cat(found, 1), torch.cat(places, 1)
