"""What known pixels further on say about a hole's next symbol: a guide for particles, cheap and only roughly right.

The guide is a Gaussian N(μ, Σ) over the symbols of a picture, fitted to draws from the model itself. It knows, for any
values so far, how likely what is known later is: ψₜ = q(known later | symbols up to t)^½. Particles that follow p · ψ
instead of p, at a hole's symbol

    draw v with probability ∝ p(v | past) · ψₜ(v) / ψₜ₋₁,   of which the sum is a weight,

and by dividing ψ out again at the end stay right whatever ψ is: the estimate of p(known) is unbiased, and a good ψ only
makes its variance less. These are twisted, or look-ahead, particle filters (Whiteley and Lee 2014, "Twisted particle
filters"; Naesseth, Lindsten and Schön 2019, "Elements of sequential Monte Carlo", section 3). The power ½ and the
variance that is added to every symbol (`NUGGET`) keep the guide from being surer than it may be.

By Bayes' rule ψₜ(v) / ψₜ₋₁ is a ratio of two densities of one symbol: given the past and all that is known, and given
the past alone. Each comes from a Cholesky factor, as a regression on the symbols before.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nextpixel.images.levels import scale

POWER = 0.5
NUGGET = 0.05  # of values on [-1, 1]
SHRINKAGE = 0.2  # of the correlations, towards none
MOST_SYMBOLS = 3072  # the covariance has as many rows and columns


class Gaussian:
    """Mean and covariance of the symbols of draws [M, T], integers of `levels` levels in the order of prediction."""

    def __init__(self, draws: Tensor, levels: int):
        values = scale(draws, levels, torch.float64)
        self.levels, self.mean = levels, values.mean(0)
        centred = values - self.mean
        covariance = centred.T @ centred / len(values)
        own = covariance.diagonal().clone()
        self.covariance = (1 - SHRINKAGE) * covariance + torch.diag(SHRINKAGE * own + NUGGET)
        self.in_order = torch.linalg.cholesky(self.covariance)


class Guide:
    """log ψₜ / ψₜ₋₁ along the symbols of n pictures.

    values: integers [n, T] in the order of prediction, of which those under the mask `known` [T] count. The guide
    stands at symbol `first`; all before it must be known. It goes on by `known` or by `hole` and `take`.
    """

    def __init__(self, gaussian: Gaussian, values: Tensor, known: Tensor, first: int):
        self.levels = gaussian.levels
        self._levels = scale(torch.arange(self.levels), self.levels, torch.float64)
        places, scaled = torch.arange(len(known)), scale(values.cpu(), self.levels, torch.float64)
        known_first = torch.cat([places[known], places[~known]])
        factor = torch.linalg.cholesky(gaussian.covariance[known_first][:, known_first])
        self._past = _Chain(gaussian.mean, gaussian.in_order)
        self._past.begin(scaled[:, :first])
        self._all = _Chain(gaussian.mean[known_first], factor)
        self._all.begin(scaled[:, known_first[: int(known.sum())]])

    def hole(self) -> Tensor:
        """Of every value of the next symbol, which is unknown, [n, K]."""
        return POWER * (self._all.log_density(self._levels) - self._past.log_density(self._levels))

    def take(self, values: Tensor) -> None:
        """The value of that symbol, [n]."""
        scaled = self._levels[values.cpu()]
        self._past.take(scaled)
        self._all.take(scaled)

    def known(self, values: Tensor) -> Tensor:
        """Of the next symbol, which is known, [n]."""
        scaled = self._levels[values.cpu()]
        log_density = self._past.log_density(scaled[:, None])[:, 0]
        self._past.take(scaled)
        return -POWER * log_density

    def fork(self, indices: Tensor) -> None:
        self._past.fork(indices)
        self._all.fork(indices)


class _Chain:
    """The next variable of a Gaussian given those before it, in n cases at once; `factor` is its Cholesky factor."""

    def __init__(self, mean: Tensor, factor: Tensor):
        self.mean, self.factor, self.done = mean, factor, 0
        self.white: Tensor  # [n, T]: what was taken, whitened

    def begin(self, values: Tensor) -> None:
        """Take the first ones, [n, count]."""
        self.done = count = values.shape[1]
        self.white = values.new_zeros(len(values), len(self.mean))
        centred = (values - self.mean[:count]).T
        self.white[:, :count] = torch.linalg.solve_triangular(self.factor[:count, :count], centred, upper=False).T

    def _moments(self) -> tuple[Tensor, Tensor]:
        row = self.factor[self.done]
        return self.mean[self.done] + self.white[:, : self.done] @ row[: self.done], row[self.done]

    def log_density(self, values: Tensor) -> Tensor:
        """Of the next one at values [K] or [n, K]: [n, K]."""
        mean, deviation = self._moments()
        return -0.5 * ((values - mean[:, None]) / deviation).square() - deviation.log() - 0.5 * math.log(2 * math.pi)

    def take(self, values: Tensor) -> None:
        """The value of the next one, [n]."""
        mean, deviation = self._moments()
        self.white[:, self.done] = (values - mean) / deviation
        self.done += 1

    def fork(self, indices: Tensor) -> None:
        self.white = self.white[indices]
