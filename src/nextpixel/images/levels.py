"""Pixel values: the only module that ever changes them.

An image is an integer tensor [N,C,H,W] whose values are 0..K-1; K is its number of *levels*.
It is kept as ``torch.uint8`` for K <= 256 and as ``torch.int32`` above.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError, did_you_mean

Binarisation = Literal["threshold", "fixed", "dynamic"]

MOST_LEVELS = 65536  # products of a value and a number of levels then fit into 32 bits unsigned, and into int64 easily


def storage_dtype(levels: int) -> torch.dtype:
    """The integer type in which images of this many levels are kept."""
    check_levels(levels)
    return torch.uint8 if levels <= 256 else torch.int32


def check_levels(levels: int) -> None:
    """Raises UserError unless levels is a whole number, 2 <= levels <= 65536."""
    if isinstance(levels, str | float):
        raise UserError(f"The number of levels must be a whole number, not {levels!r}.")
    if not 2 <= levels <= MOST_LEVELS:
        raise UserError(f"The number of levels must be between 2 and {MOST_LEVELS}, not {levels}.")


def check_binarisation(method: str) -> None:
    """Raises UserError unless ``method`` is one of the three that ``binarise`` knows."""
    known = get_args(Binarisation)
    if method not in known:
        raise UserError(
            f"There is no binarisation '{method}'; choose one of {', '.join(known)}.{did_you_mean(method, known)}"
        )


def scale(x: Tensor, levels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Integer values 0..K-1 of any shape to floats in [-1,1]: 2x/(K-1) - 1.

    ``unscale`` gets every value back as long as ``dtype`` tells neighbouring levels apart: float32 and
    float64 for all K up to 65536; the half types only for small K.
    """
    check_levels(levels)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    # One rounding only, so that the ends are exactly -1 and 1 and the values are symmetric.
    return ((2 * x.to(wide) - (levels - 1)) / (levels - 1)).to(dtype)


def unscale(y: Tensor, levels: int) -> Tensor:
    """Floats in [-1,1] of any shape to the nearest values 0..K-1: rounded, never truncated, and clamped."""
    check_levels(levels)
    wide = y if y.dtype == torch.float64 else y.float()
    values = ((wide + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1)
    return values.to(storage_dtype(levels))


def quantise(x: Tensor, levels: int, source_levels: int = 256) -> Tensor:
    """Values 0..S-1 to 0..K-1 by floor(x*K/S): K cells whose sizes differ by one at the most, every cell hit.

    x: integers of any shape below ``source_levels`` (S); K = ``levels`` must not be more than S.
    The map is monotone, 0 goes to 0 and S-1 to K-1. Raises UserError for K > S or values outside 0..S-1.
    """
    _check_reduction(levels, source_levels)
    _check_values(x, source_levels)
    return (x.long() * levels // source_levels).to(storage_dtype(levels))


def dequantise(q: Tensor, levels: int, source_levels: int = 256) -> Tensor:
    """One value 0..S-1 for each level 0..K-1, spread evenly so that 0 goes to 0 and K-1 to S-1: ceil(q*(S-1)/(K-1)).

    ``quantise(dequantise(q)) == q`` for every q and every K <= S. For with t = q(S-1)/(K-1), the values of cell q
    are those in [qS/K, (q+1)S/K), and t - qS/K = q(S-K)/(K(K-1)) >= 0 while
    (q+1)S/K - t = (S(K-1) - q(S-K))/(K(K-1)) >= 1 because q <= K-1; so ceil(t), which is below t+1, lies in the
    cell. Rounding t to the nearest does not do: for K = 200, q = 1 it gives 1, and 1 is in cell 0.
    """
    _check_reduction(levels, source_levels)
    _check_values(q, levels)
    return ((q.long() * (source_levels - 1) + levels - 2) // (levels - 1)).to(storage_dtype(source_levels))


def binarise(
    x: Tensor,
    method: Binarisation,
    source_levels: int = 256,
    *,
    threshold: int | None = None,
    seed: int | Sequence[int] = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Values 0..S-1 of any shape to 0 and 1 (uint8).

    "threshold": 1 where the value is above ``threshold``, by default above (S-1)/2 (128 and more of 256).
    "fixed":     one Bernoulli draw with p = x/(S-1), the same for the same ``seed``.
    "dynamic":   such a draw anew at every call, from ``generator`` (on the CPU; None: torch's global one).

    A draw compares x with a uniform integer 0..S-2, which makes p exact: 0 is never 1, and S-1 always is.
    """
    check_levels(source_levels)
    check_binarisation(method)
    _check_values(x, source_levels)
    if method == "threshold":
        return (x > threshold if threshold is not None else 2 * x.int() > source_levels - 1).to(torch.uint8)
    if method == "fixed":
        uniform = np.random.default_rng(seed).integers(0, source_levels - 1, size=tuple(x.shape), dtype=np.int32)
        return (x.int() > torch.from_numpy(uniform)).to(torch.uint8)
    drawn = torch.randint(0, source_levels - 1, x.shape, generator=generator, dtype=torch.int32)
    return (x.int() > drawn).to(torch.uint8)


def to_grey(x: Tensor) -> Tensor:
    """RGB [N,3,H,W] to grey [N,1,H,W], same levels: the ITU-R 601 luma, rounded as Pillow's mode "L" does.

    Grey pictures stay as they are. Raises UserError for other numbers of channels.
    """
    if x.shape[1] == 1:
        return x
    if x.shape[1] != 3:
        raise UserError(f"Only images of 3 channels can be made grey; these have {x.shape[1]}.")
    red, green, blue = x.long().unbind(dim=1)
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16  # the weights sum to 65536: white stays white
    return luma.unsqueeze(1).to(x.dtype)


def to_rgb(x: Tensor) -> Tensor:
    """Grey [N,1,H,W] to RGB [N,3,H,W] with three equal channels; RGB stays as it is."""
    if x.shape[1] == 3:
        return x
    if x.shape[1] != 1:
        raise UserError(f"Only images of 1 channel can be made RGB; these have {x.shape[1]}.")
    return x.repeat(1, 3, 1, 1)


def _check_reduction(levels: int, source_levels: int) -> None:
    check_levels(levels)
    check_levels(source_levels)
    if levels > source_levels:
        raise UserError(
            f"Images of {source_levels} levels cannot be quantised to {levels}: choose {source_levels} or less."
        )


def _check_values(x: Tensor, levels: int) -> None:
    if x.dtype.is_floating_point or x.dtype.is_complex or x.dtype == torch.bool:
        raise UserError(f"Pixel values must be integers 0..{levels - 1}, not {x.dtype}: round them first.")
    if x.numel() == 0:
        return
    low, high = (int(v) for v in x.aminmax())
    if low < 0 or high >= levels:
        raise UserError(f"Pixel values {low}..{high} do not fit into {levels} levels, which are 0..{levels - 1}.")
