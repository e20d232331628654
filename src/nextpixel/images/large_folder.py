"""A folder of pictures that is too large for memory: indexed once, read file by file.

Splits, classes and order are those of ``folder``. Making the index reads the headers of all files, so a file that is
damaged further on is found only when it is decoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from nextpixel.errors import UserError
from nextpixel.images.decode import Header, UnreadableError, read_header
from nextpixel.images.encoded import lazy_source
from nextpixel.images.folder import by_split, class_names, walk
from nextpixel.images.index import Entry, Index, Stamp, find_index, make_index
from nextpixel.images.resize import Fit
from nextpixel.images.source import LazySource
from nextpixel.images.store import is_lazy


def open_large_folder(folder: Path, size: tuple[int, int] | None, fit: Fit, lazy: bool | None) -> LazySource | None:
    """The folder as a source, or None if `lazy` (as of ``dataset``) says that it is to be read at once.

    Raises UserError as ``read_folder``.
    """
    if lazy is False:
        return None
    index = find_index(folder, lambda stamp: _looks_as(folder, stamp))
    if index is None:
        if lazy is None and not is_lazy(_estimate(folder, size), lazy):
            return None
        index = make_index(folder, lambda stamp: _scan(folder, stamp))
    elif lazy is None and not is_lazy(_bytes(index, size), lazy):
        return None
    if index.skipped:
        shown = "; ".join(index.skipped[:3]) + ("; ..." if len(index.skipped) > 3 else "")
        count = len(index.skipped) + len(index.ends)
        warnings.warn(f"{len(index.skipped)} of {count} pictures in {folder} were skipped: {shown}", stacklevel=4)
    return lazy_source(index, _Files(folder), folder, f"{folder}/", size, fit)


class _Files:
    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, name: str, place: tuple[int, int, int]) -> bytes:
        return (self.folder / name).read_bytes()


def _scan(folder: Path, stamp: Stamp) -> Iterator[Entry]:
    times = stamp["folders"] = dict[str, int]()
    files = list(walk(folder, lambda name: times.update({name: (folder / name).stat().st_mtime_ns})))
    if not files:
        raise UserError(f"{folder} holds no pictures: give the folder they are in.")
    for part, (base, names) in by_split(folder, files).items():
        classes, readable = class_names(base, names), 0
        for at, name in enumerate(names):
            try:
                header = _header(folder / name)
            except UnreadableError as error:
                yield Entry(f"{folder}/{name}", part, (0, 0, 0), 0, 0, False, None, str(error))
                continue
            readable += 1
            yield Entry(name, part, (0, 0, 0), *header, None if classes is None else classes[at])
        if not readable and part != "all":
            raise UserError(f"None of the {part} pictures in {folder} can be read: replace or remove that folder.")


def _header(path: Path) -> Header:
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableError(str(error)) from error
    with file:
        return read_header(file, str(path))


def _looks_as(folder: Path, stamp: Stamp) -> bool:
    """Whether nothing was added to, removed from or renamed in any of the folders."""
    return all((folder / name).stat().st_mtime_ns == then for name, then in stamp["folders"].items())


def _estimate(folder: Path, size: tuple[int, int] | None) -> int:
    """Bytes of all pictures if all are like the first that can be read."""
    files = list(walk(folder))
    for name in files:
        try:
            height, width, colour = _header(folder / name)
        except UnreadableError:
            continue
        height, width = size or (height, width)
        return len(files) * height * width * (3 if colour else 1)
    return 0


def _bytes(index: Index, size: tuple[int, int] | None) -> int:
    height, width = size or index.sizes.max(axis=0).tolist()
    return len(index.ends) * height * width * (3 if index.colour else 1)
