"""Named sets from the Hugging Face hub: parquet files decoded, to be kept as a plain .npz file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from nextpixel import durable
from nextpixel.errors import UserError
from nextpixel.images.source import Array, Part, Parts, array_sha256, load_npz

if TYPE_CHECKING:
    from nextpixel.images.catalogue import Hub

FILE = "nextpixel.npz"


def from_hub(hub: Hub, name: str) -> Parts:
    """Downloads and decodes every part. Raises UserError without pyarrow or a network, or for unreadable files."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError("Downloads need pyarrow: install it with pip install 'nextpixel[parquet]'.") from None
    from huggingface_hub import hf_hub_download

    parts = {}
    for part, file in hub.files.items():
        try:
            path = hf_hub_download(repo_id=hub.repository, filename=file, revision=hub.revision, repo_type="dataset")
        except Exception as error:  # many kinds: no network, no such file, no right to read, a full disk
            raise UserError(
                f"{name} could not be downloaded from {hub.repository} ({type(error).__name__}): check the network, "
                f"or pass data_dir=DIR (--data-dir DIR) where DIR/{name} holds it."
            ) from error
        try:
            table = parquet.read_table(path, columns=[hub.image_column, hub.label_column])
        except Exception as error:
            raise UserError(f"{path} cannot be read as parquet ({error}): remove it and fetch again.") from error
        pictures = [_decode(cell, path) for cell in table.column(hub.image_column).to_pylist()]
        if len({picture.shape for picture in pictures}) != 1:
            raise UserError(f"{path} does not hold pictures of one size, as {name} does: remove it and fetch again.")
        images = np.stack(pictures)
        labels = table.column(hub.label_column).to_numpy().astype(np.uint8)
        parts[part] = Part(images, labels)
    if hub.train_blocks:
        parts["train"] = _in_official_order(parts["train"], hub.train_blocks)
    return parts


def write(parts: Parts, folder: Path) -> None:
    """Writes parts as ``nextpixel.npz`` into a folder: aside first, then renamed, so that it is whole or absent.

    Raises UserError if the folder cannot be written.
    """
    arrays: dict[str, Any] = {}
    for key, part in parts.items():
        arrays[f"{key}_images"] = part.images
        if part.labels is not None:
            arrays[f"{key}_labels"] = part.labels
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with durable.replacing(folder / FILE) as aside, open(aside, "wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        raise UserError(f"The cache {folder} cannot be written ({error}): set NEXTPIXEL_CACHE to another.") from error


def read(folder: Path) -> Parts:
    """What ``write`` wrote."""
    arrays = load_npz(folder / FILE)
    keys = [key.removesuffix("_images") for key in arrays if key.endswith("_images")]
    return {key: Part(arrays[f"{key}_images"], arrays.get(f"{key}_labels")) for key in keys}


def _decode(cell: Any, path: str) -> Array:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise UserError(f"{path} holds paths instead of pictures: use a copy of the set with the pictures inside.")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} holds a picture that cannot be read ({error}): remove it and fetch again.") from error


def _in_official_order(part: Part, blocks: tuple[str, ...]) -> Part:
    size = len(part.images) // len(blocks)
    found = {array_sha256(part.images[i * size : (i + 1) * size]): i for i in range(len(blocks))}
    if size == 0 or set(found) != set(blocks):
        return part  # not the published pixels: the checksums will say so
    order = np.concatenate([np.arange(found[block] * size, (found[block] + 1) * size) for block in blocks])
    return Part(part.images[order], None if part.labels is None else part.labels[order])
