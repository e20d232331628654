"""Images that are to be looked at one by one: all of a folder or an array, with their names, not a tenth of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images import Split, names
from nextpixel.images.decode import UnreadableError, decode
from nextpixel.images.folder import picture_files
from nextpixel.images.levels import binarise, quantise, to_grey, to_rgb
from nextpixel.images.resize import fit_picture, size_pair
from nextpixel.tasks.data import DataOptions, load_data, size_of
from nextpixel.tasks.pictures import read_array


def load_images(source: str, options: DataOptions, split: str, levels: int) -> tuple[Split, list[str] | None]:
    """The images of a source and, for a folder, the names of its files (paths from there).

    A folder of pictures or an array is taken whole; of a named set, and where there are splits, it is `split`. levels:
    of an array, where the options do not say. Pictures of a folder carry no labels. UserError if there are none, or for
    what cannot be read.
    """
    path = Path(source)
    if source in names() or not path.exists():
        return _split_of(source, options, split), None
    if path.is_dir():
        within = path / split
        return _folder(within if (path / "train").is_dir() and within.is_dir() else path, options)
    plain = (options.binarise, options.channels, options.size) == ("no", 0, "")
    if plain and path.suffix.lower() in (".npy", ".npz"):
        levels = options.levels or levels
        found = read_array(path, levels, split)
        labels = None if found.labels is None or not len(found) else found.labels[0]
        classes = None if labels is None else int(labels.max()) + 1
        return Split(found.images[0], labels, levels, path.stem, f"{levels} levels", classes), None
    return _split_of(source, options, split), None


def _split_of(source: str, options: DataOptions, split: str) -> Split:
    if split not in ("train", "valid", "test"):
        raise UserError(f"The split must be train, valid or test, not {split!r}.")
    chosen: Split = getattr(load_data(source, options), split)
    return chosen


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
