"""Timing and machine facts shared by the benchmarks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nextpixel.tasks.machine import machine

__all__ = ["RESULTS", "interleaved", "machine", "matrix_rate", "save", "seconds"]

RESULTS = Path(__file__).parent / "results"


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


def matrix_rate(repeats: int) -> float:
    """Multiplications and additions a second in a product of large matrices."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / seconds(lambda: a @ b, repeats)


def save(name: str, values: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(values, indent=2) + "\n")
    print(f"written: benchmarks/results/{name}.json")
