"""Evaluation against a loop over single images, by hand."""

import dataclasses
import json
import math

import pytest
import torch

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.images import Split


def by_hand(values):
    """Mean and standard error of the mean of a list, with math.fsum."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def split_of(images, labels=None, levels=4, classes=None):
    return Split(images, labels, levels, "drawn", "as drawn", classes)


@pytest.mark.parametrize("batch_size", [1, 7, 23, 24, 1000])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_mean_over_single_images(tiny, channels, batch_size):
    """23 images: 7 leaves a short last batch, which must not weigh more than its share."""
    model = tiny(shape=(channels, 4, 5), double=True, spread=0.4)
    data = split_of(torch.randint(4, (23, channels, 4, 5)))
    nats = [-float(model.log_prob(data.images[i : i + 1]).detach()) for i in range(23)]
    mean, error = by_hand(nats)
    found = npx.evaluate(model, data, batch_size=batch_size)
    bits = 1 / (math.log(2) * channels * 20)
    assert found.nats == pytest.approx(mean, rel=1e-12)
    assert found.nats_stderr == pytest.approx(error, rel=1e-9)
    assert found.bits_per_dim == pytest.approx(mean * bits, rel=1e-12)
    assert found.stderr == pytest.approx(error * bits, rel=1e-9)
    assert (found.images, found.dims, found.exact) == (23, channels * 20, True)
    assert found.given_class is None
    assert found.class_accuracy is None


def test_sums_are_kept_in_float64(tiny):
    """In float32 the sum of many images would lose digits that single images have."""
    model = tiny(spread=0.4)
    data = split_of(torch.randint(4, (300, 1, 4, 5)))
    with torch.no_grad():
        nats = [-float(value) for part in data.images.split(100) for value in model.log_prob(part)]
    assert npx.evaluate(model, data, batch_size=100).nats == pytest.approx(math.fsum(nats) / 300, rel=1e-14)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_every_image_is_scored_once(tiny, monkeypatch, batch_size):
    from nextpixel.image_model import ImageModel

    model, seen = tiny(), []
    original = ImageModel.log_prob

    def log_prob(self, x, condition=None):
        assert not self.training
        seen.extend(x[:, 0, 0, :].tolist())
        return original(self, x, condition)

    monkeypatch.setattr(ImageModel, "log_prob", log_prob)
    images = torch.tensor([[n // 4**k % 4 for k in range(5)] for n in range(21)]).view(21, 1, 1, 5).expand(21, 1, 4, 5)
    npx.evaluate(model, split_of(images), batch_size=batch_size)
    assert seen == images[:, 0, 0].tolist()


@pytest.mark.parametrize("batch_size", [4, 9, 100])
def test_marginal_and_given_class(tiny, batch_size):
    model = tiny(classes=3, double=True, spread=0.4)
    model.class_prior.copy_(torch.tensor([0.5, 0.3, 0.2]))
    prior = (model.class_prior / model.class_prior.sum()).tolist()
    labels = torch.arange(11) % 3
    data = split_of(torch.randint(4, (11, 1, 4, 5)), labels, classes=3)
    marginal, given, right = [], [], 0
    for i in range(11):
        by_class = [float(model.log_prob(data.images[i : i + 1], c).detach()) for c in range(3)]
        marginal.append(-math.log(math.fsum(p * math.exp(v) for p, v in zip(prior, by_class, strict=True))))
        given.append(-by_class[labels[i]])
        right += max(range(3), key=lambda c: math.log(prior[c]) + by_class[c]) == labels[i]
    found = npx.evaluate(model, data, batch_size=batch_size)
    assert found.nats == pytest.approx(by_hand(marginal)[0], rel=1e-10)
    assert found.nats_stderr == pytest.approx(by_hand(marginal)[1], rel=1e-8)
    assert found.given_class == pytest.approx(by_hand(given)[0] / (math.log(2) * 20), rel=1e-10)
    assert found.class_accuracy == pytest.approx(right / 11)
    assert found.given_class != pytest.approx(found.bits_per_dim, abs=1e-6)


def test_a_class_conditional_model_on_unlabelled_images_gives_the_marginal(tiny):
    model = tiny(classes=3, double=True, spread=0.4)
    images = torch.randint(4, (6, 1, 4, 5))
    found = npx.evaluate(model, split_of(images))
    assert found.given_class is None
    assert found.nats == pytest.approx(-float(model.log_prob(images).detach().mean()), rel=1e-12)


def test_a_limit_takes_images_from_everywhere(tiny):
    model = tiny(double=True, spread=0.4)
    data = split_of(torch.randint(4, (20, 1, 4, 5)))
    found = npx.evaluate(model, data, limit=4)
    assert found.images == 4
    assert found.nats == pytest.approx(-float(model.log_prob(data.images[[0, 5, 10, 15]]).detach().mean()), rel=1e-12)
    assert npx.evaluate(model, data, limit=99).images == 20


def test_what_is_needed_to_compare_the_figure(tiny, digits):
    model = tiny(like=digits)
    found = npx.evaluate(model, digits.test)
    assert found.data == digits.test.name
    assert found.data_sha256 == digits.test.sha256
    assert found.protocol == digits.test.protocol
    assert found.family == "gated_pixelcnn"
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.averaged_weights is None
    assert math.isfinite(found.seconds)
    for training, averaged in (({"averaged": True}, True), ({}, None), ("no table, in a folder made by others", None)):
        model.card = {"training": training}
        assert npx.evaluate(model, digits.test[:1]).averaged_weights is averaged


@pytest.mark.parametrize("count", [1, 5])
def test_the_result_is_plain_json(tiny, count):
    found = npx.evaluate(tiny(), split_of(torch.randint(4, (count, 1, 4, 5)))).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_dynamic_binarisation_is_evaluated_on_a_fixed_draw(tiny):
    grey = torch.randint(256, (9, 1, 4, 5))
    bits = (grey > 100).to(torch.uint8)
    data = Split(bits, None, 2, "grey", "dynamic", grey=grey)
    model = tiny(levels=2, double=True)
    expected = -float(model.log_prob(bits).detach().mean())
    for _ in range(2):
        assert npx.evaluate(model, data).nats == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_and_the_random_state_stay(tiny, training):
    model = tiny(dropout=0.5)
    data = split_of(torch.randint(4, (5, 1, 4, 5)))
    expected = npx.evaluate(model, data).nats
    model.train(training)
    state = torch.get_rng_state()
    found = npx.evaluate(model, data)
    assert found.nats == expected, "dropout must be off"
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def test_another_size_is_scored_with_its_own_number_of_dims(tiny):
    model = tiny(double=True)
    images = torch.randint(4, (3, 1, 6, 7))
    found = npx.evaluate(model, split_of(images))
    assert found.dims == 42
    assert found.bits_per_dim == pytest.approx(found.nats / (math.log(2) * 42))


@pytest.mark.parametrize(
    ("options", "data", "settings", "words"),
    [
        ({}, split_of(torch.zeros(2, 1, 4, 5, dtype=torch.long), levels=5), {}, "levels=4"),
        ({}, split_of(torch.zeros(2, 3, 4, 5, dtype=torch.long)), {}, "3 channels"),
        ({}, split_of(torch.zeros(0, 1, 4, 5, dtype=torch.long)), {}, "no images"),
        ({}, split_of(torch.zeros(2, 1, 4, 5, dtype=torch.long)), {"batch_size": 0}, "batch_size"),
        ({}, split_of(torch.zeros(2, 1, 4, 5, dtype=torch.long)), {"limit": -1}, "limit"),
        ({}, split_of(torch.zeros(2, 1, 4, 5, dtype=torch.long)), {"limits": 1}, "Did you mean 'limit'"),
        ({"vector": 2}, split_of(torch.zeros(2, 1, 4, 5, dtype=torch.long)), {}, "condition"),
        (
            {"classes": 2},
            split_of(torch.zeros(3, 1, 4, 5, dtype=torch.long), torch.tensor([0, 1, 2]), classes=3),
            {},
            "class",
        ),
        ({"classes": 2, "vector": 2}, split_of(torch.zeros(3, 1, 4, 5, dtype=torch.long)), {}, "condition"),
    ],
)
def test_refusals(tiny, options, data, settings, words, assert_sentence):
    model = tiny(**options)
    with pytest.raises(UserError, match=words) as caught:
        npx.evaluate(model, data, **settings)
    assert_sentence(caught)


def test_results_cannot_be_changed(tiny):
    found = npx.evaluate(tiny(), split_of(torch.randint(4, (3, 1, 4, 5))))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.nats = 0.0
