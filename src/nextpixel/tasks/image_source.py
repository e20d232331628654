"""Images that are to be looked at one by one: all of a folder or an array, with their names, not a tenth of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images import Split, names
from nextpixel.images.decode import UnreadableError, decode
from nextpixel.images.folder import by_split, picture_files, walk
from nextpixel.images.levels import binarise, quantise, to_grey, to_rgb
from nextpixel.images.resize import fit_picture, size_pair
from nextpixel.tasks.data import DataOptions, load_data, size_of
from nextpixel.tasks.pictures import read_array


class Loaded(NamedTuple):
    """names: of the files, paths from the folder they are in; None where they have none. divided: the source has splits
    of its own, and this is one of them."""

    split: Split
    names: list[str] | None
    divided: bool


def load_images(source: str, options: DataOptions, split: str, levels: int) -> Loaded:
    """The images of a source to look at.

    A folder of pictures or an array is taken whole; of a named set, and where there are splits, it is `split`, as
    `nextpixel.dataset` makes it. levels: of an array, where the options do not say. Pictures of a folder carry no
    labels. UserError if there are none, or for what cannot be read.
    """
    if split not in ("train", "valid", "test"):
        raise UserError(f"The split must be train, valid or test, not {split!r}.")
    path = Path(source)
    if source in names() or not path.exists():
        return Loaded(getattr(load_data(source, options), split), None, True)
    if path.is_dir():
        files = list(walk(path))
        parts = by_split(path, files)
        if files and "all" in parts:
            return Loaded(*_folder(path, options), False)
        carved = split not in parts or (split == "train" and len(parts) < 3)  # a part of train then stands for others
        if files and not carved:
            return Loaded(*_folder(path / parts[split][0], options), True)
        return Loaded(getattr(load_data(source, options), split), None, True)
    plain = (options.binarise, options.channels, options.size) == ("no", 0, "")
    if plain and path.suffix.lower() in (".npy", ".npz"):
        levels = options.levels or levels
        found, divided = read_array(path, levels, split)
        labels = None if found.labels is None or not len(found) else found.labels[0]
        classes = None if labels is None else int(labels.max()) + 1
        return Loaded(Split(found.images[0], labels, levels, path.stem, f"{levels} levels", classes), None, divided)
    return Loaded(getattr(load_data(source, options), split), None, True)


def _folder(folder: Path, options: DataOptions) -> tuple[Split, list[str]]:
    found, kept, skipped = [], [], []
    for path in picture_files(folder):
        try:
            found.append(_pixels(path, options))
            kept.append(path.relative_to(folder).as_posix())
        except UnreadableError as error:
            skipped.append(f"{path} ({error})")
    if not found:
        what = f"only pictures that cannot be read, such as {skipped[0]}" if skipped else "no pictures"
        raise UserError(f"{folder} holds {what}: give the folder they are in.")
    if skipped:
        warnings.warn(
            f"{len(skipped)} of {len(kept) + len(skipped)} pictures were skipped: {'; '.join(skipped[:3])}",
            stacklevel=2,
        )
    if not options.channels and any(len(image) == 3 for image in found):
        found = [to_rgb(image[None])[0] for image in found]
    sizes = {image.shape for image in found}
    if len(sizes) > 1:
        raise UserError(f"{folder} holds pictures of several sizes: bring them to one (--size, --fit resize).")
    images = torch.stack(found)
    levels = 2 if options.binarise != "no" else options.levels or 256
    if options.binarise != "no":
        images = binarise(images, "threshold" if options.binarise == "threshold" else "fixed")
    elif levels != 256:
        images = quantise(images, levels)
    return Split(images, None, levels, folder.resolve().name, f"{levels} levels"), kept


def _pixels(path: Path, options: DataOptions) -> Tensor:
    """uint8 [C, H, W] of a file, in the size and channels that were asked for."""
    picture = decode(path)
    size = size_pair(size_of(options.size))
    if size is not None and (picture.height, picture.width) != size:
        try:
            picture = fit_picture(picture, size, options.fit)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    array = torch.from_numpy(np.array(picture))
    image = array[None, None] if array.dim() == 2 else array.permute(2, 0, 1)[None]
    convert = {1: to_grey, 3: to_rgb}.get(options.channels)
    return (image if convert is None else convert(image))[0]
