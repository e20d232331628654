"""The distributions of a symbol: normalised, consistent, and steady at extreme logits."""

import itertools
import math

import pytest
import torch

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.heads import AutoregressiveCategorical, Bernoulli, Categorical, categorical, heads

LEVELS = [2, 3, 17, 256, 1024]
SMALL = {"autoregressive_categorical": {"features": 8}, "logistic_mixture": {"mixtures": 3}}
CASES = [
    (name, channels, levels)
    for name, head in heads().items()
    for levels in LEVELS
    for channels in (1, 3)
    if head.refusal(levels) is None
]


def made(name, channels, levels):
    return heads()[name](channels, levels, **SMALL.get(name, {})).double()


def features_of(head, features, channel):
    """The part of [n, sum(sizes)] features that log_pmf is given for a channel."""
    return features.split(list(head.sizes), -1)[0 if head.orders_channels else channel]


def pmfs(head, features, x):
    """[N, H, W, C, K] by log_pmf, symbol by symbol."""
    n, channels, height, width = x.shape
    found = torch.zeros(n, height, width, channels, head.levels, dtype=torch.float64)
    for i, j, c in itertools.product(range(height), range(width), range(channels)):
        found[:, i, j, c] = head.log_pmf(features_of(head, features[:, i, j], c), c, x[:, :c, i, j])
    return found


def test_the_heads_are_known_by_name():
    for head in (Bernoulli, Categorical, AutoregressiveCategorical):
        assert heads()[head.name] is head
    assert npx.heads() == heads()
    for name, head in heads().items():
        assert head.name == name
        assert head.summary


@pytest.mark.parametrize(("name", "channels", "levels"), CASES)
def test_probabilities_sum_to_one_and_agree_with_log_prob(name, channels, levels):
    head = made(name, channels, levels)
    features = 3 * torch.randn(2, 2, 3, sum(head.sizes)).double()
    x = torch.randint(levels, (2, channels, 2, 3))
    log_pmf = pmfs(head, features, x)
    sums = log_pmf.exp().sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-12, rtol=0)
    picked = log_pmf.gather(-1, x.permute(0, 2, 3, 1)[..., None])[..., 0].permute(0, 3, 1, 2)
    found = head.log_prob(features, x)
    assert found.shape == x.shape
    torch.testing.assert_close(found, picked, atol=1e-12, rtol=0)
    torch.testing.assert_close(head.log_prob(features, x.to(torch.int32)), found)


@pytest.mark.parametrize(("name", "channels", "levels"), CASES)
@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_keep_everything_finite(name, channels, levels, size, dtype):
    head = made(name, channels, levels).to(dtype)
    features = (size * torch.randint(-1, 2, (2, 2, 2, sum(head.sizes)))).to(dtype).requires_grad_()
    x = torch.randint(levels, (2, channels, 2, 2))
    log_prob = head.log_prob(features, x)
    assert torch.isfinite(log_prob).all()
    assert (log_prob <= 0).all()
    log_prob.sum().backward()
    assert torch.isfinite(features.grad).all()
    log_pmf = pmfs(head, features.detach(), x)
    assert torch.isfinite(log_pmf).all()
    sums = log_pmf.exp().sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-5, rtol=0)


def test_channels_after_an_improbable_one_are_scored_as_precisely():
    """In float32 what the first channel costs (here thousands of nats) must not be left as rounding in the others."""
    head = heads()["logistic_mixture"](3, 16, mixtures=5)
    features = 100 * torch.randn(8, 3, 3, *head.sizes)
    x = torch.randint(16, (8, 3, 3, 3))
    wanted = head.log_prob(features.double(), x)
    assert float(wanted[:, 0].min()) < -1000
    torch.testing.assert_close(head.log_prob(features, x).double(), wanted, rtol=2e-5, atol=2e-5)


def test_an_improbable_value_still_has_a_gradient():
    """No clamp at a small probability: at 1e4 nats the gradient still points back, at full size."""
    logits = torch.tensor([1e4]).view(1, 1, 1, 1).requires_grad_()
    log_prob = Bernoulli(1, 2).log_prob(logits, torch.zeros(1, 1, 1, 1, dtype=torch.long))
    log_prob.sum().backward()
    assert float(log_prob.detach()) == pytest.approx(-1e4)
    assert float(logits.grad) == pytest.approx(-1)
    logits = torch.tensor([1e4, 0.0, 0.0]).view(1, 1, 1, 3).requires_grad_()
    log_prob = Categorical(1, 3).log_prob(logits, torch.full((1, 1, 1, 1), 2))
    log_prob.sum().backward()
    assert float(log_prob.detach()) == pytest.approx(-1e4)
    assert logits.grad.flatten().tolist() == pytest.approx([-1, 0, 1])


