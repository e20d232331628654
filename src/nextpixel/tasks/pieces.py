"""Work over many images in numbered pieces, by one process or by all that torchrun started, that survives being killed.

Each piece's result is a file in a folder, written aside and renamed. A process does every `world`-th piece that is not
there yet, waits for those of the others, and merges all of them in order: no process talks to another one, and what a
killed one had done is there at the next start, with any number of processes. The folder says what the work is, of which
model and data; the results of other work are never mixed in.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from nextpixel import durable
from nextpixel.errors import UserError
from nextpixel.model import Model
from nextpixel.tasks.processes import Place, torchrun
from nextpixel.tasks.progress import LINE_EVERY, Steps
from nextpixel.version import __version__

WORK = "work.json"
LOOK_EVERY = 0.1  # seconds between looks for the pieces of other processes

Result = dict[str, Tensor]
"""What a piece gives: tensors by name."""


class Pieces:
    """The folder of one work. Without a folder everything is done here, and nothing is kept."""

    def __init__(self, folder: str | Path, about: Callable[[], dict[str, Any]]):
        """about: what the results depend on, as JSON values; only asked with a folder. UserError if the folder holds
        other work, or cannot be written."""
        self.folder = Path(folder) if folder else None
        self.place = (torchrun() if self.folder else None) or Place(0, 1, 1)
        if self.folder is not None:
            described = {**about(), "nextpixel": __version__}
            self.identity = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
            self._claim(self.folder, described)

    def own(self, count: int) -> range:
        """The numbers of the pieces, of `count`, that this process does."""
        return range(self.place.rank, count, self.place.world)

    def results(self, name: str, count: int, do: Callable[[int], Result], steps: Steps) -> Iterator[Result]:
        """The results of the pieces 0..count-1, in order; do(number) does one. name: of this part of the work.

        The tensors of a result that was kept are equal bit for bit to those that `do` gave. steps: says when this
        process only waits for others.
        """
        if self.folder is None:
            yield from map(do, range(count))
            return
        for number in self.own(count):
            if self._read(name, number) is None:
                self._write(name, number, do(number))
        for number in range(count):
            yield self._awaited(name, number, count, steps)

    def _claim(self, folder: Path, described: dict[str, Any]) -> None:
        path = folder / WORK
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                durable.write_text(path, json.dumps(described, indent=2) + "\n")
            found = json.loads(path.read_bytes())
        except OSError as error:
            raise UserError(f"The work folder {folder} cannot be used ({error.strerror or error}).") from error
        except ValueError:
            found = {}
        if not isinstance(found, dict) or found != json.loads(json.dumps(described)):
            known = found if isinstance(found, dict) else {}
            other = [name for name in {**described, **known} if known.get(name) != described.get(name)]
            raise UserError(
                f"{folder} holds the pieces of other work ({', '.join(other)} differ): name another folder, or remove "
                "this one."
            )

    def _path(self, name: str, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}-{number:06d}.safetensors"

    def _write(self, name: str, number: int, result: Result) -> None:
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in result.items()}
        content = safetensors.torch.save(tensors, metadata={"work": self.identity})
        try:
            durable.write_bytes(self._path(name, number), content)
        except OSError as error:
            raise UserError(
                f"A piece could not be written to {self.folder} ({error.strerror or error}); those before are whole: "
                "free some space, then start the same command again."
            ) from error

    def _read(self, name: str, number: int) -> Result | None:
        """A piece's result; None if it is not there, or no whole result of this work."""
        try:
            with safetensors.safe_open(self._path(name, number), "pt") as file:
                if (file.metadata() or {}).get("work") != self.identity:
                    return None
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dictionary
        except (OSError, safetensors.SafetensorError):
            return None

    def _awaited(self, name: str, number: int, count: int, steps: Steps) -> Result:
        spoke = time.monotonic()
        while (result := self._read(name, number)) is None:
            time.sleep(LOOK_EVERY)
            if time.monotonic() - spoke > LINE_EVERY:
                spoke = time.monotonic()
                left = sum(not self._path(name, other).exists() for other in range(number, count))
                steps.say(f"{steps.what}: waiting for {left} pieces of other processes")
        return result


def joined(results: list[Result]) -> Result:
    """Results of several things [n, ...] as one."""
    return {name: torch.cat([result[name] for result in results]) for name in results[0]}


def fingerprint(model: Model) -> str:
    """SHA-256 of what a model is and of its weights, in hexadecimal digits."""
    described = [model.made_with(), [dataclasses.asdict(order) for order in model.orders]]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.stored().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
