"""Sampling against a sampler that runs the whole network again for every symbol."""

import itertools
import math

import pytest
import torch

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.tasks.drawing import SampleOptions, choose, uniform_noise

KINDS = {
    "gated": ("gated_pixelcnn", {}, None),
    "plain, RGB": ("pixelcnn", {"shape": (3, 3, 3), "levels": 3}, None),
    "gated, RGB": ("gated_pixelcnn", {"shape": (3, 3, 3), "levels": 3}, None),
    "head orders": (
        "pixelcnn",
        {"shape": (2, 3, 3), "levels": 4, "head": "autoregressive_categorical", "head_options": {"features": 4}},
        None,
    ),
    "binary, classes": ("gated_pixelcnn", {"levels": 2, "classes": 3}, torch.tensor([2, 0, 1, 1, 0])),
    "vector": ("pixelcnn", {"vector": 2}, torch.arange(10.0).view(5, 2)),
    "map": ("gated_pixelcnn", {"map_shape": (1, 2, 3)}, torch.arange(30.0).view(5, 1, 2, 3) / 10),
    "class and vector": (
        "gated_pixelcnn",
        {"classes": 3, "vector": 2},
        {"class": torch.tensor([2, 0, 1, 1, 0]), "vector": torch.arange(10.0).view(5, 2)},
    ),
}


@pytest.fixture
def kind(request, tiny):
    family, options, condition = KINDS[request.param]
    return tiny(family, **options, double=True, spread=0.4), condition


every_kind = pytest.mark.parametrize("kind", KINDS, indirect=True)


def naively(model, noise, condition=None, temperature=1.0, start=None):
    """Symbol by symbol: the whole network, the symbol's probabilities, the first value whose sum passes the noise.

    start: how many pixels are known, and the images that hold them.
    """
    n, channels, height, width = noise.shape
    known, images = start or (0, torch.zeros(n, channels, height, width, dtype=torch.long))
    images = images.clone().long()
    for row, column, channel in itertools.product(range(height), range(width), range(channels)):
        if row * width + column < known:
            continue
        with torch.no_grad():
            log_pmf = model.log_pmf(images, condition)[:, channel, row, column]
        sums = torch.softmax(log_pmf.double() / temperature, 1).cumsum(1)
        for index in range(n):
            point = float(noise[index, channel, row, column]) * float(sums[index, -1])
            images[index, channel, row, column] = next(v for v, s in enumerate(sums[index].tolist()) if s > point)
    return images


@every_kind
def test_equal_to_the_naive_sampler(kind):
    model, condition = kind
    noise = uniform_noise(7, range(5), model.shape)
    found = npx.sample(model, n=5, seed=7, condition=condition)
    assert torch.equal(found.long(), naively(model, noise, condition))
    assert found.float().std() > 0.1, "the example must not be trivial"


def test_equal_to_the_naive_sampler_at_another_size_and_temperature(tiny):
    model = tiny(double=True, spread=0.4)
    noise = uniform_noise(1, range(4), (1, 6, 3))
    found = npx.sample(model, n=4, seed=1, size=(6, 3), temperature=0.6)
    assert torch.equal(found.long(), naively(model, noise, temperature=0.6))
    assert not torch.equal(found, npx.sample(model, n=4, seed=1, size=(6, 3)))


@every_kind
def test_a_picture_depends_on_seed_and_index_only(kind):
    model, condition = kind
    expected = npx.sample(model, n=5, seed=3, condition=condition)
    for batch_size in (1, 2, 3, 64):
        assert torch.equal(npx.sample(model, n=5, seed=3, condition=condition, batch_size=batch_size), expected)
    first_three = {key: value[:3] for key, value in condition.items()} if isinstance(condition, dict) else condition
    first_three = first_three[:3] if isinstance(condition, torch.Tensor) else first_three
    assert torch.equal(npx.sample(model, n=3, seed=3, condition=first_three), expected[:3])
    assert not torch.equal(npx.sample(model, n=5, seed=4, condition=condition), expected)


