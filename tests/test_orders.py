"""Orders of prediction: what each order is, models in one and in several orders, and the tasks on them."""

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.orders import EIGHT, MOST, RASTER, Order, as_permutation, order_names

QUICK = settings(max_examples=40, deadline=None, derandomize=True, database=None)

# Pictures of 2 rows and 3 columns,
#     a b c
#     d e f
# and the pixels in the order in which each of the eight predicts them, written out by hand.
LETTERS = {
    "raster": "abcdef",
    "flip-x": "cbafed",
    "flip-y": "defabc",
    "flip-xy": "fedcba",
    "transpose": "adbecf",
    "transpose-flip-x": "cfbead",
    "transpose-flip-y": "daebfc",
    "transpose-flip-xy": "fcebda",
}
# The same as pictures of the order's own grid.
GRIDS = {
    "raster": ["abc", "def"],
    "flip-x": ["cba", "fed"],
    "flip-y": ["def", "abc"],
    "flip-xy": ["fed", "cba"],
    "transpose": ["ad", "be", "cf"],
    "transpose-flip-x": ["cf", "be", "ad"],
    "transpose-flip-y": ["da", "eb", "fc"],
    "transpose-flip-xy": ["fc", "eb", "da"],
}


def letters(text: str) -> list[int]:
    return ["abcdef".index(letter) for letter in text]


def loud(model, seed=3):
    """In float64, with weights under which every pmf depends on what came before."""
    torch.manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.6)
    return model


def build(family="gated_pixelcnn", orders=None, **options):
    known = npx.families()[family].options
    small = {"layers": 2, "blocks": 1, "features": 5, "kernel": 3, "first_kernel": 3, "hidden": 8}
    options = {"shape": (1, 2, 3), "levels": 2, **{n: v for n, v in small.items() if n in known}, **options}
    torch.manual_seed(0)
    return npx.build(family, orders=orders, **options)


def every_image(shape, levels=2):
    count = math.prod(shape)
    return torch.tensor(list(itertools.product(range(levels), repeat=count))).view(-1, *shape)


def walk(stepper, x):
    """All log-pmfs while pushing x, [n, C, H, W, K], and the positions in turn."""
    found = torch.full((*x.shape, stepper.model.levels), math.nan, dtype=torch.float64)
    positions = []
    while (position := stepper.position) is not None:
        row, column, channel = position
        positions.append(position)
        found[:, channel, row, column] = stepper.log_pmf()
        stepper.push(x[:, channel, row, column])
    return found, positions


# What the orders are


def test_there_are_the_eight_of_a_rectangle():
    assert list(EIGHT) == list(LETTERS)
    assert all(order.name == name for name, order in EIGHT.items())
    assert [order.name for order in EIGHT.values() if order.is_raster] == ["raster"]


@pytest.mark.parametrize("name", EIGHT)
def test_each_of_the_eight_by_hand(name):
    order, picture = EIGHT[name], torch.arange(6).view(2, 3)
    assert order.pixels(2, 3).tolist() == letters(LETTERS[name])
    assert order.forth(picture).tolist() == [letters(row) for row in GRIDS[name]]
    assert order.grid(2, 3) == (len(GRIDS[name]), len(GRIDS[name][0]))
    assert torch.equal(order.back(order.forth(picture)), picture)


@QUICK
@given(
    name=st.sampled_from(list(EIGHT)),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    leading=st.lists(st.integers(1, 3), max_size=2),
)
def test_orders_are_bijections_with_their_inverse(name, height, width, leading):
    order = EIGHT[name]
    x = torch.randn(*leading, height, width)
    there = order.forth(x)
    assert there.shape == (*leading, *order.grid(height, width))
    assert order.grid(*order.grid(height, width)) == (height, width)
    assert torch.equal(order.back(there), x)
    pixels = order.pixels(height, width)
    assert sorted(pixels.tolist()) == list(range(height * width))
    # Position t of the grid holds the pixel that is predicted t-th.
    assert torch.equal(there.flatten(-2), x.flatten(-2)[..., pixels])


