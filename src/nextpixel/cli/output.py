"""Results on standard output: tables for people, JSON for machines."""

from __future__ import annotations

import errno
import json
import tempfile
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from nextpixel import durable
from nextpixel.errors import UserError

STDOUT = Path("-")  # what --json calls standard output
_for_json: ContextVar[bool] = ContextVar("for_json", default=False)  # whether standard output is for JSON alone


def console() -> Console:
    stderr = _for_json.get()
    # Not a terminal: wide enough that nothing is folded or cut.
    probe = Console(markup=False, stderr=stderr)  # brackets in names of files are no markup
    return probe if probe.is_terminal else Console(width=160, markup=False, stderr=stderr)


def table(title: str, rows: list[tuple[Any, ...]], columns: tuple[str, ...] = ("", "")) -> None:
    shown = Table(title=title, title_justify="left", show_header=any(columns))
    for index, column in enumerate(columns):
        shown.add_column(column, justify="left" if index == 0 or not _numbers(rows, index) else "right")
    for row in rows:
        shown.add_row(*[str(cell) for cell in row])
    console().print(shown)


def with_error(value: float, error: float | None, digits: int) -> str:
    """A figure with its standard error, where there is one."""
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def writable(path: Path | None) -> Path | None:
    """Callback of options that name a file to write: a name that cannot be written is refused before the work."""
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if path.exists() and not path.is_file():  # a pipe, /dev/stdout
            return path
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error
    return path


def json_file(path: Path | None) -> Path | None:
    """Callback of --json: a file that can be written, or "-", which leaves standard output to the JSON: tables then go
    to standard error."""
    _for_json.set(path == STDOUT)
    return path if path == STDOUT else writable(path)


def write_json(path: Path | None, values: dict[str, Any]) -> None:
    if path is None:
        return
    if path == STDOUT:
        typer.echo(json.dumps(values, indent=2))
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_text(path, json.dumps(values, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error


def _numbers(rows: list[tuple[Any, ...]], index: int) -> bool:
    return all(str(row[index]).lstrip("-")[:1].isdigit() for row in rows)
