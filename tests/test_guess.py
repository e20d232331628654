"""Guess and verify against the Cursor and a plain sampler; the rule that picks the method."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multiscale_models import multi
from test_sample import naively

import nextpixel as npx
from nextpixel.causal import Whole
from nextpixel.errors import UserError
from nextpixel.model import Model
from nextpixel.replay import native
from nextpixel.tasks.drawing import SampleOptions, uniform_noise
from nextpixel.tasks.guess import AHEAD, guess
from nextpixel.tasks.methods import FEW, FEW_ELSEWHERE, METHODS, pick
from nextpixel.tasks.progress import Steps

SMALL = {"features": 5, "kernel": 3, "first_kernel": 3, "layers": 2, "blocks": 1, "hidden": 20}
CONDITIONS = {"class": {"classes": 3}, "vector": {"vector": 2}, "map": {"map_shape": (2, 3, 2)}}


def build(tiny, family, *, channels=1, levels=3, size=(5, 4), loud=0.6, **options):
    """With weights of a standard deviation `loud`, which make every pmf depend on what came before."""
    declared = npx.families()[family]
    ordered = channels == 1 or declared.channel_masks
    head = {} if ordered else {"head": "autoregressive_categorical", "head_options": {"features": 4}}
    sizes = {name: value for name, value in SMALL.items() if name in declared.options}
    model = tiny(family, shape=(channels, *size), levels=levels, double=True, **{**head, **sizes, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=loud)
    return model


def condition_of(kinds, n):
    """A different condition for each of n pictures, by kind."""
    generator = torch.Generator().manual_seed(5)
    made = {
        "class": torch.arange(n) % 3,
        "vector": torch.randn(n, 2, generator=generator),
        "map": torch.randn(n, 2, 3, 2, generator=generator),
    }
    return {kind: made[kind] for kind in kinds} or None


def assert_same(model, n=5, **options):
    """That guesses give the Cursor's pictures, which are no trivial ones; returns the passes."""
    expected = npx.sample(model, n=n, method="cursor", **options)
    assert expected.double().std() > 0.1, "the example must not be trivial"
    assert torch.equal(npx.sample(model, n=n, method="guess", **options), expected)
    return expected


def passes_of(model, n=4, ahead=AHEAD, options=None):
    return guess(model, None, uniform_noise(0, range(n), model.shape), options or SampleOptions(), ahead=ahead)


# The same pictures


@pytest.mark.parametrize("family", npx.families())
@pytest.mark.parametrize("channels", [1, 3])
def test_every_family_with_all_its_conditions(tiny, family, channels):
    kinds = npx.families()[family].conditions
    conditions = {name: value for kind in kinds for name, value in CONDITIONS[kind].items()}
    model = build(tiny, family, channels=channels, loud=0.3, **conditions)
    assert_same(model, seed=3, condition=condition_of(kinds, 5), batch_size=3)


HEADS = {
    "bernoulli": {"levels": 2},
    "categorical": {"levels": 5},
    "autoregressive_categorical": {"channels": 2, "head_options": {"features": 4}},
    "logistic_mixture": {"channels": 3, "levels": 6, "head_options": {"mixtures": 2}},
}


@pytest.mark.parametrize("head", npx.heads())
def test_every_head(tiny, head):
    assert_same(build(tiny, "gated_pixelcnn", head=head, **HEADS[head]))


@pytest.mark.parametrize("options", [{"temperature": 0.6}, {"temperature": 0}, {"top_k": 2}, {"seed": 9}])
def test_how_values_are_chosen(tiny, options):
    assert_same(build(tiny, "gated_pixelcnn", levels=4), **options)


@pytest.mark.parametrize(
    ("family", "orders"), [("gated_pixelcnn", 8), ("nade", ["permutation-2", "transpose", "permutation-5"])]
)
def test_in_other_orders(tiny, family, orders):
    model = build(tiny, family, channels=2, orders=orders, size=(5, 4))
    assert_same(model, n=9)
    for name in model.order_names:
        assert_same(model, order=name)
        assert_same(model.in_order(name).own_grid(), size=model.in_order(name).order.grid(5, 4))


def test_at_another_size(tiny):
    assert_same(build(tiny, "pixelcnn"), size=(7, 3))
    assert_same(build(tiny, "pixelcnnpp", features=3), size=(1, 9))


@pytest.mark.parametrize("scale", [2, 4])
def test_multi_scale(scale):
    assert_same(multi(scale=scale), n=4)
    model = multi("pixelcnn", shape=(3, 6, 5), classes=3, scale=scale, small_family="gated_pixelcnn")
    assert_same(model, n=4, condition="each")


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    channels=st.integers(1, 2),
    n=st.integers(1, 4),
    ahead=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_equal_to_the_naive_sampler_and_never_more_passes_than_symbols(tiny, height, width, channels, n, ahead, seed):
    model = build(tiny, "pixelcnn", channels=channels, size=(height, width), seed=seed)
    noise = uniform_noise(seed, range(n), model.shape)
    images, passes = guess(model, None, noise, SampleOptions(), ahead=ahead)
    assert torch.equal(images, naively(model, noise))
    assert passes.shape == (n,)
    assert (passes >= 1).all()
    assert (passes <= model.dims).all()


