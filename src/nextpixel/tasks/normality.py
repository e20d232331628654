"""How far an image is from normal ones in what the model says of it: all statistics at once, none of them alone.

An anomaly may cost as many bits as normal images do, and as many as it should, and yet not both at once for an image
that simple. So the logarithms of a few statistics (the bits, their expectation H and variance V, the lengths as files)
are taken together, the axes are made uncorrelated and of variance 1 on normal images, and the score is the distance to
the 10th nearest of them. That statistics of a likelihood model are compared with those of normal data is from
Morningstar et al. 2021 ("Density of States Estimation for Out-of-Distribution Detection"), the distance to neighbours
from Sun et al. 2022 ("Out-of-Distribution Detection with Deep Nearest Neighbors"); these statistics are ours.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from nextpixel.errors import UserError

NEIGHBOURS = 10
RIDGE = 1e-6  # added to correlations, so that statistics that depend on each other do no harm
AT_ONCE = 1 << 22  # distances held at a time


@dataclasses.dataclass(frozen=True)
class Normality:
    """Statistics [m, S] of normal images, with which others are compared."""

    normal: Tensor

    def __post_init__(self) -> None:
        if len(self.normal) <= NEIGHBOURS:
            raise UserError(
                f"The score 'distance' needs more than {NEIGHBOURS} normal images to compare with, not "
                f"{len(self.normal)}."
            )

    def distance(self, statistics: Tensor) -> Tensor:
        """The distance of each row of statistics [N, S] to its 10th nearest normal image, [N]; higher is more
        anomalous. UserError where the statistics are others (no WebP here, for example)."""
        if statistics.shape[1] != self.normal.shape[1]:
            raise UserError(
                f"The normal images were compared by {self.normal.shape[1]} statistics, these images have "
                f"{statistics.shape[1]}: score both in the same way."
            )
        mean = self.normal.mean(0)
        spread = self.normal.std(0).clamp(min=1e-9)
        scaled = (self.normal - mean) / spread
        correlations = scaled.T @ scaled / (len(scaled) - 1) + RIDGE * torch.eye(scaled.shape[1]).to(scaled)
        whiten = torch.linalg.cholesky(torch.linalg.inv(correlations))
        normal = scaled @ whiten
        distance = statistics.new_full((len(statistics),), torch.inf)  # of images that the model rules out, too
        possible = torch.isfinite(statistics).all(1)
        parts = ((statistics[possible] - mean) / spread @ whiten).split(max(1, AT_ONCE // len(normal)))
        distance[possible] = torch.cat([torch.cdist(part, normal).kthvalue(NEIGHBOURS, 1).values for part in parts])
        return distance
