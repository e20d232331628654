"""`check`: is a model what it claims to be? For any family, also one of a third party.

A model that peeks at what it predicts trains to wonderful figures and samples noise; one that looks away trains to poor
ones without a word. Neither shows in the loss curve. `check` looks for both, and for the arithmetic that sampling and
compressing rest on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from nextpixel.checking import agreement, causality, chain, diagonals, even, fields, frozen, layers, ordered, totals
from nextpixel.checking.report import Finding, Report, collector
from nextpixel.checking.subject import canvas_for, private_copy, redrawn
from nextpixel.errors import UserError
from nextpixel.exact import ExactModel
from nextpixel.image_model import ImageModel
from nextpixel.model import check_model
from nextpixel.multiscale import MultiScaleModel

__all__ = ["Finding", "Report", "check"]


def check(
    model: ImageModel | MultiScaleModel,
    *,
    seeds: int = 8,
    size: tuple[int, int] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Look for leaks, blind spots, lost channel order, unnormalised probabilities and a Cursor that differs from Whole.

    Works on float64 copies on the CPU, with the model's own weights and with random ones, on small canvases; the
    model, its mode and the random state stay as they are. Symbols are taken in raster order, the channels of a pixel in
    order. What is checked:

    - Whole = Cursor to 1e-10 in float64 and 1e-4 in float32 (nats; relative for log-probabilities beyond 1 nat), also
      with forks, another batch size, and known first rows; by diagonals too, where the family declares a wavefront.
    - No pmf moves by a bit when its own or a later symbol is changed, in eval and in train mode; the Jacobian with
      respect to the embedded input is strictly causal; other pictures of the batch play no part.
    - The receptive field, a union over at least `seeds` random weights and inputs, is the declared one; each channel
      sees exactly the earlier ones of its pixel, and every masked layer lets a channel group see itself.
    - Each pmf and the probabilities of all images of a tiny size sum to 1; log_prob is the sum of the steps.
    - Of a multi-scale model both parts, and the chain in its own order: Whole = Cursor with forks, no later symbol
      plays a part, every small pixel is seen through the map, copied, and counted once, all images sum to 1.
    - Of a model in another order than raster, or in several, up to three orders, each in its own grid, and together:
      answers lie where the order says, stepping goes by it, the network is told its order, p(x) is the mixture.

    - Of a frozen model its proof, that the decoder's integers are those of the parallel pass, bit for bit, in any batch
      and type of tensor, and that frequencies and all images sum to 1.

    seeds: sets of random weights. size: (H, W) of the one canvas to use; by default 5x7, 4x6 and long narrow ones, or
    the model's own size for networks that run at no other (known first rows are tried with them only if their family
    declares it, by any_size=False). progress: called with the name of each check as it begins.
    """
    check_model(model)
    if seeds < 1:
        raise UserError(f"seeds must be at least 1, not {seeds}.")
    if isinstance(model, ExactModel):
        return frozen.check_frozen(model, size, progress)
    if isinstance(model, MultiScaleModel):
        return chain.check_chain(model, functools.partial(check, seeds=seeds), size, progress)
    if len(model.orders) > 1 or not model.orders[0].is_raster:
        return ordered.check_orders(model, functools.partial(check, seeds=seeds), size, progress)
    findings: list[Finding] = []
    run = collector(findings, progress)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        canvas, any_size = canvas_for(model, size)
        try:
            own = private_copy(model)
            drawn = [redrawn(model, seed, canvas) for seed in range(min(seeds, 4))]
        except Exception as error:
            detail = f"on {canvas[0]}x{canvas[1]} it raised {type(error).__name__}: {error}"
            return Report([Finding("runs", False, detail, "does not run")], _title(model))
        some = [own, *drawn[:2]]
        prefill = any_size or not model.network.family.any_size  # who declares its own size takes first rows of it
        singles = [private_copy(other, torch.float32) for other in (model, drawn[0])]
        run("repeatable", lambda: agreement.repeatable(some, canvas))
        run("Whole = Cursor", lambda: agreement.whole_is_cursor(some, canvas, "Whole = Cursor", 1e-10, prefill=prefill))
        run("Whole = Cursor, float32", lambda: _float32(singles, canvas))
        if "wavefront" in model.network.family.schedules:
            run("Whole = Wavefront", lambda: diagonals.whole_is_wavefront(some, canvas, 1e-10))
        run("later symbols", lambda: causality.changed_symbols(some[:2], canvas))
        if any_size and size is None:
            run("even sizes", lambda: even.even_sizes(some[:2], 1e-10))
        run("jacobian", lambda: causality.jacobian(some, canvas))
        run("receptive field", lambda: fields.receptive_fields(model, canvas, any_size and size is None, seeds))
        if model.channels_by == "network":
            run("mask layers", lambda: layers.masked_layers(drawn, canvas))
        if model.channels_by == "head" and model.shape[0] > 1:
            run("channel order", lambda: causality.head_order(drawn, canvas))
        run("pmf sums", lambda: totals.pmfs(some, canvas))
        run("log_prob", lambda: totals.log_probs(some[:2], canvas))
        run("all images", lambda: totals.all_images(model, any_size, canvas))
        if model.condition is not None:
            run("condition", lambda: agreement.condition_matters(drawn, canvas))
    return Report(findings, _title(model))


def _float32(models: list[ImageModel], size: tuple[int, int]) -> list[Finding]:
    return agreement.whole_is_cursor(models, size, "Whole = Cursor, float32", 1e-4, forked=0)


def _title(model: ImageModel) -> str:
    channels, height, width = model.shape
    head = getattr(model.head, "name", type(model.head).__name__)
    return f"{model.family}, {channels}x{height}x{width}, {model.levels} levels, head {head}"
