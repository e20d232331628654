"""The optional sections of an archive: the names of the files that the pictures came from, and the model itself.

Both begin with the CRC-32 of what follows. Both are read with limits: names decompress to what the number of pictures
allows, and are refused if they could leave the folder they are written to.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from nextpixel.coding.layout import CRC
from nextpixel.errors import UserError

LONGEST_NAME = 1024  # bytes of UTF-8
LONGEST_LIST = 1 << 26  # bytes of all names together
LARGEST_MODEL = 1 << 30  # bytes
MODES = ("L", "RGB", "1")
LENGTHS = struct.Struct("<I")


class File(NamedTuple):
    """name: a relative path with forward slashes. mode: L (grey), RGB, or 1 (binary), as Pillow names them."""

    name: str
    mode: str


def pack_files(files: Sequence[File]) -> bytes:
    """The section of names, one file a picture, in the order of the pictures."""
    for file in files:
        if not _safe(file.name):
            raise UserError(
                f"The name {file.name!r} cannot be kept, because it could not be written everywhere: names must be "
                "relative, printable, without dots alone between slashes, and without any of "
                r'\ : * ? " < > | (rename the file).'
            )
    content = json.dumps(
        {"names": [file.name for file in files], "modes": [MODES.index(file.mode) for file in files]},
        ensure_ascii=False,
        separators=(",", ":"),
    )
    if len(content.encode()) > LONGEST_LIST:
        raise UserError("The names of the files are too long to be kept: make several archives.")
    return _with_crc(zlib.compress(content.encode(), 9))


def unpack_files(section: bytes, pictures: int) -> list[File]:
    """What `pack_files` packed, without its checksum; UserError if it is not one safe name and mode a picture."""
    limit = min((LONGEST_NAME + 16) * pictures + 64, LONGEST_LIST)
    unpacker = zlib.decompressobj()
    try:
        content = json.loads(unpacker.decompress(section, limit))
        named = zip(content["names"], content["modes"], strict=True)
        files = [File(name, dict(enumerate(MODES))[mode]) for name, mode in named]
    except (zlib.error, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UserError("The names of the files in the archive cannot be read: they are damaged.") from error
    names = [file.name for file in files]
    if len(files) != pictures or not all(isinstance(name, str) and _safe(name) for name in names):
        raise UserError("The archive's names of files do not fit its pictures, or point outside a folder.")
    if len(set(names)) != len(names):
        raise UserError("The archive names two pictures alike.")
    return files


def pack_model(config: bytes, weights: bytes) -> bytes:
    """The section of a saved model: its config.json and its model.safetensors."""
    content = LENGTHS.pack(len(config)) + config + weights
    if len(content) > LARGEST_MODEL:
        raise UserError("The model is too large to be put into an archive: leave embed_model out.")
    return _with_crc(zlib.compress(content, 9))


def unpack_model(section: bytes) -> tuple[bytes, bytes]:
    """config.json and model.safetensors of an embedded model, from the section without its checksum."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(section, LARGEST_MODEL)
    except zlib.error:
        content = b""
    if not unpacker.eof or len(content) < LENGTHS.size:
        raise UserError("The model inside the archive is damaged or too large: pass the model.")
    end = LENGTHS.size + LENGTHS.unpack_from(content)[0]
    return content[LENGTHS.size : end], content[end:]


def _with_crc(content: bytes) -> bytes:
    return CRC.pack(zlib.crc32(content)) + content


def _safe(name: str) -> bool:
    """Whether the name stays below the folder it is joined to, on any system."""
    path = PurePosixPath(name)
    return (
        0 < len(name.encode(errors="replace")) <= LONGEST_NAME
        and name.isprintable()
        and not set(name) & set('\\:*?"<>|')
        and not path.is_absolute()
        and all(part.strip(". ") for part in name.split("/"))
    )
