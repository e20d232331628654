"""Guess and verify: pictures from a few parallel passes instead of one step a symbol.

With the noise fixed, a picture is the fixed point of "choose every value from the probabilities that the picture itself
gives". Jacobi iteration finds it (Song et al. 2021, "Accelerating Feedforward Computation via Parallel Nonlinear
Equation Solving"; Wiggers and Hoogeboom 2020, "Predictive Sampling with Forecasting Autoregressive Models", whose
forecasts without learning are these): a Whole pass over a guess, all values chosen anew, until nothing changes. All
symbols up to the first one that changes, and it too, are settled then, for all before them were right. So every pass
settles at least one symbol, and the picture is the one that the Cursor draws from the same noise.

Ours: only the `AHEAD` rows from the first unsettled symbol on are guessed, from zeros; the rows below are not computed,
and the head sees no other rows. A finished picture leaves the batch. Settled rows are computed again in every pass.
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

AHEAD = 3  # rows: with fewer most models take more passes, with more a pass costs more (docs/results.md)


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
    picture takes at least one pass and at most as many as it has symbols; of a multi-scale model the passes of both
    parts are added. The model must be in eval mode and in one order. UserError for a model that is neither an
    ImageModel nor a MultiScaleModel.
    """
    n, channels, _, width = noise.shape
    began = 0 if steps is None else steps.done

    def show(symbols: int, passes: int) -> None:
        if steps is not None:
            steps.to(began + symbols // (n * channels * width), f"{passes} passes,")

    if isinstance(model, ImageModel):
        return _settle(model, conditions, noise, options, ahead, show)
    if not isinstance(model, MultiScaleModel):
        raise UserError(f"Pictures cannot be guessed: {why_not(model)}.")
    small, first = _settle(model.small, conditions, model.small_of(noise), options, ahead, show)
    images = torch.zeros(noise.shape, dtype=torch.long, device=small.device)
    copied = torch.zeros(noise.shape[1:], dtype=torch.bool, device=small.device)
    model.small_of(images)[:] = small
    model.small_of(copied)[:] = True
    conditions = model.large_condition(conditions, small)

    def show_large(symbols: int, passes: int) -> None:
        show(small.numel() + symbols, passes)

    images, second = _settle(model.large, conditions, noise, options, ahead, show_large, (images, copied))
    return images, first + second


def _settle(
    model: ImageModel,
    conditions: dict[str, Tensor] | None,
    noise: Tensor,
    options: SampleOptions,
    ahead: int,
    show: Callable[[int, int], None],
    known: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """As `guess`, of one network. known: images, and which of their symbols stay as they are, bool [C, H, W]. After
    each pass `show` is told how many symbols are settled that were not known, and the passes so far."""
    order, grid, device = model.placement, model.own_grid(), model.like().device

    def forth(x: Tensor) -> Tensor:
        """[..., C, H, W] → [..., rows, columns, C] of the order's own grid: flat, the symbols as they are predicted."""
        return order.forth(x.to(device)).movedim(-3, -1).contiguous()

    noise = forth(noise)
    n, rows, columns, channels = noise.shape
    row, ahead = columns * channels, min(ahead, rows)
    values = torch.zeros_like(noise, dtype=torch.long) if known is None else forth(known[0])
    free = torch.ones_like(noise[0], dtype=torch.bool) if known is None else ~forth(known[1])
    free_before = torch.cat([free.new_zeros(1, dtype=torch.long), free.flatten().cumsum(0)])
    settled = torch.zeros(n, dtype=torch.long, device=device)  # symbols of each picture, from the first on
    passes, left = torch.zeros_like(settled), torch.arange(n, device=device)
    in_window = torch.arange(ahead * row, device=device)
    while len(left):
        # A window of rows for each picture that is left: pictures [m, 1] and rows [m, ahead].
        top = (settled[left] // row).clamp(max=rows - ahead)
        window = left[:, None], top[:, None] + torch.arange(ahead, device=device)
        features = grid.features(values[left].movedim(-1, 1), chosen(conditions, left), rows=int(top.max()) + ahead)
        old = values[window]
        log_pmf = grid.head_log_pmf(features[torch.arange(len(left), device=device)[:, None], window[1]], old)
        new = choose(log_pmf.flatten(0, -2), noise[window].flatten(), options).view(old.shape)
        unsettled = top[:, None] * row + in_window >= settled[left, None]
        new = torch.where(unsettled.view(old.shape) & free[window[1]], new, old)
        changed = (new != old).flatten(1)
        first = torch.where(changed.any(1), changed.int().argmax(1), ahead * row - 1)
        values[window], settled[left] = new, top * row + first + 1
        passes[left] += 1
        left = left[settled[left] < rows * row]
        show(int(free_before[settled].sum()), int(passes.max()))
    return order.back(values.movedim(-1, 1)).contiguous(), passes
