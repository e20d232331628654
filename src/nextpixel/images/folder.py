"""A folder of pictures.

Every file below it with the ending of a format Pillow reads is taken, in sorted order; hidden files are not.

- If the sub-folders with pictures are named train, valid (or val) and test, at least train among them, they are
  the splits. Names that are only like these (Train, testing), or other pictures beside them: a warning.
- If all pictures (of a split) lie in two or more sub-folders, these are the classes, numbered in the order of
  their names.
- One picture in colour makes all of them RGB; pictures that are all grey have one channel.
- Files that cannot be read are skipped, listed and warned of. Pictures that 8 bits cannot hold, or partly
  transparent ones, stop the reading with a sentence, because only their owner knows what they should become.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nextpixel.errors import UserError, warn
from nextpixel.images.decode import UnreadableError, decode, suffixes
from nextpixel.images.resize import Fit, fit_note, fit_picture
from nextpixel.images.source import Array, Part, Source

SPLIT_FOLDERS = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}
# Names that look as if they were meant for splits.
_LIKE_SPLITS = {*SPLIT_FOLDERS, "training", "validation", "testing"}


@dataclass
class _Pictures:
    """What was read of one split, file by file: grey [H,W] or RGB [H,W,3]; classes by folder name, if any."""

    images: list[Array]
    classes: list[str] | None


def read_folder(folder: Path, size: tuple[int, int] | None, fit: Fit) -> Source:
    """All pictures below a folder, brought to one size (H,W) by ``fit`` if ``size`` is given.

    Raises UserError if there are none, none can be read, or their sizes differ and no size is given.
    """
    files = list(walk(folder))
    if not files:
        raise UserError(f"{folder} holds no pictures: give the folder they are in.")
    skipped: list[str] = []
    changed: set[Path] = set()
    parts = {
        key: _read_part(folder, base, chosen, size, fit, skipped, changed)
        for key, (base, chosen) in by_split(folder, files).items()
    }
    if len(skipped) == len(files):
        raise UserError(f"No picture in {folder} can be read, of {len(files)} in all; the first is {skipped[0]}.")
    if skipped:
        shown = "; ".join(skipped[:3]) + ("; ..." if len(skipped) > 3 else "")
        warnings.warn(f"{len(skipped)} of {len(files)} pictures in {folder} were skipped: {shown}", stacklevel=4)
    empty = [key for key, part in parts.items() if not part.images]
    if empty:
        raise UserError(f"None of the {empty[0]} pictures in {folder} can be read: replace or remove that folder.")
    _check_one_size(folder, parts)

    colour = any(image.ndim == 3 for part in parts.values() for image in part.images)
    names = sorted({name for part in parts.values() for name in part.classes or []})
    numbers = {name: number for number, name in enumerate(names)}
    return Source(
        name=folder.resolve().name,
        parts={key: _stack(part, colour, numbers) for key, part in parts.items()},
        levels=256,
        protocol="8-bit",
        notes=[fit_note(size, fit)] if size is not None and changed else [],
        skipped=skipped,
    )


def picture_files(folder: Path) -> list[Path]:
    """All files below a folder that have the ending of a picture, sorted; hidden ones are left out."""
    return [folder / name for name in walk(folder)]


def walk(folder: Path, entering: Callable[[str], None] = lambda name: None) -> Iterator[str]:
    """The names below the folder of what `picture_files` lists, in its order, with forward slashes.

    entering: is told the name of every folder before it is looked into ("" is the folder itself). Links are followed,
    but not those to a folder that they lie in: a warning names these.
    """
    endings = suffixes()
    # What comes next, last first: a name, whether it is a folder, and what tells the folders apart that it lies in.
    waiting: list[tuple[str, bool, tuple[tuple[int, int], ...]]] = [("", True, ())]
    while waiting:
        name, is_folder, around = waiting.pop()
        if not is_folder:
            yield name
            continue
        about = os.stat(folder / name)
        if (about.st_dev, about.st_ino) in around:
            warn(f"{folder / name} is a link to a folder that it lies in: it is left out.")
            continue
        around = (*around, (about.st_dev, about.st_ino))
        entering(name)
        inside = []
        with os.scandir(folder / name) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                if entry.is_dir():
                    inside.append((entry.name, True))
                elif os.path.splitext(entry.name)[1].lower() in endings and entry.is_file():
                    inside.append((entry.name, False))
        below = f"{name}/" if name else ""
        waiting += [(below + one, kind, around) for one, kind in sorted(inside, reverse=True)]


def by_split(folder: Path, files: list[str]) -> dict[str, tuple[str, list[str]]]:
    """Split -> (what its names begin with, up to where its classes are counted from; its names)."""
    tops = {name.partition("/")[0] for name in files}
    if "train" not in tops or not tops <= SPLIT_FOLDERS.keys():
        if alike := sorted(top for top in tops if top.lower() in _LIKE_SPLITS):
            warn(
                f"The folders {', '.join(alike)} of {folder} are not taken for splits: for that they must be called "
                "train, valid and test, at least train, with no other pictures or folders of pictures beside them."
            )
        return {"all": ("", files)}
    if {"valid", "val"} <= tops:
        raise UserError(f"{folder} holds both valid and val: leave one of them.")
    return {
        SPLIT_FOLDERS[top]: (f"{top}/", [name for name in files if name.startswith(f"{top}/")]) for top in sorted(tops)
    }


def class_names(base: str, files: list[str]) -> list[str] | None:
    """The class of each file of a split, or None where the files do not lie in two or more folders."""
    below = [name.removeprefix(base) for name in files]
    tops = [name.partition("/")[0] for name in below]
    return tops if all("/" in name for name in below) and len(set(tops)) > 1 else None


def _read_part(
    folder: Path,
    base: str,
    files: list[str],
    size: tuple[int, int] | None,
    fit: Fit,
    skipped: list[str],
    changed: set[Path],
) -> _Pictures:
    images: list[Array] = []
    classes: list[str] = []
    names = class_names(base, files)
    for at, file in enumerate(files):
        path = folder / file
        try:
            picture = decode(path)
        except UnreadableError as error:
            skipped.append(f"{path} ({error})")
            continue
        if size is not None and (picture.height, picture.width) != size:
            changed.add(path)
            try:
                picture = fit_picture(picture, size, fit)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
        images.append(np.asarray(picture))
        if names is not None:
            classes.append(names[at])
    return _Pictures(images, classes if names is not None else None)


def _check_one_size(folder: Path, parts: dict[str, _Pictures]) -> None:
    sizes = sorted({image.shape[:2] for part in parts.values() for image in part.images})
    if len(sizes) > 1:
        (h, w), (h2, w2) = sizes[0], sizes[-1]
        raise UserError(
            f"{folder} holds pictures of several sizes, such as {h}x{w} and {h2}x{w2} (height x width): "
            'pass size= (--size), and fit="resize" (--fit resize) to scale rather than crop.'
        )


def _stack(part: _Pictures, colour: bool, numbers: dict[str, int]) -> Part:
    if colour:
        images = np.stack([im if im.ndim == 3 else np.repeat(im[..., None], 3, axis=2) for im in part.images])
    else:
        images = np.stack(part.images)
    labels = None if part.classes is None else np.array([numbers[name] for name in part.classes], dtype=np.int64)
    return Part(images, labels)