@pytest.mark.parametrize("family", npx.families())
def test_features_of_first_rows_are_those_of_the_whole(tiny, family):
    """What guesses stand on: rows that come later play no part, not even by their number."""
    kinds = npx.families()[family].conditions
    model = build(tiny, family, **{name: value for kind in kinds for name, value in CONDITIONS[kind].items()})
    x, condition = torch.randint(3, (2, 1, 5, 4)), condition_of(kinds, 2)
    other = torch.cat([x[:, :, :3], 2 - x[:, :, 3:]], 2)
    with torch.no_grad():
        whole = model.features(x, condition)
        for rows in range(1, 6):
            assert (model.features(x, condition, rows=rows) - whole[:, :rows]).abs().max() < 1e-12
        assert torch.equal(model.features(other, condition, rows=3), model.features(x, condition, rows=3))
    assert (Whole().half().height, Whole(height=5).half().height) == (None, 3)


# Passes


def without_context(tiny, **options):
    """Each symbol's distribution is the same whatever came before it."""
    model = build(tiny, "gated_pixelcnn", **options)
    with torch.no_grad():
        last = model.network.out[-1]
        for name, parameter in last.named_parameters():
            parameter.copy_(torch.randn_like(parameter) if "bias" in name else torch.zeros_like(parameter))
    return model


def test_a_model_that_ignores_context_takes_a_pass_to_guess_and_one_to_verify(tiny):
    model = without_context(tiny, levels=4)
    images, passes = passes_of(model, n=20, ahead=5)
    assert images.double().std() > 0.1
    assert int(passes.max()) == 2
    # Two passes for each two rows that are guessed together, and for the last one.
    assert int(passes_of(model, n=20, ahead=2)[1].max()) <= 2 * 3


def test_one_pass_where_the_first_guess_is_right(tiny):
    """Zeros everywhere: nothing changes, and each pass settles the rows that it guessed."""
    model = without_context(tiny, levels=4)
    with torch.no_grad():
        model.network.out[-1].bias.copy_(torch.tensor([9.0, 0, 0, 0]))
    for ahead, expected in ((1, 5), (2, 3), (3, 2), (5, 1), (99, 1)):
        images, passes = passes_of(model, ahead=ahead, options=SampleOptions(temperature=0))
        assert not images.any()
        assert passes.tolist() == [expected] * 4


def test_as_many_passes_as_symbols_at_worst(tiny):
    """A value that is the parity of all before it, flipped: every guess of the rest is wrong until it is reached."""
    model = build(tiny, "nade", levels=2, size=(1, 6))

    def flipped_parity(features, values):
        sums = values.flatten(1).cumsum(1) - values.flatten(1)
        odd = ((1 + sums) % 2).view(values.shape)
        return torch.nn.functional.one_hot(odd, 2).double().log()

    model.head_log_pmf = flipped_parity
    images, passes = passes_of(model)
    assert images.flatten(1).tolist() == [[1, 0, 0, 0, 0, 0]] * 4
    assert passes.max() <= 6
    assert passes.min() >= 2


def test_a_picture_takes_the_same_passes_alone_and_in_company(tiny):
    model = build(tiny, "gated_pixelcnn")
    noise = uniform_noise(0, range(7), model.shape)
    _, together = guess(model, None, noise, SampleOptions())
    alone = torch.cat([guess(model, None, noise[i : i + 1], SampleOptions())[1] for i in range(7)])
    assert torch.equal(together, alone)
    assert len(together.unique()) > 1, "some must leave the batch before others"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["pixelcnn", "multi-scale"])
def test_progress_counts_rows(tiny, kind, method):
    model = multi() if kind == "multi-scale" else build(tiny, kind)
    if METHODS[method].why_not(model):
        assert (kind, method) == ("multi-scale", "wavefront")
        return
    steps = Steps(99, "drawing", show=False)
    seen = []
    steps.to = lambda done, figure="": (seen.append(done), setattr(steps, "done", done))
    noise = uniform_noise(0, range(3), model.shape)
    for start in (0, model.shape[1]):
        METHODS[method].draw(model, None, noise, SampleOptions(), steps)
        assert steps.done == start + model.shape[1]
    assert seen == sorted(seen)


# The method


@pytest.fixture
def kernels(monkeypatch, request):
    """Whether there are compiled kernels."""
    native.kernels.cache_clear()
    if not request.param:
        monkeypatch.setenv("NEXTPIXEL_NATIVE", "0")
    elif not native.kernels():
        pytest.skip("no C compiler here")
    yield request.param
    native.kernels.cache_clear()


