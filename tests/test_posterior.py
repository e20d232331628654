"""p(class | image): Bayes' rule by hand, and the figures of how honest it is from tables small enough to be counted."""

import math

import pytest
import torch

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.tasks.posterior import calibration, wilson


@pytest.mark.parametrize("orders", [None, 2])
def test_bayes_rule(tiny, orders):
    model = tiny(classes=3, orders=orders, double=True, spread=0.5)
    model.class_prior.copy_(torch.tensor([0.6, 0.3, 0.1]))
    x = torch.randint(4, (5, 1, 4, 5))
    found = npx.posterior(model, x, batch_size=2)
    for n in range(5):
        given = [
            sum(float(one.log_prob(x[n : n + 1], y).detach().exp()) for one in model.each_order()) / (orders or 1)
            for y in range(3)
        ]
        joint = [p * g for p, g in zip([0.6, 0.3, 0.1], given, strict=True)]
        assert found.prob[n].tolist() == pytest.approx([j / sum(joint) for j in joint], rel=1e-7)
        assert found.log_joint[n].exp().tolist() == pytest.approx(joint, rel=1e-7)
        assert int(found.predicted[n]) == joint.index(max(joint))
    torch.testing.assert_close(found.log_joint.logsumexp(1), model.log_prob(x).detach())
    assert found.calibration is None


def test_the_accuracy_is_that_of_evaluate(tiny, digits):
    model = tiny(like=digits, classes=10, spread=0.3)
    found, evaluated = npx.posterior(model, digits.test), npx.evaluate(model, digits.test)
    assert found.calibration.accuracy == pytest.approx(evaluated.class_accuracy)
    assert found.calibration.images == 40


def test_figures_by_hand():
    """Two classes, bins of a quarter: confidences .9 and 1 (right, wrong) in the last one, .6 and .75 in the third."""
    prob = torch.tensor([[0.9, 0.1], [0.0, 1.0], [0.6, 0.4], [0.25, 0.75]], dtype=torch.float64)
    found = calibration(prob.log(), torch.tensor([0, 1, 1, 1]), bins=4)
    assert found.accuracy == 0.75
    assert found.log_loss == pytest.approx(-(math.log(0.9) + math.log(0.4) + math.log(0.75)) / 4)
    assert found.brier == pytest.approx((0.02 + 0 + 0.72 + 0.125) / 4)
    third, last = found.reliability
    assert (third.low, third.high, third.images, third.accuracy) == (0.5, 0.75, 2, 0.5)
    assert third.confidence == pytest.approx(0.675)
    assert (last.images, last.accuracy) == (2, 1)
    assert found.ece == pytest.approx(0.5 * 0.175 + 0.5 * 0.05)


def test_wilson_covers_as_often_as_it_says():
    """Summed over the binomial distribution: near 95 % for a share of 0.97 of 297, where the plain interval is not."""
    n, p, covered = 297, 0.97, 0.0
    for right in range(n + 1):
        low, high = wilson(right, n)
        assert 0 <= low <= right / n <= high <= 1
        log_weight = math.lgamma(n + 1) - math.lgamma(right + 1) - math.lgamma(n - right + 1)
        weight = math.exp(log_weight + right * math.log(p) + (n - right) * math.log1p(-p))
        covered += weight * (low <= p <= high)
    assert 0.93 < covered < 0.975


def test_what_has_no_posterior(tiny, assert_sentence):
    images = torch.zeros(2, 1, 4, 5, dtype=torch.uint8)
    conditional = tiny(classes=2)
    for model, data, words in [
        (tiny(), images, "not class-conditional"),
        (conditional, images[:0], "no images"),
        (conditional, Split(images, None, 5, "five", "drawn"), "has 5 levels"),
        (conditional, Split(images, torch.tensor([0, 2]), 4, "three", "drawn", 3), "label 2"),
        (conditional, images.float(), "integers"),
    ]:
        with pytest.raises(UserError, match=words) as error:
            npx.posterior(model, data)
        assert_sentence(error)
