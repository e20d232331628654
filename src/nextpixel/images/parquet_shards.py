"""Parquet files as the Hugging Face hub has them: a column ``image`` (or ``img``) of encoded pictures, as bytes or as
``{bytes, path}``, and a column ``label`` of class numbers, if there are classes.

Parquet is read in row groups: a picture read at random costs the row group it lies in. The last few are kept.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nextpixel.errors import UserError
from nextpixel.images.decode import UnreadableError, read_header
from nextpixel.images.index import Entry

KEPT = 4  # row groups
MOST_BYTES = 1 << 30  # of a row group
IMAGE, LABEL = ("image", "img"), "label"


class Shards:
    """Reads pictures at (number of the shard, row group, row in the group)."""

    def __init__(self, shards: list[Path]):
        self.shards = shards
        self.kept: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self.lock = threading.Lock()

    def read(self, name: str, place: tuple[int, int, int]) -> bytes:
        number, group, row = place
        content = self._group(number, group)[row].as_py()
        if content is None:
            raise UnreadableError("it is empty")
        return bytes(content)

    def _group(self, number: int, group: int) -> Any:
        key = (number, group)
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key]
        with _open(self.shards[number]) as file:
            read = _pictures(file, group, _image_column(file, self.shards[number]))
        with self.lock:
            self.kept[key] = read
            while len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        return read


def scan(shard: Path, shown: str, number: int, part: str) -> Iterator[Entry]:
    """The pictures of a shard, which is called `shown` in their names.

    Raises UserError if it is no parquet file, or has no column of pictures.
    """
    with _open(shard) as file:
        column = _image_column(file, shard)
        labelled = LABEL in file.schema_arrow.names
        for group in range(file.num_row_groups):
            if file.metadata.row_group(group).total_byte_size > MOST_BYTES:
                raise UserError(f"{shard} has row groups of more than {MOST_BYTES >> 20} MiB: write smaller ones.")
            try:
                pictures = _pictures(file, group, column)
                labels = _column(file, group, LABEL).to_pylist() if labelled else None
            except UnreadableError as error:
                raise UserError(f"{shard} cannot be read as parquet ({error}): fetch it again.") from error
            for row, picture in enumerate(pictures):
                name = f"{shown}: row group {group}, row {row}"
                label = None if labels is None else labels[row]
                if labels is not None and not isinstance(label, int):
                    raise UserError(f"{name} has the label {label!r}: labels must be class numbers.")
                try:
                    header = read_header(io.BytesIO(picture.as_py() or b""), name)
                except UnreadableError as error:
                    yield Entry(name, part, (0, 0, 0), 0, 0, False, None, str(error))
                    continue
                yield Entry(name, part, (number, group, row), *header, label)


def _open(shard: Path) -> Any:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError("Parquet files are read by pyarrow: install it (pip install 'nextpixel[parquet]').") from None
    import pyarrow

    try:
        return parquet.ParquetFile(shard)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{shard} cannot be read as parquet ({str(error).splitlines()[0]}): fetch it again.") from error


def _image_column(file: Any, shard: Path) -> str:
    """Its path in the schema."""
    import pyarrow

    for name in IMAGE:
        if name in file.schema_arrow.names:
            kind = file.schema_arrow.field(name).type
            if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                return f"{name}.bytes"
            if pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
                return name
    raise UserError(f"{shard} has no column {' or '.join(IMAGE)} of encoded pictures.")


def _pictures(file: Any, group: int, column: str) -> Any:
    """The encoded pictures of a row group, one after another."""
    import pyarrow.compute

    found = _column(file, group, column)
    inside = pyarrow.compute.struct_field(found, "bytes") if column.endswith(".bytes") else found
    return inside.combine_chunks()


def _column(file: Any, group: int, column: str) -> Any:
    import pyarrow

    try:
        return file.read_row_group(group, columns=[column], use_threads=False).column(0)
    except (pyarrow.ArrowException, OSError) as error:
        raise UnreadableError(f"row group {group}: {str(error).splitlines()[0]}") from error
