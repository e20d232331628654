"""ImageNet at 32x32 and 64x64, from a folder: two releases whose figures are not comparable.

The original release (van den Oord, Kalchbrenner and Kavukcuoglu 2016) is PNG files in ``train_32x32/`` and
``valid_32x32/``; PixelRNN, Gated PixelCNN and most likelihoods published report on its valid part. The later
one (Chrabaszcz, Loshchilov and Hutter 2017) is data batches with labels, down-sampled by a box filter, which
is smoother and gives lower bits/dim. In both the valid part serves as test, and valid is carved from train.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from nextpixel.errors import UserError
from nextpixel.images.batches import Batch, as_images, as_labels, read_batch
from nextpixel.images.source import Array, Part, Parts, load_npz

TRAIN_BATCHES = 10


def read_downsampled_imagenet(folder: Path, size: int) -> Parts:
    """Train and test [N,size,size,3]; labels 0..999 from data batches (1..1000 in the files), none from PNG."""
    if _png_folder(folder, "train", size).is_dir():
        return {
            "train": Part(_read_pngs(_png_folder(folder, "train", size), size), None),
            "test": Part(_read_pngs(_png_folder(folder, "valid", size), size), None),
        }
    train = train_batches(folder)
    if not train:
        raise UserError(
            f"{folder} holds neither train_data_batch_1 nor train_{size}x{size}/: "
            "put the data batches or the PNG folders of one release there."
        )
    return {"train": _read_batches(train, size), "test": _read_batches([_val_batch(folder)], size)}


def release(folder: Path) -> str:
    """Which release a folder holds, for the protocol."""
    batches = train_batches(folder)
    if any(folder.glob("train_*x*")) or not batches:
        return "original release (van den Oord et al. 2016, PNG)"
    some = "" if len(batches) == TRAIN_BATCHES else f", {len(batches)} of {TRAIN_BATCHES} training batches"
    return f"box-filtered release (Chrabaszcz et al. 2017{some}), not comparable with the original release"


def train_batches(folder: Path) -> list[Path]:
    """The training batches of a folder, by number; .npz is preferred to its twin without a suffix."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("train_data_batch_*")):
        match = re.fullmatch(r"train_data_batch_(\d+)(\.npz)?", path.name)
        if match:
            found[int(match[1])] = path
    return [found[number] for number in sorted(found)]


def _val_batch(folder: Path) -> Path:
    for path in (folder / "val_data.npz", folder / "val_data"):
        if path.is_file():
            return path
    raise UserError(f"{folder} lacks val_data.npz or val_data: put it there.")


def _read_batches(paths: list[Path], size: int) -> Part:
    batches = [_read_npz(path, size) if path.suffix == ".npz" else read_batch(path, size) for path in paths]
    labels = np.concatenate([batch.labels for batch in batches]) - 1
    return Part(np.concatenate([batch.images for batch in batches]), labels)


def _read_npz(path: Path, size: int) -> Batch:
    arrays = load_npz(path)
    images = as_images(arrays.get("data"), size, path)
    return Batch(images, as_labels(arrays.get("labels"), len(images), path))


def _png_folder(folder: Path, part: str, size: int) -> Path:
    return folder / f"{part}_{size}x{size}"


def _read_pngs(folder: Path, size: int) -> Array:
    files = sorted(folder.glob("*.png"))
    if not files:
        raise UserError(f"{folder} holds no .png files: put the pictures of the original release there.")
    images = np.empty((len(files), size, size, 3), np.uint8)  # over a million pictures: no second copy
    for index, path in enumerate(files):
        try:
            with Image.open(path, formats=["PNG"]) as picture:
                pixels = np.asarray(picture.convert("RGB"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): fetch it again.") from error
        if pixels.shape != (size, size, 3):
            raise UserError(f"{path} is not a picture of {size}x{size} pixels: fetch it again.")
        images[index] = pixels
    return images