def test_the_callers_random_state_plays_no_part(tiny):
    model = tiny(spread=0.4, dropout=0.5)
    state = torch.get_rng_state()
    first = npx.sample(model, n=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(npx.sample(model, n=3), first)


def test_all_pictures_of_a_batch_differ(tiny):
    found = npx.sample(tiny(shape=(1, 6, 6), levels=16), n=20).flatten(1)
    assert len({tuple(picture.tolist()) for picture in found}) == 20


def test_a_whole_models_shape_levels_and_mode(tiny):
    model = tiny(shape=(3, 2, 5), levels=300)
    found = npx.sample(model, n=2)
    assert found.shape == (2, 3, 2, 5)
    assert found.dtype == torch.int32
    model.train()
    assert npx.sample(tiny(levels=256), n=1).dtype == torch.uint8
    assert npx.sample(model, n=0).shape == (0, 3, 2, 5)
    npx.sample(model, n=1)
    assert model.training


def test_temperature_zero_is_the_likeliest_value(tiny):
    model = tiny(double=True, spread=0.4)
    found = npx.sample(model, n=3, temperature=0).long()
    best = torch.zeros(1, 1, 4, 5, dtype=torch.long)
    for row, column in itertools.product(range(4), range(5)):
        best[0, 0, row, column] = model.log_pmf(best)[0, 0, row, column].argmax()
    assert torch.equal(found, best.expand(3, -1, -1, -1))
    assert torch.equal(npx.sample(model, n=3, top_k=1, seed=5).long(), found)
    for nearly in (1e-6, 1e-320):
        assert torch.equal(npx.sample(model, n=3, temperature=nearly, seed=5).long(), found)


ENDS = torch.tensor([0.0, 1e-300, 0.5, 1 - 2**-53], dtype=torch.float64)  # the smallest and the largest noise there is


def test_a_value_without_probability_is_never_drawn():
    for row in ([0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0.1, 0.2, 0.7 - 1e-9]):
        pmf = torch.tensor([row] * 4, dtype=torch.float64)
        for dtype in (torch.float32, torch.float64):
            values = choose(pmf.log().to(dtype), ENDS, SampleOptions())
            assert (pmf.gather(1, values[:, None]) > 0).all(), row


def test_rounding_never_reaches_beyond_the_last_possible_value():
    """Sums of 256 rounded probabilities end above or below 1; the last values have probability zero."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        logits = torch.randn(1, 256, generator=generator) * 8
        logits[:, 200:] = -torch.inf
        log_pmf = torch.log_softmax(logits, 1)
        values = choose(log_pmf.expand(4, -1), ENDS, SampleOptions())
        assert int(values.max()) < 200
        assert torch.isfinite(log_pmf[0, values]).all()


def test_top_k():
    log_pmf = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    noise = (torch.arange(1000) + 0.5) / 1000
    counts = {
        k: torch.bincount(choose(log_pmf.expand(1000, -1), noise, SampleOptions(top_k=k)), minlength=4)
        for k in (0, 1, 2, 3, 4, 9)
    }
    assert counts[1].tolist() == [0, 1000, 0, 0]
    assert counts[2].tolist() == [0, round(4000 / 7), 0, 1000 - round(4000 / 7)]
    assert counts[3].tolist() == pytest.approx([0, 444, 222, 333], abs=1)
    for k in (0, 4, 9):
        assert counts[k].tolist() == pytest.approx([100, 400, 200, 300], abs=1)


def test_top_k_takes_no_more_than_k_when_several_are_equally_likely():
    log_pmf = torch.tensor([0.2, 0.4, 0.4]).log().expand(1000, -1)
    noise = (torch.arange(1000) + 0.5) / 1000
    assert len(choose(log_pmf, noise, SampleOptions(top_k=1)).unique()) == 1


def test_temperature_sharpens_as_the_formula_says():
    pmf = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    noise = (torch.arange(20000) + 0.5) / 20000
    values = choose(pmf.log().expand(20000, -1), noise, SampleOptions(temperature=0.5))
    squares = torch.tensor([0.01, 0.09, 0.36])
    found = torch.bincount(values, minlength=3) / 20000
    torch.testing.assert_close(found, squares / squares.sum(), atol=2e-4, rtol=0)


def chi_square(pictures, images, log_probs):
    """Pearson's statistic of the drawn pictures over all possible images, and the degrees of freedom."""
    index = {tuple(image.flatten().tolist()): number for number, image in enumerate(images)}
    counts = torch.zeros(len(images), dtype=torch.float64)
    for picture in pictures:
        counts[index[tuple(picture.flatten().tolist())]] += 1
    expected = len(pictures) * log_probs.exp()
    rare = expected < 5
    pooled = [torch.cat([x[~rare], x[rare].sum()[None]]) if rare.any() else x for x in (counts, expected)]
    return float(((pooled[0] - pooled[1]) ** 2 / pooled[1]).sum()), len(pooled[0]) - 1


@pytest.mark.parametrize(
    ("family", "shape", "options"),
    [
        ("gated_pixelcnn", (1, 2, 2), {"levels": 3}),
        ("pixelcnn", (3, 1, 2), {"levels": 2}),
        ("pixelcnn", (3, 1, 2), {"levels": 2, "head": "autoregressive_categorical", "head_options": {"features": 4}}),
        ("gated_pixelcnn", (1, 2, 2), {"levels": 3, "classes": 2}),
    ],
    ids=["grey", "RGB", "head orders", "marginal over classes"],
)
def test_frequencies_are_the_models_probabilities(tiny, family, shape, options):
    model = tiny(family, shape=shape, spread=0.4, **options)
    if model.classes:  # without a class: drawn from the prior, so the marginal must come out
        model.class_prior.copy_(torch.tensor([0.85, 0.15]))
    images = torch.tensor(list(itertools.product(range(model.levels), repeat=model.dims))).view(-1, *shape)
    log_probs = model.log_prob(images).detach().double()
    assert float(log_probs.exp().sum()) == pytest.approx(1, abs=1e-5)
    statistic, degrees = chi_square(npx.sample(model, n=6000, seed=11, batch_size=2000), images, log_probs)
    # Mean `degrees`, standard deviation √(2·degrees): six of them are about one in a billion.
    assert statistic < degrees + 6 * math.sqrt(2 * degrees)
    uniform = torch.full_like(log_probs, -math.log(len(images)))
    wrong, degrees = chi_square(npx.sample(model, n=6000, seed=11, batch_size=2000), images, uniform)
    assert wrong > degrees + 20 * math.sqrt(2 * degrees), "the test must be able to fail"


# Conditions


def test_each_class_in_turn(tiny):
    model = tiny(classes=3, double=True, spread=0.4)
    found = npx.sample(model, n=7, condition="each", batch_size=2)
    assert torch.equal(found, npx.sample(model, n=7, condition=torch.tensor([0, 1, 2, 0, 1, 2, 0])))
    assert torch.equal(found, npx.sample(model, n=7, condition=[0, 1, 2, 0, 1, 2, 0]))


def test_one_class_for_all(tiny):
    model = tiny(classes=3, double=True, spread=0.4)
    found = npx.sample(model, n=5, condition=2, batch_size=2)
    assert torch.equal(found, npx.sample(model, n=5, condition=torch.tensor([2] * 5)))
    assert torch.equal(found, npx.sample(model, n=5, condition=torch.tensor(2)))
    assert not torch.equal(found, npx.sample(model, n=5, condition=1))


def test_a_class_may_be_given_by_kind_as_to_log_prob(tiny):
    model = tiny(classes=3, double=True, spread=0.4)
    expected = npx.sample(model, n=5, condition=2)
    x = expected
    assert torch.equal(model.log_prob(x, {"class": 2}), model.log_prob(x, 2))
    assert torch.equal(npx.sample(model, n=5, condition={"class": 2}), expected)


def test_classes_come_from_the_prior(tiny):
    model = tiny(classes=3, double=True, spread=0.4)
    model.class_prior.copy_(torch.tensor([0.0, 1.0, 0.0]))
    assert torch.equal(npx.sample(model, n=20), npx.sample(model, n=20, condition=1))
    model.class_prior.copy_(torch.tensor([0.5, 0.5, 0.0]))
    mixed = npx.sample(model, n=20)
    of_class = [npx.sample(model, n=20, condition=c).flatten(1) for c in (0, 1)]
    chosen = [(mixed.flatten(1) == pictures).all(1) for pictures in of_class]
    assert (chosen[0] | chosen[1]).all()
    assert 4 <= int(chosen[0].sum()) <= 16
    assert torch.equal(npx.sample(model, n=7, batch_size=3), mixed[:7])


@pytest.mark.parametrize(("options", "one"), [({"vector": 3}, [1.0, -1.0, 2.0]), ({"map_shape": (2, 4, 5)}, None)])
def test_one_vector_or_map_for_all(tiny, options, one):
    model = tiny(double=True, spread=0.4, **options)
    condition = torch.randn(2, 4, 5) if one is None else torch.tensor(one)
    each = condition.expand(5, *condition.shape)
    assert torch.equal(
        npx.sample(model, n=5, condition=condition, batch_size=2), npx.sample(model, n=5, condition=each, batch_size=2)
    )


def test_lists_by_kind_are_cut_into_batches_too(tiny):
    model = tiny(classes=3, vector=2, double=True, spread=0.4)
    labels, vectors = [2, 0, 1, 1, 0], torch.randn(5, 2).tolist()
    expected = npx.sample(
        model, n=5, condition={"class": torch.tensor(labels), "vector": torch.tensor(vectors)}, batch_size=2
    )
    assert torch.equal(npx.sample(model, n=5, condition={"class": labels, "vector": vectors}, batch_size=2), expected)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_there_must_be_as_many_classes_as_pictures(tiny, count, assert_sentence):
    with pytest.raises(UserError) as caught:
        npx.sample(tiny(classes=3), n=5, condition=torch.zeros(count, dtype=torch.long), batch_size=2)
    assert_sentence(caught)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, {"condition": 1}),
        ({"classes": 3}, {"condition": 3}),
        ({"classes": 3}, {"condition": "every"}),
        ({"classes": 3}, {"condition": 0.5}),
        ({"vector": 3}, {}),
        ({"vector": 3}, {"condition": "each"}),
        ({}, {"n": -1}),
        ({}, {"temperature": -1}),
        ({}, {"temperature": math.nan}),
        ({}, {"top_k": -1}),
        ({}, {"batch_size": 0}),
        ({}, {"temprature": 1}),
        ({}, {"size": (0, 3)}),
    ],
)
def test_refusals(tiny, options, settings, assert_sentence):
    with pytest.raises(UserError) as caught:
        npx.sample(tiny(**options), **{"n": 4, **settings})
    assert_sentence(caught)
    if "temprature" in settings:
        assert "Did you mean 'temperature'?" in str(caught.value)


def test_an_unconditional_model_leaves_out_each(tiny):
    """The command line and the training loop say "each" to every model."""
    model = tiny()
    assert torch.equal(npx.sample(model, n=2, condition="each"), npx.sample(model, n=2))
