"""Sequential Monte Carlo around holes, against the enumeration of every picture."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from multiscale_models import multi
from test_orders import build, every_image, loud

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.tasks.lookahead import POWER, Gaussian, Guide
from nextpixel.tasks.particles import Sets, inverse


def mask_of(text):
    """Rows of # (known) and . (unknown)."""
    return torch.tensor([[pixel == "#" for pixel in row] for row in text.split()])


def conditional(model, image, mask, condition=None):
    """Every picture that agrees with what is known, p(hole | rest) of each, and log p(known), by enumeration."""
    every = every_image(model.shape)
    agree = every[((every == image) | ~mask).flatten(1).all(1)]
    told = None if condition is None else condition.expand(len(agree))
    log_p = model.log_prob(agree, told).detach()
    return agree, torch.softmax(log_p, 0), float(torch.logsumexp(log_p, 0))


def frequencies(fills, pictures):
    """How often each of the pictures is among the fills."""
    found = (fills[:, None] == pictures[None]).flatten(2).all(2).double()
    assert (found.sum(1) == 1).all(), "a fill changes what is known"
    return found.mean(0)


HOLES = {
    "a row": ((1, 3, 3), "### ... ###"),
    "the first pixel": ((1, 2, 3), ".## ###"),
    "a box": ((1, 4, 4), "#### #..# #..# ####"),
    "here and there": ((1, 4, 4), "#.## .### ##.# #.#."),
    "two channels": ((2, 2, 2), "#. ##"),
}
every_hole = pytest.mark.parametrize("hole", HOLES)


def example(hole, seed=8):
    shape, rows = HOLES[hole]
    model = loud(build(shape=shape), seed=seed)
    image = torch.randint(2, (1, *shape), generator=torch.Generator().manual_seed(seed))
    return model, image, mask_of(rows)


@pytest.mark.parametrize("draws", [0, 200])
@every_hole
def test_the_estimate_of_p_known_is_unbiased(hole, draws):
    """The mean of 600 estimates of 5 particles each within 5 standard errors; that of their logarithms is too small."""
    model, image, mask = example(hole)
    _, _, log_known = conditional(model, image, mask)
    many = image.expand(600, -1, -1, -1)
    done = npx.complete(model, many, mask, particles=5, draws=draws, batch_size=3000, seed=2)
    ratios = (done.log_evidence - log_known).exp()
    assert float(ratios.std()) > 1e-3, "an estimate that never errs shows nothing"
    assert abs(float(ratios.mean()) - 1) < 5 * float(ratios.std()) / math.sqrt(600)


@pytest.mark.parametrize("draws", [0, 200])
@every_hole
def test_fills_are_draws_from_the_enumerated_conditional(hole, draws):
    model, image, mask = example(hole)
    pictures, wanted, _ = conditional(model, image, mask)
    done = npx.complete(model, image, mask, fills=500, particles=40, draws=draws, batch_size=20_000)
    error = 5 * float((wanted * (1 - wanted) / 500).sqrt().max()) + 0.01  # 5 standard deviations, and the bias of 1/P
    assert (frequencies(done.images[0], pictures) - wanted).abs().max() < error
    assert not done.exact
    assert torch.equal(done.images[0] * mask, (image * mask).expand(500, -1, -1, -1))


def test_ignoring_what_comes_later_is_something_else():
    model, image, mask = example("a row")
    pictures, wanted, _ = conditional(model, image, mask)
    done = npx.complete(model, image, mask, fills=500, method="ignore")
    assert (frequencies(done.images[0], pictures) - wanted).abs().max() > 0.1
    assert "ignored" in done.method
    assert (done.ess == 1).all()
    before = image.clone()
    before[0, 0, 2] = 1 - before[0, 0, 2]
    assert torch.equal(
        npx.complete(model, before, mask, fills=9, method="ignore").images[:, :, :, :2], done.images[:, :9, :, :2]
    )


