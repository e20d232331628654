"""Entropy and variance of every symbol's surprise, against sums over values and over whole images by hand."""

import itertools
import math

import pytest
import torch

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.image_model import ImageModel
from nextpixel.tasks.surprise import calibrated, conditionals, surprise


def by_hand(pmf, value):
    """Bits, H and V of one symbol from a list of probabilities."""
    cost = [-math.log2(p) if p else 0.0 for p in pmf]
    entropy = math.fsum(p * c for p, c in zip(pmf, cost, strict=True))
    return cost[value], entropy, math.fsum(p * c * c for p, c in zip(pmf, cost, strict=True)) - entropy**2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["raster", "transpose-flip-y"])
def test_every_symbol_against_the_stepped_probabilities(tiny, channels, order):
    model = tiny(shape=(channels, 3, 4), levels=5, orders=[order], double=True, spread=0.5)
    x = torch.randint(5, (2, channels, 3, 4))
    found, stepper = surprise(model, x), model.stepper(2)
    while stepper.position is not None:
        row, column, channel = stepper.position
        for n, pmf in enumerate(stepper.pmf().tolist()):
            wanted = by_hand(pmf, int(x[n, channel, row, column]))
            here = [float(part[n, channel, row, column]) for part in found]
            assert here == pytest.approx(wanted, rel=1e-9, abs=1e-9)
        stepper.push(x[:, channel, row, column])


def all_images(shape, levels):
    return torch.tensor(list(itertools.product(range(levels), repeat=math.prod(shape)))).view(-1, *shape)


@pytest.mark.parametrize("order", ["raster", "flip-x"])
def test_conditionals_of_a_mixture_of_classes_against_all_images(tiny, order):
    """p(x_i = v | x_<i) as a ratio of sums of Σ_y p(y) p(x | y) over whole images."""
    model = tiny(shape=(1, 2, 2), levels=3, classes=3, orders=[order], double=True, spread=1.0)
    model.class_prior.copy_(torch.tensor([0.5, 0.3, 0.2]))
    check_against_enumeration(model)


def test_conditionals_of_a_multiscale_mixture_against_all_images():
    torch.manual_seed(3)
    options = {"layers": 1, "features": 6, "first_kernel": 3}
    model = npx.build_multiscale("gated_pixelcnn", shape=(1, 2, 3), levels=2, classes=2, **options).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    model.set_class_prior(torch.tensor([0.7, 0.3]))
    check_against_enumeration(model)


def check_against_enumeration(model):
    images = all_images(model.shape, model.levels)
    with torch.no_grad():
        given = model.log_prob_given_classes(images).exp()
    p = (given * model.log_class_prior().exp()).sum(1)
    assert float(p.sum()) == pytest.approx(1)
    numbers = torch.arange(math.prod(model.shape)).view(model.shape)
    chain = model.in_sequence(numbers).tolist()
    flat, found = images.flatten(1), conditionals(model, images).flatten(1, 3).exp()
    assert not torch.allclose(found[0], found[-1])
    for chosen in range(0, len(images), 7):
        same = torch.ones(len(images), dtype=torch.bool)
        for symbol in chain:
            whole = float(p[same].sum())
            for value in range(model.levels):
                wanted = float(p[same & (flat[:, symbol] == value)].sum()) / whole
                assert float(found[chosen, symbol, value]) == pytest.approx(wanted, rel=1e-8)
            same &= flat[:, symbol] == flat[chosen, symbol]


@pytest.mark.parametrize("classes", [None, 2])
def test_bits_are_those_of_log_prob(tiny, classes):
    model = tiny(shape=(3, 4, 5), classes=classes, double=True, spread=0.5)
    x = torch.randint(4, (3, 3, 4, 5))
    bits = surprise(model, x).bits
    torch.testing.assert_close(bits, -model.log_prob_per_symbol(x).detach() / math.log(2))


@pytest.mark.parametrize("classes", [None, 3])
def test_on_its_own_samples_the_excess_is_a_martingale(tiny, classes):
    """Mean 0, and the variance that the sum of V has as its expectation: within 4.5 standard errors (1 in 150,000)."""
    model = tiny(shape=(1, 4, 5), levels=4, classes=classes, spread=0.4)
    x, n = npx.sample(model, n=1500, seed=5, batch_size=1500), 1500
    excess, variance = excess_of(model, x)
    for should_be_0 in (excess.sum(1), excess.sum(1).square() - variance.sum(1)):
        assert abs(float(should_be_0.mean())) < 4.5 * float(should_be_0.std()) / math.sqrt(n)
    z = calibrated(excess, variance).flatten()
    for should_be_0 in (z, z.square() - 1):
        assert abs(float(should_be_0.mean())) < 4.5 * float(should_be_0.std()) / math.sqrt(len(z))
    others, _ = excess_of(model, torch.randint(4, x.shape))
    assert float(others.sum(1).mean()) > 10 * float(others.sum(1).std()) / math.sqrt(n)


def excess_of(model, x):
    found = surprise(model, x)
    return (found.bits - found.entropy).flatten(1), found.variance.flatten(1)


def certain_of_one(self, x, condition=None):
    """A head that knows: the value is 1."""
    log_pmf = torch.full((*x.shape, self.levels), -math.inf)
    log_pmf[..., 1] = 0
    return log_pmf


def test_a_model_that_is_certain(tiny, monkeypatch):
    monkeypatch.setattr(ImageModel, "log_pmf", certain_of_one)
    model, x = tiny(), torch.ones(2, 1, 4, 5, dtype=torch.long)
    x[1, 0, 2, 2] = 3
    found = surprise(model, x)
    assert (found.entropy == 0).all()
    assert (found.variance == 0).all()
    z = calibrated(found.bits - found.entropy, found.variance)
    assert (z[0] == 0).all()
    assert torch.isinf(z[1]).sum() == 1
    assert z[1, 0, 2, 2] == math.inf
    scores = npx.score(model, x)
    assert scores.typicality.tolist() == [0, math.inf]


def test_one_class_that_rules_a_symbol_out_leaves_the_others(tiny, monkeypatch):
    model = tiny(classes=2)
    uniform = torch.full((1, 1, 4, 5, 4), -math.log(4))
    monkeypatch.setattr(ImageModel, "log_pmf", lambda self, x, y: certain_of_one(self, x) if y else uniform)
    x = torch.ones(1, 1, 4, 5, dtype=torch.long)
    x[0, 0, 0, 1] = 3  # from here on only the class 0 is left
    bits = surprise(model, x).bits.flatten()
    assert bits.tolist() == pytest.approx([-math.log2(5 / 8), -math.log2(1 / 20), *[2.0] * 18])


def test_weights_that_are_not_numbers(tiny, assert_sentence):
    model = tiny()
    next(model.parameters()).data.fill_(math.nan)
    with pytest.raises(UserError, match="damaged") as error:
        surprise(model, torch.zeros(1, 1, 4, 5, dtype=torch.long))
    assert_sentence(error)
