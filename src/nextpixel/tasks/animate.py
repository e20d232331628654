"""Pictures on the way: as far as they are known after each part of their symbols."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nextpixel.model import Model
from nextpixel.tasks.drawing import SampleOptions, symbols, uniform_noise


@torch.no_grad()
def sampling_frames(model: Model, n: int = 16, frames: int = 32, seed: int = 0, condition: Any = None) -> Tensor:
    """n pictures as far as they were after each of about `frames` equal parts of their symbols, the empty and the
    finished ones included: integers [frames + 1, n, C, H, W]. The last ones are `sample`'s pictures of that seed, of a
    model of several orders in the first of them. A class-conditional model needs the classes."""
    model = model.each_order()[0]
    total = model.dims
    noise = uniform_noise(seed, range(n), model.shape)
    parts = max(1, min(frames, total))
    ends = {round(total * (part + 1) / parts) for part in range(parts)}
    was_training = model.training
    model.eval()
    try:
        stepper = model.stepper(n, condition)
        kept = [stepper.images.clone()]
        for pushed, _ in enumerate(symbols(stepper, noise, SampleOptions(seed=seed)), 1):
            if pushed in ends:
                kept.append(stepper.images.clone())
    finally:
        model.train(was_training)
    return torch.stack(kept)
