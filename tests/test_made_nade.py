"""MADE and NADE: against slow recurrences written out by hand, in any order of the pixels; known rows, forks, sizes."""

import itertools
import math

import numpy as np
import pytest
import torch

import nextpixel as npx
from nextpixel.causal import Cursor, Layout, Memory, Ring, UnwrittenError, Whole
from nextpixel.checks import check
from nextpixel.errors import UserError

SIZE = (3, 4)
PIXELS = 12
INPUTS, OUTPUTS, CONDITION = 2, 3, 5

NETWORKS = {
    "made": ("made", {"hidden": 17}),
    "made, 3 layers, indirect": ("made", {"hidden": 17, "layers": 3, "direct": False}),
    "made, 2 layers, few units": ("made", {"hidden": 3, "layers": 2}),
    "nade": ("nade", {"hidden": 7}),
}


def made_of(family: str, size=SIZE, condition=None, **options):
    """A network by itself, in float64, with random weights."""
    kind = npx.families()[family].network
    network = kind(kind.Config(**options), Layout((INPUTS,)), Layout((OUTPUTS,)), condition, size=size).double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.4)
    return network


@pytest.fixture(params=NETWORKS, ids=str)
def network(request):
    family, options = NETWORKS[request.param]
    return made_of(family, **options)


