"""From masses to the frequencies of an entropy coder: integers that add up to a power of two, whatever the masses."""

from __future__ import annotations

import torch
from torch import Tensor

TOTAL_BITS = 24
TOTAL = 2**TOTAL_BITS


def frequencies(masses: Tensor) -> Tensor:
    """Masses int64 [..., K] ≥ 0 of positive sums up to 2^31 → frequencies int64 [..., K], summing to 2^24 − K.

    Every value is coded with its frequency + 1, so that none is impossible. With C the cumulative masses and S their
    sum, the cumulative frequencies are C · (2^24 − K) // S.
    """
    cumulative = masses.cumsum(-1)
    scaled = torch.div(cumulative * (TOTAL - masses.shape[-1]), cumulative[..., -1:], rounding_mode="floor")
    return torch.diff(scaled, dim=-1, prepend=torch.zeros_like(scaled[..., :1]))


def log_probabilities(masses: Tensor) -> Tensor:
    """Log-probabilities with which the values are coded, nats, float64 [..., K]."""
    return torch.log((frequencies(masses) + 1).double() / TOTAL)
