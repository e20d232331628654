"""Multi-scale models: the chain of two is one distribution, by counting all images and by hand."""

import dataclasses
import itertools
import math
import re

import pytest
import torch
from multiscale_models import LARGE_FAMILIES, copied, every_image, map_by_hand, multi, parts_by_hand

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.multiscale import MultiScaleModel
from nextpixel.networks import network
from nextpixel.tasks import complete, sample
from nextpixel.tasks.drawing import uniform_noise
from nextpixel.tasks.progress import Steps

# Exactness

COUNTED = [
    ((1, 3, 3), 2, {}),
    ((1, 2, 4), 2, {}),
    ((1, 4, 3), 2, {"small_family": "pixelcnn"}),
    ((2, 2, 2), 2, {}),
    ((1, 1, 9), 4, {}),
    ((1, 9, 1), 8, {}),
    ((2, 2, 2), 2, {"head": "autoregressive_categorical", "head_options": {"features": 3}}),
    ((1, 2, 3), 2, {"levels": 3, "embedding": "learned"}),
    ((1, 2, 4), 4, {"family": "row_lstm"}),
    ((1, 3, 3), 2, {"family": "diagonal_bilstm"}),
    ((1, 3, 2), 2, {"family": "pixelcnnpp", "small_family": "gated_pixelcnn"}),
]


@pytest.mark.parametrize(("shape", "scale", "options"), COUNTED)
def test_the_probabilities_of_all_images_sum_to_one(shape, scale, options):
    model = multi(shape=shape, scale=scale, **{"levels": 2, **options})
    x = every_image(model)
    with torch.no_grad():
        probabilities = model.log_prob(x).exp()
        each = model.log_prob_per_symbol(x)
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-12)
    assert float(probabilities.max()) > 2 * float(probabilities.mean()), "the example must not be uniform"
    torch.testing.assert_close(each.flatten(1).sum(1).exp(), probabilities, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize(("shape", "scale"), [((1, 3, 3), 2), ((1, 2, 4), 2), ((2, 2, 2), 2), ((1, 5, 2), 4)])
def test_against_the_two_parts_by_hand_and_what_counting_twice_would_be(shape, scale):
    model = multi(shape=shape, scale=scale, levels=2)
    x = every_image(model)
    first, second = parts_by_hand(model, x)
    log_small, others = first.flatten(1).sum(1), second[:, ~copied(model, x)].sum(1)
    log_prob = model.log_prob(x).detach()
    torch.testing.assert_close(log_prob, log_small + others, atol=1e-12, rtol=0)

    twice = log_small + second.flatten(1).sum(1)  # the probability of the pair (small, x)
    assert float(twice.exp().sum()) < 0.99
    assert (log_prob > twice).all()  # so −log of it is an upper bound, never below the exact figure

    # It bounds the code length of a model that generates the small pixels again: p(x) = Σ_s p(s) q(x | s).
    smalls = torch.unique(x[:, :, ::scale, ::scale], dim=0)
    with torch.no_grad():
        mixture = torch.stack(
            [
                model.small.log_prob(s[None])
                + model.large.log_prob(x, {"map": map_by_hand(model, s[None]).expand(len(x), -1, -1, -1)})
                for s in smalls
            ]
        ).logsumexp(0)
    assert float(mixture.exp().sum()) == pytest.approx(1, abs=1e-12)
    assert (mixture > twice).all()


def test_the_marginal_over_classes_is_that_of_the_joint():
    """Σ_y p(y) p(small | y) p(rest | small, y): not a product of two marginals."""
    model = multi(shape=(1, 2, 3), levels=2, classes=3)
    prior = torch.tensor([0.5, 0.3, 0.2])
    model.set_class_prior(prior)
    x = every_image(model)
    joint = torch.zeros(len(x), dtype=torch.float64)
    for label in range(3):
        first, second = parts_by_hand(model, x, label)
        log_given = first.flatten(1).sum(1) + second[:, ~copied(model, x)].sum(1)
        torch.testing.assert_close(model.log_prob(x, label).detach(), log_given, atol=1e-12, rtol=0)
        torch.testing.assert_close(model.log_prob_given_classes(x)[:, label].detach(), log_given, atol=1e-12, rtol=0)
        assert float(log_given.exp().sum()) == pytest.approx(1, abs=1e-12)
        joint += prior[label].double() * log_given.exp()
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(x).exp(), joint, atol=1e-7, rtol=0)
        assert float(model.log_prob(x).exp().sum()) == pytest.approx(1, abs=1e-7)  # the prior is kept in float32
        each = model.log_prob_per_symbol(x)
        torch.testing.assert_close(each.flatten(1).sum(1), model.log_prob(x), atol=1e-12, rtol=0)


