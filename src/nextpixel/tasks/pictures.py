"""Picture files as an archive keeps them: pixels, names and modes; and back into a folder."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nextpixel.coding import File
from nextpixel.errors import UserError
from nextpixel.images.arrays import read_arrays
from nextpixel.images.decode import UnreadableError, decode, stored_as
from nextpixel.images.folder import picture_files
from nextpixel.images.levels import dequantise, to_rgb
from nextpixel.images.source import channels_first

LOSSLESS = {".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
"""Endings under which Pillow writes every pixel as it is; a picture of another ending gets .png behind its name."""


LONGEST_NAME = 255  # bytes, of file systems that are in use


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Integers [n, C, H, W] and labels [n] in runs of one size; files: a name and a mode for each picture in order."""

    images: list[Tensor]
    labels: list[Tensor] | None = None
    files: list[File] | None = None

    def __len__(self) -> int:
        return sum(len(images) for images in self.images)


def read_files(paths: Sequence[Path], channels: int, levels: int) -> Pictures:
    """Picture files, and all that are in folders, for a model of `channels` and `levels`.

    Pictures of one size become one run, in the order in which the sizes first come up. Grey pictures are given to a
    model for RGB with three equal channels; black and white ones to a model of 2 levels as 0 and 1. UserError for
    whatever could not come back as it was: transparency, more than 8 bits, several frames, CMYK, colour for a grey
    model, other levels.
    """
    named = _named(paths)
    if levels not in (2, 256):
        raise UserError(
            f"The model is for {levels} levels, and picture files have 2 or 256: pass a .npy or .npz array of integers."
        )
    found: dict[tuple[int, int], list[tuple[File, Tensor]]] = {}
    names: dict[str, Path] = {}
    for name, path in named:
        written = written_name(name)
        if written in names:
            raise UserError(f"{path} and {names[written]} would get the same name: compress them apart.")
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in written.split("/")):
            raise UserError(f"{path} would be written as {Path(written).name}, a name too long for a file: rename it.")
        names[written] = path
        mode, pixels = _pixels(path, channels, levels)
        found.setdefault((pixels.shape[1], pixels.shape[2]), []).append((File(name, mode), pixels))
    for written, path in names.items():
        for folder in Path(written).parents:
            if folder.as_posix() in names:
                raise UserError(f"{path} would lie in {names[folder.as_posix()]}, a picture: compress them apart.")
    if not found:
        raise UserError(f"{paths[0]} holds no pictures: give files, or the folder they are in.")
    return Pictures(
        [torch.stack([pixels for _, pixels in run]) for run in found.values()],
        files=[file for run in found.values() for file, _ in run],
    )


def read_array(path: Path, levels: int, split: str) -> tuple[Pictures, bool]:
    """The images (and labels) of a .npy or .npz file in their order: all of them, or a split where it has splits; and
    whether it has."""
    parts = read_arrays(path, levels).parts
    if "all" not in parts and split not in parts:
        raise UserError(f"{path} has no {split} images; it has: {', '.join(parts)}.")
    part = parts["all" if "all" in parts else split]
    labels = None if part.labels is None else [torch.from_numpy(part.labels.astype(np.int64))]
    return Pictures([torch.from_numpy(channels_first(part.images))], labels), "all" not in parts


def written_name(name: str) -> str:
    """The name under which a picture of this name is written."""
    return name if Path(name).suffix.lower() in LOSSLESS else f"{name}.png"


def write_files(folder: Path, images: Sequence[Tensor], files: Sequence[File], levels: int) -> None:
    """Write images [C, H, W] of 2 or 256 levels as the files they came from, below a folder that is new or empty."""
    check_new(folder)
    if len({written_name(file.name) for file in files}) < len(files):
        raise UserError("The archive names two pictures so that they would be written to one file: it is damaged.")
    for image, file in zip(images, files, strict=True):
        path = folder / written_name(file.name)
        pixels = (dequantise(image, 2) if levels == 2 else image).numpy()
        picture = Image.fromarray(pixels.transpose(1, 2, 0) if file.mode == "RGB" else pixels[0])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):  # names that differ by case or composition are one to some file systems
                raise FileExistsError(errno.EEXIST, "another picture of the archive has the same name on this disk")
            (picture.convert("1", dither=Image.Dither.NONE) if file.mode == "1" else picture).save(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be written ({getattr(error, 'strerror', None) or error}).") from error


def check_new(path: Path) -> None:
    """UserError unless nothing is there, or an empty folder: what is decoded overwrites nothing."""
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise UserError(f"{path} is there already: name a new one.")


def _named(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """(name in the archive, file): a file's own name; for what is in a folder its path from there."""
    found = []
    for path in paths:
        if path.is_dir():
            found += [(file.relative_to(path).as_posix(), file) for file in picture_files(path)]
        elif path.is_file():
            found.append((path.name, path))
        else:
            raise UserError(f"There is no file or folder {path}.")
    return found


def _pixels(path: Path, channels: int, levels: int) -> tuple[str, Tensor]:
    """The mode of a file and its pixels [C, H, W] as the model takes them."""
    try:
        picture = decode(path)
        stored = stored_as(path)
    except UnreadableError as error:
        raise UserError(f"{path} cannot be read as a picture ({error}).") from None
    array = np.array(picture)
    pixels = torch.from_numpy(array[..., None] if array.ndim == 2 else array).permute(2, 0, 1)
    if stored.frames > 1:
        raise UserError(f"{path} holds {stored.frames} frames: save each as a picture of its own first.")
    if stored.mode in ("CMYK", "YCbCr"):
        raise UserError(f"{path} has the colour mode {stored.mode}: convert it to RGB first, which changes colours.")
    mode = "1" if stored.mode == "1" else picture.mode
    if channels not in (1, 3):
        raise UserError(
            f"The model is for {channels} channels, and picture files have 1 or 3: pass a .npy or .npz array."
        )
    if channels == 1 and len(pixels) == 3:
        raise UserError(f"{path} is in colour, and the model is for grey pictures: take one of pictures in colour.")
    if levels == 2:
        if not ((pixels == 0) | (pixels == 255)).all():
            raise UserError(f"{path} is not black and white, and the model has 2 levels: it cannot be coded as it is.")
        pixels = pixels // 255
    return mode, to_rgb(pixels[None])[0] if channels == 3 else pixels
