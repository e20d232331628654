"""A model that has looked at the embedded digits for some seconds: to show what a trained model does, not how well."""

from __future__ import annotations

import functools
from typing import Any

import torch

from nextpixel.image_model import ImageModel, build
from nextpixel.images import dataset

OPTIONS: dict[str, dict[str, Any]] = {
    "pixelcnn": {"blocks": 4, "features": 16},
    "gated_pixelcnn": {"layers": 4, "features": 16},
    "row_lstm": {"layers": 2, "features": 12},
    "diagonal_bilstm": {"layers": 1, "features": 12},
    "pixelcnnpp": {"scales": 1, "blocks": 1, "features": 12, "dropout": 0.0},
    "local": {"layers": 3, "features": 20},
    "pixelsnail": {"blocks": 1, "layers": 2, "features": 16, "heads": 1},
    "made": {"hidden": 200},
    "nade": {},
}
STEPS, BATCH, RATE = 180, 32, 6e-3


@functools.lru_cache(maxsize=2)
def beginner(family: str, options: tuple[tuple[str, Any], ...] = (), steps: int = STEPS) -> ImageModel:
    """A small network of the family after `steps` steps on the digits (8×8, 17 levels), in eval mode; always the same
    one."""
    data = dataset("digits").train
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(family, like=data, **{**OPTIONS.get(family, {}), **dict(options)})
        chosen = torch.Generator().manual_seed(0)
        model.initialise_from_data(data.images[:64])
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(steps, 2))
        for _ in range(steps):
            batch = data.images[torch.randint(len(data), (BATCH,), generator=chosen)]
            optimizer.zero_grad()
            (-model.log_prob(batch).mean() / model.dims).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()
