"""`profile`: where the time of a few training steps goes, by torch.profiler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

SKIPPED, RECORDED = 2, 3  # the first steps allocate and compile; a trace of three is some megabytes
WORST = 10  # operations in the table


class StepProfiler:
    """Steps 3 to 5 of a sitting; writes trace.json (Chrome's format) and operations.txt (a table) into `folder`."""

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.folder, self.say = folder, say
        self.by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        steps = schedule(wait=SKIPPED - 1, warmup=1, active=RECORDED, repeat=1)
        self.profile = profile(activities=activities, schedule=steps, on_trace_ready=self._write)

    def start(self) -> None:
        self.profile.start()

    def step(self) -> None:
        self.profile.step()

    def stop(self) -> None:
        self.profile.stop()

    def _write(self, made: profile) -> None:
        self.folder.mkdir(exist_ok=True)
        made.export_chrome_trace(str(self.folder / "trace.json"))
        table = made.key_averages().table(sort_by=self.by, row_limit=WORST)
        (self.folder / "operations.txt").write_text(table + "\n", encoding="utf-8")
        self.say(f"profile of {RECORDED} steps: {self.folder / 'trace.json'}, {self.folder / 'operations.txt'}")
