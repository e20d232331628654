"""The jobs of the queue in their order, and the process that does them one after another.

python -m benchmarks.gpu_jobs NAME... (called by benchmarks.gpu_queue, with a Setting as JSON on standard input)

A job that fails is recorded in its card, and the process ends with FAILED: after an error of a GPU, or of memory,
nothing else can be trusted in it. The queue begins another one for the jobs that are left.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from benchmarks import gpu_checks
from benchmarks.gpu_recipes import RECIPES
from benchmarks.gpu_setting import Setting, Unfinished
from benchmarks.gpu_training import loaded, train
from benchmarks.measure import machine
from nextpixel import durable
from nextpixel.version import __version__

FAILED = 3  # exit status
PATH = re.compile(r"(?<![\w.])/(?:[\w.+\-@]+/)+([\w.+\-@]*)")  # absolute, of two parts and more


@dataclasses.dataclass(frozen=True)
class Job:
    """least: seconds of a call without which it is not begun; data: the named set that it reads, or none."""

    run: Callable[[Setting], dict[str, Any]]
    least: float
    data: str | None = None


def _training(name: str) -> Job:
    recipe = RECIPES[name]
    least = 150.0 if recipe.may_compile else 45.0  # a compilation takes a minute or so
    return Job(lambda setting: train(recipe, setting, name), least, recipe.data)


JOBS: dict[str, Job] = {
    "tests": Job(gpu_checks.tests, 90.0),
    "codec": Job(gpu_checks.codec, 60.0),
    "speed": Job(gpu_checks.speed, 90.0),
    **{name: _training(name) for name in RECIPES},
}


def do(name: str, setting: Setting) -> str:
    """Do the job and write its card; its status: done, stopped (to go on in a later call) or failed."""
    job, began = JOBS[name], time.monotonic()
    try:
        values, status = job.run(setting), "done"
    except Unfinished as stop:
        values, status = stop.values, "stopped"
    except Exception as error:
        traceback.print_exc()
        said = (str(error).strip().splitlines() or [""])[0][:500]
        values, status = {"error": type(error).__name__, "said": said, "where": _where(error)}, "failed"
    write_card(setting, name, status, {**values, "seconds_in_this_call": time.monotonic() - began})
    return status


def write_card(setting: Setting, name: str, status: str, values: dict[str, Any]) -> None:
    card = {
        "job": name,
        "status": status,
        "toy": setting.toy,
        "device": setting.device,
        "nextpixel": __version__,
        **values,
        "machine": machine(setting.device),
    }
    path = setting.runs / "cards" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, json.dumps(without_paths(card), indent=1) + "\n")


def without_paths(value: Any) -> Any:
    """The same with the last part only of every absolute path in a text: a card may be published."""
    if isinstance(value, dict):
        return {str(key): without_paths(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(one) for one in value]
    return PATH.sub(r"\1", value) if isinstance(value, str) else value


def _where(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def work_through(setting: Setting, names: list[str]) -> bool:
    """Do the jobs for which there are time and data; whether one failed, after which none is begun."""
    running = setting.runs / "running.txt"
    setting.runs.mkdir(parents=True, exist_ok=True)
    for name in names:
        job = JOBS[name]
        if setting.left() < setting.reserve(job.least):
            continue  # a shorter one may still fit
        try:
            _ = job.data and loaded(job.data, setting)
        except npx.UserError as error:
            print(f"{name}: waits for its data ({error})", file=sys.stderr, flush=True)
            continue
        running.write_text(name)
        print(f"{name}: begun, {setting.left():.0f} s left", file=sys.stderr, flush=True)
        status = do(name, setting)
        running.unlink()
        print(f"{name}: {status}", file=sys.stderr, flush=True)
        if status == "failed":
            return True
    return False


def main() -> None:
    given = json.loads(sys.stdin.read())
    setting = Setting(**{**given, "runs": Path(given["runs"])})
    if setting.toy:
        torch.set_num_threads(1)
    sys.exit(FAILED if work_through(setting, sys.argv[1:]) else 0)


if __name__ == "__main__":
    main()
