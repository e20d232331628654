"""The contract that every legal family × head × condition keeps, derived from the declarations.

`nextpixel.checks` does the looking; tests/test_check.py shows that it finds what is wrong. What is checked here a
second time, by other means, is what all the rest stands on: Whole = Cursor, and numbers that stay finite.
"""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nextpixel as npx
from nextpixel.causal import Layout
from nextpixel.checks import check
from nextpixel.errors import UserError
from nextpixel.heads.head import _heads
from nextpixel.networks import Network, register, unregister

torch.set_num_threads(1)

SMALL = {
    "features": 5,
    "kernel": 3,
    "first_kernel": 3,
    "layers": 3,
    "blocks": 2,
    "dropout": 0.1,
    "out_features": 4,
    "hidden": 36,
}
"""Small values for options by name; a family takes those that it has. 5 and 4 are no multiples of 3 channels."""

CONDITIONS = {"class": {"classes": 3}, "vector": {"vector": 2}, "map": {"map_shape": (2, 4, 3)}}
SIZE = (7, 5)


def small(family: str) -> dict:
    return {name: value for name, value in SMALL.items() if name in npx.families()[family].options}


def build(family: str, head: str, kind: str | None, channels: int, levels: int, size=None, **options) -> npx.ImageModel:
    """`size`: on which the model will be checked; of interest to families that run at their own size only."""
    condition = CONDITIONS.get(kind, {})
    shape = (channels, *(SIZE if size is None or npx.families()[family].any_size else size))
    torch.manual_seed(0)
    return npx.build(family, shape=shape, levels=levels, head=head, **condition, **small(family) | options)


def switched(family: str) -> list[dict]:
    """Every yes-or-no option the other way round, alone, or with another one off that it does not go together with."""
    switches = {name: value for name, value in npx.families()[family].options.items() if isinstance(value, bool)}
    chosen = []
    for name, value in switches.items():
        others = [{other: False} for other in switches if other != name and switches[other]]
        for options in [{name: not value}, *({name: not value} | other for other in others)]:
            try:
                build(family, "categorical", None, 1, 2, **options)
            except UserError:
                continue
            chosen.append(options)
            break
        else:
            raise AssertionError(f"{family}: no legal model has {name}={not value}")
    return chosen


def is_legal(family: str, head: str, channels: int, levels: int) -> bool:
    declared, kind = npx.families()[family], npx.heads()[head]
    return not kind.refusal(levels) and (channels == 1 or declared.channel_masks or kind.orders_channels)


def combinations() -> list:
    """All legal combinations. By default every head without condition and every condition with one head, in which
    heads, channels and levels take turns from family to family; the rest under the marker."""
    cases = []
    for place, (family, declared) in enumerate(npx.families().items()):
        for head_place, head in enumerate(npx.heads()):
            legal = [sizes for sizes in itertools.product((1, 3), (2, 5)) if is_legal(family, head, *sizes)]
            for turn, kind in enumerate((None, *declared.conditions)):
                chosen = kind is None or (place + turn) % len(npx.heads()) == head_place
                for number, (channels, levels) in enumerate(legal):
                    by_default = chosen and number == (place + turn + head_place) % len(legal)
                    marks = () if by_default else pytest.mark.full
                    name = f"{family}-{head}-{kind or 'free'}-{channels}x{levels}"
                    cases.append(pytest.param(family, head, kind, channels, levels, marks=marks, id=name))
    return cases


@pytest.mark.parametrize(("family", "head", "kind", "channels", "levels"), combinations())
def test_contract(family, head, kind, channels, levels):
    report = check(build(family, head, kind, channels, levels, (3, 5)), seeds=2, size=(3, 5))
    assert report.passed, str(report)


def switched_families() -> list:
    """Every family as it is and with each switch; long canvases for the latter under the marker."""
    cases = []
    for family in npx.families():
        for options in ({}, *switched(family)):
            name = f"{family}-{','.join(f'{k}={v}' for k, v in options.items()) or 'default'}"
            cases.append(pytest.param(family, options, None if not options else (4, 5), id=name))
            if options:
                cases.append(pytest.param(family, options, None, marks=pytest.mark.full, id=f"{name}-long"))
    return cases