@QUICK
@given(height=st.integers(1, 5), width=st.integers(1, 5), number=st.integers(0, 99), data=st.data())
def test_free_permutations_are_bijections_with_their_inverse(height, width, number, data):
    pixels = data.draw(st.permutations(range(height * width)))
    for order in (
        Order("mine", permutation=tuple(pixels)),
        Order("drawn", permutation=tuple(as_permutation(f"permutation-{number}", height, width).tolist())),
    ):
        x = torch.randn(2, 3, height, width)
        assert order.grid(height, width) == (height, width)
        assert torch.equal(order.back(order.forth(x)), x)
        assert torch.equal(order.forth(order.back(x)), x)
        assert torch.equal(order.forth(x).flatten(-2), x.flatten(-2)[..., order.pixels(height, width)])
        assert order.pixels(height, width).tolist() == list(order.permutation)


def test_numbered_permutations_differ_and_are_those_of_numpys_generator():
    drawn = [as_permutation(f"permutation-{k}", 5, 4).tolist() for k in range(4)]
    assert len({*map(tuple, drawn), tuple(range(20))}) == 5
    assert drawn[3] == np.random.default_rng(3).permutation(20).tolist()
    assert as_permutation("transpose", 2, 3).tolist() == letters("adbecf")


@pytest.mark.parametrize("pixels", [(0, 1, 1), (0, 2), (1, 2, 3), (-1, 0)])
def test_what_is_no_permutation_is_refused(pixels, assert_sentence):
    with pytest.raises(UserError, match="no permutation") as caught:
        Order("wrong", permutation=pixels)
    assert_sentence(caught)


def test_a_permutation_of_another_number_of_pixels_is_refused(assert_sentence):
    with pytest.raises(UserError, match="6 pixels") as caught:
        Order("six", permutation=tuple(range(6))).forth(torch.zeros(3, 4))
    assert_sentence(caught)


@pytest.mark.parametrize(
    ("wanted", "kind", "names"),
    [
        (None, "flips", "raster"),
        (1, "any", "raster"),
        (3, "flips", "raster,flip-x,flip-y"),
        ("3", "flips", "raster,flip-x,flip-y"),
        ("all", "flips", ",".join(LETTERS)),
        (8, "flips", ",".join(LETTERS)),
        ("all", "any", ",".join(LETTERS)),
        (3, "any", "raster,permutation-1,permutation-2"),
        (["flip-y", "raster"], "flips", "flip-y,raster"),
        ("flip-y, raster", "flips", "flip-y,raster"),
        ("transpose", "flips", "transpose"),
        (("permutation-0", "flip-x"), "any", "permutation-0,flip-x"),
    ],
)
def test_names_of_orders(wanted, kind, names):
    assert order_names(wanted, kind, "mine") == names.split(",")


@pytest.mark.parametrize(
    ("wanted", "kind", "says"),
    [
        (0, "flips", "1 to 8"),
        (9, "flips", "1 to 8"),
        (-1, "any", "1 to"),
        (MOST + 1, "any", "1 to"),
        ("99", "flips", "1 to 8"),
        ("flipx", "flips", "Did you mean 'flip-x'"),
        (["raster", "transposed"], "flips", "Did you mean 'transpose'"),
        ("", "flips", "no order of prediction ''"),
        ("raster,", "flips", "no order of prediction ''"),
        ("²", "flips", "no order"),
        ([], "flips", "not 0"),
        (["raster", "raster"], "flips", "twice"),
        (["permutation-1"], "flips", "permutation-1"),
        (["permutation-01"], "any", "permutation-01"),
        (True, "flips", "not True"),
        ([1], "flips", r"not \[1\]"),
        (2.0, "flips", "not 2.0"),
    ],
)
def test_wrong_orders_are_refused_with_a_sentence(wanted, kind, says, assert_sentence):
    with pytest.raises(UserError, match=says) as caught:
        order_names(wanted, kind, "mine")
    assert_sentence(caught)


# A model in one order

FLIPPED = list(EIGHT)[1:]


