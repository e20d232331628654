"""Split-conformal thresholds: the promise holds for every set of scores, ties included."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.tasks import threshold as calibrating
from nextpixel.tasks.score import ScoreOptions
from nextpixel.tasks.threshold import FILE, Threshold, calibrate, check_applies, fewest, p_values, verdicts

SCORES = st.lists(st.one_of(st.integers(0, 5).map(float), st.floats(-1e6, 1e6)), min_size=2, max_size=60)


@given(SCORES, st.floats(0.01, 0.99))
def test_of_n_plus_1_scores_at_most_alpha_would_be_called_anomalies(values, alpha):
    """The argument itself: each of the n + 1 is as likely to be the new one. Exact, for any scores."""
    scores = torch.tensor(values, dtype=torch.float64)
    n = len(scores) - 1
    if n < fewest(alpha):
        with pytest.raises(UserError, match="too few"):
            calibrate("bits", scores[1:], alpha)
        return
    called = likely = 0
    for new in range(n + 1):
        others = scores[torch.arange(n + 1) != new]
        threshold = calibrate("bits", others, alpha)
        assert threshold.n == n
        is_above = bool(threshold.above(scores[new : new + 1]))
        p = float(threshold.p_values(scores[new : new + 1]))
        assert is_above == (p <= alpha + 1e-9)
        called, likely = called + is_above, likely + (p <= alpha)
    assert called <= alpha * (n + 1) + 1e-6
    assert likely <= alpha * (n + 1)


def test_as_many_as_allowed_are_called_where_there_are_no_ties():
    scores = torch.arange(100.0)
    called = sum(
        bool(calibrate("bits", scores[torch.arange(100) != new], 0.05).above(scores[new : new + 1]))
        for new in range(100)
    )
    assert called == 5


@pytest.mark.parametrize(("n", "alpha", "rank"), [(19, 0.05, 19), (99, 0.01, 99), (99, 0.1, 90), (10, 0.5, 6)])
def test_which_of_the_sorted_scores_is_the_threshold(n, alpha, rank):
    scores = torch.arange(1.0, n + 1)[torch.randperm(n)]
    assert calibrate("bits", scores, alpha).value == rank
    assert fewest(alpha) <= n


def test_p_values_by_counting():
    calibration, new = torch.tensor([3.0, 1.0, 2.0, 2.0]), torch.tensor([0.0, 2.0, 2.5, 9.0])
    assert p_values(calibration, new).tolist() == pytest.approx([5 / 5, 4 / 5, 2 / 5, 1 / 5])


@pytest.mark.parametrize(
    ("scores", "alpha", "words"),
    [
        ([], 0.1, "no normal images"),
        ([1.0] * 8, 0.1, "8 normal images are too few .* at least 9"),
        ([1.0] * 20, 0.0, "between 0 and 1"),
        ([1.0] * 20, 1.0, "between 0 and 1"),
        ([1.0] * 20, math.nan, "between 0 and 1"),
        ([1.0] * 20 + [math.nan], 0.1, "not numbers"),
    ],
)
def test_what_gives_no_threshold(scores, alpha, words, assert_sentence):
    with pytest.raises(UserError, match=words) as error:
        calibrate("bits", torch.tensor(scores), alpha)
    assert_sentence(error)


def normal_images(n, name="normal"):
    return Split(torch.randint(4, (n, 1, 4, 5)), None, 4, name, "drawn")


@pytest.mark.parametrize("by", ["bits", "typicality", "complexity", "ratio", "distance"])
def test_a_threshold_of_each_score_survives_its_file(tiny, tmp_path, by):
    model, other = tiny(spread=0.4), tiny(spread=0.4, seed=2)
    made = npx.calibrated_on(model, normal_images(60), by, 0.1, against=other)
    assert made.n == (30 if by == "distance" else 60)
    made.save(tmp_path)
    again = Threshold.load(tmp_path)
    assert again == made
    check_applies(again, model, other, by, ScoreOptions())
    called, p = verdicts(again, npx.score(model, normal_images(40), against=other))
    assert called.tolist() == (p <= 0.1).tolist()
    assert json.loads((tmp_path / FILE).read_text())["data_sha256"]


def test_a_threshold_of_something_else_is_refused(tiny, assert_sentence):
    model, other = tiny(spread=0.4), tiny(spread=0.4, seed=2)
    made = npx.calibrated_on(model, normal_images(30), "ratio", 0.1, against=other)
    options = ScoreOptions()
    for arguments, words in [
        ((other, other, "", options), "other weights"),
        ((model, None, "", options), "against"),
        ((model, model, "", options), "against"),
        ((model, other, "bits", options), "is for the score ratio"),
        ((model, other, "", ScoreOptions(given_class=True)), "given_class"),
    ]:
        with pytest.raises(UserError, match=words) as error:
            check_applies(made, *arguments)
        assert_sentence(error)


def test_a_threshold_is_of_one_order_of_prediction(tiny, assert_sentence):
    model = tiny(orders=["raster", "transpose"])
    normal = torch.randint(0, 4, (40, 1, 4, 5))
    made = npx.calibrated_on(model, normal, "typicality", 0.1, ScoreOptions(order="transpose", complexity=False))
    check_applies(made, model, None, "", ScoreOptions(order="transpose"))
    check_applies(made, model.in_order("transpose"), None, "", ScoreOptions())
    with pytest.raises(UserError, match="other weights or orders") as caught:
        check_applies(made, model, None, "", ScoreOptions(order="raster"))
    assert_sentence(caught)


def test_every_weight_is_part_of_the_identity(tiny):
    model = tiny()
    before = calibrating.identity(model)
    assert before == calibrating.identity(tiny())
    with torch.no_grad():
        list(model.parameters())[-1].view(-1)[-1] += 1e-6
    assert calibrating.identity(model) != before


def test_a_number_among_the_weights_is_part_of_it_too(tiny):
    model = tiny()
    model.scalar = torch.nn.Parameter(torch.tensor(1.0))
    before = calibrating.identity(model)
    with torch.no_grad():
        model.scalar += 1
    assert calibrating.identity(model) != before


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:40],
        lambda text: text.replace('"format_version": 1', '"format_version": 9'),
        lambda text: text.replace('"score": "bits"', '"score": "bats"'),
        lambda text: text.replace('"score"', '"skore"'),
        lambda text: "[]",
        lambda text: "[" * 100_000,
    ],
)
def test_a_damaged_file_is_not_believed(tiny, tmp_path, damage, assert_sentence):
    path = npx.calibrated_on(tiny(), normal_images(20), "bits", 0.1).save(tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=r"threshold\.json is damaged") as error:
        Threshold.load(tmp_path)
    assert_sentence(error)


def test_a_value_that_was_changed_by_hand_is_found_again_from_the_scores(tiny, tmp_path):
    made = npx.calibrated_on(tiny(), normal_images(20), "bits", 0.1)
    path = made.save(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "value": 1e9}))
    assert Threshold.load(tmp_path).value == made.value


@pytest.mark.parametrize(
    ("n", "by", "alpha", "words"),
    [
        (0, "bits", 0.1, "no images"),
        (0, "distance", 0.1, "no images"),
        (30, "distance", 0.05, "30 normal images, of which half are compared with, are too few .* at least 38"),
        (15, "bits", 0.05, "at least 19"),
        (15, "bits", 1.5, "between 0 and 1"),
        (15, "beauty", 0.5, "no score 'beauty'"),
        (15, "ratio", 0.5, "another model"),
    ],
)
def test_what_cannot_be_calibrated(tiny, n, by, alpha, words, assert_sentence):
    with pytest.raises(UserError, match=words) as error:
        npx.calibrated_on(tiny(), normal_images(n), by, alpha)
    assert_sentence(error)
