"""One picture file to 8-bit grey or RGB pixels, with everything else refused or converted on purpose.

Kept as they are: grey (1 and 8 bit) and RGB. Converted to RGB: palettes, CMYK, YCbCr. An alpha channel is
dropped if it is opaque everywhere. The camera's orientation mark is followed, and of several frames the first is taken.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from nextpixel.errors import UserError

# Formats that are documents, programs or mere stubs rather than pictures; EPS would start Ghostscript.
_NOT_PICTURES = {"EPS", "PDF", "MPEG", "WMF", "HDF5", "GRIB", "BUFR", "FITS"}
_TO_RGB = {"RGB", "P", "CMYK", "YCbCr"}
_WITH_ALPHA = {"LA", "PA", "RGBA"}
_TIFF_BITS_PER_SAMPLE = 258
_ORIENTATION = 274
_HEADS = 1 << 20  # bytes in which JPEG 2000 and AVIF say how many bits a value has
_XMP = "XML:com.adobe.xmp"  # where a PNG may say it too
_GREY = {"1", "L", "LA"}


class UnreadableError(Exception):
    """The file is damaged, too large, or no picture."""


def suffixes() -> set[str]:
    """The lower-case file endings, with the dot, that are taken for pictures."""
    formats = set(_formats())
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in formats}


def decode(path: Path) -> Image.Image:
    """A picture of mode "L" or "RGB".

    Raises UnreadableError for a damaged file or more than ``PIL.Image.MAX_IMAGE_PIXELS`` pixels, and UserError for a
    picture that 8-bit grey or RGB cannot hold.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableError(str(error)) from error
    with file:
        return decode_file(file, str(path))


def decode_file(
    file: BinaryIO, name: str, formats: list[str] | None = None, most_pixels: int | None = None
) -> Image.Image:
    """The same of an open file; `name` stands in errors. Safe from several threads at once.

    formats: Pillow's names of those that are read, by default all that are pictures. most_pixels: more are refused, by
    what the header says, before anything is decoded; by default ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    most = most_pixels or Image.MAX_IMAGE_PIXELS
    try:
        with Image.open(file, formats=formats or _formats()) as opened:
            _check_pixels(opened, most)
            deep = _is_deep(opened, file)
            opened.load()
            # Taken before the picture is copied, because the copy may lose the transparent colour.
            transparent = "transparency" in opened.info
            picture = ImageOps.exif_transpose(opened)
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise _unreadable(error, most) from error
    return _as_grey_or_rgb(picture, transparent, deep, name)


class Header(NamedTuple):
    """What a picture will be when it is decoded."""

    height: int
    width: int
    colour: bool


def read_header(file: BinaryIO, name: str) -> Header:
    """Without decoding. Raises as `decode`, as far as the header tells."""
    try:
        with Image.open(file, formats=_formats()) as opened:
            _check_pixels(opened, Image.MAX_IMAGE_PIXELS)
            deep, mode = _is_deep(opened, file), opened.mode
            # Asked for a mark that a PNG does not have in front, Pillow would decode all of it.
            marked = opened.format != "PNG" or "exif" in opened.info or _XMP in opened.info
            turned = marked and opened.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            width, height = opened.size
    except Exception as error:
        raise _unreadable(error, Image.MAX_IMAGE_PIXELS) from error
    _check_mode(mode, deep, name)
    return Header(*((width, height) if turned else (height, width)), mode not in _GREY)


def _check_pixels(picture: Image.Image, most: int | None) -> None:
    if most is not None and picture.width * picture.height > most:
        raise Image.DecompressionBombError


def _unreadable(error: Exception, most: int | None) -> UnreadableError:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return UnreadableError(f"more than {most} pixels")
    if isinstance(error, UnidentifiedImageError):
        return UnreadableError("it is damaged, or no picture")
    return UnreadableError(str(error) or type(error).__name__)


class Stored(NamedTuple):
    """How a file holds its picture: Pillow's name of the mode, and how many frames (pages) there are."""

    mode: str
    frames: int


def stored_as(path: Path) -> Stored:
    """Of a file that `decode` reads."""
    with Image.open(path, formats=_formats()) as opened:
        # What a camera puts behind a photograph is a preview or a depth map.
        frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
        return Stored(opened.mode, frames)


def _check_mode(mode: str, deep: bool, name: str) -> None:
    if deep or mode.startswith(("I", "F")):
        raise UserError(
            f"{name} has more than 8 bits a value: convert it to 8 bits, "
            "or save the integers as a .npy array and pass levels= (--levels)."
        )
    if mode not in _TO_RGB | _WITH_ALPHA | _GREY:
        raise UserError(f"{name} has the colour mode {mode}: convert it to grey or RGB first.")


def _as_grey_or_rgb(picture: Image.Image, transparent: bool, deep: bool, name: str) -> Image.Image:
    _check_mode(picture.mode, deep, name)
    grey = picture.mode in _GREY
    if picture.mode in _WITH_ALPHA or transparent:
        full = picture.convert("RGBA")
        if np.asarray(full.getchannel("A")).min() < 255:
            raise UserError(f"{name} is partly transparent: flatten it onto a background first.")
        return full.convert("RGB").convert("L") if grey else full.convert("RGB")
    return picture.convert("L" if grey else "RGB")


def _is_deep(picture: Image.Image, file: BinaryIO) -> bool:
    """Whether the file has more than 8 bits a value, of which Pillow would keep 8 without a word."""
    if picture.format == "PNG":
        return _start(file, 25)[24:] > b"\x08"
    if picture.format == "TIFF":
        bits = getattr(picture, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE, (8,))
        return max(bits if isinstance(bits, tuple) else (bits,)) > 8
    if picture.format == "PPM":  # of colours, too, of which Pillow keeps 8 bits; its decoder is told the largest value
        tile = getattr(picture, "tile", None)
        told = tile[0].args if tile else ()
        return picture.mode.startswith("I") or (isinstance(told, tuple) and int(told[-1]) > 255)
    if picture.format == "SGI":
        return _start(file, 4)[3:] == b"\2"  # bytes a value
    if picture.format == "JPEG2000":
        head, marker = _start(file, _HEADS), b"\xff\x4f\xff\x51"  # the code stream begins, and its sizes
        components = head[head.find(marker) + 42 :] if marker in head else b""
        count = int.from_bytes(head[head.find(marker) + 40 : head.find(marker) + 42], "big")
        return not 0 < count <= len(components) // 3 or any(b & 0x7F > 7 for b in components[: 3 * count : 3])
    if picture.format == "AVIF":
        head = _start(file, _HEADS)
        told = [head[at.end() : at.end() + 3] for at in re.finditer(b"av1C", head)]
        return not told or any(len(record) < 3 or record[2] & 0x40 for record in told)  # high_bitdepth
    return False


def _start(file: BinaryIO, count: int) -> bytes:
    """The first bytes of a file that Pillow is reading."""
    at = file.tell()
    file.seek(0)
    head = file.read(count)
    file.seek(at)
    return head


@functools.cache
def _formats() -> list[str]:
    Image.init()
    return [kind for kind in Image.ID if kind not in _NOT_PICTURES]