def test_each_symbols_marginal_is_given_those_before_it_in_the_chain():
    """Without a class: p(symbol | all before it in the chain), by summing over all that come later."""
    model = multi(shape=(1, 2, 2), levels=2, classes=2)
    x = every_image(model)
    with torch.no_grad():
        probability, each = model.log_prob(x).exp(), model.log_prob_per_symbol(x)
    chain = [(0, 0), (0, 1), (1, 0), (1, 1)]  # scale 2: the small picture is (0, 0)
    for index, image in enumerate(x):
        before = torch.ones(len(x), dtype=torch.bool)
        for row, column in chain:
            known = before.clone()
            before &= x[:, 0, row, column] == image[0, row, column]
            wanted = float(torch.log(probability[before].sum() / probability[known].sum()))
            assert float(each[index, 0, row, column]) == pytest.approx(wanted, abs=1e-10)


def test_the_order_is_the_small_picture_and_then_the_others():
    model = multi(shape=(2, 3, 4), levels=2)
    numbers = torch.arange(24).view(1, 2, 3, 4)
    small = [(0, 0), (0, 2), (2, 0), (2, 2)]
    others = [pixel for pixel in itertools.product(range(3), range(4)) if pixel not in small]
    wanted = [12 * c + 4 * row + column for row, column in (*small, *others) for c in range(2)]
    assert model.in_sequence(numbers).tolist() == [wanted]
    assert torch.equal(model.from_sequence(model.in_sequence(numbers), (3, 4)), numbers)
    x = torch.randn(5, 2, 7, 6)
    assert torch.equal(model.from_sequence(model.in_sequence(x), (7, 6)), x)


def test_the_map_of_levels_and_of_codes():
    """A constant 1, then every channel: on [-1, 1], or one-hot by value."""
    picture = torch.tensor([[[[0, 1, 2]], [[2, 2, 0]]]])
    levels = multi(shape=(2, 2, 5)).map_of(picture)
    assert levels[0, :, 0].tolist() == [[1, 1, 1], [-1, 0, 1], [1, 1, -1]]
    codes = multi(shape=(2, 2, 5), embedding="learned").map_of(picture)
    first, second = [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 0, 1], [0, 0, 0], [1, 1, 0]]
    assert codes[0, :, 0].tolist() == [[1, 1, 1], *first, *second]


# Whole = Cursor

STEPPED = [
    *[(family, {"shape": (1, 5, 7), "scale": 2}) for family in LARGE_FAMILIES],
    *[(family, {"shape": (1, 6, 5), "scale": 4, "small_family": "pixelcnn"}) for family in LARGE_FAMILIES],
    ("gated_pixelcnn", {"shape": (3, 3, 4)}),
    ("pixelcnn", {"shape": (2, 5, 3), "classes": 3}),
    ("pixelcnnpp", {"shape": (3, 4, 3), "head": "autoregressive_categorical", "head_options": {"features": 3}}),
    ("gated_pixelcnn", {"shape": (2, 3, 4), "embedding": "learned", "small_family": "diagonal_bilstm"}),
    ("gated_pixelcnn", {"shape": (1, 5, 9), "scale": 8}),
    ("gated_pixelcnn", {"shape": (1, 1, 6)}),
]


