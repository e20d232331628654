"""A power law through points of bits/dim against training compute, and what it says a figure would cost.

bits = floor + factor · compute^−exponent, with 0 ≤ floor, 0 < exponent. For each floor the rest is a straight line in
logarithms, so the fit is a search over one number. The uncertainty is that of the fit alone: all floors whose sum of
squares is no worse than a likelihood ratio of 95 % for one parameter allows, given normal errors. That the law goes on
to hold where nothing was measured is an assumption, and the points of one run share its noise and its learning rate.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

FLOORS = 400  # tried between 0 and the lowest figure
LIKELY = 3.84  # of twice the logarithm of the likelihood ratio: 95 %, one degree of freedom
FEWEST = 4  # points, for three numbers


@dataclasses.dataclass(frozen=True)
class Law:
    """bits = floor + factor · compute^−exponent; error: root mean square, bits."""

    floor: float
    factor: float
    exponent: float
    error: float

    def cost(self, bits: float) -> float:
        """The compute at which the law reaches `bits`; infinite at the floor and below."""
        if bits <= self.floor:
            return math.inf
        power = (math.log(self.factor) - math.log(bits - self.floor)) / self.exponent
        return math.exp(power) if power < 700 else math.inf


def laws(compute: Sequence[float], bits: Sequence[float]) -> list[Law]:
    """All laws that the points allow, the best one first; none where there are too few points or they do not fall."""
    c, y = np.asarray(compute, float), np.asarray(bits, float)
    if len(c) < FEWEST or len(set(compute)) < FEWEST or not (c > 0).all():
        return []
    logs, found = np.log(c), []
    for floor in np.linspace(0, y.min(), FLOORS, endpoint=False):
        slope, start = np.polyfit(logs, np.log(y - floor), 1)
        if slope < 0:
            error = np.sqrt(np.mean((floor + np.exp(start + slope * logs) - y) ** 2))
            found.append(Law(float(floor), math.exp(start), float(-slope), float(error)))
    if not found:
        return []
    best = min(found, key=lambda law: law.error)
    most = max(best.error, 1e-9) * math.exp(LIKELY / (2 * len(c)))
    return sorted((law for law in found if law.error <= most), key=lambda law: law.error)


def extrapolated(compute: Sequence[float], bits: Sequence[float], targets: Sequence[float]) -> dict[str, object] | None:
    """The best law, and what each target would cost by it and by the cheapest and the dearest law that the points
    allow; None for a cost that is infinite. None in all if no law can be fitted."""
    allowed = laws(compute, bits)
    if not allowed:
        return None
    best = allowed[0]
    costs = {}
    for target in targets:
        each = [law.cost(target) for law in allowed]
        values = {"best": best.cost(target), "least": min(each), "most": max(each)}
        costs[f"{target:g}"] = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {
        "law": "bits = floor + factor * compute^-exponent",
        **dataclasses.asdict(best),
        "floors_allowed": [min(law.floor for law in allowed), max(law.floor for law in allowed)],
        "points": len(compute),
        "from": min(compute),
        "to": max(compute),
        "costs": costs,
        "means": "an extrapolation beyond what was measured; least and most: 95 % of the fit alone",
    }
