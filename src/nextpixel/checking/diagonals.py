"""Whole = Wavefront: the same probabilities in parallel and diagonal by diagonal."""

from __future__ import annotations

import torch

from nextpixel.checking.agreement import gap
from nextpixel.checking.report import Faults, Finding
from nextpixel.checking.subject import Size, condition_for, images, named
from nextpixel.image_model import ImageModel
from nextpixel.wavefront import Wavefront


@torch.no_grad()
def whole_is_wavefront(models: list[ImageModel], size: Size, allowed: float) -> list[Finding]:
    """3 pictures of every model, known symbol by symbol."""
    faults, worst, steps = Faults("Whole = Wavefront"), 0.0, 0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(300 + seed)
        x = images(model, 3, size, generator)
        condition = condition_for(model, 3, size, generator)
        expected = model.log_pmf(x, condition).permute(2, 3, 0, 1, 4).flatten(0, 1)  # [positions, n, C, K]
        values = x.permute(2, 3, 0, 1).flatten(0, 1)
        try:
            wave, steps = Wavefront(model, 3, condition, size), 0
            while (here := wave.here) is not None:
                positions, channel = here
                difference = gap(wave.log_pmf(), expected[positions, :, channel].flatten(0, 1))
                if not difference <= allowed:
                    place = (*divmod(int(positions.start), size[1]), channel)
                    faults.add(
                        "whole differs from wavefront",
                        f"by {difference:.1e} (allowed {allowed:.0e}) on the diagonal through "
                        f"{named(place, model.shape[0])}",
                    )
                worst, steps = max(worst, difference), steps + 1
                wave.push(values[positions, :, channel].flatten())
        except Exception as error:
            faults.add("wavefront fails", f"going by diagonals raised {type(error).__name__}: {error}")
    return faults.findings(
        f"within {worst:.1e} (allowed {allowed:.0e}, relative beyond 1 nat) on {size[0]}x{size[1]}: 3 pictures in "
        f"{steps} steps"
    )
