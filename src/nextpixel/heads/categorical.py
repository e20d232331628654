"""Categorical heads: K logits a symbol (van den Oord et al. 2016a, section 2.2: "softmax"), any K.

`Categorical` leaves the order of the channels to the network's masks. `AutoregressiveCategorical` orders them itself,
for networks without channel masks: the values of earlier channels enter through embeddings.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nextpixel.heads.head import Head, register

LOGITS_AT_ONCE = 2**24  # 64 MiB in float32


@register("categorical", "K logits a symbol; channels ordered by the network's masks")
class Categorical(Head):
    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.levels,) * self.channels

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        n, height, width, _ = features.shape
        logits = features.reshape(n, height, width, self.channels, self.levels)
        return _pick(logits, x.long().permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def log_pmf(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        return F.log_softmax(features, -1)


@register(
    "autoregressive_categorical", "K logits a symbol given the pixel's earlier channels; orders the channels itself"
)
class AutoregressiveCategorical(Head):
    """logits_c = W_c · relu(features + Σ_{c'<c} E_{c'→c}[x_{c'}]).

    The last product is the head's own, so that a likelihood over many levels need not hold all logits: beyond
    `LOGITS_AT_ONCE` they are made piece by piece, and again for the gradient.
    """

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
        values = x.long().permute(0, 2, 3, 1)  # [N, H, W, C]
        pixels, symbols = features.flatten(0, -2), values.flatten(0, -2)
        at_once = max(1, LOGITS_AT_ONCE // (self.levels * self.channels))
        if len(pixels) <= at_once:
            return self._log_prob_of(pixels, symbols).view(values.shape).permute(0, 3, 1, 2)
        pieces = zip(pixels.split(at_once), symbols.split(at_once), strict=True)
        if torch.is_grad_enabled():
            found = [checkpoint(self._log_prob_of, *piece, use_reentrant=False) for piece in pieces]
        else:
            found = [self._log_prob_of(*piece) for piece in pieces]
        return torch.cat(found).view(values.shape).permute(0, 3, 1, 2)

    def _log_prob_of(self, features: Tensor, values: Tensor) -> Tensor:
        """[n, features], [n, C] → [n, C]."""
        each = list(values.unbind(1))
        logits = [self._channel_logits(features, c, each[:c]) for c in range(self.channels)]
        return _pick(torch.stack(logits, 1), values)

    def log_pmf(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        return F.log_softmax(self._channel_logits(features, channel, list(earlier.long().unbind(1))), -1)


def _pick(logits: Tensor, values: Tensor) -> Tensor:
    """log softmax of logits [..., K] at values [...]."""
    nats = F.cross_entropy(logits.flatten(0, -2), values.flatten(), reduction="none")
    return -nats.view(values.shape)