@pytest.mark.parametrize("name", EIGHT)
def test_one_order_is_the_raster_model_of_the_rearranged_picture(name):
    """By hand: the same weights in raster order score the picture as it lies in the order's grid."""
    for shape in ((1, 3, 5), (3, 3, 4)):
        raster = loud(build(shape=shape, levels=3))
        model = loud(build(shape=shape, levels=3, orders=[name]))
        model.load_state_dict(raster.state_dict())  # a model of one order has nothing more
        x = torch.randint(3, (4, *shape))
        pixels = EIGHT[name].pixels(*shape[1:])
        grid = EIGHT[name].grid(*shape[1:])
        arranged = x.flatten(2)[..., pixels].unflatten(2, grid)
        torch.testing.assert_close(model.log_prob(x), raster.log_prob(arranged), atol=1e-12, rtol=0)
        each, wanted = model.log_prob_per_symbol(x), raster.log_prob_per_symbol(arranged)
        assert each.shape == x.shape
        assert torch.equal(each.flatten(2)[..., pixels], wanted.flatten(2))
        pmf, wanted = model.log_pmf(x), raster.log_pmf(arranged)
        assert pmf.shape == (*x.shape, 3)
        assert torch.equal(pmf.flatten(2, 3)[:, :, pixels], wanted.flatten(2, 3))


@pytest.mark.parametrize("family", npx.families())
@pytest.mark.parametrize("name", ["transpose-flip-x", "flip-xy"])
def test_total_probability_in_one_order(family, name):
    model = loud(build(family, orders=[name]))
    total = float(model.log_prob(every_image((1, 2, 3))).exp().sum().detach())
    assert total == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("name", EIGHT)
