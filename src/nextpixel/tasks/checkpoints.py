"""The checkpoints of a run: the last few, each recognised by its content, so that a damaged one is never gone on from.

A checkpoint's name ends with the first digits of the SHA-256 of its bytes (as torch.hub names its files), so one rename
brings both the content and what it is compared with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nextpixel import durable
from nextpixel.errors import UserError, warn

NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.ckpt")
BEFORE = "last.ckpt"  # the one checkpoint, without a sum, of older runs


class Checkpoints:
    def __init__(self, folder: Path):
        self.folder = folder
        self.damaged: list[Path] = []  # met on the way to a whole one; they go when the next one is written

    def files(self) -> list[Path]:
        """Newest first, by the step in the name."""
        if not self.folder.is_dir():
            return []
        named = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        named.sort(key=_step_of, reverse=True)
        before = self.folder / BEFORE
        return [*named, *([before] if before.is_file() else [])]

    def save(self, step: int, keep: int, write: Callable[[Path], Any]) -> Path:
        """Let `write` write a file, give it its name, and remove all but the newest `keep`. OSError or RuntimeError
        leaves what was there as it was."""
        aside = self.folder / "writing.tmp"  # also what a killed process may have left
        try:
            write(aside)
            path = self.folder / f"step-{step:08d}-{_sum(aside)}.ckpt"
            durable.put(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        whole = [other for other in self.files() if other not in self.damaged and _step_of(other) <= step]
        for other in self.files():
            if other not in whole[:keep] and other != path:
                other.unlink(missing_ok=True)
        self.damaged = []
        return path

    def newest(self) -> tuple[Path, dict[str, Any]]:
        """The newest whole checkpoint and what is in it; warns of damaged ones. UserError if there is none."""
        files = self.files()
        if not files:
            raise UserError(f"{self.folder.parent} holds no checkpoint to resume from: start a new run.")
        for path in files:
            why = _fault(path)
            state, why = (None, why) if why else _read(path)
            if state is not None:
                if self.damaged:
                    names = ", ".join(other.name for other in self.damaged)
                    warn(
                        f"The checkpoint {names} is damaged: going on from the one before, {path.name} (step "
                        f"{state['global_step']}), in {self.folder}."
                    )
                return path, state
            self.damaged.append(path)
        names = ", ".join(path.name for path in files)
        raise UserError(
            f"No checkpoint in {self.folder} is whole ({names}: {why}): the run is damaged and cannot go on; start a "
            "new one."
        )


def _step_of(path: Path) -> int:
    named = NAME.fullmatch(path.name)
    return int(named[1]) if named else -1


def _sum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _fault(path: Path) -> str:
    """Why the bytes are not those that were written; "" if they are, or if nobody knows."""
    named = NAME.fullmatch(path.name)
    try:
        return "it is not what was written" if named and _sum(path) != named[2] else ""
    except OSError as error:
        return f"it cannot be read, {error.strerror or error}"


def _read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The content, or why there is none."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # damaged files raise nearly anything
        return None, "it cannot be read"
    if not isinstance(state, dict) or not {"global_step", "state_dict"} <= state.keys():
        return None, "it is no checkpoint of a training run"
    if _step_of(path) not in (-1, state["global_step"]):
        return None, f"it is of step {state['global_step']}"
    return state, ""
