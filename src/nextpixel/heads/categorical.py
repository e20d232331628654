"""Categorical heads: K logits a symbol (van den Oord et al. 2016a, section 3.2: "softmax"), any K.

`Categorical` leaves the order of the channels to the network's masks. `AutoregressiveCategorical` orders them itself,
for networks without channel masks: the values of earlier channels enter through embeddings.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextpixel.heads.head import Head, register


@register("categorical", "K logits a symbol; channels ordered by the network's masks")
class Categorical(Head):
    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.levels,) * self.channels

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        n, height, width, _ = features.shape
        logits = features.reshape(n, height, width, self.channels, self.levels)
        return _pick(logits, x)

    def log_pmf(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        return F.log_softmax(features, -1)


@register(
    "autoregressive_categorical", "K logits a symbol given the pixel's earlier channels; orders the channels itself"
)
class AutoregressiveCategorical(Head):
    """logits_c = W_c · relu(features + Σ_{c'<c} E_{c'→c}[x_{c'}])."""

    orders_channels = True

    def __init__(self, channels: int, levels: int, features: int = 64):
        super().__init__(channels, levels)
        self.features = features
        self.logits = nn.ModuleList(nn.Linear(features, levels) for _ in range(channels))
        self.earlier = nn.ModuleList(
            nn.ModuleList(nn.Embedding(levels, features) for _ in range(channel)) for channel in range(channels)
        )
        for table in self.earlier.modules():
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=0.1)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.features,)

    def tables(self, channel: int) -> list[nn.Module]:
        """The embeddings through which a channel sees the earlier ones."""
        return list(self.earlier[channel].children())

    def _channel_logits(self, features: Tensor, channel: int, earlier: list[Tensor]) -> Tensor:
        for table, value in zip(self.tables(channel), earlier, strict=True):
            features = features + table(value)
        return self.logits[channel](torch.relu(features))

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        values = list(x.long().unbind(1))  # C of [N, H, W]
        logits = [self._channel_logits(features, c, values[:c]) for c in range(self.channels)]
        return _pick(torch.stack(logits, 3), x)

    def log_pmf(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        return F.log_softmax(self._channel_logits(features, channel, list(earlier.long().unbind(1))), -1)


def _pick(logits: Tensor, x: Tensor) -> Tensor:
    """log softmax of logits [N, H, W, C, K] at x [N, C, H, W]."""
    values = x.long().permute(0, 2, 3, 1)
    nats = F.cross_entropy(logits.flatten(0, -2), values.flatten(), reduction="none")
    return -nats.view(values.shape).permute(0, 3, 1, 2)
