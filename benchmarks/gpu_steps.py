"""How long training steps of a model take, as written and compiled: as `train` makes them, but for the averaging."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time

import torch
from torch import Tensor

from benchmarks.measure import settle
from nextpixel.images import Dataset
from nextpixel.model import Model
from nextpixel.tasks.acceleration import compiled as compiling
from nextpixel.tasks.acceleration import try_compiled
from nextpixel.tasks.train import TrainOptions

WARM, TIMED = 2, 6  # steps


@dataclasses.dataclass(frozen=True)
class Speed:
    """start_seconds: until the first steps were made, a compilation included."""

    start_seconds: float
    step_seconds: float
    images_per_second: float


def speeds(model: Model, data: Dataset, options: TrainOptions, *, compiled: bool) -> dict[str, Speed]:
    """ "as written" and, if asked for and possible, "compiled". The model is left as it was, on the CPU."""
    images = data.train[: options.batch_size].images.to(options.device)
    found = {}
    for way in ("as written", *(["compiled"] if compiled else [])):
        torch.compiler.reset()  # there is a limit to how often one process compiles what looks like the same module
        twin = copy.deepcopy(model).to(options.device).train()
        with compiling(twin, way == "compiled"):
            began = time.perf_counter()
            if way == "compiled":
                with _precision(options):
                    if not try_compiled(twin, lambda twin=twin: -twin.log_prob(images).mean()):  # type: ignore[misc]
                        continue
            found[way] = _timed(twin, images, options, began)
    torch.compiler.reset()
    return found


def _timed(model: Model, images: Tensor, options: TrainOptions, began: float) -> Speed:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    started = began
    for number in range(WARM + TIMED):
        if number == WARM:
            settle(options.device)
            started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with _precision(options):
            loss = -model.log_prob(images).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), options.gradient_clip or 1e9)
        optimizer.step()
    settle(options.device)
    each = (time.perf_counter() - started) / TIMED
    return Speed(started - began, each, len(images) / each)


def _precision(options: TrainOptions) -> contextlib.AbstractContextManager[object]:
    if options.precision == "bf16":
        return torch.autocast(torch.device(options.device).type, torch.bfloat16)
    return contextlib.nullcontext()
