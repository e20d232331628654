"""The folder a training run leaves: what was asked, checkpoints, the curve, pictures, and the model itself.

config.yaml        the command's data, model and training options, versions
checkpoints/       step-STEP-SUM.ckpt: everything needed to go on, of the last few times
model/             the saved model (averaged weights) with the best validation figure so far
metrics.jsonl      one line a logged step
profile/           where the time goes, if asked
samples/           made on the way: grids of samples, surprise maps of validation pictures
curve.png          bits/dim against steps so far
events.out.*       TensorBoard
test.json, sittings.jsonl, cards.jsonl: of a recipe, see looked_once and recipe_card
"""

from __future__ import annotations

import contextlib
import errno
import json
import platform
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from nextpixel import durable
from nextpixel.errors import UserError
from nextpixel.tasks.checkpoints import Checkpoints
from nextpixel.tasks.expected import Expected, expected_from
from nextpixel.tasks.processes import first_process
from nextpixel.version import __version__

FORMAT_VERSION = 1


class RunFolder:
    """Of several processes that train together only the first one writes; the others' methods that write do nothing."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.writes = first_process()
        self.config = self.path / "config.yaml"
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.model = self.path / "model"
        self.metrics = self.path / "metrics.jsonl"
        self.samples = self.path / "samples"
        self.profile = self.path / "profile"

    @classmethod
    def fresh(cls, wanted: str | Path | None, default: str) -> RunFolder:
        """A folder that no other run has used; a name that was asked for must be free."""
        if not first_process():
            return cls(wanted or Path("runs") / default)
        if wanted is not None:
            folder = cls(wanted)
            if folder.began():
                raise UserError(
                    f"{wanted} already holds a run: go on with it (nextpixel train --resume {shlex.quote(str(wanted))})"
                    ", or name another folder."
                )
            return folder
        number, path = 1, Path("runs") / default
        while not _made(path):
            number += 1
            path = Path("runs") / f"{default}-{number}"
        return cls(path)

    def began(self) -> bool:
        """Whether there is anything to lose; a run that failed before its first step leaves its folder to the next."""
        return bool(self.checkpoints.files()) or self.metrics.exists() or self.model.exists()

    def hold(self) -> None:
        """Keep other processes from writing here as long as this object lives (where the system has such locks)."""
        if not self.writes:
            return
        try:
            import fcntl
        except ImportError:  # Windows
            return
        self.checkpoints.folder.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.checkpoints.folder / ".lock", "w")  # noqa: SIM115 - held, not closed
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(
                    f"Another process is training in {self.path}: wait for it, or name another folder."
                ) from error

    def create(self, config: dict[str, Any]) -> None:
        if not self.writes:
            return
        try:
            self.hold()
            self.samples.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"The run folder {self.path} cannot be written ({error.strerror or error}).") from error
        about = {
            "format_version": FORMAT_VERSION,
            "nextpixel": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        }
        self._write_config({**about, **config})

    def _write_config(self, config: dict[str, Any]) -> None:
        try:
            durable.write_text(self.config, yaml.safe_dump(config, sort_keys=False, width=1000))
        except OSError as error:
            raise UserError(f"The run folder {self.path} cannot be written ({error.strerror or error}).") from error

    def read_config(self) -> dict[str, Any]:
        if not self.config.is_file():
            raise UserError(f"{self.path} is no run folder: it has no config.yaml.")
        try:
            config = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        # YAML that names other types than it holds raises nearly anything.
        except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"{self.config} is damaged: it is not YAML ({str(error).splitlines()[0]}).") from error
        if not isinstance(config, dict) or config.get("format_version") != FORMAT_VERSION:
            raise UserError(f"{self.config} is damaged, or was not written by this version of nextpixel.")
        for part in ("data", "model", "train"):
            if not isinstance(config.get(part), dict):
                raise UserError(f"{self.config} is damaged: the part {part!r} is missing.")
        return config

    def lengthen(self, epochs: int) -> None:
        """Record that the run has more epochs now: it goes on to the last of them however often it is resumed."""
        if self.writes:
            config = self.read_config()
            first = {"first_epochs": self.first_epochs()}
            self._write_config({**config, **first, "train": {**config["train"], "epochs": epochs}})

    def first_epochs(self) -> int:
        """How many epochs the run began with, from which the length of its warm-up follows."""
        config = self.read_config()
        return int(config.get("first_epochs", config["train"]["epochs"]))

    def to_go_on(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest whole checkpoint and its content; None for a run that was stopped before it wrote the first one,
        which is before its first step. UserError if there were checkpoints, and none is left or whole."""
        return self.checkpoints.newest() if self.began() else None

    def tidy(self) -> None:
        """Remove what a killed process was in the middle of writing; only for who holds the folder."""
        if not self.writes:
            return
        for aside in self.path.glob(f".{self.model.name}-*"):
            shutil.rmtree(aside, ignore_errors=True)
        for aside in (*self.path.glob(".*.tmp"), *self.checkpoints.folder.glob("*.tmp")):
            aside.unlink(missing_ok=True)

    def log(self, values: dict[str, Any]) -> None:
        if not self.writes:
            return
        with open(self.metrics, "a") as file:
            file.write(json.dumps(values) + "\n")

    def flush_metrics(self) -> None:
        if self.metrics.exists():
            durable.flush(self.metrics)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The logged lines; torn ones (the power went) are left out."""
        return [line for line in read_lines(self.metrics) if isinstance(line.get("step"), int)]

    def valid_curve(self) -> dict[int, float]:
        """Bits/dim of the validation images by step."""
        return {line["step"]: line["valid"] for line in self.read_metrics() if "valid" in line}

    def expected(self) -> Expected | None:
        """What the recipe that the run follows is expected to give; None without a recipe, or where nobody measured
        it, or where there is no run yet."""
        if not self.config.is_file():
            return None
        return expected_from(self.read_config().get("expected"), str(self.config))

    def expected_curve(self) -> dict[int, float]:
        """The recipe's validation bits/dim by step; empty where there is none."""
        expected = self.expected()
        return {} if expected is None else expected.valid

    def how_to_go_on(self) -> str:
        """The command that goes on with this run."""
        recipe, path = self.read_config().get("recipe"), shlex.quote(str(self.path))
        if isinstance(recipe, dict) and "name" in recipe:
            return f"nextpixel reproduce {shlex.quote(str(recipe['name']))} --run {path}"
        return f"nextpixel train --resume {path}"

    def forget_after(self, step: int) -> None:
        """Drop logged lines from beyond the checkpoint that a resumed run starts from."""
        if not self.writes:
            return
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        durable.write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; none if it is not there. Torn lines (the power went) are left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            values = json.loads(line)
            if isinstance(values, dict):
                found.append(values)
    return found


def _made(path: Path) -> bool:
    """Whether this process made the folder: of two runs that start at once, only one does."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(f"The run folder {path} cannot be written ({error.strerror or error}).") from error
    return True