def test_a_symbol_depends_on_pixels_earlier_in_the_order_only(name):
    """Each symbol changed in turn: what moves lies later in the order, and the very next one does move."""
    model = loud(build(shape=(2, 3, 4), levels=3, orders=[name], features=12, first_kernel=7, kernel=5))
    x = torch.randint(3, (1, 2, 3, 4))
    turn = [(p // 4, p % 4, c) for p in EIGHT[name].pixels(3, 4).tolist() for c in range(2)]
    with torch.no_grad():
        before, each = model.log_pmf(x), model.log_prob_per_symbol(x)
        for at, (i, j, c) in enumerate(turn):
            changed = x.clone()
            changed[0, c, i, j] = (changed[0, c, i, j] + 1) % 3
            after = model.log_pmf(changed)
            for row, column, channel in turn[: at + 1]:
                assert torch.equal(after[0, channel, row, column], before[0, channel, row, column])
            for row, column, channel in turn[:at]:
                assert model.log_prob_per_symbol(changed)[0, channel, row, column] == each[0, channel, row, column]
            if at + 1 < len(turn):
                row, column, channel = turn[at + 1]
                assert not torch.equal(after[0, channel, row, column], before[0, channel, row, column])


@pytest.mark.parametrize("name", EIGHT)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_stepper_goes_by_the_order_in_coordinates_of_the_picture(name, channels):
    model = loud(build(shape=(channels, 3, 5), levels=3, orders=[name]))
    x = torch.randint(3, (2, channels, 3, 5))
    stepper = model.stepper(2)
    found, positions = walk(stepper, x)
    assert positions == [(p // 5, p % 5, c) for p in EIGHT[name].pixels(3, 5).tolist() for c in range(channels)]
    assert torch.equal(stepper.images, x)
    torch.testing.assert_close(found, model.log_pmf(x).detach(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ["raster", "flip-y", "transpose", "transpose-flip-xy"])
def test_known_first_rows_of_the_orders_own_grid_and_forks(name):
    model = loud(build(shape=(1, 4, 3), levels=3, orders=[name]))
    order, x = EIGHT[name], torch.randint(3, (2, 1, 4, 3))
    wanted = model.log_pmf(x).detach()
    rows, columns = order.grid(4, 3)
    for known in range(1, rows):
        stepper = model.stepper(2)
        stepper.prefill(order.forth(x)[:, :, :known])
        first = order.pixels(4, 3)[: known * columns]
        assert torch.equal(stepper.images.flatten(2)[..., first], x.flatten(2)[..., first])
        assert int((stepper.images != 0).sum()) == int((x.flatten(2)[..., first] != 0).sum())
        fork = stepper.fork([1, 0])
        found, _ = walk(stepper, x)
        there = ~found.isnan()
        assert int(there[0, ..., 0].sum()) == 12 - known * columns
        torch.testing.assert_close(found[there], wanted[there], atol=1e-10, rtol=0)
        swapped, _ = walk(fork, x[[1, 0]])
        torch.testing.assert_close(swapped[there], wanted[[1, 0]][there], atol=1e-10, rtol=0)


def test_another_size_in_a_transposed_order():
    model = loud(build(shape=(1, 4, 4), levels=3, orders=["transpose"]))
    x = torch.randint(3, (2, 1, 2, 5))
    found, _ = walk(model.stepper(2, size=(2, 5)), x)
    torch.testing.assert_close(found, model.log_pmf(x).detach(), atol=1e-10, rtol=0)


# A model of several orders


@pytest.fixture(scope="module")
def several():
    """Four orders, of a network of shifted kernels, on 2x3 binary pictures."""
    return loud(build(orders=["raster", "flip-y", "transpose", "transpose-flip-xy"]))


def test_a_model_has_the_orders_it_was_built_with():
    assert build().orders == (RASTER,)
    assert [order.name for order in build(orders=3).orders] == ["raster", "flip-x", "flip-y"]
    assert [order.name for order in build(orders="all").orders] == list(EIGHT)
    assert build(orders=["flip-y"]).orders == (EIGHT["flip-y"],)


def test_a_view_shares_everything_and_changes_nothing(several):
    view = several.in_order("flip-y")
    assert type(view) is type(several)
    assert view.orders == (EIGHT["flip-y"],)
    assert [order.name for order in several.orders] == ["raster", "flip-y", "transpose", "transpose-flip-xy"]
    assert all(a is b for a, b in zip(view.parameters(), several.parameters(), strict=True))
    assert view.network is several.network
    x = torch.randint(2, (3, 1, 2, 3))
    before = several.log_prob(x)
    assert torch.equal(several.in_order(1).log_prob(x), view.log_prob(x))
    assert view.in_order("flip-y") is view
    assert view.in_order(0) is view
    assert torch.equal(several.log_prob(x), before)
    with torch.no_grad():
        old = next(several.parameters()).clone()
        next(view.parameters()).add_(1)
    assert torch.equal(next(several.parameters()), old + 1)
    with torch.no_grad():
        next(several.parameters()).copy_(old)


def test_total_probability_in_each_order_and_of_the_mixture(several):
    every = every_image((1, 2, 3))
    with torch.no_grad():
        given = several.log_prob_given_orders(every)
        assert given.shape == (64, 4)
        for number, order in enumerate(several.orders):
            assert torch.equal(several.in_order(order.name).log_prob(every), given[:, number])
            assert float(given[:, number].exp().sum()) == pytest.approx(1, abs=1e-10)
        mixed = several.log_prob(every)
        assert float(mixed.exp().sum()) == pytest.approx(1, abs=1e-10)
        by_hand = given.exp().sum(1) / 4
    torch.testing.assert_close(mixed.exp(), by_hand, atol=1e-12, rtol=0)
    # The orders disagree, or this would be no test; and by Jensen the mixture is never below the mean of the logs.
    assert (given.max(1).values - given.min(1).values).max() > 0.5
    assert (mixed >= given.mean(1)).all()


def test_the_mixture_is_differentiable_and_reaches_every_orders_vector():
    model = loud(build(orders=3))
    model.log_prob(torch.randint(2, (2, 1, 2, 3))).sum().backward()
    assert (model.order_table.weight.grad.abs().sum(1) > 0).all()
    model.zero_grad()
    model.in_order(1).log_prob(torch.randint(2, (2, 1, 2, 3))).sum().backward()
    assert (model.order_table.weight.grad.abs().sum(1) > 0).tolist() == [False, True, False]


def test_without_a_choice_symbols_are_refused(several, assert_sentence):
    x = torch.randint(2, (3, 1, 2, 3))
    for ask in (several.log_prob_per_symbol, several.log_pmf, lambda x: several.stepper(3), several.features):
        with pytest.raises(UserError, match=r"model.in_order\('raster'\)") as caught:
            ask(x)
        assert_sentence(caught)


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("flipy", "Did you mean 'flip-y'"),
        ("flip-x", "it has: raster, flip-y"),
        (4, r"0\.\.3"),
        (-1, r"0\.\.3"),
        (True, "True"),
        (None, "None"),
        (1.0, "1.0"),
        (torch.arange(6), "cannot take another permutation"),
    ],
)
def test_orders_that_the_model_has_not_are_refused(several, which, says, assert_sentence):
    with pytest.raises(UserError, match=says) as caught:
        several.in_order(which)
    assert_sentence(caught)


CONDITIONS = {
    "class": {"classes": 3},
    "map": {"map_shape": (2, 2, 3)},
    "class and map": {"classes": 3, "map_shape": (2, 2, 3)},
}


def condition_of(kind, n):
    parts = {"class": torch.arange(n) % 3, "map": torch.randn(n, 2, 2, 3)}
    return {name: parts[name] for name in kind.split(" and ")}


@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize("name", ["raster", "flip-x", "transpose", "transpose-flip-y"])
def test_whole_is_cursor_with_conditions(kind, name):
    model = loud(build(shape=(2, 3, 5), levels=3, orders="all", **CONDITIONS[kind])).in_order(name)
    x, condition = torch.randint(3, (3, 2, 3, 5)), condition_of(kind, 3)
    found, _ = walk(model.stepper(3, condition), x)
    wanted = model.log_pmf(x, condition).detach()
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)
    assert model.stepper(3, condition).fork([2, 2]).n == 2


@pytest.mark.parametrize("name", EIGHT)
def test_a_map_lies_on_the_picture_in_every_order(name):
    """One layer deep, what a symbol is told by the map is told at its own pixel: a change at one place of the map moves
    the first pixel of the order if and only if it is that pixel's place."""
    model = loud(build(shape=(1, 3, 4), levels=3, orders=[name], map_shape=(1, 3, 4), layers=1))
    x, map_ = torch.randint(3, (1, 1, 3, 4)), torch.randn(1, 1, 3, 4)
    row, column = divmod(int(EIGHT[name].pixels(3, 4)[0]), 4)
    before = model.log_pmf(x, map_)[0, 0, row, column]
    for i, j in itertools.product(range(3), range(4)):
        other = map_.clone()
        other[0, 0, i, j] += 1
        assert torch.equal(model.log_pmf(x, other)[0, 0, row, column], before) == ((i, j) != (row, column))


def test_class_and_order_are_both_summed_over():
    model = loud(build(orders=["raster", "flip-x", "transpose"], classes=2))
    model.class_prior.copy_(torch.tensor([0.25, 0.75]))  # exact in binary
    every = every_image((1, 2, 3))
    with torch.no_grad():
        by_hand = torch.zeros(64, dtype=torch.float64)
        for order, label in itertools.product(range(3), range(2)):
            by_hand += (0.25, 0.75)[label] / 3 * model.in_order(order).log_prob(every, label).exp()
        torch.testing.assert_close(model.log_prob(every).exp(), by_hand, atol=1e-12, rtol=0)
        given = model.log_prob_given_classes(every).exp() @ torch.tensor([0.25, 0.75], dtype=torch.float64)
        torch.testing.assert_close(given, by_hand, atol=1e-12, rtol=0)
        orders = model.log_prob_given_orders(every).exp().mean(1)
        torch.testing.assert_close(orders, by_hand, atol=1e-12, rtol=0)


def test_the_marginal_per_symbol_follows_the_order():
    """Every partial sum in the order's turn is the log of a sum over classes of products, computed pixel by pixel."""
    model = loud(build(orders=["raster", "transpose-flip-x"], classes=2)).in_order(1)
    x = torch.randint(2, (3, 1, 2, 3))
    with torch.no_grad():
        per_symbol = model.log_prob_per_symbol(x)
        given = [model.log_prob_per_symbol(x, label) for label in range(2)]
        turn = letters(LETTERS["transpose-flip-x"])
        for count in range(1, 7):
            first = turn[:count]
            joint = sum(0.5 * g.flatten(1)[:, first].sum(1).exp() for g in given)
            torch.testing.assert_close(per_symbol.flatten(1)[:, first].sum(1), joint.log(), atol=1e-12, rtol=0)


def test_a_family_that_cannot_be_told_refuses_several_orders(assert_sentence):
    from nextpixel.networks import Network, register, unregister

    class Nothing(Network):
        def __init__(self, config, inputs, outputs, condition=None):
            super().__init__(config, inputs, outputs, condition)
            self.bias = torch.nn.Parameter(torch.zeros(outputs.width))

        def pixels(self, x, contexts, run):
            return self.bias.expand(*x.shape[:3], -1)

    register("nothing", summary="", channel_masks=False, full_context=False)(Nothing)
    try:
        with pytest.raises(UserError, match="one order") as caught:
            npx.build("nothing", shape=(1, 4, 4), levels=2, orders=2)
        assert_sentence(caught)
        assert npx.build("nothing", shape=(1, 4, 4), levels=2, orders=["flip-x"]).orders == (EIGHT["flip-x"],)
    finally:
        unregister("nothing")


# Families that take any order


ANY = [name for name, family in npx.families().items() if family.orders == "any"]


@pytest.mark.parametrize("family", ANY)
def test_permutations_are_those_that_were_drawn_and_sum_to_one(family):
    model = loud(build(family, orders=4, hidden=7))
    assert [order.name for order in model.orders] == ["raster", "permutation-1", "permutation-2", "permutation-3"]
    assert model.orders[0] == RASTER
    for number in (1, 2, 3):
        assert model.orders[number].pixels(2, 3).tolist() == np.random.default_rng(number).permutation(6).tolist()
    every = every_image((1, 2, 3))
    with torch.no_grad():
        given = model.log_prob_given_orders(every)
        assert (given.exp().sum(0) - 1).abs().max() < 1e-10
        assert float(model.log_prob(every).exp().sum()) == pytest.approx(1, abs=1e-10)
    assert (given.max(1).values - given.min(1).values).max() > 0.1


@pytest.mark.parametrize("family", ANY)
@pytest.mark.parametrize("name", EIGHT)
def test_the_eight_orders_too_in_the_pictures_own_grid(family, name):
    model = loud(build(family, orders=[name], hidden=7))
    x = torch.randint(2, (2, 1, 2, 3))
    assert model.order.grid(2, 3) == (2, 3)
    found, positions = walk(model.stepper(2), x)
    assert [row * 3 + column for row, column, _ in positions] == letters(LETTERS[name])
    torch.testing.assert_close(found, model.log_pmf(x).detach(), atol=1e-10, rtol=0)
    assert float(model.log_prob(every_image((1, 2, 3))).exp().sum().detach()) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("family", ANY)
def test_any_permutation_will_do_listed_or_not(family):
    model = loud(build(family, hidden=7, shape=(2, 2, 3), levels=3, head="autoregressive_categorical", classes=2))
    pixels = torch.tensor([4, 0, 5, 2, 1, 3])
    view = model.in_order(pixels)
    assert view.orders[0].permutation == (4, 0, 5, 2, 1, 3)
    x = torch.randint(3, (3, 2, 2, 3))
    found, positions = walk(view.stepper(3, 1), x)
    assert [(row * 3 + column, c) for row, column, c in positions] == [(p, c) for p in pixels.tolist() for c in (0, 1)]
    torch.testing.assert_close(found, view.log_pmf(x, 1).detach(), atol=1e-10, rtol=0)
    # The first pixel of the order depends on no other; the last one on all.
    changed = x.clone()
    changed[:, :, 1, 0] = (changed[:, :, 1, 0] + 1) % 3  # pixel 3, the last
    assert torch.equal(view.log_pmf(changed, 1)[:, 0], view.log_pmf(x, 1)[:, 0])
    changed = x.clone()
    changed[:, :, 1, 1] = (changed[:, :, 1, 1] + 1) % 3  # pixel 4, the first
    assert not torch.equal(view.log_pmf(changed, 1)[:, 0, 1, 0], view.log_pmf(x, 1)[:, 0, 1, 0])
    # Weights belong to pixels: listing the raster order changes nothing.
    assert torch.equal(model.in_order(torch.arange(6)).log_prob(x, 1), model.log_prob(x, 1))


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (torch.arange(5), "6 integers"),
        (torch.arange(6).view(2, 3), "6 integers"),
        (torch.arange(6.0), "6 integers"),
        (torch.tensor([0, 1, 2, 3, 4, 4]), "no permutation"),
        (torch.arange(1, 7), "no permutation"),
    ],
)
def test_what_is_no_permutation_of_the_pixels_is_refused(pixels, says, assert_sentence):
    with pytest.raises(UserError, match=says) as caught:
        build("made").in_order(pixels)
    assert_sentence(caught)


