"""How well a score tells anomalies from normal images: AUROC, AUPR and FPR@95TPR, with bootstrap intervals.

Anomalies are the positives, and a higher score means more anomalous. Ties count as they must: half in the AUROC, as one
step in the others.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nextpixel.errors import UserError

Scores = NDArray[np.float64]
TRUE_POSITIVES = 0.95


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure with the bounds of its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Detection:
    """auroc: the probability that an anomaly scores above a normal image, ties half. aupr: average precision, which
    depends on the share of anomalies. fpr95: the share of normal images above the highest threshold that finds 95 % of
    the anomalies. normal, anomalies: how many images there were."""

    auroc: Figure
    aupr: Figure
    fpr95: Figure
    normal: int
    anomalies: int


def detection(
    normal: Tensor | Scores, anomalies: Tensor | Scores, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Detection:
    """The figures of scores [n] of normal images and [m] of anomalies, higher meaning more anomalous.

    The intervals are percentiles of `resamples` draws with replacement, of the normal images and the anomalies apart;
    they speak of the images, not of the training. UserError for empty sets and for scores that are not numbers.
    """
    if resamples < 1 or not 0 < level < 1:
        raise UserError("The bootstrap needs at least one resample, and a level between 0 and 1.")
    good, bad = _checked(normal, "normal images"), _checked(anomalies, "anomalies")
    generator = np.random.default_rng(seed)
    draws = np.empty((resamples, len(MEASURES)))
    for row in draws:
        drawn = generator.choice(good, len(good)), generator.choice(bad, len(bad))
        row[:] = [measure(*drawn) for measure in MEASURES.values()]
    tail = 50 * (1 - level)
    lows, highs = np.percentile(draws, [tail, 100 - tail], axis=0)
    figures = [
        Figure(measure(good, bad), float(low), float(high))
        for measure, low, high in zip(MEASURES.values(), lows, highs, strict=True)
    ]
    return Detection(figures[0], figures[1], figures[2], len(good), len(bad))


def auroc(normal: Scores, anomalies: Scores) -> float:
    """P(anomaly > normal) + ½ P(anomaly = normal), over all pairs."""
    ordered = np.sort(normal)
    below = np.searchsorted(ordered, anomalies, "left") + np.searchsorted(ordered, anomalies, "right")
    return float(below.mean() / (2 * len(normal)))


def aupr(normal: Scores, anomalies: Scores) -> float:
    """Average precision: Σ (recall_k − recall_{k−1}) · precision_k over the thresholds, from the highest down."""
    found, false = _above(normal, anomalies)
    gained = np.diff(found, prepend=0)
    return float((gained * found / (found + false)).sum() / len(anomalies))


def fpr95(normal: Scores, anomalies: Scores) -> float:
    """The false-positive rate at the highest threshold whose true-positive rate is 95 % or more."""
    found, false = _above(normal, anomalies)
    first = np.searchsorted(found, math.ceil(TRUE_POSITIVES * len(anomalies)), "left")
    return float(false[first] / len(normal))


MEASURES: dict[str, Callable[[Scores, Scores], float]] = {"auroc": auroc, "aupr": aupr, "fpr95": fpr95}


def _above(normal: Scores, anomalies: Scores) -> tuple[Scores, Scores]:
    """At every threshold, from the highest down: how many anomalies and how many normal images reach it."""
    thresholds = np.unique(np.concatenate([normal, anomalies]))[::-1]
    return (
        (len(anomalies) - np.searchsorted(np.sort(anomalies), thresholds, "left")).astype(np.float64),
        (len(normal) - np.searchsorted(np.sort(normal), thresholds, "left")).astype(np.float64),
    )


def _checked(scores: Tensor | Scores, what: str) -> Scores:
    array = np.asarray(scores, dtype=np.float64).ravel()
    if len(array) == 0:
        raise UserError(f"There are no scores of {what}: give at least one.")
    if np.isnan(array).any():
        raise UserError(f"{int(np.isnan(array).sum())} scores of {what} are not numbers (NaN): nothing can be ranked.")
    return array
