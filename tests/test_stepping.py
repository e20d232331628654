"""The Stepper: what sampling, completing and decoding see of a model."""

import itertools
import threading

import pytest
import torch

import nextpixel as npx
from nextpixel.errors import UserError

MODELS = {
    "gated, 1 channel": ("gated_pixelcnn", {}),
    "plain, 3 channels": ("pixelcnn", {"shape": (3, 3, 4), "levels": 3}),
    "gated, 3 channels": ("gated_pixelcnn", {"shape": (3, 3, 4), "levels": 3}),
    "gated, head orders": (
        "gated_pixelcnn",
        {"shape": (2, 3, 4), "levels": 3, "head": "autoregressive_categorical", "head_options": {"features": 5}},
    ),
    "gated, learned codes": ("gated_pixelcnn", {"shape": (2, 3, 4), "levels": 5, "embedding": "learned"}),
    "gated, factorised": ("gated_pixelcnn", {"shape": (1, 4, 4), "levels": 2, "factorised": True, "kernel": 5}),
}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture
def model_named(tiny):
    def make(name, **more):
        family, options = MODELS[name]
        return tiny(family, **{**options, **more, "double": True, "spread": 0.4})

    return make


def symbols(model, size=None):
    height, width = size or model.shape[1:]
    return list(itertools.product(range(height), range(width), range(model.shape[0])))


def pictures(model, n, size=None):
    return torch.randint(model.levels, (n, model.shape[0], *(size or model.shape[1:])))


def walk(stepper, x):
    """All log-pmfs while pushing x, [n, C, H, W, K]."""
    found = torch.zeros(*x.shape, stepper.model.levels, dtype=torch.float64)
    while (position := stepper.position) is not None:
        row, column, channel = position
        found[:, channel, row, column] = stepper.log_pmf()
        stepper.push(x[:, channel, row, column])
    return found


@every_model
def test_raster_order_with_the_channels_of_a_pixel_in_order(model_named, name):
    model = model_named(name)
    stepper, x, found = model.stepper(2), pictures(model, 2), []
    while stepper.position is not None:
        found.append(stepper.position)
        row, column, channel = stepper.position
        stepper.push(x[:, channel, row, column])
    assert found == symbols(model)
    assert torch.equal(stepper.images, x)


@every_model
def test_steps_give_what_all_positions_in_parallel_give(model_named, name):
    model = model_named(name)
    x = pictures(model, 3)
    found = walk(model.stepper(3), x)
    torch.testing.assert_close(found, model.log_pmf(x).detach(), atol=1e-10, rtol=0)
    # And the parallel pmfs are those of log_prob: the first symbol counts like any other.
    picked = found.gather(-1, x[..., None])[..., 0].flatten(1).sum(1)
    torch.testing.assert_close(picked, model.log_prob(x).detach(), atol=1e-9, rtol=0)


@every_model
def test_another_size_than_the_models(model_named, name):
    model = model_named(name)
    x = pictures(model, 2, (5, 2))
    found = walk(model.stepper(2, size=(5, 2)), x)
    torch.testing.assert_close(found, model.log_pmf(x).detach(), atol=1e-10, rtol=0)


@every_model
def test_asking_twice_or_never_changes_nothing(model_named, name):
    model = model_named(name)
    x = pictures(model, 2)
    often, never = model.stepper(2), model.stepper(2)
    where = symbols(model)
    for row, column, channel in where[:-1]:
        first = often.pmf()
        assert torch.equal(often.pmf(), first)
        assert torch.equal(often.log_pmf().exp(), first)
        for stepper in (often, never):
            stepper.push(x[:, channel, row, column])
    assert torch.equal(often.pmf(), never.pmf())


@every_model
def test_a_picture_does_not_depend_on_the_others_of_its_batch(model_named, name):
    model = model_named(name)
    x = pictures(model, 3)
    together = walk(model.stepper(3), x)
    for index in range(3):
        alone = walk(model.stepper(1), x[index : index + 1])
        torch.testing.assert_close(alone, together[index : index + 1], atol=1e-12, rtol=0)


