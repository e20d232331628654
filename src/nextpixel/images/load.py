"""``dataset``: one function from a name, a folder or a file to three splits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from nextpixel.errors import UserError, did_you_mean
from nextpixel.images import lazy_load
from nextpixel.images import levels as values
from nextpixel.images.arrays import open_array, read_arrays
from nextpixel.images.catalogue import CATALOGUE
from nextpixel.images.folder import read_folder
from nextpixel.images.large_folder import open_large_folder
from nextpixel.images.lazy import LazySplit
from nextpixel.images.named import names, read_named
from nextpixel.images.partition import complete
from nextpixel.images.resize import Fit, check_fit, fit_all, fit_note, size_pair
from nextpixel.images.shards import KINDS, open_shards
from nextpixel.images.source import Array, LazySource, Part, Source, channels_first
from nextpixel.images.split import Dataset, Split
from nextpixel.images.store import is_lazy

MOST_CLASSES = 100_000
SPLITS = ("train", "valid", "test")


def dataset(
    name_or_path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    levels: int | None = None,
    binarise: values.Binarisation | None = None,
    channels: Literal[1, 3] | None = None,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "crop",
    seed: int = 0,
    download: bool = True,
    lazy: bool | None = None,
) -> Dataset:
    """Images as train, valid and test splits.

    name_or_path: a name (``names()``), a folder of pictures or of shards, or a .npy or .npz file of integers. A name
        wins over a path of the same spelling; write ./mnist, or a Path, for the folder.
    data_dir: where named sets are looked for first; then $NEXTPIXEL_DATA, then the download cache.
    levels: K. Names and pictures are quantised to it; for a .npy or .npz file it says what the values are.
    binarise: "threshold", "fixed" (one Bernoulli draw) or "dynamic" (training images drawn anew every time;
        ``images`` is then one fixed draw in every split, so that evaluation is repeatable).
    channels: 1 (grey) or 3 (RGB) to convert; None keeps what is there.
    size: H = W, or (H,W), in pixels; fit: "crop" takes the centre without resampling, "resize" scales until the size
        is covered and then takes the centre.
    seed: of the permutation where parts are cut out (``images.partition`` has the rules) and of the fixed draws.
    download: whether a named set that is found nowhere may be downloaded.
    lazy: True leaves the images of a folder or a .npy file where they are and reads them when they are asked for,
        False reads them all, None decides by whether they take more than 1 GiB. Shards are always read when asked for,
        named sets and .npz files never. Splits and values are the same, but for what binarise="fixed" draws.

    Raises UserError, in one sentence, for everything that is wrong with the arguments or the files.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise UserError(
            f"dataset() takes a name or a path, not {type(name_or_path).__name__}: save images as a .npy or .npz file, "
            "or put them into a Split, and three of these into a Dataset."
        )
    if binarise is not None and levels not in (None, 2):
        raise UserError(f"binarise= gives 2 levels, so levels={levels} contradicts it: leave one of them out.")
    if binarise is not None:
        values.check_binarisation(binarise)
    if channels not in (None, 1, 3):
        raise UserError(f"channels must be 1 or 3, not {channels}.")
    if seed < 0:
        raise UserError(f"seed must not be negative, but it is {seed}.")
    check_fit(fit)
    source, wanted = _open(name_or_path, data_dir, levels, size_pair(size), fit, download, lazy)
    if binarise is not None and source.levels == 2:
        raise UserError(f"{source.name} is binary already: leave binarise= out.")
    wanted = None if wanted == source.levels else wanted
    splits: Mapping[str, Split]
    if isinstance(source, LazySource):
        splits = _lazy_splits(source, channels, binarise, wanted, seed)
    else:
        splits = _splits(source, channels, binarise, wanted, seed)
    return Dataset(source.name, splits["train"], splits["valid"], splits["test"], source.skipped)


def _splits(
    source: Source, channels: int | None, binarise: values.Binarisation | None, wanted: int | None, seed: int
) -> dict[str, Split]:
    if channels is not None:
        source = _with_channels(source, channels)
    classes = _classes(source)
    parts = complete(source.parts, seed, source.cut, source.name)
    splits = {}
    for number, key in enumerate(SPLITS):
        split = _plain_split(source, key, parts[key], classes)
        if binarise is not None:
            split = _binarised(split, binarise, seed, number)
        elif wanted is not None:
            split = _quantised(split, wanted)
        splits[key] = replace(split, protocol=", ".join([split.protocol, *source.notes]))
    return splits


def _lazy_splits(
    source: LazySource, channels: int | None, binarise: values.Binarisation | None, wanted: int | None, seed: int
) -> dict[str, LazySplit]:
    if channels is not None:
        source = lazy_load.with_channels(source, channels)
    classes = _classes(source)
    parts = complete(source.parts, seed, None, source.name)
    splits = {}
    for number, key in enumerate(SPLITS):
        images, labels = parts[key]
        name = f"{source.name}/{key}"
        split = LazySplit(images, _as_labels(labels, name), source.levels, name, source.protocol, classes)
        if binarise is not None:
            split = lazy_load.binarised(split, binarise, seed, number)
        elif wanted is not None:
            split = lazy_load.quantised(split, wanted)
        splits[key] = split.changed(protocol=", ".join([split.protocol, *source.notes]))
    return splits


