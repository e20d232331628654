"""Timing and machine facts shared by the benchmarks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nextpixel.tasks.machine import machine

__all__ = ["RESULTS", "interleaved", "machine", "matrix_rate", "named", "save", "seconds", "settle", "settled"]

RESULTS = Path(__file__).parent / "results"


def settle(device: str) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def settled(run: Callable[[], object], device: str) -> Callable[[], None]:
    """The same, and then wait for the device: what is timed."""

    def both() -> None:
        run()
        settle(device)

    return both


def named(program: str, device: str) -> str:
    """Under which the results of a device are saved: those of the CPU by the program's name alone."""
    return program if device == "cpu" else f"{program}-{torch.device(device).type}"


def seconds(run: Callable[[], object], repeats: int) -> float:
    """The best of several runs, after one that does not count."""
    run()
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


def interleaved(
    runs: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Best times of several programs run in turn, so that a busy spell of the machine meets all of them."""
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            began = clock()
            run()
            best[name] = min(best[name], clock() - began)
    return best


def matrix_rate(repeats: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Multiplications and additions a second in a product of large matrices."""
    side = 2048 if device == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds(settled(lambda: a @ b, device), repeats)


def save(name: str, values: dict[str, Any], folder: Path = RESULTS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(values, indent=2) + "\n")
    print(f"written: {f'benchmarks/results/{name}.json' if folder == RESULTS else folder / f'{name}.json'}")