# Saving


@pytest.mark.parametrize(
    ("family", "orders", "options"),
    [
        ("gated_pixelcnn", ["transpose"], {}),
        ("pixelcnn", ["flip-xy", "raster", "transpose-flip-y"], {"classes": 2}),
        ("made", 3, {}),
        ("nade", ["permutation-5"], {}),
    ],
)
def test_saved_and_loaded_is_bit_equal_in_every_order(tmp_path, family, orders, options):
    model = loud(build(family, orders=orders, **options))
    model.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert config["orders"] == [order.name for order in model.orders]  # in full, not as they were asked for
    loaded, x = npx.load(tmp_path / "model"), torch.randint(2, (3, 1, 2, 3))
    assert loaded.orders == model.orders
    assert torch.equal(loaded.log_prob(x), model.log_prob(x))
    assert torch.equal(loaded.log_prob_given_orders(x), model.log_prob_given_orders(x))
    model.in_order(0).save_pretrained(tmp_path / "view")  # a view is the whole model
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "view" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


def test_a_model_in_raster_order_is_saved_as_it_was_without_orders(tmp_path):
    plain, asked = build(), build(orders=["raster"])
    assert plain.state_dict().keys() == asked.state_dict().keys()
    assert not any("order" in name for name in plain.state_dict())
    for name, model in (("plain", plain), ("asked", asked)):
        model.save_pretrained(tmp_path / name)
        assert "orders" not in json.loads((tmp_path / name / "config.json").read_text())


