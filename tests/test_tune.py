"""Tuning to a frozen form: the simulation is the frozen network, and training in it makes freezing cheaper."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_exact import FREEZABLE, OPTIONS, SIZE, build, pictures, stepped

import nextpixel as npx
from nextpixel.causal import Layout, PixelConv, Whole
from nextpixel.errors import UserError
from nextpixel.exact import cost_percent, frozen, numbers, simulated
from nextpixel.exact.halves import ExactHalves, precision_of_halves
from nextpixel.exact.numbers import FORMS, Formats

COARSE = Formats("float32", activation=5, weight=2, index=5)


@pytest.fixture(scope="module")
def trained():
    """A small model that knows something, and data."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = npx.dataset("digits")
    model = npx.build("gated_pixelcnn", like=data, layers=3, features=16, first_kernel=5)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for start in range(0, 200 * 32, 32):
        images = data.train.images[torch.arange(start, start + 32) % len(data.train)]
        optimiser.zero_grad()
        (-model.log_prob(images).mean() / 64).backward()
        optimiser.step()
    return model.eval(), data


# The simulation


@pytest.mark.parametrize(("family", "options"), [*((name, {}) for name in FREEZABLE), *OPTIONS])
@pytest.mark.parametrize("form", FORMS)
def test_the_simulation_gives_the_frozen_networks_integers(family, options, form):
    channels = 3 if npx.families()[family].channel_masks else 1
    model = build(family, channels=channels, classes=3, **options)
    exact = npx.freeze(model, form=form)
    x, labels = pictures(model, 2)
    features = simulated(model, exact).features(x, labels)
    integers = exact.network(exact.embedding(x, exact.like()), exact.embed_condition(labels, 2, SIZE))
    assert torch.equal(features.double() * exact.formats.one, integers.double())
    assert not torch.equal(features, model.features(x, labels))


@pytest.mark.parametrize("head", ["autoregressive_categorical", "logistic_mixture"])
def test_the_simulation_reaches_every_weight(head):
    model = build("gated_pixelcnn", head, channels=3, classes=3, orders=["flip-x"], loud=1.0)
    exact = npx.freeze(model)
    x, labels = pictures(model, 3)
    found = simulated(model, exact).log_prob(x, labels)
    assert torch.allclose(found.double(), exact.log_prob(x, labels).double(), rtol=2e-3)
    found.sum().backward()
    simulated_gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.log_prob(x, labels).sum().backward()
    for name, parameter in model.named_parameters():
        assert bool(simulated_gradients[name].any()) == bool(parameter.grad.any()), name


def test_the_gradients_of_fine_formats_are_those_of_the_trained_network():
    model = build("local", loud=1.0)
    x, _ = pictures(model, 4)
    model.log_prob(x).sum().backward()
    true = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    simulated(model, npx.freeze(model, form="float64")).log_prob(x).sum().backward()
    for parameter, wanted in zip(model.parameters(), true, strict=True):
        assert (parameter.grad - wanted).norm() < 0.01 * wanted.norm()


# Tuning


def test_tuning_makes_freezing_cheaper_on_other_images(trained, monkeypatch):
    model, data = trained
    monkeypatch.setitem(numbers.FORMS, "float32", COARSE)
    before = copy.deepcopy(model.state_dict())
    untuned = cost_percent(model, frozen(model, "float32"), data.test)
    exact = npx.tune(model, data, steps=40, learning_rate=2e-3, images=64)
    tuned = cost_percent(model, exact, data.test)
    assert untuned > 5
    assert tuned < 0.5 * untuned
    told = exact.card["freezing"]
    assert told["cost_percent"] < told["untuned_percent"]
    assert told["tuning"]["steps"] == 40
    assert exact.formats.activation == COARSE.activation
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    x = data.test.images[:2]
    assert torch.equal(stepped(exact, x), exact.masses(x))


def test_tuning_is_the_same_again_and_never_worse_than_not_tuning(trained, monkeypatch):
    model, data = trained
    small = npx.Dataset("few", data.train[:40], data.valid[:6], data.test[:2])
    monkeypatch.setitem(numbers.FORMS, "float32", COARSE)
    first, second = (npx.tune(model, small, steps=3, images=3, seed=5) for _ in range(2))
    assert first.identity == second.identity
    assert npx.tune(model, small, steps=3, images=3, seed=6).identity != first.identity
    ruined = npx.tune(model, small, steps=2, images=3, learning_rate=0.9)
    assert ruined.identity == frozen(model, "float32").identity


def test_freezing_says_what_the_shorter_form_would_have_cost(trained, monkeypatch):
    model, data = trained
    monkeypatch.setitem(numbers.FORMS, "float32", COARSE)
    exact = npx.freeze(model, data.valid[:20])
    assert exact.formats.form == "float64"
    assert exact.card["freezing"]["float32_percent"] > 2


