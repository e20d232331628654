"""An archive's bytes taken apart, trusting nothing: every size is compared with the file's and with `max_pixels` before
memory is taken.

What is damaged is found by checksums, and as little as possible is lost. A single wrong byte in the header is put right
by its CRC-32. A chunk's checksum covers its entry in the table and its bytes; where a wrong entry hides the places of
others, these are found from the other end of the file.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from nextpixel.coding.layout import (
    CRC,
    ENTRY,
    FIXED,
    MAGIC,
    MOST_IN_PIECE,
    MOST_RUNS,
    MOST_SYMBOLS,
    RUN,
    VERSION,
    Entry,
    Header,
    most_pieces,
)
from nextpixel.coding.pieces import Group, Run
from nextpixel.errors import UserError

MAX_PIXELS = 1 << 28
MOST_CLASSES = 1 << 16
LONGEST_REPAIR = 1 << 16  # bytes of a header in which a wrong byte is looked for; in more, by chance too many would do
RUNS_AT = FIXED.size - 4  # where the number of runs stands
ADDED = [zlib.crc32(bytes([byte])) ^ zlib.crc32(b"\0") for byte in range(256)]  # what the last byte adds to a CRC-32
BYTE_OF = {added: byte for byte, added in enumerate(ADDED)}
BYTE_BY_TOP = {added >> 24: byte for byte, added in enumerate(ADDED)}


@dataclass(frozen=True)
class Chunk:
    """A chunk whose bytes are what was written. first: the number of its first piece, within `group`."""

    entry: Entry
    group: Group
    first: int
    first_of_all: int
    coded: bytes


@dataclass(frozen=True)
class Parsed:
    """size: of the archive, in bytes. chunks: None for a damaged one. faults: a few words on each damage found."""

    size: int
    header: Header
    chunks: list[Chunk | None]
    files: bytes
    model: bytes
    faults: list[str]


def parse(data: bytes, max_pixels: int = MAX_PIXELS) -> Parsed:
    """The parts of an archive. UserError where nothing of it can be read; else what is damaged is in `faults`."""
    header, repaired = _header(data)
    _check(header, len(data), max_pixels)
    faults = ["a byte of the header (put right)"] if repaired else []
    table = [
        Entry.unpack(data[at : at + ENTRY.size])
        for at in range(header.table, header.table + ENTRY.size * header.chunks, ENTRY.size)
    ]
    places = _places(data, header, table)
    starts = _starts(header, table, [place is not None for place in places])
    chunks: list[Chunk | None] = []
    groups = header.groups()
    ends = list(accumulate(group.pieces for group in groups))
    for entry, place, start in zip(table, places, starts, strict=True):
        chunk = None
        if place is not None and start is not None:
            chunk = _chunk(data, header, entry, place, start, groups, ends)
        chunks.append(chunk)
    lost = [str(index) for index, chunk in enumerate(chunks) if chunk is None]
    if lost:
        faults.append(f"{'chunk' if len(lost) == 1 else 'chunks'} {_listed(lost)} of {len(chunks)}")
    elif header.body + sum(entry.length for entry in table) != len(data):
        faults.append("there are bytes that belong to nothing")
    files, model = _sections(data, header, faults)
    return Parsed(len(data), header, chunks, files, model, faults)


def _header(data: bytes) -> tuple[Header, bool]:
    if len(data) < FIXED.size + RUN.size + CRC.size:
        raise UserError(f"This is no nextpixel archive, or it is cut off: it has only {len(data)} bytes.")
    if sum(a != b for a, b in zip(data, MAGIC, strict=False)) > 1:
        raise UserError("This is no nextpixel archive: it does not begin as one.")
    size = _size(data)
    if size is not None and size <= len(data) and _intact(data[:size]):
        return _unpacked(data[:size]), False
    repaired = _repaired(data[:LONGEST_REPAIR])
    if repaired is not None:
        return _unpacked(repaired), True
    if data[8] != VERSION:
        raise UserError(
            f"The archive says that it has format version {data[8]}, and this nextpixel reads {VERSION}: install a "
            "newer nextpixel, unless the file is damaged."
        )
    raise UserError("The archive's header is damaged beyond repair: nothing of it can be read.")


def _size(data: bytes | bytearray) -> int | None:
    runs = int.from_bytes(data[RUNS_AT : RUNS_AT + 4], "little")
    return FIXED.size + RUN.size * runs + CRC.size if 1 <= runs <= MOST_RUNS else None


def _intact(packed: bytes | memoryview) -> bool:
    return zlib.crc32(packed[:-4]) == int.from_bytes(packed[-4:], "little") and packed[: len(MAGIC)] == MAGIC


def _repaired(data: bytes) -> bytes | None:
    """The header with one byte changed so that its checksum is right."""
    trial = bytearray(data)
    for at in range(RUNS_AT, RUNS_AT + 4):  # here a byte changes where the header ends
        kept = trial[at]
        for value in range(256):
            trial[at] = value
            size = _size(trial) or 0
            if 0 < size <= len(trial) and _intact(memoryview(trial)[:size]):
                return bytes(trial[:size])
        trial[at] = kept
    size = _size(data) or 0
    if not 0 < size <= len(data):
        return None
    wrong = zlib.crc32(data[: size - 4]) ^ int.from_bytes(data[size - 4 : size], "little")
    for at in range(size - 4, size):
        trial[at] ^= wrong >> 8 * (at - size + 4) & 0xFF
    if sum(a != b for a, b in zip(data[size - 4 : size], trial[size - 4 : size], strict=True)) > 1:
        trial[size - 4 : size] = data[size - 4 : size]
        # What a byte adds to the checksum does not depend on the others: go back from the end, undoing what the bytes
        # behind it have done, until some byte could have added what is wrong.
        for at in range(size - 5, -1, -1):
            if wrong in BYTE_OF:
                trial[at] ^= BYTE_OF[wrong]
                break
            last = BYTE_BY_TOP[wrong >> 24]
            wrong = (wrong ^ ADDED[last]) << 8 & 0xFFFFFFFF | last
    return bytes(trial[:size]) if _intact(memoryview(trial)[:size]) else None


def _unpacked(packed: bytes) -> Header:
    fields = FIXED.unpack_from(packed)
    (_, version, arithmetic, flags, identity, channels, top, classes, tile_height, tile_width) = fields[:10]
    files, model, chunks, runs = fields[10:]
    if version != VERSION:
        raise UserError(
            f"The archive has format version {version}, and this nextpixel reads {VERSION}: install a newer nextpixel."
        )
    if flags or bool(tile_height) != bool(tile_width) or not top >= 1 or not channels or classes > MOST_CLASSES:
        raise UserError("The archive's header contradicts itself: it was not written by nextpixel.")
    sizes = [Run(*RUN.unpack_from(packed, FIXED.size + RUN.size * index)) for index in range(runs)]
    if any(0 in run for run in sizes):
        raise UserError("The archive's header names pictures without size or number: it was not written by nextpixel.")
    tile = (tile_height, tile_width) if tile_height else None
    return Header(arithmetic, identity, channels, top + 1, classes, tile, sizes, chunks, files, model)


def _check(header: Header, length: int, max_pixels: int) -> None:
    if header.pixels * max(header.channels, 3) > 3 * max_pixels:  # of more than three channels fewer pixels
        raise UserError(
            f"The archive says that it holds {header.pictures:,} pictures of {header.pixels:,} pixels and "
            f"{header.channels} channels in all, more than the limit of {max_pixels:,} pixels: "
            "raise max_pixels (--max-pixels) if you trust it."
        )
    if header.body > length or not header.chunks:
        raise UserError("The archive is cut off before its first chunk: nothing of it can be read.")
    pieces = sum(group.pieces for group in header.groups())
    if header.chunks > pieces:
        raise UserError("The archive's header names more chunks than there are pictures or tiles: it is damaged.")
    if header.pictures > header.chunks * most_pieces(header.levels):
        raise UserError("The archive's header names more pictures than its chunks can hold: it is damaged.")


def _places(data: bytes, header: Header, table: list[Entry]) -> list[int | None]:
    """Where each chunk's bytes begin: counted from the first chunk or from the end of the file, whichever place has
    the bytes that the checksum promises; None if neither."""
    found: list[int | None] = []
    forward = header.body
    backward = len(data) - sum(entry.length for entry in table)
    view = memoryview(data)
    for entry in table:
        place = None
        for at in dict.fromkeys((forward, backward)):
            inside = header.body <= at and at + entry.length <= len(data)
            if inside and entry.computed_crc(view[at : at + entry.length]) == entry.crc:
                place = at
                break
        found.append(place)
        forward, backward = forward + entry.length, backward + entry.length
    return found


def _starts(header: Header, table: list[Entry], good: list[bool]) -> list[int | None]:
    """The number of each chunk's first piece. A wrong count in a damaged entry hides what follows it, so after it the
    pieces are counted from the end; between two damaged entries nothing is known."""
    total = sum(group.pieces for group in header.groups())
    forward = [0, *accumulate(entry.pieces for entry in table)]
    if forward[-1] == total:
        return list(forward[:-1])
    if all(good):
        raise UserError("The archive's chunks do not make up its pictures: it was not written by nextpixel.")
    bad = [index for index, intact in enumerate(good) if not intact]
    return [
        start if index < bad[0] else start + total - forward[-1] if index > bad[-1] else None
        for index, start in enumerate(forward[:-1])
    ]


def _chunk(
    data: bytes, header: Header, entry: Entry, place: int, start: int, groups: list[Group], ends: list[int]
) -> Chunk | None:
    """None if the entry, though its checksum is right, asks for what cannot be."""
    number = bisect_right(ends, start)  # of the group that the first piece belongs to
    if (
        number == len(groups)
        or start < 0
        or not 0 < entry.pieces <= most_pieces(header.levels)
        or start + entry.pieces > ends[number]
    ):
        return None
    group = groups[number]
    plain = -(-entry.pieces * header.raw_bits(group.height, group.width) // 8)
    symbols = header.channels * group.height * group.width
    large = symbols > MOST_IN_PIECE or (entry.pieces > 1 and entry.pieces * symbols > MOST_SYMBOLS)
    wrong = entry.length != plain if entry.stored else entry.length >= plain or entry.length % 4
    if large or wrong:
        return None
    first = start - (ends[number] - group.pieces)
    return Chunk(entry, group, first, start, data[place : place + entry.length])


def _sections(data: bytes, header: Header, faults: list[str]) -> tuple[bytes, bytes]:
    found = []
    at = header.sections
    for length, name in ((header.files, "the names of the files"), (header.model, "the model inside")):
        section = data[at : at + length]
        at += length
        intact = length >= CRC.size and zlib.crc32(section[CRC.size :]) == CRC.unpack_from(section)[0]
        if length and not intact:
            faults.append(name)
        found.append(section[CRC.size :] if intact else b"")
    return found[0], found[1]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