@every_hole
def test_the_nats_are_those_of_the_conditional(hole):
    model, image, mask = example(hole)
    pictures, wanted, log_known = conditional(model, image, mask)
    done = npx.complete(model, image, mask, fills=3, particles=3000, batch_size=9000, draws=200)
    assert float(done.log_evidence) == pytest.approx(log_known, abs=0.1)
    for fill, nats in zip(done.images[0], done.nats[0], strict=True):
        which = (pictures == fill).flatten(1).all(1)
        assert float(nats) == pytest.approx(-math.log(float(wanted[which])), abs=0.1)
        whole = float(model.log_prob(fill[None].long()).detach())
        assert float(nats) == pytest.approx(float(done.log_evidence) - whole, abs=1e-9)


def test_what_is_known_first_needs_no_weights():
    model, image, _ = example("a row")
    mask = mask_of("### ##. ...")
    exact = npx.complete(model, image, mask, fills=2)
    done = npx.complete(model, image, mask, fills=2, method="particles", particles=7, draws=0)
    assert exact.exact
    assert not done.exact
    torch.testing.assert_close(done.log_evidence, exact.log_evidence, atol=1e-9, rtol=0)
    torch.testing.assert_close(done.ess, torch.full((1, 2), 7.0, dtype=torch.float64))
    assert (exact.ess == torch.inf).all()


@pytest.mark.parametrize("draws", [0, 50])
def test_nothing_depends_on_the_batch_and_a_seed_gives_the_same(draws):
    model, _, mask = example("here and there")
    images = torch.randint(2, (4, 1, 4, 4))
    settings = {"fills": 2, "particles": 6, "draws": draws, "seed": 4}
    done = npx.complete(model, images, mask, **settings)
    for batch_size in (1, 13, 20):
        again = npx.complete(model, images, mask, batch_size=batch_size, **settings)
        assert torch.equal(again.images, done.images)
        torch.testing.assert_close(again.nats, done.nats, atol=1e-9, rtol=0)
        torch.testing.assert_close(again.ess, done.ess, atol=1e-6, rtol=0)
    assert torch.equal(npx.complete(model, images[:2], mask, **settings).images, done.images[:2])
    other = npx.complete(model, images, mask, **{**settings, "seed": 5})
    assert not torch.equal(other.nats, done.nats)


def test_a_mask_for_each_picture():
    model, _, mask = example("here and there")
    images, masks = torch.randint(2, (3, 1, 4, 4)), torch.stack([mask, ~mask, mask])
    done = npx.complete(model, images, masks, fills=2, particles=6)
    alone = npx.complete(model, images, mask, fills=2, particles=6)
    assert torch.equal(done.images[[0, 2]], alone.images[[0, 2]])
    assert torch.equal(done.images[1] * ~mask, (images[1] * ~mask).expand(2, 1, 4, 4))


def test_of_rgb_all_values_of_a_pixel_are_known_or_not():
    model = loud(build(shape=(3, 2, 2)))
    image, mask = torch.randint(2, (1, 3, 2, 2)), mask_of("#. ##")
    pictures, wanted, _ = conditional(model, image, mask)
    assert len(pictures) == 8
    done = npx.complete(model, image, mask, fills=400, particles=30, draws=0, batch_size=12_000)
    assert (frequencies(done.images[0], pictures) - wanted).abs().max() < 5 * math.sqrt(0.25 / 300) + 0.01


def test_of_a_class():
    model = loud(build(classes=2, shape=(1, 2, 3)))
    image, mask = torch.randint(2, (1, 1, 2, 3)), mask_of("#.. ###")
    shares = []
    for label in (0, 1):
        pictures, wanted, log_known = conditional(model, image, mask, torch.tensor([label]))
        done = npx.complete(model, image, mask, fills=400, particles=30, condition=label, batch_size=12_000, draws=100)
        assert (frequencies(done.images[0], pictures) - wanted).abs().max() < 5 * math.sqrt(0.25 / 300) + 0.01
        assert float(done.log_evidence) == pytest.approx(log_known, abs=0.1)
        shares.append(wanted)
    assert (shares[0] - shares[1]).abs().max() > 0.05, "the classes must differ"