def test_what_cannot_be_tuned_is_refused(trained, digits, assert_sentence):
    model, data = trained
    exact = npx.freeze(model)
    for mistake, word in (
        (lambda: npx.tune(exact, data), "already"),
        (lambda: npx.tune(model, data.train), "whole data set"),
        (lambda: npx.tune(npx.build("made", like=digits), data), "made"),
        (lambda: npx.tune(model, data, form="int8"), "int8"),
        (lambda: npx.tune(model, data, steps=0), "steps"),
        (lambda: npx.tune(model, data, learning_rate=2.0), "learning_rate"),
        (lambda: npx.tune(npx.build("pixelcnn", shape=(1, 8, 8), levels=4), data), "levels"),
        (lambda: npx.tune(model, npx.Dataset("one", data.train, data.valid[:1], data.test)), "two images"),
    ):
        with pytest.raises(UserError, match=word) as error:
            mistake()
        assert_sentence(error)


# Products in two halves


def hold(layer, dtype):
    for module in layer.modules():
        for name, parameter in module._parameters.items():
            module._parameters[name] = torch.nn.Parameter(parameter.to(dtype), requires_grad=False)
    return layer


@given(st.integers(0, 10**6), st.sampled_from([torch.float32, torch.float64, torch.int64]))
def test_halves_are_one_product_in_a_wider_type(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    linear = torch.nn.Linear(6, 4)
    for parameter in linear.parameters():
        torch.nn.init.normal_(parameter, std=1.0, generator=generator)
    formats = FORMS["float32"]
    bounds = torch.randint(1, formats.limit + 1, (6,), generator=generator).double()
    bits = precision_of_halves(linear.weight, linear.bias, bounds, formats)
    exact = ExactHalves(linear, formats)
    with torch.no_grad():
        exact.take({"weight": linear.weight}, linear.bias, bits)
        assert (exact.bound(bounds[None]) <= formats.limit).all()  # proved
        x = ((2 * torch.rand(50, 6, generator=generator, dtype=torch.float64) - 1) * bounds).round()
        x[:2] = torch.stack([bounds, -bounds])
        weight = torch.floor(linear.weight.double() * 2**bits + 0.5).long()
        bias = torch.floor(linear.bias.double() * 2 ** (bits + formats.activation) + 0.5).long()
        wanted = (x.long() @ weight.T + bias + (1 << bits >> 1)) >> bits
        got = hold(exact, dtype)(x.to(dtype))
    assert got.dtype == dtype
    assert torch.equal(got.long(), wanted.clamp(-formats.limit, formats.limit))


def test_halves_leave_room_for_longer_weights():
    """Inputs as long as they can be, and weights that one product has only few bits for."""
    torch.manual_seed(0)
    model = build("local", "logistic_mixture", channels=3, levels=256, features=64, out_features=64, loud=1.0)
    exact = npx.freeze(model, form="float32")
    assert exact.formats.halves, "no layer needs them, so nothing is tested"
    x, _ = pictures(model, 2)
    assert torch.equal(stepped(exact, x), exact.masses(x))
    assert npx.check(exact).passed


def test_halves_are_saved_and_proved_again(tmp_path, assert_sentence):
    model = build("gated_pixelcnn", "autoregressive_categorical", 3, classes=3)
    formats = Formats("float32", 10, 14, 10, halves=["head.logits.1", "network.layers.0.left"])
    with pytest.raises(UserError, match="halves") as error:
        frozen(model, formats)
    assert_sentence(error)
    exact = frozen(model, Formats("float32", 10, 14, 10, halves=["head.logits.1"]))
    assert isinstance(exact.head.logits[1], ExactHalves)
    x, labels = pictures(exact, 3)
    exact.save_pretrained(tmp_path)
    loaded = npx.load(tmp_path)
    assert loaded.identity == exact.identity
    assert torch.equal(loaded.masses(x, labels), exact.masses(x, labels))
    with torch.no_grad():
        exact.head.logits[1].high.weight.fill_(2**20)
    exact.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"head\.logits\.1") as error:
        npx.load(tmp_path)
    assert_sentence(error)


def test_halves_remember_earlier_channels():
    """A layer of one position in a network with channel masks reads earlier channels' features from memory."""
    layout = Layout.of(6, 3)
    layer, formats = PixelConv(layout, layout, "B"), FORMS["float32"]
    exact = ExactHalves(layer, formats)
    with torch.no_grad():
        exact.take({"centre": layer.centre_weight()}, layer.bias, 12)
        x = torch.randint(-(2**15), 2**15, (2, 3, 4, 6)).double()
        exact.double()
        weight = torch.floor(layer.centre_weight().double() * 2**12 + 0.5)
        sums = x @ weight.T + torch.floor(layer.bias.double() * 2**22 + 0.5) + 2**11
        assert torch.equal(exact(x, Whole()), torch.floor(sums / 2**12).clamp(-formats.limit, formats.limit))
