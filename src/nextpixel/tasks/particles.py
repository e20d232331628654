"""Sequential Monte Carlo through the order of prediction: holes around which pixels are known.

A set of P particles is P half-finished copies of one picture. They step through the model's order. A hole's symbol is
drawn; at a known symbol a particle is given its value and weighted by its probability given the particle's past. Once
the effective sample size 1/Σw² of a set falls below P/2, the set is resampled, just before the next symbol that has to
be drawn. What is known after the last hole symbol weights all particles at once, in one parallel pass. A guide may tell
the particles of what is known further on (`tasks/lookahead.py`).

The mean weight is an unbiased estimate of p(known), and a particle drawn by its final weight is a draw from p(hole |
known) but for a bias that falls as 1/P (Gordon, Salmond and Smith 1993; Doucet and Johansen 2009, "A tutorial on
particle filtering and smoothing: fifteen years later"). Resampling is systematic (Carpenter, Clifford and Fearnhead
1999).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from nextpixel.model import Model
from nextpixel.tasks.drawing import SampleOptions, begun, choose, chosen
from nextpixel.tasks.lookahead import Gaussian, Guide
from nextpixel.tasks.progress import Steps

AS_IT_IS = SampleOptions()
TOGETHER = 64  # pictures in one parallel pass


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One fill from each set: images [n, C, H, W]; log_p of the whole picture, [n]; log_evidence, the log of the set's
    estimate of p(known), [n]; final and smallest effective sample size, [n]. Nats, float64."""

    images: Tensor
    log_p: Tensor
    log_evidence: Tensor
    ess: Tensor
    smallest_ess: Tensor


class Sets:
    """n sets of P particles with their weights. Every set has its own generator, so that nothing that happens in a set
    depends on how many others are stepped with it."""

    def __init__(self, n: int, particles: int, seeds: list[list[int]]):
        self.n, self.particles = n, particles
        self.random = [np.random.default_rng(seed) for seed in seeds]
        self.log_weights = torch.zeros(n, particles, dtype=torch.float64)  # since a set was last resampled
        self.log_evidence = torch.zeros(n, dtype=torch.float64)  # until then
        self.smallest_ess = torch.full((n,), float(particles), dtype=torch.float64)

    def noise(self) -> Tensor:
        """A number in [0, 1) for every particle, [n · P]."""
        return torch.from_numpy(np.stack([random.random(self.particles) for random in self.random])).flatten()

    def weight(self, log_weights: Tensor) -> None:
        """Multiply the weights, [n · P]."""
        self.log_weights += log_weights.cpu().double().view(self.n, self.particles)

    def shares(self) -> Tensor:
        return torch.softmax(self.log_weights, 1)

    def ess(self) -> Tensor:
        ess = 1 / self.shares().square().sum(1)
        self.smallest_ess = torch.minimum(self.smallest_ess, ess)
        return ess

    def resample(self) -> Tensor | None:
        """Which particles go on, [n · P], after sets with an effective sample size below P/2 were resampled; None: all
        of them."""
        poor = torch.nonzero(self.ess() < self.particles / 2)[:, 0].tolist()
        if not poor:
            return None
        goes_on = torch.arange(self.n * self.particles).view(self.n, self.particles)
        self.log_evidence = self.log_evidence.clone()
        estimate, shares = self.estimate(), self.shares()
        for number in poor:
            points = (np.arange(self.particles) + self.random[number].random()) / self.particles
            goes_on[number] = number * self.particles + inverse(shares[number], torch.from_numpy(points))
            self.log_evidence[number], self.log_weights[number] = estimate[number], 0.0
        return goes_on.flatten()

    def estimate(self) -> Tensor:
        """log of the estimate of all weights so far, [n]."""
        return self.log_evidence + torch.logsumexp(self.log_weights, 1) - math.log(self.particles)

    def one_each(self) -> Tensor:
        """One particle of each set, drawn by its weight, [n] numbers among n · P."""
        drawn = [
            inverse(shares, torch.tensor([random.random()], dtype=torch.float64))
            for shares, random in zip(self.shares(), self.random, strict=True)
        ]
        return torch.cat(drawn) + torch.arange(self.n) * self.particles