@pytest.mark.parametrize("given", ["vector", "map"])
def test_the_draws_that_look_ahead_get_the_pictures_conditions(given):
    options = {"vector": {"vector": 3}, "map": {"map_shape": (2, 2, 3)}}[given]
    model = loud(build(shape=(1, 2, 3), **options))
    condition = torch.randn(2, 3) if given == "vector" else torch.randn(2, 2, 2, 3)
    images = torch.randint(2, (2, 1, 2, 3))
    done = npx.complete(model, images, mask_of(".## ###"), condition=condition, particles=4, draws=5)
    assert "looking ahead by 5 pictures" in done.method


def test_of_several_orders_the_one_is_taken_that_knows_most_first():
    model = loud(build(orders=["raster", "flip-y", "transpose"], shape=(1, 3, 3)))
    image, mask = torch.randint(2, (1, 1, 3, 3)), mask_of("#.# ### ###")
    done = npx.complete(model, image, mask, particles=3000, fills=2, batch_size=6000, draws=0)
    assert done.order == "flip-y"
    assert "flip-y order" in done.method
    one = model.in_order("flip-y")
    assert float(done.log_evidence) == pytest.approx(conditional(one, image, mask)[2], abs=0.05)
    assert npx.complete(model, image, mask, particles=3, order="transpose").order == "transpose"


def test_of_a_multi_scale_model():
    model = multi(shape=(1, 3, 3), levels=2)
    image, mask = torch.randint(2, (1, 1, 3, 3)), mask_of("### .## ##.")
    pictures, wanted, log_known = conditional(model, image, mask)
    done = npx.complete(model, image, mask, fills=300, particles=30, batch_size=9_000, draws=50)
    assert done.order == ""
    assert (frequencies(done.images[0], pictures) - wanted).abs().max() < 5 * math.sqrt(0.25 / 300) + 0.01
    assert float(done.log_evidence) == pytest.approx(log_known, abs=0.1)


def test_of_codes_nothing_looks_ahead(tiny, assert_sentence):
    model = tiny(shape=(1, 3, 3), levels=5, embedding="learned", double=True, spread=0.4)
    given = (model, torch.randint(5, (1, 1, 3, 3)), mask_of("#.# ### ###"))
    assert npx.complete(*given, particles=3).images.shape == (1, 1, 1, 3, 3)
    with pytest.raises(UserError, match="leave draws and examples out") as caught:
        npx.complete(*given, particles=3, draws=5)
    assert_sentence(caught)


def test_distinct_fills_are_counted():
    model, image, mask = example("the first pixel")
    done = npx.complete(model, image.expand(2, -1, -1, -1), mask, fills=40, particles=3)
    assert done.distinct.tolist() == [len({int(fill[0, 0, 0]) for fill in fills}) for fills in done.images]
    assert int(done.distinct.max()) <= 2


# What it is made of


def test_systematic_resampling_keeps_every_particle_as_often_as_its_weight_says():
    """Each of P equal steps of the cumulative weights gets one particle: between ⌊PW⌋ and ⌈PW⌉ copies."""
    for seed in range(20):
        sets = Sets(2, 8, [[seed], [seed, 1]])
        sets.weight(torch.cat([torch.zeros(8), 3 * torch.randn(8)]))
        expected, before = 8 * sets.shares(), sets.estimate()
        goes_on = sets.resample()
        if goes_on is None:
            continue
        assert goes_on[:8].tolist() == list(range(8)), "a set with even weights is left alone"
        copies = torch.bincount(goes_on[8:] - 8, minlength=8)
        assert (copies >= expected[1].floor()).all()
        assert (copies <= expected[1].ceil()).all()
        torch.testing.assert_close(sets.estimate(), before)
        assert sets.ess()[1] == 8


