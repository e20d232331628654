"""The folder a training run leaves: what was asked, checkpoints, the curve, pictures, and the model itself.

config.yaml        the command's data, model and training options, versions
checkpoints/       last.ckpt: everything needed to go on
model/             the saved model (averaged weights) with the best validation figure so far
metrics.jsonl      one line a logged step
samples/           picture grids made on the way
events.out.*       TensorBoard
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from nextpixel.errors import UserError
from nextpixel.version import __version__

FORMAT_VERSION = 1


class RunFolder:
    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.last = self.path / "checkpoints" / "last.ckpt"
        self.model = self.path / "model"
        self.metrics = self.path / "metrics.jsonl"
        self.samples = self.path / "samples"

    @classmethod
    def fresh(cls, wanted: str | Path | None, default: str) -> RunFolder:
        """A folder that no other run has used; a name that was asked for must be free."""
        if wanted is not None:
            folder = cls(wanted)
            if folder.config.exists() or folder.last.exists():
                raise UserError(
                    f"{wanted} already holds a run: go on with it (nextpixel train --resume {wanted}), "
                    "or name another folder."
                )
            return folder
        number, path = 1, Path("runs") / default
        while path.exists():
            number += 1
            path = Path("runs") / f"{default}-{number}"
        return cls(path)

    def create(self, config: dict[str, Any]) -> None:
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            self.samples.mkdir(exist_ok=True)
            about = {
                "format_version": FORMAT_VERSION,
                "nextpixel": __version__,
                "torch": str(torch.__version__),
                "python": platform.python_version(),
                "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            }
            self.config.write_text(yaml.safe_dump({**about, **config}, sort_keys=False, width=1000))
        except OSError as error:
            raise UserError(f"The run folder {self.path} cannot be written ({error.strerror or error}).") from error

    def read_config(self) -> dict[str, Any]:
        if not self.config.is_file():
            raise UserError(f"{self.path} is no run folder: it has no config.yaml.")
        try:
            config = yaml.safe_load(self.config.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{self.config} cannot be read: {error}") from error
        if not isinstance(config, dict) or config.get("format_version") != FORMAT_VERSION:
            raise UserError(f"{self.config} was not written by this version of nextpixel.")
        return config

    def log(self, values: dict[str, Any]) -> None:
        with open(self.metrics, "a") as file:
            file.write(json.dumps(values) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """The logged lines; a torn last line (the power went) is left out."""
        if not self.metrics.exists():
            return []
        lines = []
        for line in self.metrics.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return lines

    def forget_after(self, step: int) -> None:
        """Drop logged lines from beyond the checkpoint that a resumed run starts from."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        aside = self.metrics.with_suffix(".tmp")
        aside.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(aside, self.metrics)