@pytest.mark.parametrize(("family", "options"), STEPPED)
def test_stepping_gives_the_probabilities_of_the_parallel_pass(family, options):
    model = multi(family, **options)
    x = torch.randint(model.levels, (3, *model.shape))
    condition = torch.tensor([2, 0, 1]) if model.classes else None
    height, width, k = *model.shape[1:], model.scale
    small = list(itertools.product(range(0, height, k), range(0, width, k)))
    others = [pixel for pixel in itertools.product(range(height), range(width)) if pixel not in small]
    order = [(row, column, c) for row, column in (*small, *others) for c in range(model.shape[0])]
    fork = [1, 1, 2]
    fork_at = {0, len(small) * model.shape[0] // 2, len(order) - 2}
    with torch.no_grad():
        walks = [(model.stepper(3, condition), x, model.log_pmf(x, condition))]
        for index, (row, column, channel) in enumerate(order):
            if index in fork_at:
                other = torch.randint(model.levels, x.shape)
                for done in order[:index]:
                    other[:, done[2], done[0], done[1]] = x[fork, done[2], done[0], done[1]]
                given = None if condition is None else condition[fork]
                walks.append((walks[0][0].fork(fork), other, model.log_pmf(other, given)))
            for stepper, pictures, log_pmf in reversed(walks):
                assert stepper.position == (row, column, channel)
                found = stepper.log_pmf()
                torch.testing.assert_close(found, log_pmf[:, channel, row, column], atol=1e-10, rtol=1e-10)
                assert torch.equal(stepper.pmf(), found.exp())
                stepper.push(pictures[:, channel, row, column])
    for stepper, pictures, _ in walks:
        assert stepper.position is None
        assert torch.equal(stepper.images, pictures)
        assert (stepper.n, stepper.channels, stepper.height, stepper.width) == (3, *model.shape)


def test_another_size_than_the_models_own():
    model = multi(shape=(1, 5, 7), scale=4)
    for size in ((1, 1), (4, 4), (9, 6), (3, 13)):
        x = torch.randint(3, (2, 1, *size))
        with torch.no_grad():
            expected = model.in_sequence(model.log_prob_per_symbol(x))
        stepper, found = model.stepper(2, size=size), []
        for values in model.in_sequence(x).unbind(1):
            found.append(stepper.log_pmf().gather(1, values[:, None])[:, 0])
            stepper.push(values)
        torch.testing.assert_close(torch.stack(found, 1), expected, atol=1e-10, rtol=1e-10)
        assert torch.equal(stepper.images, x)


def test_wrong_pushes_are_refused(assert_sentence):
    model = multi(shape=(1, 2, 2), levels=2)
    stepper = model.stepper(2)
    for values, words in ((torch.tensor([0]), "one value a picture"), (torch.tensor([0, 2]), "levels 0..1")):
        with pytest.raises(UserError, match=words) as caught:
            stepper.push(values)
        assert_sentence(caught)
    for _ in range(4):
        stepper.push(torch.tensor([0, 1]))
    for call in (stepper.pmf, lambda: stepper.push(torch.tensor([0, 1]))):
        with pytest.raises(UserError, match="finished") as caught:
            call()
        assert_sentence(caught)
    with pytest.raises(UserError, match=re.escape("model.eval()")):
        model.train().stepper(1)
    with pytest.raises(UserError, match="picture numbers"):
        model.eval().stepper(2).fork([2])


# Sampling and completing


def naively(model, noise, condition=None):
    """Part by part: the whole network of a part, the symbol's probabilities, the first value that passes the noise."""
    n, _, height, width = noise.shape
    k = model.scale
    x = torch.zeros(noise.shape, dtype=torch.long)
    smalls = list(itertools.product(range(0, height, k), range(0, width, k)))
    others = [pixel for pixel in itertools.product(range(height), range(width)) if pixel not in smalls]
    given = {} if condition is None else {"class": condition}
    for row, column in (*smalls, *others):
        for channel in range(noise.shape[1]):
            s = x[:, :, ::k, ::k]
            with torch.no_grad():
                if (row, column) in smalls:
                    log_pmf = model.small.log_pmf(s, given or None)[:, channel, row // k, column // k]
                else:
                    log_pmf = model.large.log_pmf(x, {**given, "map": map_by_hand(model, s)})[:, channel, row, column]
            sums = log_pmf.exp().cumsum(1)
            for index in range(n):
                point = float(noise[index, channel, row, column]) * float(sums[index, -1])
                x[index, channel, row, column] = next(
                    v for v, total in enumerate(sums[index].tolist()) if total > point
                )
    return x


@pytest.mark.parametrize(
    ("family", "options"),
    [("gated_pixelcnn", {}), ("pixelcnn", {"shape": (2, 3, 4), "scale": 4}), ("gated_pixelcnn", {"classes": 2})],
)
def test_samples_are_those_of_the_naive_sampler(family, options):
    model = multi(family, **options)
    condition = torch.tensor([0, 1, 1, 0]) if model.classes else None
    found = npx.sample(model, n=4, seed=5, condition=condition)
    assert torch.equal(found.long(), naively(model, uniform_noise(5, range(4), model.shape), condition))
    assert found.float().std() > 0.1, "the example must not be trivial"
    for batch_size in (1, 3):
        again = npx.sample(model, n=4, seed=5, condition=condition, batch_size=batch_size)
        assert torch.equal(again, found)
    first = None if condition is None else condition[:2]
    assert torch.equal(npx.sample(model, n=2, seed=5, condition=first), found[:2])
    assert not torch.equal(npx.sample(model, n=4, seed=6, condition=condition), found)


def test_frequencies_are_the_probabilities():
    model = multi(shape=(1, 2, 3), levels=2)
    x = every_image(model)
    wanted = 20_000 * model.log_prob(x).detach().exp()
    weights = 2 ** torch.arange(5, -1, -1)
    drawn = npx.sample(model, n=20_000, seed=1, batch_size=20_000).flatten(1).long()
    counts = torch.bincount(drawn @ weights, minlength=64).double()
    assert torch.equal(x.flatten(1) @ weights, torch.arange(64))
    statistic, degrees = float(((counts - wanted) ** 2 / wanted.clamp(min=1)).sum()), 63
    assert statistic < degrees + 6 * math.sqrt(2 * degrees)
    assert float(((counts - 20_000 / 64) ** 2 / (20_000 / 64)).sum()) > 1000, "the test must be able to fail"


def test_classes_in_turn_and_from_the_prior():
    model = multi(classes=3)
    each = npx.sample(model, n=5, condition="each")
    assert torch.equal(each, npx.sample(model, n=5, condition=torch.tensor([0, 1, 2, 0, 1])))
    model.set_class_prior(torch.tensor([0.0, 0.0, 1.0]))
    assert torch.equal(npx.sample(model, n=5), npx.sample(model, n=5, condition=2))
    for part in (model, model.small, model.large):
        assert part.class_prior.tolist() == [0.0, 0.0, 1.0]


def test_the_progress_of_sampling_and_completing_ends_at_its_total(monkeypatch):
    made = []

    class Watched(Steps):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    for module in (sample, complete):
        monkeypatch.setattr(module, "Steps", Watched)
    for shape, scale in (((1, 5, 7), 2), ((2, 4, 6), 2), ((1, 6, 5), 4)):
        model = multi(shape=shape, scale=scale)
        npx.sample(model, n=3, batch_size=2)
        mask = torch.zeros(shape[1:], dtype=torch.bool)
        mask[::scale, ::scale] = True
        npx.complete(model, torch.zeros(1, *shape, dtype=torch.long), mask, fills=3, batch_size=2)
    assert [steps.done for steps in made] == [steps.total for steps in made]
    assert all(steps.total > 1 for steps in made)


@pytest.mark.parametrize("shape", [(1, 4, 5), (2, 3, 4)])
@pytest.mark.parametrize("more", [0, 3])
def test_the_small_picture_and_what_follows_may_be_known(shape, more):
    """Super-resolution: draws from p(rest | small picture), and their cost."""
    model = multi(shape=shape, spread=1.0)
    x = torch.randint(3, (2, *shape))
    mask = torch.zeros(shape[1:], dtype=torch.bool)
    mask[::2, ::2] = True
    mask.view(-1)[(~mask).flatten().nonzero()[:more, 0]] = True
    done = npx.complete(model, x, mask, fills=3)
    assert torch.equal(done.images[..., mask].long(), x[:, None, :, mask].expand(2, 3, -1, -1))
    assert not torch.equal(done.images[:, 0], done.images[:, 1])
    each = -model.log_prob_per_symbol(done.images.flatten(0, 1)).detach()
    torch.testing.assert_close(done.nats.flatten(), each[..., ~mask].flatten(1).sum(1), atol=1e-9, rtol=0)
    assert torch.equal(npx.complete(model, x, mask, fills=3, batch_size=2).images, done.images)


def test_known_parts_that_are_not_predicted_first_are_refused(assert_sentence):
    model = multi(shape=(1, 4, 5))
    x = torch.zeros(1, 1, 4, 5, dtype=torch.long)
    first_pixels = torch.arange(20).view(4, 5) < 2
    for known in (1, 2, first_pixels):
        with pytest.raises(UserError, match="first the small picture, in rows and columns 0, 2, 4") as caught:
            npx.complete(model, x, known, method="exact")
        assert_sentence(caught)
    with pytest.raises(UserError, match="small picture first") as caught:
        model.stepper(1).prefill(x[:, :, :2])
    assert_sentence(caught)


def test_rows_that_are_predicted_first_may_be_known():
    """In a picture of two rows the small picture lies in the first."""
    model = multi(shape=(1, 2, 6))
    x = torch.randint(3, (2, 1, 2, 6))
    done = npx.complete(model, x, 1, fills=2)
    assert torch.equal(done.images[:, :, 0, 0].long(), x[:, :, 0].expand(2, 2, 6))
    each = -model.log_prob_per_symbol(done.images.flatten(0, 1)).detach()
    torch.testing.assert_close(done.nats.flatten(), each[:, 0, 1].sum(1), atol=1e-9, rtol=0)


# Building, and what is refused


def test_options_of_the_small_part():
    model = npx.build_multiscale("gated_pixelcnn", shape=(1, 5, 5), levels=4, layers=3, features=6)
    assert (model.small.shape, model.large.shape) == ((1, 3, 3), (1, 5, 5))
    assert model.small.network.config == model.large.network.config
    model = npx.build_multiscale(
        "gated_pixelcnn", shape=(1, 5, 5), levels=4, layers=3, features=6, small_options={"layers": 2}
    )
    assert (model.small.network.config.layers, model.small.network.config.features) == (2, 6)
    model = npx.build_multiscale(
        "gated_pixelcnn", shape=(1, 5, 5), levels=4, layers=3, features=6, small_family="pixelcnn"
    )
    assert model.small.family == "pixelcnn"
    assert model.small.network.config.features == npx.families()["pixelcnn"].options["features"]
    assert model.family == "multiscale_gated_pixelcnn"
    assert model.parameter_count == model.small.parameter_count + model.large.parameter_count


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 3}, "power of two"),
        ({"scale": 1}, "power of two"),
        ({"scale": 0}, "power of two"),
        ({"scale": 2.0}, "power of two"),
        ({"scale": True}, "power of two"),
        ({"scale": 8}, "longer side, 7 pixels"),
        ({"shape": (1, 1, 1)}, "longer side, 1 pixels"),
        ({"shape": (1, 5)}, "shape must be"),
        ({"levels": 1}, "levels"),
        ({"shape": None}, "like=DATA"),
        ({"family": "gated"}, "no model family"),
        ({"small_family": "gated"}, "no model family"),
        ({"layer": 3}, "Did you mean 'layers'"),
        ({"small_options": {"layer": 3}}, "Did you mean 'layers'"),
        ({"head": "catgorical"}, "Did you mean 'categorical'"),
        ({"classes": 0}, "classes must be a positive integer"),
        ({"embedding": "learnt"}, "scaled, learned"),
        ({"family": "pixelcnnpp", "shape": (3, 4, 4)}, "cannot order the 3 channels"),
    ],
)
def test_refusals(options, words, assert_sentence):
    settings = {"shape": (1, 5, 7), "levels": 3, **options}
    with pytest.raises(UserError, match=words) as caught:
        npx.build_multiscale(**{"family": "gated_pixelcnn", **settings})
    assert_sentence(caught)


