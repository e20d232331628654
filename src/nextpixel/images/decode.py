"""One picture file to 8-bit grey or RGB pixels, with everything else refused or converted on purpose.

Kept as they are: grey (1 and 8 bit) and RGB. Converted to RGB: palettes, CMYK, YCbCr. An alpha channel is
dropped if it is opaque everywhere. The camera's orientation mark is followed, and of several frames the first is taken.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from nextpixel.errors import UserError

# Formats that are documents, programs or mere stubs rather than pictures; EPS would start Ghostscript.
_NOT_PICTURES = {"EPS", "PDF", "MPEG", "WMF", "HDF5", "GRIB", "BUFR", "FITS"}
_TO_RGB = {"RGB", "P", "CMYK", "YCbCr"}
_WITH_ALPHA = {"LA", "PA", "RGBA"}
_TIFF_BITS_PER_SAMPLE = 258
_PNG_HEAD = 25  # bytes, the last of which is the number of bits a value


class UnreadableError(Exception):
    """The file is damaged, too large, or no picture."""


def suffixes() -> set[str]:
    """The lower-case file endings, with the dot, that are taken for pictures."""
    formats = set(_formats())
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in formats}


def decode(
    path: Path, content: bytes | None = None, formats: tuple[str, ...] | None = None, most_pixels: int | None = None
) -> Image.Image:
    """A picture of mode "L" or "RGB".

    content: what is in the file, where it is in memory; the path is its name then. formats: Pillow's names of those
    that are read, by default all that are pictures. most_pixels: looked at in the file's header, before anything is
    decoded; by default ``PIL.Image.MAX_IMAGE_PIXELS``. Raises UnreadableError for a damaged file or more pixels than
    that, and UserError for a picture that 8-bit grey or RGB cannot hold.
    """
    head = content[:_PNG_HEAD] if content is not None else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path if content is None else io.BytesIO(content), formats=formats or _formats()) as opened:
                if most_pixels is not None and opened.width * opened.height > most_pixels:
                    raise Image.DecompressionBombError
                deep = _is_deep(opened, path, head)
                opened.load()
                # Taken before the picture is copied, because the copy may lose the transparent colour.
                transparent = "transparency" in opened.info
                picture = ImageOps.exif_transpose(opened)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableError(f"more than {most_pixels or Image.MAX_IMAGE_PIXELS} pixels") from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise UnreadableError(str(error) or type(error).__name__) from error
    return _as_grey_or_rgb(picture, transparent, deep, path)


def is_binary(path: Path) -> bool:
    """Whether a file that `decode` reads has one bit a pixel."""
    with Image.open(path, formats=_formats()) as opened:
        return opened.mode == "1"


def _as_grey_or_rgb(picture: Image.Image, transparent: bool, deep: bool, path: Path) -> Image.Image:
    if deep or picture.mode.startswith(("I", "F")):
        raise UserError(
            f"{path} has more than 8 bits a value: convert it to 8 bits, "
            "or save the integers as a .npy array and pass levels= (--levels)."
        )
    if picture.mode in _WITH_ALPHA or transparent:
        grey = picture.mode in ("1", "L", "LA")
        full = picture.convert("RGBA")
        if np.asarray(full.getchannel("A")).min() < 255:
            raise UserError(f"{path} is partly transparent: flatten it onto a background first.")
        return full.convert("RGB").convert("L") if grey else full.convert("RGB")
    if picture.mode in ("1", "L"):
        return picture.convert("L")
    if picture.mode in _TO_RGB:
        return picture.convert("RGB")
    raise UserError(f"{path} has the colour mode {picture.mode}: convert it to grey or RGB first.")


def _is_deep(picture: Image.Image, path: Path, head: bytes | None) -> bool:
    """Whether the file has 16 bits a value; Pillow shortens some such files to 8 without a word."""
    if picture.format == "PNG":
        if head is None:
            with path.open("rb") as file:
                head = file.read(_PNG_HEAD)
        return len(head) == _PNG_HEAD and head[-1] > 8
    if picture.format == "TIFF":
        bits = getattr(picture, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE, (8,))
        return max(bits if isinstance(bits, tuple) else (bits,)) > 8
    if picture.format == "PPM":
        return picture.mode.startswith("I")
    return False


def _formats() -> list[str]:
    Image.init()
    return [kind for kind in Image.ID if kind not in _NOT_PICTURES]
