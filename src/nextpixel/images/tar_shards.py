"""WebDataset tar files: the files of a sample stand together and have the same name up to the first dot.

The picture is the file with the ending of a picture; ``cls``, if it is there, holds the class number as text. Nothing
is extracted: pictures are read from where they lie in the tar file, and the names in it are only shown. Compressed tar
files cannot be read at random and are refused.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from nextpixel.errors import UserError
from nextpixel.images.decode import UnreadableError, read_header, suffixes
from nextpixel.images.index import Entry

MOST_BYTES = 1 << 28  # of an encoded picture
MOST_LABEL = 64  # bytes of a class number


class Shards:
    """Reads pictures at (number of the shard, offset, length)."""

    def __init__(self, shards: list[Path]):
        self.shards = shards

    def read(self, name: str, place: tuple[int, int, int]) -> bytes:
        number, offset, length = place
        with self.shards[number].open("rb") as file:
            file.seek(offset)
            content = file.read(length)
        if len(content) < length:
            raise UnreadableError("the shard ends before it")
        return content


def scan(shard: Path, shown: str, number: int, part: str) -> Iterator[Entry]:
    """The pictures of a shard, which is called `shown` in their names.

    Raises UserError if it is no tar file, or damaged.
    """
    endings = suffixes()
    try:
        with tarfile.open(shard, "r:") as tar, shard.open("rb") as file:
            for key, members in groupby(_files(tar), lambda member: _key(member.name)):
                sample = list(members)
                pictures = [member for member in sample if posixpath.splitext(member.name)[1].lower() in endings]
                labels = [member for member in sample if _ending(member.name) == "cls"]
                if not pictures:
                    continue
                name = f"{shown}: {pictures[0].name}"
                label = _label(file, labels[0], name) if labels else None
                yield _entry(file, pictures, name, key, part, number, label)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(
            f"{shard} cannot be read as an uncompressed tar file ({error}): fetch or write it again."
        ) from error


def _entry(
    file: io.BufferedReader,
    pictures: list[tarfile.TarInfo],
    name: str,
    key: str,
    part: str,
    number: int,
    label: int | None,
) -> Entry:
    member = pictures[0]
    nothing = Entry(name, part, (0, 0, 0), 0, 0, False, None)
    if len(pictures) > 1:
        return nothing._replace(skipped=f"{len(pictures)} pictures are called {key}")
    if not 0 < member.size <= MOST_BYTES:
        return nothing._replace(skipped=f"it has {member.size} bytes")
    file.seek(member.offset_data)
    try:
        header = read_header(io.BytesIO(file.read(member.size)), name)
    except UnreadableError as error:
        return nothing._replace(skipped=str(error))
    return Entry(name, part, (number, member.offset_data, member.size), *header, label)


def _files(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # or it would remember them all
        if member.isreg() and not member.issparse() and not posixpath.basename(member.name).startswith("."):
            yield member


def _key(name: str) -> str:
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.partition(".")[0])


def _ending(name: str) -> str:
    return posixpath.basename(name).partition(".")[2].lower()


def _label(file: io.BufferedReader, member: tarfile.TarInfo, name: str) -> int:
    file.seek(member.offset_data)
    text = file.read(min(member.size, MOST_LABEL)).strip()
    if member.size > MOST_LABEL or not text.isdigit() or len(text) > 18:  # 64 bits hold 18 digits
        raise UserError(f"{name} has the class {text[:20]!r}: a .cls file must hold a class number.")
    return int(text)
