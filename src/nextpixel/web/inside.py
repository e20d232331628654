"""Inside a network: what a position sees, by gradients, and the taps of every convolution for each pair of channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nextpixel.causal import PixelConv, RowConv
from nextpixel.checking.causality import influence
from nextpixel.checking.fields import own_sensitivity
from nextpixel.checking.subject import condition_for, images, redrawn
from nextpixel.errors import UserError
from nextpixel.figures.masks import kernel_mask
from nextpixel.image_model import ImageModel, build
from nextpixel.web.jobs import Job
from nextpixel.web.pixels import floats
from nextpixel.web.served import Served, one_order, why_closed

PIXELS_AT_MOST = 64 * 64
PLAIN = "pixelcnn"
POSITIVE = 1  # a seed of weights that are all positive: nothing cancels and no unit is dead


def field(served: Served, row: int, column: int, job: Job) -> dict[str, Any]:
    """What the distribution at a pixel depends on.

    `strength` [H, W]: the size of the gradients with the model's own weights, as shares of the largest. `seen` [H, W]:
    the pixels whose gradient is not zero under positive weights. `plain`: the same of a plain PixelCNN of kernels 3×3
    that is deep enough to reach all edges; what it misses of `before` is its blind spot.
    """
    model = _open(served)
    _, height, width = model.shape
    if not (0 <= row < height and 0 <= column < width):
        raise UserError(f"The position must be inside {height}x{width}, not row {row}, column {column}.")
    if height * width > PIXELS_AT_MOST:
        raise UserError(f"Receptive fields are shown up to {PIXELS_AT_MOST} pixels; this model has {height * width}.")
    own = model.own_grid()
    rows, columns = own.shape[1:]
    numbered = torch.arange(height * width).view(1, 1, height, width)
    there = model.order.forth(numbered).flatten().tolist().index(row * width + column)
    pixel = divmod(there, columns)

    def back(grid: Tensor) -> Tensor:
        return model.order.back(grid.view(1, 1, rows, columns))[0, 0]

    strength = back(own_sensitivity(own, (rows, columns), [pixel])[0])
    job.check()
    seen = back(_seen(own, (rows, columns), pixel))
    job.check()
    plain = build(PLAIN, shape=(1, rows, columns), levels=2, blocks=max(rows, columns) // 2, features=2, first_kernel=3)
    misses = back(_seen(plain.eval(), (rows, columns), pixel))
    before = back(torch.arange(rows * columns).view(rows, columns) < there)
    return {
        "row": row,
        "column": column,
        "strength": floats(strength / strength.max().clamp(min=1e-30)),
        "seen": seen.int().tolist(),
        "before": before.int().tolist(),
        "plain": misses.int().tolist(),
        "seen_count": int((seen & before).sum()),
        "before_count": int(before.sum()),
        "plain_count": int((misses & before).sum()),
        "family": model.family,
        "plain_family": PLAIN,
        "order": model.order_in_words,
    }


def masks(served: Served, job: Job) -> dict[str, Any]:
    """The convolutions of a network in the order of their making, with their taps: for each pair of channel groups
    (from, to) a grid [rows, columns] of 0 and 1, the current pixel at `centre`."""
    model = _open(served)
    layers = []
    for name, layer in model.network.named_modules():
        if isinstance(layer, PixelConv | RowConv):
            mask, centre = kernel_mask(layer)
            layers.append(
                {
                    "name": name,
                    "mask": layer.mask if isinstance(layer, PixelConv) else "vertical",
                    "centre": list(centre),
                    "taps": mask.transpose(0, 1).int().tolist(),
                }
            )
        job.check()
    return {"layers": layers, "channels": model.shape[0], "family": model.family}


def _seen(model: ImageModel, size: tuple[int, int], pixel: tuple[int, int]) -> Tensor:
    """bool [H, W]: the pixels that the last channel of a pixel depends on, under positive random weights."""
    weights, generator = redrawn(model, POSITIVE, size), torch.Generator().manual_seed(0)
    x = images(weights, 1, size, generator)
    condition = condition_for(weights, 1, size, generator)
    return influence(weights, x, condition, [(*pixel, model.shape[0] - 1)], generator)[0].any(-1)


def _open(served: Served) -> ImageModel:
    refusal = why_closed(served.model)
    if refusal:
        raise UserError(refusal)
    model = one_order(served.model)
    assert isinstance(model, ImageModel)
    return model
