"""What the training of a recipe leaves beside a run's other files: the sittings it took, and a card with its figures.

sittings.jsonl     a line when a sitting of the training begins, and one with its time when it ends
cards.jsonl        one line of JSON a card
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nextpixel.errors import UserError
from nextpixel.model import Model
from nextpixel.tasks.expected import compare_curve, compare_test
from nextpixel.tasks.looked_once import now
from nextpixel.tasks.machine import machine
from nextpixel.tasks.nearest import Closeness
from nextpixel.tasks.run_folder import RunFolder, read_lines
from nextpixel.version import __version__

CARDS = "cards.jsonl"
SITTINGS = "sittings.jsonl"


@contextlib.contextmanager
def sitting(folder: RunFolder) -> Iterator[None]:
    """Note the time that a part of the training takes, however it ends; one that was killed has a beginning only."""
    if not folder.writes:
        yield
        return
    path, wall, cpu = folder.path / SITTINGS, time.monotonic(), time.process_time()
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The run folder {folder.path} cannot be written ({error.strerror or error}).") from error
    append(path, {"began": now()})
    try:
        yield
    finally:
        spent = {"seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}
        append(path, {"ended": now(), **spent})


def cost(folder: RunFolder) -> dict[str, Any]:
    """Of all sittings: how many began, how many ended (the time of the others is unknown), their time in seconds."""
    lines = read_lines(folder.path / SITTINGS)
    ended = [line for line in lines if "ended" in line]
    return {
        "sittings": sum("began" in line for line in lines),
        "ended": len(ended),
        "seconds": sum(line["seconds"] for line in ended),
        "cpu_seconds": sum(line["cpu_seconds"] for line in ended),
    }


def make_card(folder: RunFolder, model: Model, test: dict[str, Any], near: Closeness) -> dict[str, Any]:
    """The card of a finished training. model: the one that validation chose; test: what `scored_once` gave; near: how
    near a sheet of samples is to the training images."""
    config = folder.read_config()
    expected, curve = folder.expected(), folder.valid_curve()
    agrees, sentence = compare_test(expected, test)
    return {
        "recipe": config["recipe"]["name"],
        "settings": config["recipe"]["settings"],
        "data": config["data"],
        "train_sha256": config.get("train_sha256"),
        "model": config["model"],
        "parameters": model.parameter_count,
        "training": config["train"],
        "chosen": {**model.card["training"], "by": "validation images"},
        "valid": curve,
        "test": {name: value for name, value in test.items() if name not in ("looks", "weights", "seconds")},
        "test_scored": test["looks"],
        "weights_sha256": test["weights"],
        "expected": None if expected is None else expected.to_dict(),
        "agrees": agrees,
        "agreement": sentence,
        "curve_agreement": compare_curve(expected, curve),
        "nearest": {
            "samples": near.median,
            "test_images": near.test_median,
            "copies": near.copies,
            "of": len(near.pictures.indices),
        },
        "cost": cost(folder),
        "machine": machine(str(next(model.parameters()).device)),
        "nextpixel": __version__,
        "written": now(),
    }


def last_card(folder: RunFolder) -> dict[str, Any] | None:
    """The newest card of a run, None if there is none."""
    cards = [line for line in read_lines(folder.path / CARDS) if "recipe" in line and "test" in line]
    return cards[-1] if cards else None


def append(path: Path, values: dict[str, Any]) -> None:
    """Add a line of JSON to a file, and bring it to the disk. UserError if it cannot be written."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error