def inverse(shares: Tensor, points: Tensor) -> Tensor:
    """Where points in [0, 1) fall in the cumulative distribution of shares [P]; both float64."""
    sums = shares.cumsum(0)
    below = torch.nextafter(sums[-1], torch.zeros_like(sums[-1]))  # where a point is 1 by rounding
    return torch.searchsorted(sums, (points * sums[-1]).clamp(max=below), right=True)


def ends(known: Tensor) -> tuple[int, int]:
    """The first and the last symbol that is not known, of a mask [symbols]."""
    holes = torch.nonzero(~known)[:, 0]
    return int(holes[0]), int(holes[-1])


@torch.no_grad()
def fill(
    model: Model,
    source: Tensor,
    mask: Tensor,
    conditions: dict[str, Tensor] | None,
    seeds: list[list[int]],
    particles: int,
    gaussian: Gaussian | None,
    steps: Steps,
) -> Drawn:
    """Fill in what is unknown of pictures source [n, C, H, W], each with a set of particles of its own.

    mask: bool [H, W], what is known. conditions: of the n pictures, as `model.condition_parts` gives them. seeds: of
    the sets, n of them. gaussian: looks ahead for the particles (`tasks/lookahead.py`); None: they do not. The model is
    in eval mode and in one order. `steps` goes on by one for every symbol that is stepped.
    """
    n = len(source)
    every = torch.arange(n).repeat_interleave(particles)
    known = model.in_sequence(mask.expand(source.shape[1:]))
    first, last = ends(known)
    values = model.in_sequence(source.long())[every]
    guide = None if gaussian is None else Guide(gaussian, values, known, first)
    sets = Sets(n, particles, seeds)
    stepper = begun(model, source, conditions, first).fork(every)
    log_guide = torch.zeros(n * particles, dtype=torch.float64)  # log ψ, to be divided out at the end
    for at in range(first, last + 1):
        log_pmf = stepper.log_pmf().cpu().double()
        if known[at]:
            value = values[:, at].cpu()
            log_weight = log_pmf.gather(1, value[:, None])[:, 0]
            if guide is not None:
                ahead = guide.known(value)
                log_weight, log_guide = log_weight + ahead, log_guide + ahead
        else:
            goes_on = sets.resample()
            if goes_on is not None:
                stepper, log_pmf, log_guide = stepper.fork(goes_on), log_pmf[goes_on], log_guide[goes_on]
                if guide is not None:
                    guide.fork(goes_on)
            ratios = torch.zeros(1, dtype=torch.float64) if guide is None else guide.hole()
            value = choose(log_pmf + ratios, sets.noise(), AS_IT_IS)
            log_weight = torch.logsumexp(log_pmf + ratios, 1)
            if guide is not None:
                guide.take(value)
                log_guide = log_guide + ratios.gather(1, value[:, None])[:, 0]
        sets.weight(log_weight)
        stepper.push(value.to(source.device))
        steps.to(steps.done + 1)
    images = torch.where(mask.to(source.device), source[every].long(), stepper.images)
    log_p = log_prob_in_sequence(model, images, chosen(conditions, every))
    sets.weight(log_p[:, last + 1 :].sum(1) - log_guide)
    ess, taken = sets.ess(), sets.one_each()
    log_evidence = log_p[::particles, :first].sum(1) + sets.estimate()
    return Drawn(images[taken].cpu(), log_p[taken].sum(1), log_evidence, ess, sets.smallest_ess)


def log_prob_in_sequence(model: Model, images: Tensor, conditions: dict[str, Tensor] | None) -> Tensor:
    """log p of every symbol given all earlier ones, in the order of prediction: nats, float64 [n, symbols], on CPU."""
    parts = []
    for start in range(0, len(images), TOGETHER):
        some = slice(start, start + TOGETHER)
        parts.append(
            model.in_sequence(model.log_prob_per_symbol(images[some], chosen(conditions, some))).cpu().double()
        )
    return torch.cat(parts)
