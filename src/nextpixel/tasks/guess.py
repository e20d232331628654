"""Guess and verify: pictures from a few parallel passes instead of one step a symbol.

With the noise fixed, a picture is the fixed point of "choose every value from the probabilities that the picture itself
gives". Jacobi iteration finds it (Song et al. 2021, "Accelerating Feedforward Computation via Parallel Nonlinear
Equation Solving"; Wiggers and Hoogeboom 2020, "Predictive Sampling with Forecasting Autoregressive Models", where the
guess is the last pass's own): a Whole pass over a guess, all values chosen anew, until nothing changes. Up to and
including the first value that changes everything is settled, because all before it was right. So every pass settles at
least one symbol, and the picture is the one that the Cursor draws from the same noise.

Ours: only the `AHEAD` rows from the first unsettled symbol on are guessed (the rest of the picture stays zero and is not
computed), a picture that is finished leaves the batch, and the heads see the guessed rows only. Rows that are settled
are computed again in every pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.image_model import ImageModel
from nextpixel.model import Model
from nextpixel.multiscale import MultiScaleModel
from nextpixel.tasks.drawing import SampleOptions, choose, chosen
from nextpixel.tasks.progress import Steps

AHEAD = 2  # rows; more or fewer take more passes on binarised MNIST (benchmarks/guessing.py --ahead)


def why_not(model: Model) -> str | None:
    """Why pictures of a model cannot be guessed, or None."""
    if isinstance(model, ImageModel | MultiScaleModel):
        return None
    return f"a model of the kind {model.family} has no parallel pass over a part of a picture"


@torch.no_grad()
def guess(
    model: Model,
    conditions: dict[str, Tensor] | None,
    noise: Tensor,
    options: SampleOptions,
    steps: Steps | None = None,
    ahead: int = AHEAD,
) -> tuple[Tensor, Tensor]:
    """Pictures [n, C, H, W] from noise [n, C, H, W] in [0, 1), and the passes that each one took, [n].

    conditions: of the n pictures, as `model.condition_parts` gives them. ahead: rows that are guessed at a time. A
    picture takes at least one pass and at most as many as it has symbols; of a multi-scale model passes of both parts
    are counted. The model must be in eval mode and in one order.
    """
    n, channels, height, width = noise.shape
    began = 0 if steps is None else steps.done

    def show(symbols: int, passes: int) -> None:
        if steps is not None:
            steps.to(began + symbols // max(n * channels * width, 1), f"{passes} passes,")

    if isinstance(model, MultiScaleModel):
        small, first = _settle(model.small, conditions, model.small_of(noise), options, ahead, show)
        images = torch.zeros(noise.shape, dtype=torch.long, device=small.device)
        copied = torch.zeros(noise.shape[1:], dtype=torch.bool, device=small.device)
        model.small_of(images)[:], model.small_of(copied)[:] = small, True
        before = small.numel()
        told = model.large_condition(conditions, small)
        images, then = _settle(
            model.large, told, noise, options, ahead, lambda s, p: show(before + s, p), images, copied
        )
        return images, first + then
    if isinstance(model, ImageModel):
        return _settle(model, conditions, noise, options, ahead, show)
    raise UserError(f"Pictures cannot be drawn by guessing: {why_not(model)}.")


def _settle(
    model: ImageModel,
    conditions: dict[str, Tensor] | None,
    noise: Tensor,
    options: SampleOptions,
    ahead: int,
    show: Callable[[int, int], None],
    images: Tensor | None = None,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `guess`, of one network. known: symbols [C, H, W] that stay as they are in `images`."""
    order, grid = model.placement, model.own_grid()
    device = model.like().device

    def forth(x: Tensor) -> Tensor:
        """[..., C, H, W] → [..., rows, columns, C] of the order's own grid: flat, the symbols as they are predicted."""
        return order.forth(x.to(device)).movedim(-3, -1).contiguous()

    noise = forth(noise)
    n, rows, columns, channels = noise.shape
    values = torch.zeros_like(noise, dtype=torch.long) if images is None else forth(images)
    kept = torch.zeros_like(noise[0], dtype=torch.bool) if known is None else forth(known)
    fresh = torch.cat([kept.new_zeros(1, dtype=torch.long), (~kept).flatten().cumsum(0)])  # unknown ones before each
    row, ahead = columns * channels, min(ahead, rows)
    settled = torch.zeros(n, dtype=torch.long, device=device)  # symbols of each picture that are right
    passes, left = torch.zeros_like(settled), torch.arange(n, device=device)
    while len(left):
        first = (settled[left] // row).clamp(max=rows - ahead)  # row of each picture's window
        window = (left[:, None], first[:, None] + torch.arange(ahead, device=device))
        last = int(first.max()) + ahead
        features = grid.features(values[left].movedim(-1, 1), chosen(conditions, left), rows=last)
        here = torch.arange(len(left), device=device)[:, None], window[1]
        old = values[window]
        log_pmf = grid.head_log_pmf(features[here], old)
        new = choose(log_pmf.flatten(0, -2), noise[window].flatten(), options).view(old.shape)
        number = first[:, None] * row + torch.arange(ahead * row, device=device)
        open_ = (number >= settled[left, None]) & ~kept[window[1]].flatten(1)
        changed = open_ & (new != old).flatten(1)
        reached = torch.where(changed.any(1), changed.int().argmax(1), ahead * row - 1)
        settled[left] = first * row + reached + 1
        values[window] = torch.where(open_.view(old.shape), new, old)
        passes[left] += 1
        left = left[settled[left] < rows * row]
        show(int(fresh[settled].sum()), int(passes.max()))
    return order.back(values.movedim(-1, 1)).contiguous(), passes