def test_what_has_no_weight_is_never_drawn():
    shares = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0], dtype=torch.float64)
    assert inverse(shares, torch.tensor([0.0, 0.49, 0.5, 1 - 2**-53], dtype=torch.float64)).tolist() == [1, 1, 3, 3]


def test_not_even_by_the_largest_noise():
    """Rounded to 1 it would draw the last particle, whatever its weight."""
    sets = Sets(1, 4, [[0]])
    sets.random = [SimpleNamespace(random=lambda: 1 - 2**-53)]
    sets.weight(torch.tensor([0.0, 0.0, -torch.inf, -torch.inf]))
    assert sets.one_each().tolist() == [1]
    sets.weight(torch.tensor([0.0, -torch.inf, 0.0, 0.0]))
    goes_on = sets.resample()
    assert goes_on is not None
    assert goes_on.tolist() == [0, 0, 0, 0]


def test_the_guide_is_the_gaussian_it_says_to_be():
    """Along any path its terms sum to log ψ at the end over log ψ at the start, −½ log q(known later | prefix)."""
    draws = torch.randint(3, (40, 6)).cumsum(1) % 3
    gaussian = Gaussian(draws, 3)
    known = torch.tensor([True, False, True, False, True, True])
    scaled = draws.double() - 1
    later = torch.tensor([2, 4, 5])
    cov, mean = gaussian.covariance, gaussian.mean
    for path in itertools.product(range(3), repeat=2):
        values = torch.tensor([[2, path[0], 1, path[1], 0, 2]])
        guide, total = Guide(gaussian, values, known, 1), 0.0
        for at in range(1, 6):
            if known[at]:
                total += float(guide.known(values[:, at]))
            else:
                total += float(guide.hole()[0, values[0, at]])
                guide.take(values[:, at])
        gain = cov[later, 0] / cov[0, 0]
        given = torch.distributions.MultivariateNormal(
            mean[later] + gain * (1.0 - mean[0]), cov[later][:, later] - gain[:, None] * cov[0, later][None]
        )
        expected = -POWER * float(given.log_prob(torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)))
        assert total == pytest.approx(expected, abs=1e-9)
    centred = scaled - scaled.mean(0)
    assert torch.allclose(cov[0, 1], 0.8 * (centred[:, 0] * centred[:, 1]).mean())


def test_looking_ahead_helps():
    """The vertical bars of a toy world: what the hole must hold can be seen below it only."""
    torch.manual_seed(0)
    bars = torch.randint(2, (400, 1, 1, 8)).expand(400, 1, 4, 8).contiguous()
    model = npx.build("pixelcnn", shape=(1, 4, 8), levels=2, blocks=1, features=8, first_kernel=3).double()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        loss = -model.log_prob(bars).mean()
        loss.backward()
        optimizer.step()
    mask = mask_of("........ ........ ######## ########")
    settings = {"particles": 16, "batch_size": 320}
    blind = npx.complete(model, bars[:20], mask, draws=0, **settings)
    ahead = npx.complete(model, bars[:20], mask, examples=bars, **settings)
    assert float(ahead.log_evidence.mean()) > float(blind.log_evidence.mean()) + 0.5
    assert float(ahead.ess.mean()) > 1.5 * float(blind.ess.mean())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "particle"}, "Did you mean 'particles'"),
        ({"particles": 0}, "particles must be positive"),
        ({"draws": -1}, "draws must be 0"),
        ({"draws": 1}, "draws must be 0"),
        ({"temperature": 0.5}, "leave temperature"),
        ({"top_k": 1}, "leave temperature"),
        ({"examples": torch.zeros(5, 1, 3, 3, dtype=torch.long)}, "same size"),
        ({"examples": torch.zeros(1, 1, 4, 4, dtype=torch.long)}, "at least two"),
        ({"examples": torch.full((5, 1, 4, 4), 2)}, "levels"),
    ],
)
def test_refusals(settings, words, assert_sentence):
    model, image, mask = example("a box")
    with pytest.raises(UserError, match=words) as caught:
        npx.complete(model, image, mask, **settings)
    assert_sentence(caught)