def test_bernoulli_by_hand():
    """A logit of ln 3 is a probability of 3/4 for the value 1."""
    features = torch.full((1, 1, 1, 1), math.log(3)).double()
    head = Bernoulli(1, 2)
    for value, p in ((0, 0.25), (1, 0.75)):
        x = torch.full((1, 1, 1, 1), value)
        assert float(head.log_prob(features, x).exp()) == pytest.approx(p)
    assert head.log_pmf(features[0, 0], 0, torch.zeros(1, 0)).exp()[0].tolist() == pytest.approx([0.25, 0.75])


def test_categorical_by_hand_and_each_channel_has_logits_of_its_own():
    logits = torch.tensor([0.0, math.log(3), 0.0, math.log(7)]).double().view(1, 1, 1, 4)  # two channels, K = 2
    head = Categorical(2, 2)
    assert head.sizes == (2, 2)
    x = torch.tensor([1, 0]).view(1, 2, 1, 1)
    assert head.log_prob(logits, x).exp().flatten().tolist() == pytest.approx([0.75, 0.125])


@pytest.mark.parametrize("levels", [3, 17, 256])
def test_bernoulli_is_for_two_levels_only(levels, assert_sentence):
    assert Bernoulli.refusal(2) is None
    assert str(levels) in Bernoulli.refusal(levels)
    with pytest.raises(UserError, match="2 levels") as caught:
        npx.build("pixelcnn", shape=(1, 4, 4), levels=levels, head="bernoulli")
    assert_sentence(caught)


ORDERING = [name for name, head in heads().items() if head.orders_channels]


def test_every_kind_of_head_is_covered():
    assert "autoregressive_categorical" in ORDERING
    assert {name for name, *_ in CASES} == set(heads())


@pytest.mark.parametrize("name", ORDERING)
def test_a_head_that_orders_channels_sees_earlier_ones_and_no_later_ones(name):
    head = made(name, 3, 5)
    features = torch.randn(1, 1, 1, sum(head.sizes)).double()
    x = torch.tensor([2, 1, 3]).view(1, 3, 1, 1)
    base = head.log_prob(features, x).flatten().detach()
    for channel in range(3):
        changed = x.clone()
        changed[0, channel] = 4
        after = head.log_prob(features, changed).flatten().detach()
        for other in range(3):
            if other < channel:
                assert after[other] == base[other], "an earlier channel must not see a later one"
            elif other > channel:
                assert abs(float(after[other] - base[other])) > 1e-4, "a later channel must see an earlier one"


@pytest.mark.parametrize("name", heads())
def test_the_probabilities_of_all_pixels_sum_to_one(name):
    levels = 4 if heads()[name].refusal(4) is None else 2
    head = made(name, 3, levels)
    every = torch.tensor(list(itertools.product(range(levels), repeat=3))).view(-1, 3, 1, 1)
    features = torch.randn(1, 1, 1, sum(head.sizes)).double().expand(len(every), 1, 1, -1)
    total = head.log_prob(features, every).sum(1).exp().sum()
    assert float(total.detach()) == pytest.approx(1, abs=1e-12)


def test_two_pixels_do_not_mix():
    head = made("autoregressive_categorical", 2, 3)
    features, x = torch.randn(2, 2, 2, 8).double(), torch.randint(3, (2, 2, 2, 2))
    base = head.log_prob(features, x)
    changed = features.clone()
    changed[1, 0, 1] += 1
    differs = (head.log_prob(changed, x) != base).any(1)
    assert differs.nonzero().tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("channels", [1, 2])
def test_a_likelihood_in_pieces_is_the_same(channels, monkeypatch):
    """Values and gradients, with the last piece a short one."""
    head = made("autoregressive_categorical", channels, 50)
    features = torch.randn(2, 3, 5, 8).double().requires_grad_()
    x = torch.randint(50, (2, channels, 3, 5))
    weights = torch.randn(2, channels, 3, 5).double()
    found = []
    for at_once in (2**24, 7 * 50 * channels, 1):
        monkeypatch.setattr(categorical, "LOGITS_AT_ONCE", at_once)
        log_prob = head.log_prob(features, x)
        with torch.no_grad():
            torch.testing.assert_close(head.log_prob(features, x), log_prob)
        gradients = torch.autograd.grad((weights * log_prob).sum(), [features, *head.parameters()])
        found.append([log_prob, *gradients])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_a_likelihood_over_many_levels_does_not_hold_all_logits(monkeypatch):
    """Of the tensors that the gradient needs, none has as many numbers as there are logits."""
    monkeypatch.setattr(categorical, "LOGITS_AT_ONCE", 2**14)
    head, x = heads()["autoregressive_categorical"](1, 2**12, features=8), torch.randint(2**12, (2, 1, 4, 4))
    features = torch.randn(2, 4, 4, 8, requires_grad=True)
    sizes = []

    def keep(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        log_prob = head.log_prob(features, x)
    assert max(sizes, default=0) <= head.logits[0].weight.numel() < x.numel() * head.levels
    log_prob.sum().backward()
    assert features.grad.abs().sum() > 0