@pytest.mark.parametrize("family", ["gated_pixelcnn", "diagonal_bilstm"])
def test_contract_with_a_map_of_codes(family):
    torch.manual_seed(0)
    model = npx.build(family, shape=(1, 5, 7), levels=5, map_shape=(2, 3, 4), map_levels=6, **small(family))
    report = check(model, seeds=2, size=(3, 5))
    assert report.passed, str(report)


@pytest.mark.parametrize(("family", "options", "size"), switched_families())
def test_contract_with_each_switch(family, options, size):
    channels = 3 if npx.families()[family].channel_masks else 1
    report = check(build(family, "categorical", None, channels, 3, size, **options), seeds=2, size=size)
    assert report.passed, str(report)


@pytest.mark.parametrize("family", npx.families())
def test_contract_with_all_conditions_and_learned_embeddings(family):
    kinds = npx.families()[family].conditions
    conditions = {name: value for kind in kinds for name, value in CONDITIONS[kind].items()}
    head = "categorical" if npx.families()[family].channel_masks else "autoregressive_categorical"
    model = build(family, head, None, 3, 3, (3, 5), embedding="learned", **conditions)
    report = check(model, seeds=2, size=(3, 5))
    assert report.passed, str(report)


ORDERS = {
    "gated_pixelcnn": ["raster", "flip-x", "transpose-flip-y"],
    "diagonal_bilstm": ["transpose-flip-x", "flip-xy"],
}


@pytest.mark.parametrize("family", npx.families())
def test_no_pictures_are_no_mistake(family):
    """N = 0, as an empty selection of images gives it: in parallel and step by step."""
    model = build(family, "bernoulli", None, 1, 2, size=(3, 4)).eval()
    x = torch.zeros(0, 1, 3, 4, dtype=torch.uint8)
    assert model.log_prob(x).shape == (0,)
    assert model.log_prob_per_symbol(x).shape == x.shape
    assert model.log_pmf(x).shape == (*x.shape, 2)
    stepper = model.stepper(0)
    while stepper.position is not None:
        assert stepper.log_pmf().shape == (0, 2)
        stepper.push(torch.zeros(0, dtype=torch.long))


def families_and_orders() -> list:
    """By default two families in some orders, and all others in one; every family in eight under the marker."""
    cases = []
    for family in npx.families():
        cases.append(pytest.param(family, ORDERS.get(family, ["transpose-flip-xy"]), id=family))
        cases.append(pytest.param(family, 8, marks=pytest.mark.full, id=f"{family}-8"))
    return cases


@pytest.mark.parametrize(("family", "orders"), families_and_orders())
def test_contract_in_other_orders(family, orders):
    channels = 3 if npx.families()[family].channel_masks else 1
    conditions = CONDITIONS["class"] | (CONDITIONS["map"] if "map" in npx.families()[family].conditions else {})
    model = build(family, "categorical", None, channels, 3, (3, 5), orders=orders, **conditions)
    report = check(model, seeds=2, size=(3, 5))
    assert report.passed, str(report)


@pytest.mark.full
@pytest.mark.parametrize("family", npx.families())
@pytest.mark.parametrize("features", [3, 6, 7])
@pytest.mark.parametrize(("kernel", "first_kernel"), [(3, 7), (5, 5), (1, 3)])
def test_contract_of_other_widths_and_kernels(family, features, kernel, first_kernel):
    wanted = {"features": features, "kernel": kernel, "first_kernel": first_kernel}
    options = {name: value for name, value in wanted.items() if name in npx.families()[family].options}
    head = "categorical" if npx.families()[family].channel_masks else "autoregressive_categorical"
    report = check(build(family, head, None, 3, 3, **options))
    assert report.passed, str(report)


# Whole = Cursor by itself, over random sizes


def loud(model: npx.ImageModel) -> npx.ImageModel:
    """In float64, with weights that make every pmf depend on what came before."""
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.6)
    return model


def by_steps(model: npx.ImageModel, x: torch.Tensor, condition=None) -> torch.Tensor:
    """[N, C, H, W, K] from a stepper."""
    n, channels, height, width = x.shape
    stepper = model.stepper(n, condition, (height, width))
    found = torch.empty(n, channels, height, width, model.levels, dtype=torch.float64)
    for i, j, c in itertools.product(range(height), range(width), range(channels)):
        assert stepper.position == (i, j, c)
        found[:, c, i, j] = stepper.log_pmf()
        stepper.push(x[:, c, i, j])
    assert stepper.position is None
    assert torch.equal(stepper.images, x)
    return found