@pytest.mark.parametrize("kernels", [True, False], indirect=True)
@pytest.mark.parametrize(("family", "replayed"), [("gated_pixelcnn", True), ("pixelsnail", False), ("nade", False)])
def test_few_binary_pictures_whose_steps_are_not_replayed_are_guessed(tiny, kernels, family, replayed):
    model = build(tiny, family, levels=2, size=(11, 10))
    expected = "cursor" if replayed and kernels else "guess"
    for n in (1, 2, 3, 64):
        name, reason = pick(model, n, (11, 10))
        assert name == (expected if n <= FEW["cpu"] else "cursor"), (n, reason)
    more = build(tiny, family, levels=3, size=(11, 10))
    assert pick(more, 1, (11, 10))[0] == "cursor"
    assert [pick(model, 99, (11, 10), name)[0] for name in ("cursor", "guess")] == ["cursor", "guess"]


@pytest.mark.parametrize("kernels", [False], indirect=True)
def test_elsewhere_than_on_cpus(tiny, kernels, monkeypatch):
    model = build(tiny, "gated_pixelcnn", levels=2)
    monkeypatch.setattr(type(model), "like", lambda self: torch.empty(0, device="meta"))
    assert pick(model, FEW_ELSEWHERE, (5, 4))[0] == "guess"
    assert pick(model, FEW_ELSEWHERE + 1, (5, 4))[0] == "cursor"


@pytest.mark.parametrize("kernels", [True, False], indirect=True)
def test_multi_scale_models_go_by_their_large_part(kernels):
    model = multi(shape=(1, 11, 10), levels=2)
    assert pick(model, 1, (11, 10))[0] == ("cursor" if kernels else "guess")


def test_the_rule_looks_at_the_model_as_it_is_drawn_from(tiny, monkeypatch):
    """In eval mode, with pictures as many as a batch holds."""
    model, seen = build(tiny, "gated_pixelcnn", dropout=0.5).train(), []
    monkeypatch.setattr(
        "nextpixel.tasks.sample.pick",
        lambda model, n, size, wanted: (seen.append((model.training, n, size, wanted)), ("cursor", "so"))[1],
    )
    npx.sample(model, n=5, batch_size=3, size=(2, 6))
    assert seen == [(False, 3, (2, 6), "auto")]
    assert model.training


class Foreign(Model):
    """A model that is neither of ours."""

    family = "foreign"

    def __init__(self):
        super().__init__()
        self.shape, self.levels, self.classes, self.condition = (1, 2, 2), 2, None, None
        self.weight = torch.nn.Parameter(torch.zeros(1))


def test_a_model_that_cannot_be_guessed(assert_sentence):
    assert pick(Foreign(), 1, (2, 2)) == ("cursor", "the model allows no other method")
    with pytest.raises(UserError, match="kind foreign") as caught:
        pick(Foreign(), 1, (2, 2), "guess")
    assert_sentence(caught)
    with pytest.raises(UserError, match="kind foreign") as caught:
        guess(Foreign(), None, torch.zeros(1, 1, 2, 2), SampleOptions())
    assert_sentence(caught)


def test_unknown_methods_are_refused(tiny, assert_sentence):
    with pytest.raises(UserError, match="Did you mean 'guess'") as caught:
        npx.sample(build(tiny, "pixelcnn"), n=1, method="gues")
    assert_sentence(caught)
    with pytest.raises(UserError, match="there are: auto, exact, particles, ignore") as caught:
        npx.complete(build(tiny, "pixelcnn"), torch.zeros(1, 1, 5, 4, dtype=torch.long), 1, method="guess")
    assert_sentence(caught)


def test_what_is_told(tiny):
    model, lines = build(tiny, "gated_pixelcnn"), []
    pictures = npx.sample(model, n=5, batch_size=2, method="guess", tell=lines.append)
    _, passes = passes_of(model, n=5)
    assert lines == [
        "Method: guess (guesses, verified in parallel passes): as asked.",
        f"Passes: {passes.double().mean():.1f} a picture, {int(passes.max())} at most, for 20 symbols.",
    ]
    lines.clear()
    assert torch.equal(npx.sample(model, n=5, tell=lines.append), pictures)
    assert len(lines) == 1
    assert lines[0].startswith("Method: cursor (symbol by symbol): ")
    lines.clear()
    assert len(npx.sample(model, n=0, method="guess", tell=lines.append)) == 0
    assert len(lines) == 1


def test_the_command_says_it_with_v(tiny, tmp_path, monkeypatch, capsys):
    from nextpixel.cli import main

    monkeypatch.chdir(tmp_path)
    build(tiny, "gated_pixelcnn").float().save_pretrained("model")

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["nextpixel", "sample", "model", "-n", "3", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr()

    status, said = run("-v", "--method", "guess", "--out", "a.npy")
    assert status == 0
    assert "Method: guess" in said.err
    assert "Passes: " in said.err
    assert "Method" not in said.out
    status, said = run("--verbose", "--out", "b.npy")
    assert "Method: cursor" in said.err
    status, said = run("--out", "c.npy")
    assert "Method" not in said.err
    status, said = run("--method", "gues")
    assert status == 2
    assert "Did you mean 'guess'" in said.err
