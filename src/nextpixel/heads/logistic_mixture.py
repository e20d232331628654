"""Discretised logistic mixture (Salimans et al. 2017, "PixelCNN++", section 2.1 and 2.2), for any number of levels.

The levels are K points on [-1, 1], each the centre of a bin; the outer bins reach to infinity, so the masses of a
mixture component telescope to exactly 1 for every K. Masses are exact differences of the cumulative function in the log
domain, at any distance from the mean; there is no density fallback. A pixel has one mixture indicator for all its
channels; the mean of a channel depends linearly on the earlier channels, so the head orders the channels. Differences
from the paper: any number of channels, and sampling draws levels, never values between them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nextpixel.heads.head import Head, register

LOG_SCALES = (-7.0, 7.0)  # from narrower than any bin of 256 levels to flat; beyond, gradients would not be finite


@register("logistic_mixture", "discretised mixture of logistics, for many ordered levels; orders the channels itself")
class LogisticMixture(Head):
    orders_channels = True

    def __init__(self, channels: int, levels: int, mixtures: int = 10):
        super().__init__(channels, levels)
        self.mixtures = mixtures
        self.pairs = channels * (channels - 1) // 2

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.mixtures * (1 + 2 * self.channels + self.pairs),)

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        values = x.permute(0, 2, 3, 1)  # [N, H, W, C]
        weights, means, scales, pull = self._parts(features)
        joint, logs = weights, []
        for channel in range(self.channels):
            mean = self._mean(means, pull, channel, values[..., :channel])
            step = joint + self._log_mass(mean, scales[..., channel, :], values[..., channel, None])
            logs.append(torch.logsumexp(step, -1) - torch.logsumexp(joint, -1))
            joint = step
        return torch.stack(logs, 1)

    def log_pmf(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        joint, means, scales, pull = self._parts(features)  # joint: log-weight of every component, [n, M]
        for before in range(channel):
            mean = self._mean(means, pull, before, earlier[:, :before])
            joint = joint + self._log_mass(mean, scales[:, before], earlier[:, before, None])
        mean = self._mean(means, pull, channel, earlier)
        levels = torch.arange(self.levels, device=features.device).view(1, -1, 1)
        masses = self._log_mass(mean[:, None], scales[:, None, channel], levels)  # [n, K, M]
        return torch.logsumexp(torch.log_softmax(joint, -1)[:, None] + masses, -1)

    def _parts(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-weights [..., M]; means, log-scales [..., C, M]; coefficients of earlier channels [..., pairs, M]."""
        parts = features.unflatten(-1, (1 + 2 * self.channels + self.pairs, self.mixtures))
        weights, means, scales, pull = parts.split([1, self.channels, self.channels, self.pairs], -2)
        return torch.log_softmax(weights[..., 0, :], -1), means, scales.clamp(*LOG_SCALES), torch.tanh(pull)

    def _mean(self, means: Tensor, pull: Tensor, channel: int, earlier: Tensor) -> Tensor:
        """Mean of a channel's components given the values [..., channel] of the earlier ones, [..., M]."""
        mean, first = means[..., channel, :], channel * (channel - 1) // 2
        for before in range(channel):
            mean = mean + pull[..., first + before, :] * self._centre(earlier[..., before, None], mean)
        return mean

    def _centre(self, values: Tensor, like: Tensor) -> Tensor:
        return values.to(like) * (2 / (self.levels - 1)) - 1

    def _log_mass(self, mean: Tensor, log_scale: Tensor, values: Tensor) -> Tensor:
        """Log of the mass of the bins of `values` under each component."""
        sharpness = torch.exp(-log_scale)
        half = sharpness / (self.levels - 1)
        from_mean = sharpness * (self._centre(values, mean) - mean)
        below_upper = F.logsigmoid(from_mean + half)  # log of the mass below the upper edge
        above_lower = F.logsigmoid(half - from_mean)  # log of the mass above the lower edge
        # sigmoid(a) − sigmoid(b) = sigmoid(a) · sigmoid(−b) · (1 − exp(b − a)), without cancellation
        inner = below_upper + above_lower + torch.log(-torch.expm1(-2 * half))
        return torch.where(values == 0, below_upper, torch.where(values == self.levels - 1, above_lower, inner))
