"""A network that begins as a prediction from the neighbours, and the head that it begins with."""

import itertools
import math

import pytest
import torch
from torch import nn

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.exact.logistic_mixture import PLACE
from nextpixel.exact.numbers import FORMS
from nextpixel.heads import LogisticMixture
from nextpixel.networks.output import ENLARGED, LinearPart

NEAR = {"layers": 1, "features": 6, "first_kernel": 5, "neighbours": 2}
ZOOMED = {"head": "logistic_mixture", "head_options": {"mixtures": 3, "zoom": 16}}


def build(channels=3, levels=256, seed=0, **options):
    torch.manual_seed(seed)
    return npx.build("local", shape=(channels, 7, 9), levels=levels, **{**NEAR, **options}).eval()


def smooth(n, channels, seed=0):
    """Pictures of random smooth shades, with little noise."""
    random = torch.Generator().manual_seed(seed)
    at = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 9), indexing="ij"))
    slopes = 8 * torch.randn(n, channels, 2, generator=random)
    shades = 128 + torch.einsum("ncd,dhw->nchw", slopes, at) + torch.randn(n, channels, 7, 9, generator=random)
    return shades.round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_means_begin_as_the_prediction(channels):
    """Three quarters of left and above, less half of what is above to the left; grey is outside."""
    model = build(channels, **ZOOMED).double()
    for parameter in model.network.out.layers[-1].parameters():
        nn.init.zeros_(parameter)  # only the linear part is left
    x = smooth(2, channels)
    scaled = nn.functional.pad(x.double() / 127.5 - 1, (1, 0, 1, 0))
    parts = model.features(x).unflatten(-1, (-1, 3))
    for c, i, j in itertools.product(range(channels), range(7), range(9)):
        corner, above, left = (scaled[:, c, i + down, j + along] for down, along in ((0, 0), (0, 1), (1, 0)))
        wanted = 0.75 * left + 0.75 * above - 0.5 * corner
        for mixture in range(3):
            torch.testing.assert_close(parts[:, i, j, 1 + c, mixture] / 16, wanted)


def test_an_untrained_network_begins_where_a_predictor_stands():
    """Of noise of one level this predictor leaves sqrt(1 + 2 · 0.75² + 0.5²), about log2(1.54 · sqrt(2 pi e)) = 2.7
    bits; a fresh network of the usual kind knows nothing, or less than the 8 bits of a value."""
    x = smooth(8, 3)
    with torch.no_grad():
        near, far = (
            -model.log_prob_per_symbol(x)[:, :, 1:, 1:].mean() / math.log(2)
            for model in (build(**ZOOMED), build(neighbours=0, head="logistic_mixture"))
        )
    assert 2.7 < float(near) < 4
    assert float(far) > 7