@every_model
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
def test_forks_go_on_by_themselves(model_named, name, asked):
    model = model_named(name)
    where = symbols(model)
    x, other = pictures(model, 2), pictures(model, 3)
    chosen = [1, 0, 1]
    for at in (0, 1, len(where) // 2, len(where) - 1):
        stepper = model.stepper(2)
        for row, column, channel in where[:at]:
            stepper.push(x[:, channel, row, column])
        if asked:
            stepper.log_pmf()
        fork = stepper.fork(torch.tensor(chosen) if asked else chosen)
        expected = x[chosen]
        for row, column, channel in where[at:]:
            expected[:, channel, row, column] = other[:, channel, row, column]
        assert fork.position == stepper.position == where[at]
        for row, column, channel in where[at:]:  # fork and original in turn
            here = model.log_pmf(expected)[:, channel, row, column]
            torch.testing.assert_close(fork.log_pmf(), here.detach(), atol=1e-10, rtol=0)
            fork.push(expected[:, channel, row, column])
            there = model.log_pmf(x)[:, channel, row, column]
            torch.testing.assert_close(stepper.log_pmf(), there.detach(), atol=1e-10, rtol=0)
            stepper.push(x[:, channel, row, column])
        assert torch.equal(fork.images, expected)
        assert torch.equal(stepper.images, x)


@every_model
@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_known_rows_are_as_if_pushed(model_named, name, rows):
    model = model_named(name)
    x = pictures(model, 2)
    stepper = model.stepper(2)
    stepper.prefill(x[:, :, :rows])
    assert stepper.position == (None if rows == model.shape[1] else (rows, 0, 0))
    assert torch.equal(stepper.images[:, :, :rows], x[:, :, :rows])
    found = walk(stepper, x)
    torch.testing.assert_close(
        found[:, :, rows:], model.log_pmf(x)[:, :, rows:].detach(), atol=1e-10, rtol=0, check_stride=False
    )


def test_known_rows_with_a_condition_that_varies_from_row_to_row(tiny):
    model = tiny(map_shape=(2, 4, 5), double=True, spread=0.4)
    x, condition = pictures(model, 2), torch.randn(2, 2, 4, 5).double()
    expected = model.log_pmf(x, condition).detach()
    assert not torch.allclose(expected, model.log_pmf(x, 0 * condition), atol=1e-3)
    for rows in range(4):
        stepper = model.stepper(2, condition=condition)
        stepper.prefill(x[:, :, :rows])
        torch.testing.assert_close(walk(stepper, x)[:, :, rows:], expected[:, :, rows:], atol=1e-10, rtol=0)


def test_known_rows_only_at_the_start(tiny, assert_sentence):
    model = tiny()
    x = pictures(model, 2)
    pushed, asked = model.stepper(2), model.stepper(2)
    pushed.push(x[:, 0, 0, 0])
    asked.pmf()
    for stepper in (pushed, asked):
        with pytest.raises(UserError, match="before the first symbol") as caught:
            stepper.prefill(x[:, :, :1])
        assert_sentence(caught)


@pytest.mark.parametrize("shape", [(1, 1, 1, 5), (2, 1, 1, 4), (2, 1, 5, 5), (2, 2, 1, 5), (2, 1, 5)])
def test_known_rows_of_the_wrong_shape(tiny, shape, assert_sentence):
    with pytest.raises(UserError) as caught:
        tiny().stepper(2).prefill(torch.zeros(shape, dtype=torch.long))
    assert_sentence(caught)


def test_a_finished_picture_has_no_next_symbol(tiny, assert_sentence):
    model = tiny(shape=(1, 2, 2))
    stepper = model.stepper(1)
    for _ in range(4):
        stepper.push(torch.tensor([3]))
    assert stepper.position is None
    for ask in (stepper.pmf, stepper.log_pmf, lambda: stepper.push(torch.tensor([0]))):
        with pytest.raises(UserError, match="finished") as caught:
            ask()
        assert_sentence(caught)
    assert stepper.fork([0, 0]).position is None


def test_a_model_in_training_mode_is_refused(tiny, assert_sentence):
    with pytest.raises(UserError, match=r"model\.eval\(\)") as caught:
        tiny().train().stepper()
    assert_sentence(caught)


def test_the_condition_is_checked_at_once(tiny, assert_sentence):
    for condition in (None, 3, -1, torch.tensor([0, 1, 2])):
        with pytest.raises(UserError) as caught:
            tiny(classes=3).stepper(2, condition=condition)
        assert_sentence(caught)


@every_model
def test_two_steppers_of_one_model_in_turn(model_named, name):
    model = model_named(name)
    x, y = pictures(model, 2), pictures(model, 3, (3, 5))
    one, two = model.stepper(2), model.stepper(3, size=(3, 5))
    expected_x, expected_y = model.log_pmf(x).detach(), model.log_pmf(y).detach()
    while one.position is not None or two.position is not None:
        for stepper, images, expected in ((one, x, expected_x), (two, y, expected_y)):
            if stepper.position is not None:
                row, column, channel = stepper.position
                here = expected[:, channel, row, column]
                torch.testing.assert_close(stepper.log_pmf(), here, atol=1e-10, rtol=0)
                stepper.push(images[:, channel, row, column])


def test_two_threads_on_one_model(tiny):
    model = tiny(shape=(3, 4, 4), levels=3, double=True, spread=0.4)
    batches = [pictures(model, 2) for _ in range(4)]
    expected = [walk(model.stepper(2), x) for x in batches]
    found = [None] * len(batches)
    start = threading.Barrier(len(batches))

    def work(index):
        start.wait()
        for _ in range(3):
            found[index] = walk(model.stepper(2), batches[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)


def test_stepping_neither_tracks_gradients_nor_draws_random_numbers(tiny):
    model = tiny(dropout=0.5)
    state = torch.get_rng_state()
    stepper = model.stepper(2)
    assert not stepper.pmf().requires_grad
    stepper.push(torch.tensor([0, 1]))
    assert torch.equal(torch.get_rng_state(), state)


FAMILIES = ["pixelcnn", "gated_pixelcnn", "row_lstm", "diagonal_bilstm", "pixelcnnpp", "local"]


@pytest.mark.parametrize("family", FAMILIES)
def test_memory_grows_with_the_width_only(tiny, family):
    """What a step keeps is rows, however high the picture is."""
    model = tiny(family)

    def remembered(height, width):
        stepper = model.stepper(2, size=(height, width))
        for _ in range(3 * width):
            stepper.push(torch.zeros(2, dtype=torch.long))
        return stepper._memory.numbers()

    assert remembered(8, 16) == remembered(64, 16) > 0
    assert 1.5 < remembered(8, 64) / remembered(8, 32) <= 2


@pytest.mark.parametrize("size", [(3, 4), (11, 10)])  # of the second the compiled kernels are used
@pytest.mark.parametrize("family", ["pixelcnn", "gated_pixelcnn", "row_lstm", "diagonal_bilstm", "pixelcnnpp", "local"])
def test_autocast_around_a_stepper_changes_nothing(tiny, family, size):
    """Its answers would be those of half precision, and kernels would read 2 bytes of a number as 4."""
    model = tiny(family, shape=(1, *size), levels=3, map_shape=(1, *size), spread=0.3)
    x, told = pictures(model, 2), torch.randn(2, 1, *size)
    fresh = tiny(family, shape=(1, *size), levels=3, map_shape=(1, *size), spread=0.3)
    with torch.autocast("cpu", torch.bfloat16):
        found = walk(fresh.stepper(2, told), x)
        one = fresh.stepper(2, told).log_pmf()
        if size[0] > 3:
            prefilled = fresh.stepper(2, told)
            prefilled.prefill(x[:, :, :2])
            drawn = npx.sample(fresh, 2, condition=told, method="guess")
    assert one.dtype == torch.float32
    assert torch.equal(found, walk(model.stepper(2, told), x))
    if size[0] > 3:
        torch.testing.assert_close(prefilled.log_pmf().double(), found[:, 0, 2, 0], atol=1e-4, rtol=1e-4)
        assert torch.equal(drawn, npx.sample(model, 2, condition=told, method="guess"))