def assert_whole_is_cursor(model: npx.ImageModel, size: tuple[int, int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(model.levels, (2, model.shape[0], *size), generator=generator)
    with torch.no_grad():
        whole = model.log_pmf(x)
        assert (by_steps(model, x) - whole).abs().max() < 1e-10
        picked = whole.gather(-1, x[..., None])[..., 0]
        assert (model.log_prob_per_symbol(x) - picked).abs().max() < 1e-10


RANDOM_SHAPES = settings(
    max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
sides = st.integers(1, 7)


@RANDOM_SHAPES
@given(
    size=st.tuples(sides, sides),
    channels=st.integers(1, 4),
    kernel=st.sampled_from([1, 3, 5]),
    first_kernel=st.sampled_from([3, 5, 7]),
    features=st.integers(3, 9),
    layers=st.integers(1, 3),
    factorised=st.booleans(),
    seed=st.integers(0, 99),
)
def test_whole_is_cursor_in_any_gated_pixelcnn(size, channels, seed, **options):
    torch.manual_seed(seed)
    model = npx.build("gated_pixelcnn", shape=(channels, 4, 4), levels=3, **options)
    assert_whole_is_cursor(loud(model), size, seed)


@RANDOM_SHAPES
@given(
    size=st.tuples(sides, sides),
    channels=st.integers(1, 4),
    kernel=st.sampled_from([1, 3, 5]),
    first_kernel=st.sampled_from([3, 5, 7]),
    features=st.integers(3, 9),
    blocks=st.integers(1, 2),
    head=st.sampled_from(["categorical", "autoregressive_categorical"]),
    seed=st.integers(0, 99),
)
def test_whole_is_cursor_in_any_pixelcnn(size, channels, seed, **options):
    torch.manual_seed(seed)
    model = npx.build("pixelcnn", shape=(channels, 4, 4), levels=3, **options)
    assert_whole_is_cursor(loud(model), size, seed)


# What the declarations rule out


@pytest.fixture
def unmasked():
    """A family that cannot order channels and takes no condition."""

    class Nothing(Network):
        def __init__(self, config, inputs: Layout, outputs: Layout, condition=None):
            super().__init__(config, inputs, outputs, condition)
            self.bias = torch.nn.Parameter(torch.zeros(outputs.width))

        def pixels(self, x, contexts, run):
            return self.bias.expand(*x.shape[:3], -1)

    register("nothing", summary="", channel_masks=False, full_context=False)(Nothing)
    yield "nothing"
    unregister("nothing")


def sentence(error) -> str:
    text = str(error.value)
    assert text[0].isupper()
    assert text.rstrip()[-1] in ".?"
    return text


def test_nobody_to_order_the_channels_is_refused(unmasked):
    with pytest.raises(UserError) as error:
        npx.build(unmasked, shape=(3, 4, 4), levels=2)
    assert "channels" in sentence(error)
    assert npx.build(unmasked, shape=(1, 4, 4), levels=2).channels_by == "nobody"
    assert npx.build(unmasked, shape=(3, 4, 4), levels=2, head="autoregressive_categorical").channels_by == "head"


@pytest.mark.parametrize("kind", CONDITIONS)
def test_a_condition_that_the_family_does_not_take_is_refused(unmasked, kind):
    with pytest.raises(UserError) as error:
        npx.build(unmasked, shape=(1, 4, 4), levels=2, **CONDITIONS[kind])
    assert kind in sentence(error)


@pytest.mark.parametrize("family", npx.families())
@pytest.mark.parametrize("head", npx.heads())
def test_levels_that_a_head_does_not_take_are_refused(family, head):
    for levels in (2, 3, 5, 256):
        if npx.heads()[head].refusal(levels):
            with pytest.raises(UserError) as error:
                npx.build(family, shape=(1, 4, 4), levels=levels, head=head, **small(family))
            assert str(levels) in sentence(error)
        else:
            npx.build(family, shape=(1, 4, 4), levels=levels, head=head, **small(family))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"family": "gated_pixelcn"}, "gated_pixelcnn"),
        ({"head": "categorial"}, "categorical"),
        ({"layer": 3}, "layers"),
        ({"levels": 1}, "2"),
        ({"shape": (1, 0, 4)}, "positive"),
        ({"shape": None}, "shape"),
        ({"classes": 0}, "class"),
    ],
    ids=str,
)
def test_mistakes_are_answered_with_a_sentence(arguments, word):
    given = {"family": "gated_pixelcnn", "shape": (1, 4, 4), "levels": 2} | arguments
    with pytest.raises(UserError) as error:
        npx.build(given.pop("family"), **given)
    assert word in sentence(error)