def test_the_first_layer_begins_with_differences():
    """The same value everywhere says nothing to it but through the constant; without the option it does."""
    for neighbours, differences in ((2, True), (0, False)):
        first = build(neighbours=neighbours, **ZOOMED).network.first
        sums = first.kernel()[:, 1:].sum((2, 3))
        assert bool((sums.abs() < 1e-4).all()) == differences
        assert bool(first.kernel()[:, 1:].abs().max() > ENLARGED / 10 / math.sqrt(75)) == differences


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (3, {"levels": 2}),  # the network orders the channels
        (3, {"levels": 5, **ZOOMED}),
        (1, {"levels": 5, "classes": 3, "slope": 1, **ZOOMED}),
        (2, {"levels": 3, "head": "autoregressive_categorical", "embedding": "learned"}),
    ],
)
def test_it_passes_every_check(channels, options):
    model = build(channels, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    report = npx.check(model, seeds=3)
    assert report.passed, str(report)


def test_a_linear_part_that_sees_its_own_pixel_is_found():
    """Mutant: as if mask B stood in the linear part."""

    class Seeing(LinearPart):
        def forward(self, x, y, run):
            known = super().forward(x, y, run)
            return known if x is None else known + x.mean(-1, keepdim=True)

    model = build(3, levels=4, **ZOOMED)
    model.network.linear = Seeing(model.network.inputs, model.network.outputs, 2, 2)
    assert "leak" in " ".join(npx.check(model, seeds=2).faults)


def test_a_linear_part_beyond_the_slope_is_found():
    """Mutant: a linear part that is cut to another slope than the layers."""
    model = build(1, levels=4, **ZOOMED)
    model.network.linear = LinearPart(model.network.inputs, model.network.outputs, 2, slope=3)
    for parameter in model.network.linear.parameters():
        nn.init.normal_(parameter)
    assert "too much context" in npx.check(model, seeds=2).faults


@pytest.mark.parametrize("neighbours", [-1, 3])
def test_neighbours_beyond_the_first_kernel_are_refused(neighbours, assert_sentence):
    with pytest.raises(UserError, match="neighbours") as error:
        build(neighbours=neighbours)
    assert_sentence(error)


def test_a_saved_model_comes_back(tmp_path):
    model, x = build(**ZOOMED), smooth(2, 3)
    model.save_pretrained(tmp_path)
    again = npx.load(tmp_path)
    assert again.head.zoom == 16
    assert torch.equal(again.log_prob(x), model.log_prob(x))


def test_without_the_options_a_model_is_recorded_as_it_always_was():
    """The identity of a frozen model follows from its record: archives of older versions must find theirs."""
    plain = build(neighbours=0, head="logistic_mixture", head_options={"zoom": 1}).made_with()
    assert "neighbours" not in plain["options"]
    assert plain["head_options"] == {"mixtures": 10}
    near = build(**ZOOMED).made_with()
    assert near["options"]["neighbours"] == 2
    assert near["head_options"] == {"mixtures": 3, "zoom": 16}


def test_a_zoomed_mean_by_hand():
    """Two channels, one component: m₁ + tanh(pull) · (x₀ − m₀), the means being features / zoom."""
    head = LogisticMixture(2, 256, mixtures=1, zoom=8)
    features = torch.tensor([[0.0, 2.0, -1.0, -3.0, -2.0, 0.5]]).double()  # weight, means, log-scales, pull
    x0, mean, scale = 200, -1 / 8 + math.tanh(0.5) * (2 * 200 / 255 - 1 - 2 / 8), math.exp(-2)

    def below(value):
        return 1 / (1 + math.exp(-(2 * value / 255 - 1 + 1 / 255 - mean) / scale))

    found = head.log_pmf(features, 1, torch.tensor([[x0]])).exp()[0]
    assert float(found[0]) == pytest.approx(below(0))
    assert float(found[100]) == pytest.approx(below(100) - below(99))
    assert float(found[255]) == pytest.approx(1 - below(254))


def test_a_zoomed_mixture_is_a_distribution_of_pixels():
    torch.manual_seed(0)
    head = LogisticMixture(3, 5, mixtures=2, zoom=4).double()
    every = torch.tensor(list(itertools.product(range(5), repeat=3))).view(-1, 3, 1, 1)
    features = 2 * torch.randn(1, 1, 1, sum(head.sizes)).double().expand(len(every), 1, 1, -1)
    assert float(head.log_prob(features, every).sum(1).exp().sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_frozen_means_are_finer_than_activations(form):
    """To a part of a level of 256: features of 16 times the mean, and tables of tanh with that many bits."""
    torch.manual_seed(0)
    model = build(**ZOOMED)
    exact = npx.freeze(model, form=form)
    one, halves = exact.formats.one, 2 ** -(exact.formats.activation + 1) + 2 ** -(exact.formats.index + 1)
    features = torch.randint(-16 * one, 16 * one + 1, (50, sum(model.head.sizes)))
    features[:, -9:] //= 16  # pulls between -1 and 1
    earlier = torch.randint(256, (50, 2))
    means = exact.head._components(features, 2, earlier)[1] / 2**PLACE
    parts = (features / one).double().unflatten(-1, (10, 3))
    wanted = model.head._mean(parts[:, 1:4] / 16, torch.tanh(parts[:, 7:]), 2, earlier)
    assert float((means - wanted).abs().max()) < 2 * 3 * halves  # two pulls; surprises up to 3


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_comes_back_and_costs_what_the_model_says(form):
    model, x = build(**ZOOMED), smooth(40, 3)
    exact = npx.freeze(model, form=form)
    with torch.no_grad():
        cost = float(exact.log_prob(x).sum() / model.log_prob(x).sum())
    assert cost == pytest.approx(1, abs=1e-3)
    found = npx.decompress(npx.compress(exact, x, verify=False), exact, batch_size=7)
    assert torch.equal(found.images, x)


@pytest.mark.parametrize("levels", [256, 4096, 65536])
def test_every_scale_can_be_trained_from_the_start(levels):
    """Where the head's limit on scales is reached, a gradient ends."""
    model = npx.build("local", shape=(1, 6, 6), levels=levels, **{**NEAR, **ZOOMED})
    x = torch.randint(levels, (4, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    model.log_prob(x).sum().backward()
    gradient = model.network.linear.known.bias.grad.unflatten(0, (-1, 3))[2]
    assert (gradient != 0).all()
