"""What standard lossless codecs make of the same pictures, bits/dim: PNG and WebP (Pillow), JPEG XL (imagecodecs, where
it is installed), gzip and xz.

Small pictures are coded one by one (the first 500 of them) and in sheets of 1000, 25 rows of 40: an archive of many
pictures is to be compared with the sheets. Binary pictures are 1-bit PNG and JPEG XL; grey goes through RGB in WebP.
"""

from __future__ import annotations

import gzip
import importlib
import io
import lzma
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

ALONE = 500
ROWS, COLUMNS = 25, 40
LARGE = 128  # sides of pictures that are not put on sheets

Coder = Callable[[Any, int], int]


def standard(images: Tensor, levels: int) -> dict[str, float]:
    """Bits/dim of whole files by codec, of images [N, C, H, W] with 1 or 3 channels and 2 or 256 levels."""
    array = images.permute(0, 2, 3, 1).numpy()
    coders: dict[str, Coder] = {"PNG": png, "WebP": webp}
    if _jpegxl() is not None:
        coders["JPEG XL, effort 9"] = jpeg_xl
    found: dict[str, float] = {}
    large = max(array.shape[1:3]) > LARGE
    alone = array if large else array[:ALONE]
    for name, coder in coders.items():
        found[f"{name}, one file each"] = 8 * sum(coder(picture, levels) for picture in alone) / alone.size
    if large:
        return found
    sheets = [sheet(array[i : i + ROWS * COLUMNS]) for i in range(0, len(array), ROWS * COLUMNS)]
    for name, coder in coders.items():
        found[f"{name}, sheets of 1000"] = 8 * sum(coder(one, levels) for one in sheets) / array.size
    stream = np.packbits(array).tobytes() if levels == 2 else array.tobytes()
    found["gzip"] = 8 * len(gzip.compress(stream, 9, mtime=0)) / array.size
    found["xz"] = 8 * len(lzma.compress(stream, preset=9 | lzma.PRESET_EXTREME)) / array.size
    return found


def sheet(pictures: Any) -> Any:
    """[n, H, W, C] → one picture; what is missing of the last row is black."""
    n, height, width, channels = pictures.shape
    rows = -(-n // COLUMNS)
    full = np.zeros((rows * COLUMNS, height, width, channels), pictures.dtype)
    full[:n] = pictures
    grid = full.reshape(rows, COLUMNS, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, COLUMNS * width, channels)


def picture_of(array: Any, levels: int) -> Image.Image:
    scaled = array * np.uint8(255 // (levels - 1))
    return Image.fromarray(scaled if array.shape[2] == 3 else scaled[..., 0])


def png(array: Any, levels: int) -> int:
    picture = picture_of(array, levels)
    return _saved(picture.convert("1", dither=Image.Dither.NONE) if levels == 2 else picture, "PNG", optimize=True)


def webp(array: Any, levels: int) -> int:
    picture = picture_of(array, levels).convert("RGB")
    return _saved(picture, "WebP", lossless=True, quality=100, method=6, exact=True)


def jpeg_xl(array: Any, levels: int) -> int:
    more = {"bitspersample": 1} if levels == 2 else {}
    data = array if array.shape[2] == 3 else array[..., 0]
    coded: bytes = _jpegxl().jpegxl_encode(
        np.ascontiguousarray(data), lossless=True, effort=9, usecontainer=False, **more
    )
    return len(coded)


def _saved(picture: Image.Image, kind: str, **options: Any) -> int:
    file = io.BytesIO()
    picture.save(file, format=kind, **options)
    return file.tell()


def _jpegxl() -> Any:
    try:
        return importlib.import_module("imagecodecs")
    except ImportError:
        return None