def test_a_large_part_that_takes_no_map_is_refused(monkeypatch, assert_sentence):
    declared = network._families["row_lstm"]
    monkeypatch.setitem(network._families, "row_lstm", dataclasses.replace(declared, conditions=("class",)))
    with pytest.raises(UserError, match="reaches it as a map, and it cannot be conditioned on one") as caught:
        npx.build_multiscale("row_lstm", shape=(1, 4, 4), levels=2)
    assert_sentence(caught)
    npx.build_multiscale("gated_pixelcnn", small_family="row_lstm", shape=(1, 4, 4), levels=2)
    for name in npx.families().keys() - set(LARGE_FAMILIES):
        with pytest.raises(UserError, match=f"{name} cannot be the large part"):
            npx.build_multiscale(name, shape=(1, 4, 4), levels=2)


@pytest.mark.parametrize(
    ("small_part", "words"),
    [
        (None, "must be a table"),
        ({"head": "bernoulli"}, "must be a table"),
        ({"family": "pixelcnn", "head": "bernoulli", "shape": [1, 2, 2]}, "no argument 'shape'"),
        ({"family": "pixelcnn", "head": "bernoulli", "map_shape": [1, 2, 2]}, "no argument 'map_shape'"),
        ({"family": "pixelcnn", "head": "bernoulli", "option": {}}, "Did you mean 'options'"),
    ],
)
def test_a_part_takes_the_arguments_of_its_own_only(small_part, words, assert_sentence):
    large = {"family": "pixelcnn", "head": "bernoulli"}
    with pytest.raises(UserError, match=words) as caught:
        MultiScaleModel([1, 4, 4], 2, 2, small_part, large)
    assert_sentence(caught)


def test_conditions_are_those_of_the_outside(assert_sentence):
    model, plain = multi(classes=2), multi()
    x = torch.randint(3, (2, 1, 5, 7))
    for call in (lambda: plain.log_prob(x, 1), lambda: plain.stepper(1, 1)):
        with pytest.raises(UserError, match="not conditional") as caught:
            call()
        assert_sentence(caught)
    for call in (lambda: model.log_prob(x, 2), lambda: model.stepper(1), lambda: model.log_prob(x, {"map": x})):
        with pytest.raises(UserError) as caught:
            call()
        assert_sentence(caught)
    assert torch.equal(model.log_prob(x, 1), model.log_prob(x, {"class": torch.tensor([1, 1])}))
    with pytest.raises(UserError, match="not one of the model's levels"):
        model.log_prob(x + 3, 1)
