"""Discretised logistic mixture (Salimans et al. 2017, "PixelCNN++", section 2.1 and 2.2), for any number of levels.

The levels are K points on [-1, 1], each the centre of a bin; the outer bins reach to infinity, so the masses of a
mixture component telescope to exactly 1 for every K. Masses are exact differences of the cumulative function in the log
domain, at any distance from the mean; there is no density fallback. A pixel has one mixture indicator for all its
channels; the mean of a channel depends linearly on the earlier channels, so the head orders the channels. Differences
from the paper: any number of channels, and sampling draws levels, never values between them.

With `zoom` > 1, for networks that begin with a prediction, a mean is the feature divided by it: a step of training
moves it by a part of a level, not by many, and a frozen model holds it with as many more bits. What an earlier channel
adds to it is in proportion to how far the channel's value is from its own mean, not from grey.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nextpixel.heads.head import Head, register

LOG_SCALES = (-7.0, 7.0)  # from narrower than any bin of 256 levels to flat; beyond, gradients would not be finite


@register("logistic_mixture", "discretised mixture of logistics, for many ordered levels; orders the channels itself")
class LogisticMixture(Head):
    orders_channels = True
    added: ClassVar[dict[str, int]] = {"zoom": 1}

    def __init__(self, channels: int, levels: int, mixtures: int = 10, zoom: int = 1):
        super().__init__(channels, levels)
        self.mixtures, self.zoom = mixtures, zoom
        self.pairs = channels * (channels - 1) // 2

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.mixtures * (1 + 2 * self.channels + self.pairs),)

    def of_prediction(self) -> tuple[Tensor, Tensor]:
        gain, bias = (torch.zeros(1 + 2 * self.channels + self.pairs, self.mixtures) for _ in range(2))
        gain = gain[..., None].repeat(1, 1, self.channels)
        means, scales = slice(1, 1 + self.channels), slice(1 + self.channels, 1 + 2 * self.channels)
        gain[means] = self.zoom * torch.eye(self.channels)[:, None]
        one_level = max(math.log(2 / (self.levels - 1)), LOG_SCALES[0] + 0.1)  # beyond the limit nothing is learned
        bias[scales] = torch.linspace(one_level, one_level + 2.5, self.mixtures)
        if self.zoom > 1:
            for channel in range(1, self.channels):  # after the channel before it
                bias[scales.stop + channel * (channel + 1) // 2 - 1] = math.atanh(0.8)
        return gain.flatten(0, 1), bias.flatten()

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        values = x.permute(0, 2, 3, 1)  # [N, H, W, C]
        weights, means, scales, pull = self._parts(features)  # weights: given the earlier channels, normalised
        logs = []
        for channel in range(self.channels):
            mean = self._mean(means, pull, channel, values[..., :channel])
            joint = weights + self._log_mass(mean, scales[..., channel, :], values[..., channel, None])
            logs.append(torch.logsumexp(joint, -1))
            # The difference of two log-sums would be the same, but not in float32 after an improbable channel.
            weights = torch.log_softmax(joint, -1)
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
        return torch.log_softmax(weights[..., 0, :], -1), means / self.zoom, scales.clamp(*LOG_SCALES), torch.tanh(pull)

    def _mean(self, means: Tensor, pull: Tensor, channel: int, earlier: Tensor) -> Tensor:
        """Mean of a channel's components given the values [..., channel] of the earlier ones, [..., M]."""
        mean, first = means[..., channel, :], channel * (channel - 1) // 2
        for before in range(channel):
            value = self._centre(earlier[..., before, None], mean)
            if self.zoom > 1:
                value = value - means[..., before, :]  # a surprise of 0 leaves the prediction as it is
            mean = mean + pull[..., first + before, :] * value
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