def test_a_saved_permutation_is_what_counts_not_how_it_was_drawn(tmp_path, monkeypatch):
    model = loud(build("made", orders=["raster", "permutation-1"]))
    model.save_pretrained(tmp_path / "model")
    monkeypatch.setattr("nextpixel.ordering.as_permutation", lambda name, height, width: torch.arange(6))
    assert npx.load(tmp_path / "model").orders == model.orders


@pytest.mark.parametrize(
    ("orders", "says"),
    [
        (["raster", "flipx"], "Did you mean 'flip-x'"),
        (["raster", "raster"], "twice"),
        ([], "not 0"),
        ("all", "list of names"),
        (2, "list of names"),
        ([2], "names"),
        (["raster", "permutation-1"], "permutation-1"),
        (["raster", "flip-x", "flip-y"], "order_table.weight"),
    ],
)
def test_wrong_orders_in_a_saved_model_are_one_sentence(tmp_path, orders, says, assert_sentence):
    build(orders=2).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "orders": orders}))
    with pytest.raises(UserError, match=says) as caught:
        npx.load(tmp_path)
    assert_sentence(caught)


def test_a_damaged_permutation_is_refused_when_the_model_is_opened(tmp_path, assert_sentence):
    build("made", orders=2).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["order_pixels"][1, 0] = weights["order_pixels"][1, 1]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="permutation-1") as caught:
        npx.load(tmp_path)
    assert_sentence(caught)


# Modes and copies


def test_a_model_and_its_views_are_in_one_mode():
    model = build(orders=2, dropout=0.5)
    view = model.train().in_order(1)
    assert view.training
    model.eval()
    assert not view.training
    view.stepper(1)
    view.train()
    assert model.training
    with pytest.raises(UserError, match="evaluation mode"):
        model.in_order(0).stepper(1)
    other = copy.deepcopy(model)
    other.eval()
    assert model.training
    assert other.in_order(1).orders == (EIGHT["flip-x"],)


def test_the_card_and_the_facts_name_the_orders(several):
    assert several.facts()["order of prediction"] == "raster, flip-y, transpose, transpose-flip-xy"
    assert several.in_order(1).facts()["order of prediction"] == "flip-y"
    assert build("made", orders=20).facts()["order of prediction"].endswith("…, permutation-19 (20)")
    assert "4 orders" in several.why
    assert "orders" not in several.in_order(0).why
