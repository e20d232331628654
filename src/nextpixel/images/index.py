"""What lies where in a large set of encoded pictures: made once, kept in the cache, mapped into memory.

An index is a folder of plain arrays and a JSON file (docs/formats.md) in `indexes` of the cache. It belongs to one
folder of pictures or shards and keeps a *stamp*, which says how that looked when the index was made: where it looks
otherwise, a new index is made. It is written aside, renamed when it is whole, and never changed afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nextpixel.cache import cache_folder
from nextpixel.errors import UserError
from nextpixel.images.source import Array

VERSION = 1
ARRAYS = ("names", "ends", "places", "sizes", "labels")
META = "index.json"

Stamp = dict[str, Any]


class Entry(NamedTuple):
    """One picture that was found, or `skipped`: why it was left out.

    name: for people, and for finding it. place: three numbers that say where its bytes are, as the reader of its kind
    wants them. label: a class number, the name of a class, or None.
    """

    name: str
    part: str
    place: tuple[int, int, int]
    height: int
    width: int
    colour: bool
    label: int | str | None
    skipped: str = ""


@dataclass(frozen=True)
class Index:
    """names: bytes of all names, ends: where each ends [N]; places [N,3]; sizes [N,2], (H,W); labels [N], -1 where
    there is none. parts: part -> (start, stop). skipped: names of what was left out, with the reason."""

    names: Array
    ends: Array
    places: Array
    sizes: Array
    labels: Array
    parts: dict[str, tuple[int, int]]
    colour: bool
    skipped: list[str]

    def name(self, row: int) -> str:
        start = int(self.ends[row - 1]) if row else 0
        return os.fsdecode(self.names[start : int(self.ends[row])].tobytes())


def find_index(root: Path, current: Callable[[Stamp], bool]) -> Index | None:
    """The index of a folder in the cache, unless there is none or it is out of date; `current`: whether the folder
    still looks as a stamp says, found out cheaply."""
    for where in _folder_of_indexes().glob(f"{_key(root)}-*"):
        try:
            meta = json.loads((where / META).read_text(encoding="utf-8"))
            if meta["version"] == VERSION and current(meta["stamp"]):
                return _open(where)
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            continue  # damaged, or of another version: made anew
    return None


def make_index(root: Path, scan: Callable[[Stamp], Iterator[Entry]]) -> Index:
    """Go through a folder and keep its index.

    scan: yields the pictures, part by part, and writes into the stamp how the folder looks.
    Raises UserError if nothing readable was found or the cache cannot be written.
    """
    stamp: Stamp = {}
    return _open(_write(root, stamp, scan(stamp)))


def _open(where: Path) -> Index:
    meta = json.loads((where / META).read_text(encoding="utf-8"))
    arrays = {name: np.load(where / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
    parts = {key: (int(start), int(stop)) for key, (start, stop) in meta["parts"].items()}
    return Index(**arrays, parts=parts, colour=bool(meta["colour"]), skipped=list(meta["skipped"]))


def _folder_of_indexes() -> Path:
    return cache_folder() / "indexes"


def _key(root: Path) -> str:
    return hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]


def _write(root: Path, stamp: Stamp, entries: Iterator[Entry]) -> Path:
    names, ends, places, sizes = bytearray(), array("q"), array("q"), array("i")
    labels: list[int | str | None] = []
    skipped: list[str] = []
    starts: dict[str, int] = {}
    colour = False
    for entry in entries:
        if entry.skipped:
            skipped.append(f"{entry.name} ({entry.skipped})")
            continue
        starts.setdefault(entry.part, len(ends))
        names += os.fsencode(entry.name)
        ends.append(len(names))
        places.extend(entry.place)
        sizes.extend((entry.height, entry.width))
        labels.append(entry.label)
        colour = colour or entry.colour
    if not ends:
        first = f"; the first is {skipped[0]}" if skipped else ""
        raise UserError(f"None of the {len(skipped)} pictures in {root} can be read{first}.")
    stops = [*list(starts.values())[1:], len(ends)]
    meta = {
        "version": VERSION,
        "root": str(root.resolve()),
        "stamp": stamp,
        "parts": {key: [start, stop] for (key, start), stop in zip(starts.items(), stops, strict=True)},
        "colour": colour,
        "skipped": skipped,
    }
    found: dict[str, Array] = {
        "names": np.frombuffer(names, np.uint8),
        "ends": np.frombuffer(ends, np.int64),
        "places": np.frombuffer(places, np.int64).reshape(-1, 3),
        "sizes": np.frombuffer(sizes, np.int32).reshape(-1, 2),
        "labels": _numbers(labels),
    }
    folder = _folder_of_indexes()
    where = folder / f"{_key(root)}-{secrets.token_hex(8)}"  # a name of its own: several processes may make one at once
    try:
        folder.mkdir(parents=True, exist_ok=True)
        older = list(folder.glob(f"{_key(root)}-*"))
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as aside:
            new = Path(aside) / "index"
            new.mkdir()
            for name, values in found.items():
                np.save(new / f"{name}.npy", values)
            (new / META).write_text(json.dumps(meta), encoding="utf-8")
            new.rename(where)
    except OSError as error:
        raise UserError(
            f"The index of {root} cannot be written to {folder} ({error.strerror}): "
            "set $NEXTPIXEL_CACHE to a folder with room."
        ) from error
    for old in older:  # whoever has one of these open keeps what is mapped
        shutil.rmtree(old, ignore_errors=True)
    return where


def _numbers(labels: list[int | str | None]) -> Array:
    """Class numbers; names of classes get theirs in sorted order, None gets -1."""
    order = sorted({label for label in labels if isinstance(label, str)})
    number = {name: at for at, name in enumerate(order)}
    found = (-1 if one is None else number[one] if isinstance(one, str) else one for one in labels)
    return np.fromiter(found, np.int64, len(labels))