# Heads


def every_head() -> list:
    """All heads, of 1 and 3 channels, with few and very many levels."""
    return [
        pytest.param(name, channels, levels, id=f"{name}-{channels}x{levels}")
        for name, head in _heads.items()
        for channels in (1, 3)
        for levels in (2, 5, 1024)
        if not head.refusal(levels)
    ]


def head_and_inputs(name, channels, levels, scale):
    torch.manual_seed(0)
    head = npx.heads()[name](channels, levels).double()
    width = sum(head.sizes) if not head.orders_channels else head.sizes[0]
    features = scale * torch.randn(2, 3, 5, width, dtype=torch.float64)
    x = torch.randint(levels, (2, channels, 3, 5))
    return head, features.requires_grad_(), x


def all_log_pmfs(head, features, x):
    """[N, H, W, C, K], symbol by symbol as a stepper asks."""
    parts = features.flatten(0, 2).split(list(head.sizes), -1)
    values = x.permute(0, 2, 3, 1).flatten(0, 2)
    each = [head.log_pmf(parts[0 if head.orders_channels else c], c, values[:, :c]) for c in range(head.channels)]
    return torch.stack(each, 1).unflatten(0, features.shape[:3])


@pytest.mark.parametrize(("name", "channels", "levels"), every_head())
def test_head_pmf_sums_to_one_and_log_prob_is_its_logarithm(name, channels, levels):
    head, features, x = head_and_inputs(name, channels, levels, scale=3)
    log_pmf = all_log_pmfs(head, features, x)
    assert log_pmf.shape == (2, 3, 5, channels, levels)
    assert (log_pmf.exp().sum(-1) - 1).abs().max() < 1e-12
    picked = log_pmf.gather(-1, x.permute(0, 2, 3, 1)[..., None])[..., 0].permute(0, 3, 1, 2)
    assert (head.log_prob(features, x) - picked).abs().max() < 1e-12


@pytest.mark.parametrize(("name", "channels", "levels"), every_head())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_head_stays_finite_with_extreme_features(name, channels, levels, dtype):
    head, features, x = head_and_inputs(name, channels, levels, scale=1)
    head = head.to(dtype)
    features = (1e4 * features.detach().sign()).to(dtype).requires_grad_()
    log_prob = head.log_prob(features, x)
    assert torch.isfinite(log_prob).all()
    assert (log_prob <= 0).all()
    log_prob.sum().backward()
    assert torch.isfinite(features.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)
    log_pmf = all_log_pmfs(head, features, x)
    assert torch.isfinite(log_pmf).all()
    assert (log_pmf.exp().sum(-1) - 1).abs().max() < 1e-4


def test_an_improbable_symbol_still_has_a_gradient():
    """No clamp of a probability: at log p = -20000 the logits are still told which way to go."""
    head = npx.heads()["bernoulli"](1, 2)
    features = torch.full((1, 1, 1, 1), -2e4, requires_grad=True)
    log_prob = head.log_prob(features, torch.ones(1, 1, 1, 1, dtype=torch.long))
    log_prob.sum().backward()
    assert log_prob.item() == pytest.approx(-2e4)
    assert features.grad.item() == pytest.approx(1.0)


def test_bernoulli_is_the_categorical_of_two_levels():
    bernoulli, categorical = npx.heads()["bernoulli"](1, 2), npx.heads()["categorical"](1, 2)
    logits = torch.randn(2, 3, 5, 1, dtype=torch.float64)
    x = torch.randint(2, (2, 1, 3, 5))
    both = F.pad(logits, (1, 0))
    assert (bernoulli.log_prob(logits, x) - categorical.log_prob(both, x)).abs().max() < 1e-12
