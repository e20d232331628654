"""Completing against exact enumeration and against a sampler that runs the whole network for every symbol."""

import itertools

import pytest
import torch
from test_sample import KINDS, every_kind, kind, naively  # noqa: F401 - `kind` is a fixture

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.tasks.drawing import uniform_noise


def chosen(condition, indices):
    if isinstance(condition, dict):
        return {key: value[indices] for key, value in condition.items()}
    return None if condition is None else condition[indices]


@every_kind
@pytest.mark.parametrize("pixels", [1, 3, 5])
def test_equal_to_the_naive_sampler(kind, pixels):  # noqa: F811
    model, condition = kind
    height, width = model.shape[1:]
    images = torch.randint(model.levels, (5, *model.shape))
    mask = (torch.arange(height * width) < pixels).view(height, width)
    done = npx.complete(model, images, mask, fills=2, seed=5, condition=condition, batch_size=3)
    which = torch.arange(10) // 2
    noise = uniform_noise(5, range(10), model.shape)
    expected = naively(model, noise, chosen(condition, which), start=(pixels, images[which] * mask))
    assert torch.equal(done.images.flatten(0, 1).long(), expected)
    assert torch.equal(done.images * mask, (images * mask)[:, None].expand_as(done.images))
    assert done.exact is True


@pytest.mark.parametrize("family", ["pixelcnn", "gated_pixelcnn"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_nats_are_those_of_the_rest_given_what_is_known(tiny, family, channels, pixels):
    """−log p(rest | known) = log p(known) − log p(all), with p(known) as the sum over every possible rest."""
    model = tiny(family, shape=(channels, 2, 2), levels=2, double=True, spread=0.4)
    images = torch.randint(2, (3, channels, 2, 2))
    mask = (torch.arange(4) < pixels).view(2, 2)
    done = npx.complete(model, images, mask, fills=2, seed=1)
    every = torch.tensor(list(itertools.product(range(2), repeat=4 * channels))).view(-1, channels, 2, 2)
    log_p = model.log_prob(every).detach()
    for index, fill in itertools.product(range(3), range(2)):
        same = ((every == images[index]) | ~mask).all(3).all(2).all(1)
        log_known = torch.logsumexp(log_p[same], 0)
        log_all = model.log_prob(done.images[index, fill][None])[0].detach()
        assert float(done.nats[index, fill]) == pytest.approx(float(log_known - log_all), abs=1e-9)
        assert float(done.log_evidence[index]) == pytest.approx(float(log_known), abs=1e-9)
    assert float(done.nats.min()) > 0


def test_nats_do_not_change_with_the_temperature_at_which_was_drawn(tiny):
    model = tiny(double=True, spread=0.4)
    images = torch.randint(4, (2, 1, 4, 5))
    done = npx.complete(model, images, 2, temperature=0)
    per_symbol = model.log_prob_per_symbol(done.images[:, 0]).detach()
    torch.testing.assert_close(done.nats[:, 0], -per_symbol[:, :, 2:].flatten(1).sum(1), atol=1e-9, rtol=0)


def test_forms_of_what_is_known(tiny):
    model = tiny(double=True, spread=0.4)
    images = torch.randint(4, (2, 1, 4, 5))
    rows = npx.complete(model, images, 2).images
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[:2] = True
    for form in (mask, mask.to(torch.uint8), mask.long()):
        assert torch.equal(npx.complete(model, images, form).images, rows)
    mask[2, :3] = True
    part = npx.complete(model, images, mask).images
    assert torch.equal(part[:, 0, :, 2, :3], images[:, :, 2, :3])
    assert torch.equal(npx.complete(model, images.to(torch.uint8), mask).images, part)


def test_what_is_unknown_plays_no_part(tiny):
    model = tiny(double=True, spread=0.4)
    images = torch.randint(4, (2, 1, 4, 5))
    other = images.clone()
    other[:, :, 2:] = 3 - other[:, :, 2:]
    one, two = npx.complete(model, images, 2, fills=2), npx.complete(model, other, 2, fills=2)
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.nats, two.nats)


def test_fills_differ_and_do_not_depend_on_the_batch(tiny):
    model = tiny(shape=(1, 6, 6), levels=8, double=True)
    images = torch.randint(8, (2, 1, 6, 6))
    done = npx.complete(model, images, 3, fills=4)
    assert done.images.shape == (2, 4, 1, 6, 6)
    assert done.nats.shape == (2, 4)
    assert len({tuple(fill.flatten().tolist()) for fill in done.images[:, :, :, 3:].flatten(0, 1)}) == 8
    for batch_size in (1, 3, 7):
        again = npx.complete(model, images, 3, fills=4, batch_size=batch_size)
        assert torch.equal(again.images, done.images)
        torch.testing.assert_close(again.nats, done.nats, atol=1e-10, rtol=0)


@pytest.mark.parametrize("given", ["vector", "map"])
def test_one_condition_for_all(tiny, given):
    options = {"vector": {"vector": 3}, "map": {"map_shape": (2, 4, 5)}}[given]
    model = tiny(double=True, spread=0.4, **options)
    condition = torch.randn(3) if given == "vector" else torch.randn(2, 4, 5)
    images = torch.randint(4, (5, 1, 4, 5))
    expected = npx.complete(model, images, 2, fills=2, condition=condition.expand(5, *condition.shape))
    found = npx.complete(model, images, 2, fills=2, condition=condition)
    assert torch.equal(found.images, expected.images)


def test_one_class_for_all(tiny):
    model = tiny(classes=3, double=True, spread=0.4)
    images = torch.randint(4, (3, 1, 4, 5))
    expected = npx.complete(model, images, 1, fills=2, condition=torch.tensor([2, 2, 2])).images
    for condition in (2, [2, 2, 2], {"class": 2}):
        assert torch.equal(npx.complete(model, images, 1, fills=2, condition=condition).images, expected)


def test_the_model_keeps_its_mode_and_no_gradient_is_tracked(tiny):
    model = tiny(dropout=0.5).train()
    done = npx.complete(model, torch.zeros(1, 1, 4, 5, dtype=torch.long), 2)
    assert model.training
    assert not done.nats.requires_grad


def prefix(*pixels):
    mask = torch.zeros(4, 5, dtype=torch.bool)
    for pixel in pixels:
        mask.view(-1)[pixel] = True
    return mask


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (prefix(*range(20)), "nothing to complete"),
        (prefix(), "with sample"),
        (2 * prefix(1).long(), "1 or 0"),
        (prefix(1).float() / 2, "1 or 0"),
        (torch.zeros(4, 4, dtype=torch.bool), "4x5"),
        (torch.zeros(5, 4, dtype=torch.bool), "4x5"),
        (torch.zeros(20, dtype=torch.bool), "4x5"),
        (torch.zeros(1, 4, 5, dtype=torch.bool), "4x5"),
        (4, "between 1 and 3"),
        (5, "between 1 and 3"),
        (-1, "between 1 and 3"),
        (0, "with sample"),
    ],
)
def test_what_is_no_mask_of_a_part_is_refused(tiny, known, words, assert_sentence):
    with pytest.raises(UserError, match=words) as caught:
        npx.complete(tiny(), torch.zeros(2, 1, 4, 5, dtype=torch.long), known)
    assert_sentence(caught)


