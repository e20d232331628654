"""Where and how long the jobs of the queue run, as every job is told."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

FULL_MINUTES = 18.0  # of training, that the recipes' seconds add up to


@dataclasses.dataclass(frozen=True)
class Setting:
    """data: folder of the named sets, or empty; runs: where everything is kept between calls; until: the end of the
    call for jobs, in seconds of `time.time`; training_minutes: of all trainings together."""

    data: str
    runs: Path
    device: str
    until: float
    training_minutes: float = FULL_MINUTES
    toy: bool = False

    @property
    def scale(self) -> float:
        return self.training_minutes / FULL_MINUTES

    def left(self) -> float:
        """Seconds of the call that are left."""
        return self.until - time.time()

    def reserve(self, seconds: float) -> float:
        """Some seconds of a call, less where everything is small."""
        return seconds / 100 if self.toy else seconds


class Unfinished(Exception):  # noqa: N818 - nothing went wrong
    """The call is over before the job; `values`: what its card says so far."""

    def __init__(self, values: dict[str, Any]):
        super().__init__("the call is over")
        self.values = values
