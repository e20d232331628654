"""Fill in what is missing of a picture, given everything before it in raster order."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images.levels import storage_dtype
from nextpixel.model import Model
from nextpixel.stepping import Stepper
from nextpixel.tasks.progress import Steps
from nextpixel.tasks.sample import SampleOptions, choose, chosen, uniform_noise, with_overrides


@dataclasses.dataclass(frozen=True)
class Completions:
    """images: integers [N, fills, C, H, W]; nats: −log p(filled part | known part), [N, fills]; exact: the fills are
    draws from exactly that distribution."""

    images: Tensor
    nats: Tensor
    exact: bool


@torch.no_grad()
def complete(
    model: Model,
    images: Tensor,
    known: int | Tensor,
    fills: int = 1,
    options: SampleOptions | None = None,
    *,
    condition: Any = None,
    progress: bool = False,
    **overrides: Any,
) -> Completions:
    """Complete pictures [N, C, H, W] of which only the `known` part counts.

    known: the number of known rows, or a bool mask [H, W] whose known pixels come before all others in raster order
    (full rows, then the left part of one more). fills: different completions per picture. The known rows are taken in
    in one Whole pass. Raises UserError for any other mask: pixels known further down would have to be ignored.
    """
    options = with_overrides(options or SampleOptions(), overrides)
    images = model.check_images(images)
    n, channels, height, width = images.shape
    pixels = _prefix(known, height, width)
    if fills < 1:
        raise UserError(f"fills must be at least 1, not {fills}.")
    if model.classes is not None and condition is None:
        raise UserError("This model is class-conditional: say the class of each picture, for example condition=labels.")
    conditions = model.condition_parts(condition, n)
    rows, rest = divmod(pixels, width)
    was_training = model.training
    model.eval()
    filled = torch.zeros(n * fills, channels, height, width, dtype=storage_dtype(model.levels))
    nats = torch.zeros(n * fills, dtype=torch.float64)
    try:
        with Steps(
            -(-n * fills // options.batch_size) * (height - rows), "completing", unit=" rows", show=progress
        ) as steps:
            for start in range(0, n * fills, options.batch_size):
                numbers = torch.arange(start, min(start + options.batch_size, n * fills))
                source = images[numbers // fills]
                stepper = model.stepper(len(numbers), chosen(conditions, numbers // fills), (height, width))
                stepper.prefill(source[:, :, :rows])
                for column in range(rest):
                    for channel in range(channels):
                        stepper.push(source[:, channel, rows, column])
                noise = uniform_noise(options.seed, range(start, start + len(numbers)), (channels, height, width))
                nats[numbers] = _fill(stepper, noise, options, steps)
                filled[numbers] = stepper.images.cpu().to(filled.dtype)
    finally:
        model.train(was_training)
    return Completions(filled.view(n, fills, *images.shape[1:]), nats.view(n, fills), exact=True)


def _fill(stepper: Stepper, noise: Tensor, options: SampleOptions, steps: Steps) -> Tensor:
    nats = torch.zeros(stepper.n, dtype=torch.float64)
    while (position := stepper.position) is not None:
        row, column, channel = position
        log_pmf = stepper.log_pmf()
        values = choose(log_pmf, noise[:, channel, row, column], options)
        nats -= log_pmf.gather(1, values[:, None])[:, 0].double().cpu()
        stepper.push(values)
        if column == stepper.width - 1 and channel == stepper.channels - 1:
            steps.to(steps.done + 1)
    return nats


def _prefix(known: int | Tensor, height: int, width: int) -> int:
    """How many pixels are known, in raster order."""
    if isinstance(known, int):
        if not 0 <= known < height:
            raise UserError(f"The number of known rows must be between 0 and {height - 1}, not {known}.")
        return known * width
    if known.shape != (height, width):
        raise UserError(
            f"The mask must have the picture's size {height}x{width}, not {'x'.join(map(str, known.shape))}."
        )
    flat = known.bool().flatten()
    count = int(flat.sum())
    if count == height * width:
        raise UserError("Everything is known: there is nothing to complete.")
    if not flat[:count].all():
        raise UserError(
            "The known pixels must come before all others in raster order (rows from the top, then from the left); "
            "pixels known further down cannot be taken into account."
        )
    return count
