"""From a source that is read when asked for to splits: what ``load`` does with arrays, done with stores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images import levels as values
from nextpixel.images.lazy import LazySplit
from nextpixel.images.resize import Fit, fit_all, fit_note
from nextpixel.images.source import LazySource, StorePart, channels_first
from nextpixel.images.store import FixedDraw, Mapped


def with_size(source: LazySource, size: tuple[int, int], fit: Fit) -> LazySource:
    """Every image brought to size (H,W) when it is read. Raises UserError unless the source has 256 levels."""
    shape = next(iter(source.parts.values())).images.shape
    if shape[2:] == size:
        return source
    if source.levels != 256:
        raise UserError(f"size= works on 8-bit images, and {source.name} has {source.levels} levels: leave it out.")
    return _mapped(source, partial(_fitted, size=size, fit=fit), (shape[1], *size), fit_note(size, fit))


def with_channels(source: LazySource, channels: int) -> LazySource:
    """Every image made grey or RGB when it is read."""
    _, have, height, width = next(iter(source.parts.values())).images.shape
    if have == channels:
        return source
    change, note = (values.to_grey, "grey") if channels == 1 else (values.to_rgb, "RGB")
    change(torch.zeros(0, have, height, width, dtype=torch.uint8))  # raises if that cannot be
    return _mapped(source, change, (channels, height, width), note)


def _mapped(source: LazySource, change: Callable[[Tensor], Tensor], chw: tuple[int, int, int], note: str) -> LazySource:
    parts = {key: StorePart(Mapped(part.images, change, chw), part.labels) for key, part in source.parts.items()}
    return LazySource(source.name, parts, source.levels, source.protocol, [*source.notes, note], source.skipped)


def _fitted(images: Tensor, size: tuple[int, int], fit: Fit) -> Tensor:
    return torch.from_numpy(channels_first(fit_all(images.permute(0, 2, 3, 1).numpy(), size, fit)))


def quantised(split: LazySplit, levels: int) -> LazySplit:
    """The split with its values brought to fewer levels when they are read."""
    change = partial(values.quantise, levels=levels, source_levels=split.levels)
    return split.mapped(change, levels=levels, protocol=f"{levels} levels (quantised from {split.levels})")


def binarised(split: LazySplit, method: values.Binarisation, seed: int, number: int) -> LazySplit:
    """The split with two levels. Its fixed draw is seeded image by image, because one stream of random numbers for all
    of a split cannot be entered in the middle; so it is another one than that of the same data in memory."""
    if method == "threshold":
        change = partial(values.binarise, method=method, source_levels=split.levels)
        return split.mapped(change, levels=2, protocol="binarised at half of the highest value")
    fixed = f"seed {seed} image by image"
    return split.changed(
        store=FixedDraw(split.store, split.levels, seed, number),
        levels=2,
        protocol=f"fixed binarisation of our own, {fixed}"
        if method == "fixed"
        else f"dynamic binarisation, evaluated on one fixed draw, {fixed}",
        grey_store=split.store if method == "dynamic" and number == 0 else None,
        grey_levels=split.levels,
    )
