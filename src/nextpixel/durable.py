"""Writing that outlives the process, the power and a full disk: what has a name is whole, the old or the new."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

AT_FDCWD, EXCHANGE = -100, 2  # of renameat2(2); RENAME_SWAP of renamex_np(2) is 2 as well


def flush(path: Path) -> None:
    """Bring a file to the disk; a folder: the names in it, where the system has that."""
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        if path.is_dir():  # Windows opens no folders
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put(aside: Path, path: Path) -> None:
    """Give the finished file `aside` the name of `path`, in one go, after its content is on the disk."""
    flush(aside)
    os.replace(aside, path)
    flush(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to in the block. What was written there gets the name of `path`, whole; after an error it goes,
    and what was at `path` is left as it was. What is no ordinary file (a pipe, /dev/stdout) is written itself."""
    if path.exists() and not path.is_file():
        yield path
        return
    path = Path(os.path.realpath(path))  # a link stays one
    aside = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield aside
        if path.exists():
            shutil.copymode(path, aside)  # what only its owner may read stays so
        put(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the content of a file, whole or not at all."""
    with replacing(path) as aside:
        aside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """The same for text, in UTF-8."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one go; False where the system or its file system cannot."""
    first, second = os.fsencode(one), os.fsencode(other)
    try:
        system = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            status = system.renamex_np(first, second, EXCHANGE)
        else:
            status = system.renameat2(AT_FDCWD, first, AT_FDCWD, second, EXCHANGE)
    except (OSError, AttributeError, TypeError):  # no such function, or no C library to ask
        return False
    return bool(status == 0)
