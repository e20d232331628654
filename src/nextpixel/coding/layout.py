"""The archive's bytes: header, chunk table, and what protects them. docs/format.md is the same in words.

    header      80 + 12·R bytes: fixed fields, R runs of pictures, CRC-32
    table       24 bytes a chunk
    files       optional: names and modes of the files
    model       optional: the model itself
    chunks      to the end of the file

Everything is little-endian. Nothing here decides how a chunk's bytes are coded.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from nextpixel.coding.pieces import Group, Run, groups

MAGIC = b"\x89NPX\r\n\x1a\n"  # no text, and a transfer that changes line ends shows
VERSION = 1
FIXED = struct.Struct("<8sBBH32sHHIIIIIII")
RUN = struct.Struct("<III")
ENTRY = struct.Struct("<II12sI")
CRC = struct.Struct("<I")
STORED = 1 << 31  # in an entry's number of pieces: the chunk's symbols are packed, not coded
MOST_RUNS = 1 << 16
MOST_SYMBOLS = 1 << 22  # in a chunk of more than one piece
MOST_PIECES = 1 << 15  # in a chunk: a decoder steps them side by side, and
MOST_MASSES = 1 << 25  # holds the masses of all values of a symbol of each
MOST_IN_PIECE = 1 << 25  # symbols; a larger picture is cut into tiles
CHUNK_BYTES = 1 << 14  # a chunk ends once it has as many, or with its group
DIGEST = 12


@dataclass(frozen=True)
class Header:
    """What an archive says of itself before its chunks.

    classes: 0 without labels. tile: (height, width) or None. files, model: sizes of these sections in bytes.
    """

    arithmetic: int
    identity: bytes
    channels: int
    levels: int
    classes: int
    tile: tuple[int, int] | None
    runs: list[Run]
    chunks: int
    files: int = 0
    model: int = 0

    @property
    def size(self) -> int:
        return FIXED.size + RUN.size * len(self.runs) + CRC.size

    @property
    def table(self) -> int:
        """Where the chunk table begins."""
        return self.size

    @property
    def sections(self) -> int:
        """Where the first section begins."""
        return self.size + ENTRY.size * self.chunks

    @property
    def body(self) -> int:
        """Where the first chunk begins."""
        return self.sections + self.files + self.model

    @property
    def pictures(self) -> int:
        return sum(run.pictures for run in self.runs)

    @property
    def pixels(self) -> int:
        return sum(run.pictures * run.height * run.width for run in self.runs)

    @property
    def symbols(self) -> int:
        return self.channels * self.pixels

    def groups(self) -> list[Group]:
        return groups(self.runs, self.tile)

    def raw_bits(self, height: int, width: int) -> int:
        """Bits of one piece, and its label, stored as they are."""
        label = (self.classes - 1).bit_length() if self.classes else 0
        return label + self.channels * height * width * (self.levels - 1).bit_length()

    def pack(self) -> bytes:
        tile = self.tile or (0, 0)
        fixed = FIXED.pack(
            MAGIC,
            VERSION,
            self.arithmetic,
            0,
            self.identity,
            self.channels,
            self.levels - 1,
            self.classes,
            *tile,
            self.files,
            self.model,
            self.chunks,
            len(self.runs),
        )
        packed = fixed + b"".join(RUN.pack(*run) for run in self.runs)
        return packed + CRC.pack(zlib.crc32(packed))


class Entry(NamedTuple):
    """A chunk in the table. digest: of its labels and pixels; crc: of the other fields and the chunk's bytes."""

    length: int
    pieces: int
    stored: bool
    digest: bytes
    crc: int

    @classmethod
    def of(cls, coded: bytes, pieces: int, stored: bool, digest: bytes) -> Entry:
        entry = cls(len(coded), pieces, stored, digest, 0)
        return entry._replace(crc=entry.computed_crc(coded))

    @classmethod
    def unpack(cls, packed: bytes) -> Entry:
        length, pieces, digest, crc = ENTRY.unpack(packed)
        return cls(length, pieces & ~STORED, bool(pieces & STORED), digest, crc)

    def pack(self) -> bytes:
        return ENTRY.pack(self.length, self.pieces | (STORED if self.stored else 0), self.digest, self.crc)

    def computed_crc(self, coded: bytes | memoryview) -> int:
        return zlib.crc32(coded, zlib.crc32(self.pack()[: -CRC.size]))


def digest_of(header: Header, first: int, pieces: Tensor, labels: Tensor | None) -> bytes:
    """The first 12 bytes of the SHA-256 of what a chunk holds: pieces [n, C, h, w], of which the first is the piece
    number `first` of the archive, and their labels [n]. It covers geometry and place too, so that no chunk can be taken
    for another one."""
    _, channels, height, width = pieces.shape
    sha = hashlib.sha256(struct.pack("<IIIIIQ", channels, height, width, header.levels, header.classes, first))
    if labels is not None:
        sha.update(labels.numpy().astype("<u4").tobytes())
    sha.update(pieces.contiguous().numpy().astype("<u1" if header.levels <= 256 else "<u2").tobytes())
    return sha.digest()[:DIGEST]


def most_pieces(levels: int) -> int:
    """In a chunk, of models of that many levels."""
    return max(1, min(MOST_PIECES, MOST_MASSES // levels))