def _open(
    name_or_path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    levels: int | None,
    size: tuple[int, int] | None,
    fit: Fit,
    download: bool,
    lazy: bool | None,
) -> tuple[Source | LazySource, int | None]:
    """The source, and the number of levels to quantise it to (None: leave it)."""
    path = Path(name_or_path)
    source: Source | LazySource
    if isinstance(name_or_path, str) and name_or_path in CATALOGUE:
        source = read_named(name_or_path, data_dir, download)
    elif path.is_dir() or (path.is_file() and path.suffix.lower() in KINDS):
        shards = open_shards(path, size, fit)
        return shards or open_large_folder(path, size, fit, lazy) or read_folder(path, size, fit), levels
    elif path.is_file() and path.suffix.lower() == ".npy" and is_lazy(path.stat().st_size, lazy):
        source, levels = open_array(path, levels), None
    elif path.is_file() and path.suffix.lower() in (".npy", ".npz"):
        if lazy and path.suffix.lower() == ".npz":
            raise UserError(f"{path} cannot be read piece by piece: save its images as a .npy file, or leave lazy out.")
        source, levels = read_arrays(path, levels), None
    elif path.is_file():
        raise UserError(
            f"{path} is neither a .npy nor a .npz file; give one of these, a folder of pictures, or a name."
        )
    else:
        raise UserError(
            f"'{name_or_path}' is neither a file, nor a folder, nor one of the data sets {', '.join(names())}."
            f"{did_you_mean(path.name, CATALOGUE)}"
        )
    if size is not None:
        source = (
            lazy_load.with_size(source, size, fit) if isinstance(source, LazySource) else _with_size(source, size, fit)
        )
    return source, levels


def _with_size(source: Source, size: tuple[int, int], fit: Fit) -> Source:
    if all(part.images.shape[1:3] == size for part in source.parts.values()):
        return source
    if source.levels != 256:
        raise UserError(f"size= works on 8-bit images, and {source.name} has {source.levels} levels: leave it out.")
    parts = {key: part._replace(images=fit_all(part.images, size, fit)) for key, part in source.parts.items()}
    return replace(source, parts=parts, notes=[*source.notes, fit_note(size, fit)])


def _with_channels(source: Source, channels: int) -> Source:
    parts = {key: _convert(part, channels) for key, part in source.parts.items()}
    if all(parts[key].images is part.images for key, part in source.parts.items()):
        return source
    return replace(source, parts=parts, notes=[*source.notes, "grey" if channels == 1 else "RGB"])


def _convert(part: Part, channels: int) -> Part:
    images = torch.from_numpy(channels_first(part.images))
    if images.shape[1] == channels:
        return part
    converted = values.to_grey(images) if channels == 1 else values.to_rgb(images)
    return part._replace(images=converted.permute(0, 2, 3, 1).numpy())


def _classes(source: Source | LazySource) -> int | None:
    labelled = {key: part.labels for key, part in source.parts.items() if part.labels is not None}
    missing = sorted(source.parts.keys() - labelled.keys())
    if not labelled:
        return None
    if missing:
        raise UserError(f"{source.name} has labels for {', '.join(labelled)} but not for {', '.join(missing)}.")
    classes = 1 + max(int(labels.max(initial=0)) for labels in labelled.values())
    if classes > MOST_CLASSES:
        raise UserError(f"{source.name} has a label {classes - 1}: labels must be class numbers below {MOST_CLASSES}.")
    return classes


def _plain_split(source: Source, key: str, part: Part, classes: int | None) -> Split:
    name = f"{source.name}/{key}"
    images = torch.from_numpy(channels_first(part.images))
    told = {kind: torch.from_numpy(values) for kind, values in part.told.items()}
    return Split(images, _as_labels(part.labels, name), source.levels, name, source.protocol, classes, told=told)


def _as_labels(labels: Array | None, name: str) -> torch.Tensor | None:
    if labels is None:
        return None
    if labels.dtype.kind not in "iu":
        raise UserError(f"The labels of {name} must be integers, not {labels.dtype}.")
    return torch.from_numpy(labels.astype(np.int64))


def _quantised(split: Split, levels: int) -> Split:
    return replace(
        split,
        images=values.quantise(split.images, levels, split.levels),
        levels=levels,
        protocol=f"{levels} levels (quantised from {split.levels})",
    )


def _binarised(split: Split, method: values.Binarisation, seed: int, number: int) -> Split:
    if method == "threshold":
        bits = values.binarise(split.images, method, split.levels)
        return replace(split, images=bits, levels=2, protocol="binarised at half of the highest value")
    protocols = {
        "fixed": f"fixed binarisation of our own, seed {seed}",
        "dynamic": f"dynamic binarisation, evaluated on one fixed draw, seed {seed}",
    }
    # A number for each split: otherwise their draws would use the same random numbers.
    bits = values.binarise(split.images, "fixed", split.levels, seed=[seed, number])
    grey = split.images if method == "dynamic" and number == 0 else None  # only training images are drawn anew
    return replace(split, images=bits, levels=2, protocol=protocols[method], grey=grey, grey_levels=split.levels)
