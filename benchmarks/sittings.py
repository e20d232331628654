"""Long trainings in several sittings: one process at each, and the CPU time of all sittings together."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nextpixel import durable


class Notes:
    """What a training has cost so far, in a file beside its run, and whatever else is to outlive a sitting."""

    def __init__(self, path: Path):
        self.path = path
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.values = {"cpu_seconds": 0.0, "epochs": 0, **self.values}

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.values[name] = value

    def save(self) -> None:
        durable.write_text(self.path, json.dumps(self.values))

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Add the CPU time of what is done inside, also where it is interrupted; only then is it saved at once."""
        began = time.process_time()
        try:
            yield
        except BaseException:
            self.values["cpu_seconds"] += time.process_time() - began
            self.save()
            raise
        self.values["cpu_seconds"] += time.process_time() - began


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Whether this process has the job of this lock file, for as long as it is inside."""
    with open(path, "w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