def inputs(n: int = 2, size=SIZE) -> torch.Tensor:
    return torch.randn(n, *size, INPUTS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def an_order(seed: int = 7) -> torch.Tensor:
    return torch.randperm(PIXELS, generator=torch.Generator().manual_seed(seed))


ORDERS = {"raster": None, "backwards": torch.arange(PIXELS).flip(0), "random": an_order()}


def memory_for(network, n: int, order=None, size=SIZE) -> Memory:
    memory = Memory(torch.empty(0, dtype=torch.float64), n, *size)
    memory.order = order
    above, left, right = network.input_reach()
    memory.input = Ring(memory.like, n, above + 1, size[1], INPUTS, left, right)
    return memory


@torch.no_grad()
def walk(network, x, memory, condition=None, start: int = 0, stop: int | None = None) -> torch.Tensor:
    """The features at positions start..stop-1, asked for twice each: [N, positions, outputs]."""
    height, width = x.shape[1:3]
    cursor, found, contexts = Cursor(memory), [], None
    for at in range(start, height * width if stop is None else stop):
        cursor.row, cursor.column = divmod(at, width)
        if contexts is None or cursor.column == 0:
            contexts = network.rows(None, condition, cursor)
        network.pixels(None, contexts, cursor)
        found.append(network.pixels(None, contexts, cursor))
        memory.input.write(cursor.row, cursor.column, 0, x[:, cursor.row, cursor.column])
    return torch.stack(found, 1)


# The recurrences written out, for one picture x [positions, inputs] in the order of prediction


def weights_of(network) -> dict[str, np.ndarray]:
    return {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}


def made_by_hand(network, x, order, condition):
    """Germain et al. 2015, section 4: unit k of degree m(k) is connected to the inputs d <= m(k), to the units of the
    layer below with m' <= m, and to the outputs d > m, where d counts positions from 1."""
    w, degree = weights_of(network), network.hidden.degrees
    pixels = len(x)

    def column(s, i):  # of a weight from the inputs
        return order[s] * INPUTS + i

    below = None
    for number in range(network.config.layers):
        units = []
        for k, m in enumerate(degree):
            total = w[f"layers.{number}.bias"][k]
            weight = w[f"layers.{number}.weight"][k]
            if below is None:
                total += sum(weight[column(d - 1, i)] * x[d - 1, i] for d in range(1, m + 1) for i in range(INPUTS))
            else:
                total += sum(weight[j] * below[j] for j, lower in enumerate(degree) if lower <= m)
            if condition is not None:
                total += w[f"layers.{number}.condition"][k] @ condition
            units.append(max(total, 0.0))
        below = units
    result = np.zeros((pixels, OUTPUTS))
    for d, o in itertools.product(range(1, pixels + 1), range(OUTPUTS)):
        row = order[d - 1] * OUTPUTS + o
        total = w["out.bias"][row] + sum(w["out.weight"][row, k] * below[k] for k, m in enumerate(degree) if d > m)
        if network.config.direct:
            earlier = itertools.product(range(d - 1), range(INPUTS))
            total += sum(w["direct.weight"][row, column(s, i)] * x[s, i] for s, i in earlier)
        if condition is not None:
            total += w["out.condition"][row] @ condition
        result[d - 1, o] = total
    return result


def nade_by_hand(network, x, order, condition):
    """Larochelle and Murray 2011: h = sigmoid(c + W x over earlier pixels), the output of pixel i is b_i + V_i h."""
    w = weights_of(network)
    result = np.zeros((len(x), OUTPUTS))
    for t in range(len(x)):
        total = w["sum.bias"].copy()
        for s, i in itertools.product(range(t), range(INPUTS)):
            total += w["sum.weight"][:, order[s] * INPUTS + i] * x[s, i]
        if condition is not None:
            total += w["given.weight"] @ condition
        hidden = 1 / (1 + np.exp(-total))
        for o in range(OUTPUTS):
            row = order[t] * OUTPUTS + o
            result[t, o] = w["out.bias"][row] + w["out.weight"][row] @ hidden
    return result


BY_HAND = {"made": made_by_hand, "nade": nade_by_hand}


@pytest.mark.parametrize("conditional", [False, True], ids=["free", "conditional"])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("which", NETWORKS)
def test_whole_and_cursor_are_the_recurrence(which, order, conditional):
    family, options = NETWORKS[which]
    network = made_of(family, condition=CONDITION if conditional else None, **options)
    x = inputs()
    condition = torch.randn(len(x), 1, 1, CONDITION, dtype=torch.float64) if conditional else None
    pixels = range(PIXELS) if order is None else order.tolist()
    with torch.no_grad():
        whole = network(x, condition, Whole(order=order)).flatten(1, 2)
    steps = walk(network, x, memory_for(network, len(x), order), condition)
    for n in range(len(x)):
        given = None if condition is None else condition[n, 0, 0].numpy()
        wanted = torch.from_numpy(BY_HAND[family](network, x[n].flatten(0, 1).numpy(), pixels, given))
        assert (whole[n] - wanted).abs().max() < 1e-12
        assert (steps[n] - wanted).abs().max() < 1e-12


# Context


def sees(network, order) -> torch.Tensor:
    """Which positions the features at each position depend on: bool [positions, positions]. With positive weights and
    inputs no ReLU is dead and nothing cancels."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    seen = torch.zeros(PIXELS, PIXELS, dtype=torch.bool)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(1, *SIZE, INPUTS, generator=generator, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(lambda x: network(x, run=Whole(order=order)), x)
        by_position = jacobian.view(PIXELS, OUTPUTS, PIXELS, INPUTS)
        seen |= (by_position != 0).any(3).any(1)
    return seen


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_position_depends_on_exactly_the_earlier_ones(network, order):
    assert torch.equal(sees(network, order), torch.ones(PIXELS, PIXELS).tril(-1).bool())


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("hidden", [1, 2, 5, 11, 30])
def test_the_declared_field_without_direct_connections_is_exact(hidden, layers):
    network = made_of("made", hidden=hidden, layers=layers, direct=False)
    declared = [network.receptive_field(*SIZE, *divmod(at, SIZE[1])).flatten() for at in range(PIXELS)]
    assert torch.equal(sees(network, an_order()), torch.stack(declared))
    assert bool(torch.stack(declared).sum() == PIXELS * (PIXELS - 1) // 2) == (hidden >= PIXELS - 1)


@pytest.mark.parametrize("hidden", [1, 3, 10, 11, 12, 100])
def test_degrees_are_sorted_and_spread_evenly(hidden):
    degrees = made_of("made", hidden=hidden).hidden.degrees
    counts = [degrees.count(m) for m in range(1, PIXELS)]
    assert sum(counts) == hidden
    assert list(degrees) == sorted(degrees)
    assert max(counts) - min(counts) <= 1


def test_few_units_without_direct_connections_are_a_sound_model():
    torch.manual_seed(0)
    report = check(npx.build("made", shape=(1, 4, 5), levels=2, hidden=3, direct=False), seeds=2)
    assert report.passed, str(report)


# Orders


@pytest.mark.parametrize(
    ("family", "options", "arranged"),
    [("nade", {"hidden": 7}, [4, 0, 5, 2, 1, 3]), ("made", {"hidden": 2}, [0, 1, 2, 5, 4, 3])],
    ids=["nade", "made"],
)
def test_weights_belong_to_pixels(family, options, arranged):
    """Two orders that differ in the arrangement of their first six pixels only say the same of all later ones. In MADE
    that holds as long as no hidden unit sees some of the rearranged pixels without the others."""
    network, first = made_of(family, **options), an_order()
    second = torch.cat([first[arranged], first[6:]])
    if family == "made":
        assert not set(network.hidden.degrees) & {4, 5}
    values = inputs().flatten(1, 2)  # by pixel
    answers = []
    for order in (first, second):
        with torch.no_grad():
            grid = values[:, order].unflatten(1, SIZE)
            answers.append(network(grid, run=Whole(order=order)).flatten(1, 2))
    assert (answers[0] - answers[1])[:, 6:].abs().max() < 1e-12
    assert (answers[0] - answers[1])[:, 3:6].abs().max() > 1e-3


@pytest.mark.parametrize("family", ["made", "nade"])
def test_all_images_sum_to_one_in_any_order(family):
    network = made_of(family, size=(2, 3), hidden=9)
    order = torch.tensor([4, 1, 5, 0, 3, 2])
    values = torch.cartesian_prod(*[torch.arange(2)] * 6)
    x = torch.stack([torch.ones(64, 6), 2 * values - 1], -1).double().unflatten(1, (2, 3))
    with torch.no_grad():
        logits = network(x, run=Whole(order=order)).flatten(1, 2)[..., 0]
    signs = 2 * values - 1
    log_prob = torch.nn.functional.logsigmoid(signs * logits).sum(1)
    assert abs(float(log_prob.exp().sum()) - 1) < 1e-12
    assert log_prob.exp().std() > 1e-3


# Known rows, forks, single steps


@pytest.mark.parametrize("known", [1, 2, 3])
@pytest.mark.parametrize("order", [None, an_order()], ids=["raster", "random"])
def test_known_first_rows(network, order, known):
    x = inputs()
    memory = memory_for(network, len(x), order)
    with torch.no_grad():
        whole = network(x, run=Whole(order=order)).flatten(1, 2)
        first = network(x[:, :known], run=Whole(memory)).flatten(1, 2)
    assert (first - whole[:, : known * SIZE[1]]).abs().max() < 1e-12
    memory.input.write_last_rows(x[:, :known])
    if known < SIZE[0]:
        rest = walk(network, x, memory, start=known * SIZE[1])
        assert (rest - whole[:, known * SIZE[1] :]).abs().max() < 1e-12


@pytest.mark.parametrize("at", [0, 1, 4, 7, 11])
def test_forks_go_their_own_ways(network, at):
    order, (x, other) = an_order(), inputs(4).split(2)
    memory = memory_for(network, 2, order)
    if at:
        walk(network, x, memory, stop=at)
    fork = memory.fork(torch.tensor([1, 1, 0]))
    mixed = torch.cat([x.flatten(1, 2)[[1, 1, 0], :at], other.flatten(1, 2)[[0, 1, 0], at:]], 1).unflatten(1, SIZE)
    found = {"fork": walk(network, mixed, fork, start=at), "original": walk(network, x, memory, start=at)}
    with torch.no_grad():
        for name, pictures in (("fork", mixed), ("original", x)):
            wanted = network(pictures, run=Whole(order=order)).flatten(1, 2)[:, at:]
            assert (found[name] - wanted).abs().max() < 1e-12


def test_a_cursor_computes_every_hidden_unit_once():
    network, x = made_of("made", hidden=17, layers=3), inputs()
    computed = []
    network.relu.register_forward_hook(lambda module, given, made: computed.append(made.shape[1]))
    memory = memory_for(network, len(x))
    cursor = Cursor(memory)
    with torch.no_grad():
        for at in range(PIXELS):
            cursor.row, cursor.column = divmod(at, SIZE[1])
            network.pixels(None, [], cursor)
            memory.input.write(cursor.row, cursor.column, 0, x[:, cursor.row, cursor.column])
    assert len(computed) == 3 * PIXELS
    assert sum(computed) == 3 * 17


def test_a_skipped_position_is_refused(network):
    x = inputs()
    memory = memory_for(network, len(x))
    walk(network, x, memory, stop=3)
    cursor = Cursor(memory)
    cursor.row, cursor.column = 1, 0
    memory.input.write(0, 3, 0, x[:, 0, 3])
    memory.input.write(1, 0, 0, x[:, 1, 0])
    cursor.column = 1
    with pytest.raises(UnwrittenError):
        network.pixels(None, [], cursor)


# Sizes, options, initial weights


@pytest.mark.parametrize("family", ["made", "nade"])
def test_another_size_is_refused(family, assert_sentence):
    model = npx.build(family, shape=(1, 8, 8), levels=2, hidden=5).eval()
    for height, width in ((8, 9), (4, 8), (16, 4)):
        x = torch.zeros(1, 1, height, width, dtype=torch.long)
        for attempt in (
            lambda x=x: model.log_prob(x),
            lambda x=x: model.log_pmf(x),
            lambda x=x: model.stepper(1, size=x.shape[2:]).log_pmf(),
            lambda x=x: model.stepper(1, size=x.shape[2:]).prefill(x[:, :, :2]),
            lambda x=x: model.network.receptive_field(*x.shape[2:], 1, 1),
        ):
            with pytest.raises(
                UserError, match=f"{family} runs at its own size 8x8 only, not at {height}x{width}"
            ) as error:
                attempt()
            assert_sentence(error)


@pytest.mark.parametrize("family", ["made", "nade"])
def test_a_map_is_refused(family, assert_sentence):
    with pytest.raises(UserError, match="it takes: class, vector") as error:
        npx.build(family, shape=(1, 4, 4), levels=2, map_shape=(2, 4, 4))
    assert_sentence(error)


@pytest.mark.parametrize(
    ("family", "options", "word"),
    [
        ("made", {"hidden": 0}, "hidden"),
        ("made", {"layers": 0}, "layers"),
        ("made", {"dropout": 1.0}, "dropout"),
        ("made", {"direct": 1}, "direct"),
        ("nade", {"hidden": 0}, "hidden"),
        ("nade", {"layers": 2}, "layers"),
    ],
)
def test_options_that_make_no_network(family, options, word, assert_sentence):
    with pytest.raises(UserError, match=word) as error:
        npx.build(family, shape=(1, 4, 4), levels=2, **options)
    assert_sentence(error)


@pytest.mark.parametrize("family", ["made", "nade"])
def test_an_image_of_one_pixel(family):
    model = npx.build(family, shape=(1, 1, 1), levels=5, hidden=3).eval()
    x = torch.arange(5).view(5, 1, 1, 1)
    with torch.no_grad():
        assert abs(float(model.log_prob(x).exp().sum()) - 1) < 1e-6
        assert (model.stepper(1).log_pmf()[0] - model.log_prob(x)).abs().max() < 1e-6


def test_initial_weights_go_by_the_inputs_that_are_really_there():
    torch.manual_seed(0)
    network = npx.build("made", shape=(1, 6, 6), levels=2, hidden=300, layers=2).network
    first, second = network.layers
    for k, m in enumerate(network.hidden.degrees):
        for layer, fan_in in ((first, 2 * m), (second, network.hidden.until(m))):
            largest = float(layer.weight[k].detach().abs().max()) * math.sqrt(fan_in)
            assert 0.8 < largest <= 1


@pytest.mark.parametrize("family", ["made", "nade"])
def test_a_far_pixel_is_learned(family):
    """The last pixel copies the first: it costs a model nothing that has found out."""
    torch.manual_seed(0)
    model = npx.build(family, shape=(1, 3, 4), levels=2, hidden=20)
    x = torch.randint(2, (256, 1, 3, 4))
    x[:, :, -1, -1] = x[:, :, 0, 0]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(150):
        optimizer.zero_grad()
        (-model.log_prob_per_symbol(x)[..., -1, -1].mean()).backward()
        optimizer.step()
    with torch.no_grad():
        assert float(-model.log_prob_per_symbol(x)[..., -1, -1].mean()) < 0.05


@pytest.mark.parametrize("family", ["made", "nade"])
def test_masks_are_not_saved_with_the_weights(family, tmp_path):
    model = npx.build(family, shape=(1, 3, 4), levels=2, hidden=5, classes=3).eval()
    assert not any("mask" in name for name in model.state_dict())
    model.save_pretrained(tmp_path)
    x = torch.randint(2, (4, 1, 3, 4))
    with torch.no_grad():
        assert torch.equal(npx.load(tmp_path).eval().log_prob(x), model.log_prob(x))