@pytest.mark.parametrize("known", [prefix(1), prefix(0, 1, 3), prefix(19), prefix(*range(5, 10))], ids=str)
def test_exact_refuses_what_is_known_later(tiny, known, assert_sentence):
    with pytest.raises(UserError, match=r"raster order .* cannot be taken into account") as caught:
        npx.complete(tiny(), torch.zeros(2, 1, 4, 5, dtype=torch.long), known, method="exact")
    assert_sentence(caught)


@pytest.mark.parametrize(
    ("options", "images", "settings"),
    [
        ({}, torch.zeros(2, 3, 4, 5, dtype=torch.long), {}),
        ({}, torch.zeros(1, 4, 5, dtype=torch.long), {}),
        ({}, torch.zeros(2, 1, 4, 5), {}),
        ({}, torch.full((2, 1, 4, 5), 4), {}),
        ({}, torch.zeros(2, 1, 4, 5, dtype=torch.long), {"fills": 0}),
        ({}, torch.zeros(2, 1, 4, 5, dtype=torch.long), {"fils": 2}),
        ({}, torch.zeros(2, 1, 4, 5, dtype=torch.long), {"condition": 1}),
        ({}, torch.zeros(0, 1, 4, 5, dtype=torch.long), {}),
        ({"classes": 3}, torch.zeros(2, 1, 4, 5, dtype=torch.long), {}),
        ({"classes": 3}, torch.zeros(2, 1, 4, 5, dtype=torch.long), {"condition": 3}),
        ({"classes": 3}, torch.zeros(2, 1, 4, 5, dtype=torch.long), {"condition": torch.tensor([0])}),
        ({"classes": 3}, torch.zeros(2, 1, 4, 5, dtype=torch.long), {"condition": torch.tensor([0, 1, 2])}),
    ],
)
def test_refusals(tiny, options, images, settings, assert_sentence):
    with pytest.raises(UserError) as caught:
        npx.complete(tiny(**options), images, 2, **settings)
    assert_sentence(caught)


def test_kinds_are_all_used():
    assert {"gated", "plain, RGB", "head orders", "map"} <= KINDS.keys()
