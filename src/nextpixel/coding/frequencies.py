"""From a model's integer masses to the frequencies of the entropy coder, in integers only.

A range coder with a precision of 24 bits needs, for every symbol, integers that sum to 2²⁴ and of which none is zero.
For masses m of K values with the cumulative sums C_k and the sum S = C_{K-1}

    cum_k = ⌊C_k · (2²⁴ − K) / S⌋,     f_k = cum_k − cum_{k−1},     frequency of value k = f_k + 1.

C is monotone, so f_k ≥ 0, and the last cum is 2²⁴ − K exactly. All products stay below 2³¹ · 2²⁴ = 2⁵⁵.

What it costs: the floor of 1 takes K of 2²⁴ from the masses, at most −log2(1 − K/2²⁴) bits a symbol: 0.00000017 for
K = 2, 0.000022 for K = 256, 0.0056 for K = 65536, which is the limit. The division shifts every boundary by less than
one part in 2²⁴.
"""

from __future__ import annotations

import torch
from torch import Tensor

PRECISION = 24
TOTAL = 1 << PRECISION
MOST_VALUES = 1 << 16
MOST_MASS = 1 << 31


def frequencies(masses: Tensor) -> Tensor:
    """f of masses int64 [..., K]: int64 [..., K], each at least 0, their sum 2²⁴ − K. The coder uses f + 1.

    Raises ValueError for masses that no model may give: negative, all zero, a sum above 2³¹, or K outside 2..65536.
    """
    cumulative = _cumulative(masses)
    total = cumulative[..., -1:].clone()
    scaled = cumulative.mul_(TOTAL - masses.shape[-1]).floor_divide_(total)
    differences = scaled.clone()
    differences[..., 1:] -= scaled[..., :-1]
    return differences


def intervals(masses: Tensor, symbols: Tensor) -> tuple[Tensor, Tensor]:
    """Where the symbols [...] lie in [0, 2²⁴) under masses int64 [..., K]: (left, size), int64 [...].

    left = Σ over smaller values of (f + 1), size = f + 1 of the symbol itself.
    """
    cumulative = _cumulative(masses)
    values = masses.shape[-1]
    chosen = symbols.long().unsqueeze(-1)
    below = torch.where(chosen > 0, cumulative.gather(-1, (chosen - 1).clamp(min=0)), 0)
    both = torch.cat([below, cumulative.gather(-1, chosen)], -1)
    start, end = (both * (TOTAL - values) // cumulative[..., -1:]).unbind(-1)
    return start + symbols.long(), end - start + 1


def log_probabilities(masses: Tensor) -> Tensor:
    """Log-probabilities with which the values are coded, nats, float64 [..., K]."""
    return torch.log((frequencies(masses) + 1).double() / TOTAL)


def bits(sizes: Tensor) -> Tensor:
    """What intervals of these sizes cost, float64 of the same shape. For people and plans; no bit depends on it."""
    return PRECISION - torch.log2(sizes.double())


def _cumulative(masses: Tensor) -> Tensor:
    values = masses.shape[-1]
    if masses.dtype != torch.int64 or not 2 <= values <= MOST_VALUES:
        raise ValueError(f"masses must be int64 [..., K] with K = 2..{MOST_VALUES}, not {masses.dtype}, K = {values}")
    cumulative = masses.cumsum(-1)
    if masses.numel():
        (low, high), (least, most) = masses.aminmax(), cumulative[..., -1].aminmax()
        # A single mass above the limit could wrap the sum around, so it is looked at as well.
        if int(low) < 0 or int(high) > MOST_MASS or int(least) < 1 or int(most) > MOST_MASS:
            raise ValueError("masses must not be negative and must sum to 1..2^31")
    return cumulative
