"""AUROC, AUPR and FPR@95TPR against counting pairs and thresholds; ties are drawn on purpose."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nextpixel.errors import UserError
from nextpixel.tasks.detection import aupr, auroc, detection, fpr95

VALUES = st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0, math.inf]), min_size=1, max_size=25).map(np.array)


@given(VALUES, VALUES)
def test_auroc_counts_pairs(normal, anomalies):
    pairs = [1.0 if a > n else 0.5 if a == n else 0.0 for a in anomalies for n in normal]
    assert auroc(normal, anomalies) == pytest.approx(sum(pairs) / len(pairs))
    assert auroc(anomalies, normal) == pytest.approx(1 - sum(pairs) / len(pairs))


@given(VALUES, VALUES)
def test_aupr_and_fpr95_go_through_all_thresholds(normal, anomalies):
    area, recall, false_positives = 0.0, 0.0, None
    for threshold in sorted({*normal, *anomalies}, reverse=True):
        found, false = sum(a >= threshold for a in anomalies), sum(n >= threshold for n in normal)
        area += (found / len(anomalies) - recall) * found / (found + false)
        recall = found / len(anomalies)
        if false_positives is None and 20 * found >= 19 * len(anomalies):
            false_positives = false / len(normal)
    assert aupr(normal, anomalies) == pytest.approx(area)
    assert fpr95(normal, anomalies) == pytest.approx(false_positives)


def test_a_perfect_score_a_useless_one_and_a_wrong_one():
    low, high = np.arange(50.0), np.arange(50.0) + 100
    perfect = detection(low, high)
    assert (perfect.auroc.value, perfect.aupr.value, perfect.fpr95.value) == (1, 1, 0)
    assert (perfect.auroc.low, perfect.auroc.high) == (1, 1)
    useless = detection(np.zeros(40), np.zeros(10))
    assert (useless.auroc.value, useless.aupr.value, useless.fpr95.value) == (0.5, 0.2, 1)
    assert detection(high, low).auroc.value == 0


def test_the_interval_is_about_as_wide_as_theory_says():
    """Hanley and McNeil 1982: for exponential scores with AUC A the standard error is known."""
    generator = np.random.default_rng(0)
    normal, anomalies = generator.exponential(1, 400), generator.exponential(3, 400)
    found = detection(normal, anomalies).auroc
    a, n = found.value, 400
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = math.sqrt((a * (1 - a) + (n - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (n * n))
    assert found.low < a < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.25)
    assert detection(normal, anomalies) == detection(normal, anomalies)


@pytest.mark.parametrize(
    ("normal", "anomalies", "words"),
    [([], [1.0], "normal images"), ([1.0], [], "anomalies"), ([1.0, math.nan], [1.0], "not numbers")],
)
def test_scores_that_cannot_be_compared(normal, anomalies, words, assert_sentence):
    with pytest.raises(UserError, match=words) as error:
        detection(torch.tensor(normal), torch.tensor(anomalies))
    assert_sentence(error)


def test_options_that_make_no_sense(assert_sentence):
    for options in ({"resamples": 0}, {"level": 1.0}):
        with pytest.raises(UserError, match="bootstrap") as error:
            detection(np.ones(3), np.ones(3), **options)
        assert_sentence(error)
