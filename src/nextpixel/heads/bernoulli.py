"""Bernoulli head: one logit a symbol, for images of two levels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nextpixel.heads.head import Head, register


@register("bernoulli", "one logit a symbol, for two levels")
class Bernoulli(Head):
    @property
    def sizes(self) -> tuple[int, ...]:
        return (1,) * self.channels

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        sign = 2 * x.to(features.dtype) - 1
        return F.logsigmoid(sign * features.permute(0, 3, 1, 2))

    def log_pmf(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        return F.logsigmoid(torch.cat([-features, features], -1))

    @classmethod
    def refusal(cls, levels: int) -> str | None:
        return None if levels == 2 else f"The bernoulli head is for 2 levels, not {levels}; use head='categorical'."
