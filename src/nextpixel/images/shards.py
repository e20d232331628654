"""Sharded sets: parquet files in the layout of the Hugging Face hub, or WebDataset tar files.

The shards lie in the folder itself, or in its folder ``data`` or folders named as splits. Where every shard's name or
folder says train, valid (val, validation) or test, at least train among them, these are the splits; otherwise all
shards together are cut. Shards are taken in the order of their names.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

from nextpixel.errors import UserError
from nextpixel.images import parquet_shards, tar_shards
from nextpixel.images.encoded import lazy_source
from nextpixel.images.index import Entry, Stamp, find_index, make_index
from nextpixel.images.resize import Fit
from nextpixel.images.source import LazySource

PARTS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
KINDS: dict[str, ModuleType] = {".parquet": parquet_shards, ".tar": tar_shards}


def open_shards(path: Path, size: tuple[int, int] | None, fit: Fit) -> LazySource | None:
    """The shards of a folder (or one shard) as a source, or None if there are none.

    Raises UserError for shards of both kinds, for damaged ones, and as ``read_folder``.
    """
    shards = [path] if path.is_file() else _find(path)
    if not shards:
        return None
    kinds = {shard.suffix.lower() for shard in shards}
    if len(kinds) > 1:
        raise UserError(f"{path} holds both .parquet and .tar files: put one kind into a folder of its own.")
    kind = KINDS[kinds.pop()]
    now: list[list[str | int]] = [[str(shard), shard.stat().st_size, shard.stat().st_mtime_ns] for shard in shards]
    index = find_index(path, lambda stamp: bool(stamp["shards"] == now))
    if index is None:
        index = make_index(path, partial(_scan, kind, path, shards, now))
    if index.skipped:
        warnings.warn(
            f"{len(index.skipped)} of {len(index.skipped) + len(index.ends)} pictures in {path} were skipped: "
            f"{'; '.join(index.skipped[:3])}",
            stacklevel=4,
        )
    where = "" if path.is_file() else f"{path}/"
    return lazy_source(index, kind.Shards(shards), path, where, size, fit)


def _find(folder: Path) -> list[Path]:
    below = [folder, folder / "data", *(folder / name for name in PARTS)]
    return sorted(
        path
        for place in below
        if place.is_dir()
        for path in place.iterdir()
        if path.suffix.lower() in KINDS and path.is_file() and not path.name.startswith(".")
    )


def _part(shard: Path, root: Path) -> str:
    """The split that a shard's folder or the first word of its name says, or ""."""
    word = shard.parent.name if shard.parent != root else ""
    if word not in PARTS:
        word = re.split(r"[^a-z]", shard.name.lower(), maxsplit=1)[0]
    return PARTS.get(word, "")


def _scan(
    kind: ModuleType, root: Path, shards: list[Path], now: list[list[str | int]], stamp: Stamp
) -> Iterator[Entry]:
    stamp["shards"] = now
    parts = [_part(shard, root) for shard in shards]
    if "train" not in parts or "" in parts:
        parts = ["all"] * len(shards)
    for part in dict.fromkeys(parts):  # part by part, each in the order of its shards
        readable = found = 0
        for number, shard in enumerate(shards):
            if parts[number] == part:
                shown = shard.name if shard == root else shard.relative_to(root).as_posix()
                for entry in kind.scan(shard, shown, number, part):
                    found += 1
                    readable += not entry.skipped
                    yield entry
        if found and not readable and part != "all":
            raise UserError(f"None of the {part} pictures in {root} can be read: replace or remove these shards.")
