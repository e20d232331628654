"""Models as a user meets them: figures, conditions, refusals, and a new family in a few lines."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch import nn

import nextpixel as npx
from nextpixel.causal import PixelConv, ReLU
from nextpixel.errors import UserError, did_you_mean
from nextpixel.networks import Network, register, unregister


def pictures(model, n=3, size=None):
    return torch.randint(model.levels, (n, model.shape[0], *(size or model.shape[1:])))


# The likelihood


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 3, 4)])
def test_a_uniform_model_costs_log2_k_bits_per_dim(tiny, shape, levels):
    """The denominator is ln 2 · C·H·W: with all weights zero every symbol costs log2 K bits, whatever the size."""
    model = tiny(shape=shape, levels=levels, double=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert model.dims == shape[0] * shape[1] * shape[2]
    nats = -model.log_prob(pictures(model)).detach()
    assert nats.tolist() == pytest.approx([model.dims * math.log(levels)] * 3)
    data = npx.Split(pictures(model), None, levels, "drawn", "drawn")
    assert npx.evaluate(model, data).bits_per_dim == pytest.approx(math.log2(levels))


@pytest.mark.parametrize("family", ["pixelcnn", "gated_pixelcnn"])
@pytest.mark.parametrize("shape", [(1, 2, 3), (3, 1, 2), (2, 2, 1)])
def test_the_probabilities_of_all_images_sum_to_one(tiny, family, shape):
    model = tiny(family, shape=shape, levels=2, double=True, spread=0.4)
    every = torch.tensor(list(itertools.product(range(2), repeat=model.dims))).view(-1, *shape)
    assert float(model.log_prob(every).exp().sum().detach()) == pytest.approx(1, abs=1e-10)


def test_symbols_sum_to_the_image(tiny):
    model = tiny(shape=(3, 3, 4), double=True, spread=0.4)
    x = pictures(model)
    per_symbol = model.log_prob_per_symbol(x)
    assert per_symbol.shape == x.shape
    torch.testing.assert_close(per_symbol.flatten(1).sum(1), model.log_prob(x), atol=1e-10, rtol=0)
    assert torch.equal(model(x), model.log_prob(x))
    # The first symbol has a distribution of its own too, which does not depend on the image.
    assert (per_symbol[:, 0, 0, 0] < 0).all()
    picked = model.log_pmf(x).gather(-1, x[..., None])[..., 0]
    torch.testing.assert_close(per_symbol, picked, atol=1e-10, rtol=0)


def test_a_changed_symbol_changes_itself_and_later_ones_only(tiny):
    model = tiny(shape=(3, 2, 3), double=True, spread=0.4, features=24)
    x = pictures(model, 1)
    order = list(itertools.product(range(2), range(3), range(3)))
    base = model.log_pmf(x).detach()
    for at, (i, j, c) in enumerate(order):
        changed = x.clone()
        changed[0, c, i, j] = (changed[0, c, i, j] + 1) % 4
        after = model.log_pmf(changed).detach()
        for row, column, channel in order[: at + 1]:
            assert torch.equal(after[0, channel, row, column], base[0, channel, row, column])
        if at + 1 < len(order):
            row, column, channel = order[at + 1]
            assert not torch.equal(after[0, channel, row, column], base[0, channel, row, column])


def test_the_marginal_over_classes_by_hand(tiny):
    model = tiny(classes=3, double=True, spread=0.4)
    model.class_prior.copy_(torch.tensor([0.5, 0.375, 0.125]))  # exact in binary
    x = pictures(model)
    given = [model.log_prob(x, label).exp() for label in range(3)]
    by_hand = torch.log(0.5 * given[0] + 0.375 * given[1] + 0.125 * given[2])
    torch.testing.assert_close(model.log_prob(x), by_hand, atol=1e-9, rtol=0)
    torch.testing.assert_close(model.log_prob_given_classes(x).exp(), torch.stack(given, 1), atol=0, rtol=1e-12)
    assert model.log_class_prior().exp().tolist() == pytest.approx([0.5, 0.375, 0.125])


def test_the_marginals_symbols_sum_to_the_marginal_and_are_predictions(tiny):
    """p(symbol | earlier ones) of the mixture: Σ_y p(y | earlier) p(symbol | earlier, y)."""
    model = tiny(classes=2, shape=(2, 2, 2), double=True, spread=0.4)
    model.class_prior.copy_(torch.tensor([0.75, 0.25]))
    x = pictures(model)
    found = model.log_prob_per_symbol(x)
    torch.testing.assert_close(found.flatten(1).sum(1), model.log_prob(x), atol=1e-10, rtol=0)
    given = torch.stack([model.log_prob_per_symbol(x, label) for label in range(2)])
    posterior = torch.tensor([0.75, 0.25]).double()[:, None].expand(2, 3).clone()
    for i, j, c in itertools.product(range(2), range(2), range(2)):
        p = given[:, :, c, i, j].exp()
        expected = (posterior * p).sum(0)
        torch.testing.assert_close(found[:, c, i, j].exp(), expected, atol=1e-10, rtol=0)
        posterior = posterior * p / expected


def test_the_marginals_symbols_are_as_precise_in_large_images(tiny):
    """They are differences of sums over all earlier symbols, thousands of nats here."""
    model = tiny(classes=2, levels=256)
    x = pictures(model, 1, (48, 48))
    found = model.log_prob_per_symbol(x).double()
    torch.testing.assert_close(found, model.double().log_prob_per_symbol(x), atol=2e-5, rtol=0)


def test_a_new_models_classes_are_equally_likely(tiny):
    assert tiny(classes=4).log_class_prior().exp().tolist() == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("head", ["categorical", "logistic_mixture"])
def test_probabilities_are_in_full_precision_under_autocast(tiny, head):
    model = tiny("gated_pixelcnn", levels=16, head=head)
    x = pictures(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        log_pmf, log_prob = model.log_pmf(x), model.log_prob_per_symbol(x)
    assert log_pmf.dtype == log_prob.dtype == torch.float32
    sums = log_pmf.exp().sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-5, rtol=0)
    picked = log_pmf.gather(-1, x.long()[..., None])[..., 0]
    torch.testing.assert_close(picked, log_prob, atol=1e-5, rtol=0)


def test_log_prob_can_be_differentiated(tiny):
    model = tiny(classes=3)
    for condition in (None, 1):
        model.zero_grad()
        model.log_prob(pictures(model), condition).sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        assert sum(int(p.grad is not None and p.grad.abs().sum() > 0) for p in model.parameters()) > 5


def test_conditions_matter(tiny):
    for options, one, other in (
        ({"classes": 3}, 0, 1),
        ({"vector": 2}, torch.zeros(2), torch.ones(2)),
        ({"map_shape": (1, 2, 3)}, torch.zeros(1, 2, 3), torch.ones(1, 2, 3)),
    ):
        for family in ("pixelcnn", "gated_pixelcnn"):
            model = tiny(family, double=True, spread=0.4, **options)
            x = pictures(model)
            assert ((model.log_prob(x, one) - model.log_prob(x, other)).abs() > 1e-3).all()


def test_images_may_have_any_integer_type_and_another_size(tiny):
    model = tiny()
    x = pictures(model)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert torch.equal(model.log_prob(x.to(dtype)), model.log_prob(x))
    assert model.log_prob(pictures(model, 2, (6, 3))).shape == (2,)
    assert model.log_prob(pictures(model, 0)).shape == (0,)


def test_each_image_is_scored_by_itself(tiny):
    model = tiny(double=True, spread=0.4).train()  # no dropout: both modes are the same
    x = pictures(model, 5)
    together = model.log_prob(x)
    for index in range(5):
        torch.testing.assert_close(model.log_prob(x[index : index + 1])[0], together[index], atol=1e-12, rtol=0)


# build


def test_defaults(digits):
    model = npx.build("gated_pixelcnn", like=digits)
    assert (model.shape, model.levels, model.classes, model.condition) == ((1, 8, 8), 17, None, None)
    assert model.head.name == "categorical"
    assert npx.build("pixelcnn", shape=(1, 4, 4), levels=2).head.name == "bernoulli"
    assert npx.build("pixelcnn", like=digits.train, head="autoregressive_categorical").channels_by == "head"
    assert npx.build("pixelcnn", shape=(3, 4, 4), levels=4, blocks=1, features=3).channels_by == "network"
    assert npx.build("pixelcnn", shape=(1, 4, 4), levels=4, blocks=1, features=3).channels_by == "nobody"


def test_options_reach_the_network(tiny):
    for name, family in npx.families().items():
        default = next((k for k, v in family.options.items() if isinstance(v, int) and not isinstance(v, bool)), None)
        if default in ("layers", "blocks"):
            one, three = (tiny(name, **{default: count}).parameter_count for count in (1, 3))
            assert three > one


SHAPE = {"shape": (1, 4, 4), "levels": 4}


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        ("gated-pixelcnn", SHAPE, "Did you mean 'gated_pixelcnn'"),
        ("PixelCNN ", SHAPE, "Did you mean 'pixelcnn'"),
        ("transformer", SHAPE, "no model family 'transformer'"),
        ("pixelcnn", {**SHAPE, "head": "categoricals"}, "Did you mean 'categorical'"),
        ("pixelcnn", {**SHAPE, "head": "softmax"}, "no head 'softmax'"),
        ("pixelcnn", {**SHAPE, "bloks": 3}, "Did you mean 'blocks'"),
        ("pixelcnn", {**SHAPE, "zebra": 3}, "no option 'zebra'"),
        ("pixelcnn", {**SHAPE, "head_options": {"features": 3}}, "features"),
        (
            "pixelcnn",
            {**SHAPE, "head": "autoregressive_categorical", "head_options": {"feature": 3}},
            "Did you mean 'features'",
        ),
        ("pixelcnn", {**SHAPE, "embedding": "learnt"}, "learned"),
        ("pixelcnn", {**SHAPE, "head": "bernoulli"}, "2 levels"),
        ("pixelcnn", {"levels": 4}, "shape"),
        ("pixelcnn", {"shape": (1, 4, 4)}, "levels"),
        ("pixelcnn", {"shape": (4, 4), "levels": 4}, "shape"),
        ("pixelcnn", {"shape": (1, 0, 4), "levels": 4}, "shape"),
        ("pixelcnn", {"shape": (1, 4, 4), "levels": 1}, "levels"),
        ("pixelcnn", {"shape": (1, 4, 4), "levels": 100_000}, "levels"),
        ("pixelcnn", {**SHAPE, "classes": 0}, "class"),
        ("pixelcnn", {**SHAPE, "vector": 0}, "vector"),
        ("pixelcnn", {**SHAPE, "map_shape": (2, 0, 4)}, "map"),
        ("pixelcnn", {**SHAPE, "map_shape": (2, 4)}, "map"),
    ],
)
def test_build_refuses_what_cannot_work(family, options, words, assert_sentence):
    with pytest.raises(UserError, match=words) as caught:
        npx.build(family, **options)
    assert_sentence(caught)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("gated_pixelcnn", {"layers": 0}),
        ("gated_pixelcnn", {"features": 0}),
        ("gated_pixelcnn", {"kernel": 4}),
        ("gated_pixelcnn", {"first_kernel": 4}),
        ("gated_pixelcnn", {"dropout": 1.5}),
        ("gated_pixelcnn", {"layers": "two"}),
        ("pixelcnn", {"blocks": -1}),
        ("pixelcnn", {"kernel": 4}),
        ("pixelcnn", {"features": -3}),
        ("pixelcnn", {"dropout": -0.5}),
    ],
)
def test_option_values_that_make_no_network_are_refused(family, options, assert_sentence):
    """kernel=4 must not quietly become 5, and nothing may break only when the model is first used."""
    with pytest.raises(UserError, match=next(iter(options))) as caught:
        npx.build(family, **SHAPE, **options)
    assert_sentence(caught)


X = torch.zeros(2, 1, 4, 5, dtype=torch.long)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (X[0], "shape"),
        (X[None], "shape"),
        (X.expand(2, 3, 4, 5), r"\[N, 1, H, W\]"),
        (X.float(), "integers"),
        (X.double(), "integers"),
        (X.bool(), "integers"),
        (X + 4, "value 4"),
        (X + 255, "value 255"),
        (X - 1, "value -1"),
        ((X + 200).to(torch.uint8), "value 200"),
        ((X - 1).to(torch.int8), "value -1"),
    ],
)
@pytest.mark.parametrize("method", ["log_prob", "log_prob_per_symbol", "log_pmf"])
def test_images_that_are_none_of_the_models_are_refused(tiny, method, images, words, assert_sentence):
    with pytest.raises(UserError, match=words) as caught:
        getattr(tiny(), method)(images)
    assert_sentence(caught)


@pytest.mark.parametrize(
    ("options", "condition", "words"),
    [
        ({}, 0, "not conditional"),
        ({}, torch.tensor([0, 1]), "not conditional"),
        ({"classes": 3}, 3, "no class 3"),
        ({"classes": 3}, torch.tensor([0, -1]), "no class -1"),
        ({"classes": 3}, torch.tensor([0, 1, 2]), "one class per picture"),
        ({"classes": 3}, torch.tensor([0.0, 1.0]), "integers"),
        ({"vector": 2}, None, "condition"),
        ({"vector": 2}, torch.zeros(3), "shape"),
        ({"vector": 2}, torch.zeros(3, 2), "shape"),
        ({"map_shape": (2, 4, 5)}, torch.zeros(4, 5), "shape"),
        ({"map_shape": (2, 4, 5)}, torch.zeros(2, 2, 2, 2), "larger map"),
        ({"classes": 3, "vector": 2}, 1, "dict"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(tiny, options, condition, words, assert_sentence):
    with pytest.raises(UserError, match=words) as caught:
        tiny(**options).log_prob(X, condition)
    assert_sentence(caught)


def test_given_classes_is_for_class_conditional_models(tiny, assert_sentence):
    for options in ({}, {"vector": 2}):
        with pytest.raises(UserError, match="class-conditional") as caught:
            tiny(**options).log_prob_given_classes(X)
        assert_sentence(caught)


def test_labels_must_be_there(tiny, assert_sentence):
    from nextpixel.model import condition_of

    with pytest.raises(UserError, match="no labels") as caught:
        condition_of(tiny(classes=3), None)
    assert_sentence(caught)
    assert condition_of(tiny(), torch.tensor([1])) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gated", "gated_pixelcnn"), ("pixlcnn", "pixelcnn"), ("PIXELCNN", "pixelcnn"), ("zebra", None), ("", None)],
)
def test_did_you_mean(name, expected):
    hint = did_you_mean(name, ["pixelcnn", "gated_pixelcnn"])
    assert hint == (f" Did you mean '{expected}'?" if expected else "")
    assert did_you_mean(name, []) == ""


# A new family


@pytest.fixture
def toy():
    """One masked convolution: what a third party would write."""

    @register(
        "toy",
        summary="one masked convolution",
        channel_masks=False,
        full_context=False,
        conditions=("class",),
    )
    class Toy(Network):
        @dataclasses.dataclass(frozen=True)
        class Config:
            features: int = 8
            """width"""

        def __init__(self, config, inputs, outputs, condition=None):
            super().__init__(config, inputs, outputs, condition)
            hidden = type(inputs)((config.features,))
            self.first = PixelConv(inputs, hidden, "A", left=2, rows=2, side=2)
            self.relu, self.last = ReLU(), PixelConv(hidden, outputs, "B")
            if condition is not None:
                self.condition_in = nn.Linear(condition, config.features)
            self.hidden = hidden

        def rows(self, x, condition, run):
            return [] if condition is None else [self.condition_in(run.row_of(condition))]

        def pixels(self, x, contexts, run):
            h = self.first(x, run)
            for context in contexts:
                h = h + run.here(context, self.hidden)
            return self.last(self.relu(h), run)

        def receptive_field(self, height, width, row, column):
            seen = torch.zeros(height, width, dtype=torch.bool)
            seen[max(row - 2, 0) : row, max(column - 2, 0) : column + 3] = True
            seen[row, max(column - 2, 0) : column] = True
            return seen

    yield Toy
    unregister("toy")


@pytest.mark.timeout(120)
def test_a_new_family_is_one_class(toy, digits, run):
    """Known by name, built, trained, sampled, completed, saved, loaded and checked; nothing else is touched."""
    assert "toy" in npx.families()
    assert npx.families()["toy"].options == {"features": 8}
    model = npx.build("toy", like=digits, classes=10)
    before = npx.evaluate(model, digits.valid).bits_per_dim
    npx.train(model, digits, epochs=1, batch_size=8, learning_rate=1e-2, ema=0.0, run=run, progress=False, device="cpu")
    assert npx.evaluate(model, digits.valid).bits_per_dim < before - 0.2
    drawn = npx.sample(model, n=3, condition="each")
    assert drawn.shape == (3, 1, 8, 8)
    assert npx.complete(model, drawn, 4, condition=torch.arange(3)).images.shape == (3, 1, 1, 8, 8)
    assert torch.equal(npx.load(run).log_prob(drawn), model.log_prob(drawn))
    report = npx.check(npx.build("toy", shape=(1, 5, 5), levels=3), seeds=2)
    assert report.passed, str(report)


def test_channels_that_nobody_orders_are_refused(toy, assert_sentence):
    for head in ("categorical", None):
        with pytest.raises(UserError, match="cannot order the 3 channels") as caught:
            npx.build("toy", shape=(3, 4, 4), levels=4, head=head)
        assert_sentence(caught)
    with pytest.raises(UserError, match="cannot order the 3 channels"):
        npx.build("toy", shape=(3, 4, 4), levels=2)
    npx.build("toy", shape=(1, 4, 4), levels=4)
    model = npx.build("toy", shape=(3, 2, 2), levels=2, head="autoregressive_categorical").double().eval()
    assert model.channels_by == "head"
    every = torch.tensor(list(itertools.product(range(2), repeat=12))).view(-1, 3, 2, 2)
    assert float(model.log_prob(every).exp().sum().detach()) == pytest.approx(1, abs=1e-9)


def test_a_condition_that_a_family_does_not_take_is_refused(toy, assert_sentence):
    for options in ({"vector": 3}, {"map_shape": (1, 4, 4)}):
        with pytest.raises(UserError, match="it takes: class") as caught:
            npx.build("toy", shape=(1, 4, 4), levels=4, **options)
        assert_sentence(caught)


def test_a_family_cannot_be_registered_twice(toy):
    with pytest.raises(ValueError, match="registered already"):
        register("toy", summary="again", channel_masks=False, full_context=False)(toy)


def test_a_forgotten_family_is_unknown(toy, assert_sentence):
    unregister("toy")
    try:
        with pytest.raises(UserError, match="no model family 'toy'") as caught:
            npx.build("toy", shape=(1, 4, 4), levels=4)
        assert_sentence(caught)
    finally:
        register("toy", summary="back for the fixture", channel_masks=False, full_context=False)(toy)


@pytest.mark.parametrize("head", ["logistic_mixture", "autoregressive_categorical", "categorical"])
def test_the_integer_type_of_images_plays_no_part(tiny, head):
    """Also one that cannot hold the highest level, and those of which PyTorch knows neither maximum nor minimum."""
    model = tiny("pixelcnn", shape=(2, 2, 2), levels=300, head=head)
    x = torch.tensor([0, 43, 127, 100, 5, 43, 126, 1]).view(1, 2, 2, 2)  # 299 is 43 in 8 bits
    wanted, pmf = model.log_prob(x), model.log_pmf(x)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.uint64):
        assert torch.equal(model.log_prob(x.to(dtype)), wanted), dtype
        assert torch.equal(model.log_pmf(x.to(dtype)), pmf), dtype
    with pytest.raises(npx.UserError, match="is not one of the model's levels"):
        model.log_prob(torch.full((1, 2, 2, 2), 2**64 - 1, dtype=torch.uint64))
