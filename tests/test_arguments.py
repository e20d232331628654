"""Arguments of a wrong kind: one sentence that says what to give. And what results say of themselves in a line."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import nextpixel as npx
from nextpixel.tasks.sample import MOST_BYTES


@pytest.fixture
def model(tiny):
    return tiny(shape=(1, 8, 8), levels=17, classes=10)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: npx.check(x),
        lambda x: npx.sample(x),
        lambda x: npx.complete(x, torch.zeros(1, 1, 8, 8, dtype=torch.long), 4),
        lambda x: npx.evaluate(x, npx.dataset("digits").test),
        lambda x: npx.train(x, npx.dataset("digits"), epochs=1),
        lambda x: npx.score(x, npx.dataset("digits").test),
        lambda x: npx.posterior(x, npx.dataset("digits").test),
        lambda x: npx.calibrated_on(x, npx.dataset("digits").test),
        lambda x: npx.freeze(x),
        lambda x: npx.tune(x, npx.dataset("digits")),
        lambda x: npx.compress(x, npx.dataset("digits").test),
    ],
    ids=lambda call: call.__code__.co_names[1],
)
@pytest.mark.parametrize("what", ["digits", "digits.test"])
def test_what_is_no_model(call, what):
    """Neither its name, nor something else that has a shape and levels."""
    with pytest.raises(npx.UserError, match=r"no model but a (str|Split): npx\.load"):
        call(npx.dataset("digits").test if what == "digits.test" else what)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (lambda split: split, r"a tensor.*not a Split.*\.images"),
        (lambda split: split.images.numpy(), "a tensor.*not a ndarray.*from_numpy"),
        (lambda split: split.images.tolist(), "a tensor.*not a list"),
    ],
)
def test_images_that_are_no_tensor(model, digits, images, said):
    x = images(digits.test)
    for call in (model.log_prob, model.log_pmf, lambda x: npx.complete(model, x, 4, condition=0)):
        with pytest.raises(npx.UserError, match=said):
            call(x)


@pytest.mark.parametrize("n", ["4", 4.0, True, -1, None])
def test_a_number_of_pictures_that_is_none(model, n):
    for call in (lambda: npx.sample(model, n=n), lambda: model.stepper(n=n, condition=0)):
        with pytest.raises(npx.UserError, match=r"number of pictures must be a whole number"):
            call()


def test_an_integer_of_numpy_is_a_number_of_pictures(model):
    assert len(npx.sample(model, n=np.int64(2))) == 2
    assert model.stepper(n=np.int64(2), condition=0).pmf().shape == (2, 17)


def test_more_pictures_than_memory_can_hold(model):
    """At once, not after hours."""
    n = MOST_BYTES // 64 + 1
    with pytest.raises(npx.UserError, match=r"would take .* GB: draw fewer at a time"):
        npx.sample(model, n=n)


def test_known_rows_that_are_none(model, digits):
    for known in ("4", 4.0, None, [[1]]):
        with pytest.raises(npx.UserError, match=r"known.*number of rows or a mask"):
            npx.complete(model, digits.test.images[:1], known, condition=0)


def test_choosing_images_by_a_word(digits):
    for index in ("a", None, {"a": 1}):
        with pytest.raises(npx.UserError, match="Choose images by an integer"):
            digits.test[index]


def test_building_from_names_and_numbers():
    with pytest.raises(npx.UserError, match="no model family 3"):
        npx.build(3, shape=(1, 4, 4), levels=2)
    with pytest.raises(npx.UserError, match="like must be a data set or a part of one, not a str"):
        npx.build("pixelcnn", like="digits")
    with pytest.raises(npx.UserError, match="like must be a data set or a part of one, not a str"):
        npx.build_multiscale("pixelcnn", like="digits")
    with pytest.raises(npx.UserError, match=r"no saved model at .3."):
        npx.load(3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_loaded(model, tmp_path, value):
    model.save_pretrained(tmp_path / "saved")
    weights = load_file(tmp_path / "saved/model.safetensors")
    weights["network.out.1.bias"][0] = value
    save_file(weights, tmp_path / "saved/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(npx.UserError, match=r"network\.out\.1\.bias.* not finite"):
        npx.load(tmp_path / "saved")


def test_results_say_what_they_hold_in_a_line(model, digits):
    few = digits.test[:20]
    found = [
        npx.score(model, few, maps=True),
        npx.posterior(model, few),
        npx.complete(model, few.images, known=4, condition=few.labels),
        npx.nearest(few.images, digits.train, 2),
        npx.decompress(npx.compress(npx.freeze(model), few), npx.freeze(model)),
        model.stepper(3, 0),
    ]
    for result in found:
        text = repr(result)
        assert text.startswith(type(result).__name__)
        assert "tensor(" not in text
        assert "\n" not in text
        assert len(text) < 600, text


def test_what_a_line_says(model, digits):
    x = digits.test[:2]
    assert "log_prob=float64 [2, 10]" in repr(npx.posterior(model, x))
    stepper = model.stepper(3, 0)
    assert repr(stepper) == "Stepper(3 pictures of 1x8x8, 17 levels, next: row 0, column 0, channel 0)"
    for _ in range(64):
        stepper.push(torch.zeros(3, dtype=torch.long))
    assert repr(stepper) == "Stepper(3 pictures of 1x8x8, 17 levels, finished)"


def test_a_report_shown_is_a_report_printed(tiny):
    report = npx.check(tiny(shape=(1, 3, 3), levels=2), seeds=1)
    assert repr(report) == str(report)


@pytest.mark.parametrize("method", ["cursor", "wavefront", "guess"])
def test_weights_that_are_no_numbers_draw_nothing(tiny, digits, method):
    model = tiny("pixelcnn", shape=(1, 8, 8), levels=17)
    with torch.no_grad():
        next(model.network.out.parameters())[0] = float("nan")
    with pytest.raises(npx.UserError, match="not all finite"):
        npx.sample(model, 2, method=method)
    for known in (4, torch.arange(64).view(8, 8) % 3 > 0):
        with pytest.raises(npx.UserError, match="not all finite"):
            npx.complete(model, digits.test.images[:1], known)


def test_conditions_that_are_no_numbers(tiny):
    for options, condition in (
        ({"vector": 2}, torch.tensor([1.0, float("nan")])),
        ({"map_shape": (1, 4, 5)}, torch.full((1, 4, 5), float("inf"))),
    ):
        with pytest.raises(npx.UserError, match="condition holds numbers that are not finite"):
            tiny(**options).log_prob(torch.zeros(1, 1, 4, 5, dtype=torch.long), condition)
