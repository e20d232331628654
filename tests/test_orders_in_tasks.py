"""Orders of prediction in training, evaluation, sampling, completion, `check`, and on the command line."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_cli import TINY, folder, origin  # noqa: F401 - fixtures
from test_orders import build, every_image, loud
from test_sample import naively
from test_train import assert_same_state, checkpoint, fit, interrupt_at, metrics

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.image_model import ImageModel
from nextpixel.images import Dataset, Split
from nextpixel.orders import EIGHT
from nextpixel.tasks.batches import in_order_of_step, log_prob_among_orders
from nextpixel.tasks.drawing import uniform_noise
from nextpixel.tasks.train import Interrupted

FOUR = ["raster", "flip-y", "transpose", "transpose-flip-xy"]


def split_of(images, labels=None, levels=2, classes=None):
    return Split(images, labels, levels, "drawn", "as drawn", classes)


# Training


def test_the_order_of_a_step_is_a_function_of_seed_and_step():
    model = build(orders=4)
    drawn = [in_order_of_step(model, 7, step, False).orders[0].name for step in range(400)]
    assert drawn == [in_order_of_step(model, 7, step, False).orders[0].name for step in range(400)]
    assert drawn != [in_order_of_step(model, 8, step, False).orders[0].name for step in range(400)]
    counts = [drawn.count(name) for name in ("raster", "flip-x", "flip-y", "flip-xy")]
    assert all(abs(count - 100) < 45 for count in counts)  # 5 standard deviations of 8.7
    assert in_order_of_step(build(), 7, 3, False).orders == (EIGHT["raster"],)


def test_a_fresh_order_of_a_step_is_a_new_permutation():
    model = build("made")
    drawn = [in_order_of_step(model, 7, step, True).orders[0].permutation for step in range(50)]
    assert drawn == [in_order_of_step(model, 7, step, True).orders[0].permutation for step in range(50)]
    assert all(sorted(pixels) == list(range(6)) for pixels in drawn)
    assert len(set(drawn)) > 40  # of 720


@pytest.mark.parametrize(("family", "options"), [("gated_pixelcnn", {}), ("made", {"fresh_orders": True})])
def test_the_loss_of_a_step_is_that_of_its_order(digits, run, family, options):
    data = Dataset("eight", digits.train[:8], digits.valid[:4], digits.test[:4])
    model = build(family, orders=4, shape=(1, 8, 8), levels=17)
    with torch.no_grad():
        one = in_order_of_step(model, 5, 0, bool(options))
        expected = -float(one.log_prob(data.train.images).mean()) / (math.log(2) * 64)
    fit(model, data, run, epochs=1, batch_size=8, seed=5, ema=0.0, **options)
    logged = [line["train"] for line in metrics(run) if "train" in line]
    assert logged == [pytest.approx(expected, abs=1e-5)]


def test_validation_deals_the_orders_out(digits, run):
    """48 images in batches of 32: image i is scored in order i mod 3, also in the second batch."""
    model = fit(build(orders=3, shape=(1, 8, 8), levels=17), digits, run, epochs=1, batch_size=8)
    valid = [line["valid"] for line in metrics(run) if "valid" in line]
    with torch.no_grad():
        given = model.log_prob_given_orders(digits.valid.images)
    expected = -sum(float(given[i, i % 3]) for i in range(48)) / 48 / (math.log(2) * 64)
    assert valid == [pytest.approx(expected, abs=1e-5)]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_dealing_out_with_classes_and_few_images(count):
    model = loud(build(orders=3, classes=2))
    x, labels = torch.randint(2, (count, 1, 2, 3)), torch.arange(count) % 2
    found = log_prob_among_orders(model, x, labels, first=4)
    for i in range(count):
        one = model.in_order((4 + i) % 3)
        assert found[i] == pytest.approx(float(one.log_prob(x[i : i + 1], labels[i : i + 1]).detach()), abs=1e-12)


@pytest.mark.parametrize("step", [1, 6])
@pytest.mark.parametrize(
    ("family", "options"), [("gated_pixelcnn", {}), ("made", {}), ("made", {"fresh_orders": True})], ids=str
)
def test_interrupted_and_resumed_is_bit_identical(digits, tmp_path, monkeypatch, family, options, step):
    def new():
        return build(family, orders=4, shape=(1, 8, 8), levels=17, dropout=0.3)

    settings = {"epochs": 3, "learning_rate": 1e-2, "ema": 0.9, **options}
    fit(new(), digits, tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(Interrupted):
            fit(new(), digits, tmp_path / "parts", **settings)
    fit(new(), digits, tmp_path / "parts", resume=True, **settings)
    assert_same_state(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_training_in_several_orders_makes_all_of_them_better(digits, run):
    model = build(orders=["raster", "transpose-flip-xy"], shape=(1, 8, 8), levels=17, features=12)
    before = npx.evaluate(model, digits.valid).by_order
    fit(model, digits, run, epochs=10, batch_size=16, learning_rate=1e-2, ema=0.9)
    after = npx.evaluate(model, digits.valid)
    assert all(after.by_order[name] < before[name] - 0.5 for name in before)
    assert after.bits_per_dim <= after.mean_over_orders


def test_order_agnostic_training_reaches_orders_that_were_never_listed(digits, run):
    """A model trained in raster order only knows nothing of a permutation; a fresh one a step does."""
    pixels = torch.from_numpy(np.random.default_rng(77).permutation(64))
    figures = {}
    for fresh in (False, True):
        model = build("made", shape=(1, 8, 8), levels=17, hidden=60)
        fit(model, digits, run / str(fresh), epochs=20, batch_size=16, learning_rate=1e-2, ema=0.9, fresh_orders=fresh)
        figures[fresh] = npx.evaluate(model.in_order(pixels), digits.valid).bits_per_dim
    assert figures[True] < figures[False] - 0.1


def test_fresh_orders_are_refused_where_the_network_cannot_follow(digits, run, assert_sentence):
    with pytest.raises(UserError, match="fresh_orders") as caught:
        fit(build(shape=(1, 8, 8), levels=17), digits, run, fresh_orders=True)
    assert_sentence(caught)


# Evaluation


@pytest.mark.parametrize("batch_size", [3, 100])
@pytest.mark.parametrize("classes", [None, 2])
def test_the_figures_of_a_mixture_by_hand(batch_size, classes):
    model = loud(build(orders=FOUR, classes=classes))
    prior = [1.0]
    if classes:
        model.class_prior.copy_(torch.tensor([0.25, 0.75]))
        prior = [0.25, 0.75]
    labels = torch.arange(11) % 2
    data = split_of(torch.randint(2, (11, 1, 2, 3)), labels if classes else None, classes=classes)
    table = torch.zeros(11, 4, len(prior), dtype=torch.float64)
    with torch.no_grad():
        for order, label in itertools.product(range(4), range(len(prior))):
            given = label if classes else None
            table[:, order, label] = model.in_order(order).log_prob(data.images, given).exp()
    in_order = table @ torch.tensor(prior, dtype=torch.float64)  # p(x | o)
    found = npx.evaluate(model, data, batch_size=batch_size)
    bits = math.log(2) * 6
    assert found.nats == pytest.approx(float(-in_order.mean(1).log().mean()), rel=1e-10)
    assert found.bits_per_dim == pytest.approx(found.nats / bits, rel=1e-12)
    assert found.mean_over_orders == pytest.approx(float(-in_order.log().mean()) / bits, rel=1e-10)
    assert list(found.by_order) == FOUR
    for number, name in enumerate(FOUR):
        assert found.by_order[name] == pytest.approx(float(-in_order[:, number].log().mean()) / bits, rel=1e-10)
    assert found.mean_over_orders > found.bits_per_dim  # strictly: the orders disagree
    assert found.exact
    if classes:
        truth = table.mean(1)[torch.arange(11), labels]
        assert found.given_class == pytest.approx(float(-truth.log().mean()) / bits, rel=1e-10)
        right = (table.mean(1) * torch.tensor(prior)).argmax(1) == labels
        assert found.class_accuracy == pytest.approx(float(right.double().mean()))
    json.dumps(found.to_dict(), allow_nan=False)


def test_one_order_has_no_figures_of_several():
    for model in (build(), build(orders=["flip-y"]), build(orders=3).in_order(2)):
        found = npx.evaluate(model, split_of(torch.randint(2, (5, 1, 2, 3))))
        assert (found.mean_over_orders, found.by_order) == (None, None)


# Sampling


def sampled_orders(model, seed, n):
    return [int(np.random.default_rng([seed, i, 2]).integers(len(model.orders))) for i in range(n)]


def naively_in_order(model, noise, condition=None, start=None):
    """Symbol by symbol in the order's turn, the whole network each time: the first value whose sum passes the noise."""
    n, channels, height, width = noise.shape
    images = torch.zeros(n, channels, height, width, dtype=torch.long) if start is None else start[1].clone().long()
    for pixel in model.orders[0].pixels(height, width).tolist()[0 if start is None else start[0] :]:
        row, column = divmod(pixel, width)
        for channel in range(channels):
            with torch.no_grad():
                sums = model.log_pmf(images, condition)[:, channel, row, column].exp().cumsum(1)
            for index in range(n):
                point = float(noise[index, channel, row, column]) * float(sums[index, -1])
                images[index, channel, row, column] = next(v for v, s in enumerate(sums[index].tolist()) if s > point)
    return images


@pytest.mark.parametrize("classes", [None, 3])
def test_each_picture_is_drawn_in_an_order_of_its_own(classes):
    model = loud(build(orders=FOUR, shape=(2, 3, 4), levels=3, classes=classes))
    condition = None if classes is None else torch.arange(9) % 3
    found = npx.sample(model, n=9, seed=4, condition=condition)
    orders, noise = sampled_orders(model, 4, 9), uniform_noise(4, range(9), (2, 3, 4))
    assert len(set(orders)) > 2
    for i, order in enumerate(orders):
        given = None if condition is None else condition[i : i + 1]
        expected = naively_in_order(model.in_order(order), noise[i : i + 1], given)
        assert torch.equal(found[i : i + 1].long(), expected)
    for batch_size in (1, 2, 5):
        assert torch.equal(npx.sample(model, n=9, seed=4, condition=condition, batch_size=batch_size), found)
    fewer = None if condition is None else condition[:5]
    assert torch.equal(npx.sample(model, n=5, seed=4, condition=fewer), found[:5])


def test_a_chosen_order_and_raster_as_ever():
    model = loud(build(orders=FOUR, shape=(1, 3, 4), levels=3))
    noise = uniform_noise(2, range(4), (1, 3, 4))
    for name in FOUR:
        found = npx.sample(model, n=4, seed=2, order=name)
        assert torch.equal(found.long(), naively_in_order(model.in_order(name), noise))
        assert torch.equal(npx.sample(model.in_order(name), n=4, seed=2), found)
    assert torch.equal(npx.sample(model, n=4, seed=2, order="raster").long(), naively(model.in_order(0), noise))


def test_drawn_pictures_follow_the_mixture():
    """The frequencies of all 16 images of 2x2 binary pixels against exp(log_prob)."""
    model = loud(build(orders=["raster", "flip-xy", "transpose"], shape=(1, 2, 2)))
    drawn = npx.sample(model, n=4000, seed=1, batch_size=4000).flatten(1).long()
    counts = torch.bincount(drawn @ torch.tensor([8, 4, 2, 1]), minlength=16) / 4000
    expected = model.log_prob(every_image((1, 2, 2))).exp().detach()
    assert (counts - expected).abs().max() < 5 * float((expected * (1 - expected) / 4000).sqrt().max())


@pytest.mark.parametrize(
    "task", [lambda m, **o: npx.sample(m, n=1, **o), lambda m, **o: npx.complete(m, every_image((1, 2, 3))[:1], 1, **o)]
)
def test_an_order_that_the_model_has_not_is_refused(task, assert_sentence):
    with pytest.raises(UserError, match="Did you mean 'flip-y'") as caught:
        task(build(orders=FOUR), order="flipy")
    assert_sentence(caught)
    with pytest.raises(UserError, match="it has: raster") as caught:
        task(build(), order="flip-x")
    assert_sentence(caught)


# Completion


def known_part(name, height, width):
    mask = torch.zeros(height, width, dtype=torch.bool)
    if name == "left":
        mask[:, : width // 2] = True
    elif name == "bottom":
        mask[height // 2 :] = True
    elif name == "right columns and a bit":
        mask[:, width - 1] = True
        mask[height - 1, width - 2] = True
    return mask


@pytest.mark.parametrize(
    ("part", "order"),
    [("left", "transpose"), ("bottom", "flip-y"), ("right columns and a bit", "transpose-flip-xy")],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_known_first_in_some_order_is_completed_exactly(part, order, channels):
    """nats = log p(known) − log p(all) in that order, with p(known) as the sum over every possible rest; and the fills
    are those of a sampler that runs the whole network for every symbol."""
    model = loud(build(orders=FOUR, shape=(channels, 2, 3 if channels == 1 else 2)))
    height, width = model.shape[1:]
    mask, images = known_part(part, height, width), torch.randint(2, (2, *model.shape))
    done = npx.complete(model, images, mask, fills=3, seed=1, batch_size=4)
    assert done.exact
    assert torch.equal(done.images * mask, (images * mask)[:, None].expand_as(done.images))
    every, one = every_image(model.shape), model.in_order(order)
    log_p = one.log_prob(every).detach()
    for index, fill in itertools.product(range(2), range(3)):
        same = ((every == images[index]) | ~mask).flatten(1).all(1)
        log_known = torch.logsumexp(log_p[same], 0)
        log_all = one.log_prob(done.images[index, fill][None])[0].detach()
        assert float(done.nats[index, fill]) == pytest.approx(float(log_known - log_all), abs=1e-9)
    which = torch.arange(6) // 3
    noise = uniform_noise(1, range(6), model.shape)
    expected = naively_in_order(one, noise, start=(int(mask.sum()), images[which] * mask))
    assert torch.equal(done.images.flatten(0, 1).long(), expected)


def test_the_distribution_of_left_halves_completed():
    """Frequencies of the 8 possible right columns against p(rest | known) by enumeration."""
    model = loud(build(orders=["raster", "transpose"], shape=(1, 3, 2)))
    mask, image = known_part("left", 3, 2), torch.tensor([[1, 0], [0, 0], [1, 0]]).view(1, 1, 3, 2)
    done = npx.complete(model, image, mask, fills=4000, seed=3, batch_size=4000)
    counts = torch.bincount(done.images[0, :, 0, :, 1].long() @ torch.tensor([4, 2, 1]), minlength=8) / 4000
    every = image.repeat(8, 1, 1, 1)
    every[:, 0, :, 1] = torch.tensor(list(itertools.product(range(2), repeat=3)))
    expected = torch.softmax(model.in_order("transpose").log_prob(every).detach(), 0)
    assert (counts - expected).abs().max() < 5 * float((expected * (1 - expected) / 4000).sqrt().max())


def test_the_first_order_that_fits_is_taken_or_the_one_that_is_named():
    model = loud(build(orders=["raster", "flip-x", "transpose"], shape=(1, 3, 4), levels=3))
    images = torch.randint(3, (2, 1, 3, 4))
    first = npx.complete(model, images, 1)
    assert torch.equal(first.images, npx.complete(model.in_order("raster"), images, 1).images)
    named = npx.complete(model, images, 1, order="flip-x")
    assert torch.equal(named.images, npx.complete(model.in_order("flip-x"), images, 1).images)
    assert not torch.equal(first.nats, named.nats)


def test_a_hole_is_filled_by_a_family_of_any_order():
    model = loud(build("made", shape=(1, 3, 3), hidden=20))
    mask = torch.ones(3, 3, dtype=torch.bool)
    mask[1, 1] = mask[0, 2] = False
    pixels = torch.cat([torch.nonzero(mask.flatten())[:, 0], torch.nonzero(~mask.flatten())[:, 0]])
    image = torch.randint(2, (1, 1, 3, 3))
    done = npx.complete(model.in_order(pixels), image, mask, fills=2)
    assert torch.equal(done.images[0] * mask, (image * mask).expand(2, 1, 3, 3))


@pytest.mark.parametrize(
    ("orders", "mask", "options", "says"),
    [
        (FOUR, torch.tensor([[1, 0, 1], [1, 0, 1]]), {}, r"one of the model's orders \(raster, flip-y, transpose"),
        (["flip-y"], 1, {}, "flip-y order"),
        (FOUR, 1, {"order": "transpose"}, "transpose order"),
        (FOUR, torch.ones(2, 3), {}, "nothing to complete"),
    ],
)
def test_masks_that_fit_no_order_are_refused(orders, mask, options, says, assert_sentence):
    with pytest.raises(UserError, match=says) as caught:
        npx.complete(build(orders=orders), torch.zeros(1, 1, 2, 3, dtype=torch.long), mask, method="exact", **options)
    assert_sentence(caught)


# Check: every fault that an order can have, in a model that is right otherwise


class NotBroughtBack(ImageModel):
    def log_pmf(self, x, condition=None):
        log_pmf = super().log_pmf(x, condition)
        return log_pmf if self._own_grid else log_pmf.flip(-2)


class Untold(ImageModel):
    def with_order(self, condition, n):
        vector = super().with_order(condition, n)
        return None if vector is None else 0 * vector

    def pixel_order(self, size):
        return None


class Confused(ImageModel):
    def with_order(self, condition, n):
        vector = super().with_order(condition, n)
        return None if vector is None else vector + self.order_table.weight.sum(0)


class MeanOfLogs(ImageModel):
    def log_prob(self, x, condition=None):
        return (
            self.log_prob_given_orders(x, condition).mean(1) if len(self.orders) > 1 else super().log_prob(x, condition)
        )


class SaysRaster(ImageModel):
    def stepper(self, n=1, condition=None, size=None):
        stepper = super().stepper(n, condition, size)
        if not self._own_grid:
            stepper._places = [sorted(row) for row in stepper._places]
        return stepper


@pytest.mark.parametrize(
    ("family", "mutant", "faults"),
    [
        ("gated_pixelcnn", NotBroughtBack, {"order misplaced", "whole differs from cursor"}),
        ("gated_pixelcnn", Untold, {"order ignored"}),
        ("made", Untold, {"order ignored"}),
        ("gated_pixelcnn", Confused, {"orders confused"}),
        ("gated_pixelcnn", MeanOfLogs, {"mixture wrong", "not normalised"}),
        ("gated_pixelcnn", SaysRaster, {"wrong order"}),  # it is fed the right pixels by who knows their turn
    ],
)
def test_a_wrong_order_is_named(family, mutant, faults):
    orders = ["raster", "flip-x"] if family != "made" else 2
    model = build(family, orders=orders, shape=(1, 5, 7))
    right = npx.check(model, seeds=1, size=(5, 7))
    assert right.passed, str(right)
    model.__class__ = mutant
    report = npx.check(model, seeds=1, size=(5, 7))
    assert set(report.faults) == faults, str(report)
    assert all(f.name.startswith("orders: ") for f in report.findings if not f.passed)


def test_check_knows_that_orders_of_a_single_row_may_be_the_same():
    """flip-y of one row is raster: that it moves nothing is no fault."""
    torch.manual_seed(0)
    report = npx.check(npx.build("nade", shape=(1, 1, 4), levels=2, hidden=2, orders=["raster", "flip-y"]), seeds=1)
    assert report.passed, str(report)


def test_check_says_which_order_and_looks_at_three_of_many():
    said = []
    report = npx.check(build(orders="all", shape=(1, 5, 7)), seeds=1, progress=said.append)
    assert report.passed, str(report)
    names = {finding.name for finding in report.findings}
    assert {name.split(": ")[0] for name in names} == {"raster", "flip-xy", "transpose-flip-xy", "orders"}
    assert "transpose-flip-xy: receptive field" in names
    assert set(said) <= names


# The command line


def test_orders_all_the_way(nextpixel, folder):  # noqa: F811
    train = ["train", "bits.npz", "--class-conditional", *TINY]
    ended = nextpixel(*train, "--orders", "raster,flip-y,transpose", "--run", "ordered")
    assert ended.status == 0, ended.err
    info = nextpixel("info", "ordered")
    assert "raster, flip-y, transpose" in " ".join(info.out.split())
    ended = nextpixel("evaluate", "ordered", "--json", "figures.json")
    assert ended.status == 0
    said = " ".join(ended.out.split())
    for words in (
        "marginal over classes and orders",
        "mean over 3 orders",
        "in an order drawn at random",
        "flip-y order",
    ):
        assert words in said, said
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["mean_over_orders"] >= figures["bits_per_dim"]
    assert figures["by_order"].keys() == {"raster", "flip-y", "transpose"}
    for flags in ([], ["--order", "flip-y"]):
        assert nextpixel("sample", "ordered", "-n", 4, *flags, "--out", "drawn.npy").status == 0
    assert nextpixel("complete", "ordered", "-n", 2, "--fills", 1, "--out", "done.png").status == 0
    later = nextpixel("complete", "ordered", "-n", 1, "--fills", 1, "--order", "flip-y", "--particles", 3)
    assert later.status == 0, later.err
    assert "approximate" in later.out  # known first rows are not first there
    refused = nextpixel("complete", "ordered", "--order", "flip-y", "--method", "exact")
    assert refused.status == 2
    assert "cannot be taken into account" in refused.error()
    assert nextpixel("check", "ordered").status == 0
    assert nextpixel("check", "pixelcnn", "--orders", "transpose").status == 0


def test_orders_from_a_config_file_and_a_resumed_run(nextpixel, folder):  # noqa: F811
    for text in ("orders: 2", "orders: [raster, flip-x]", "orders: raster, flip-x"):
        (folder / "c.yaml").write_text(f"{text}\nfamily: pixelcnn\noption: {{blocks: 1, features: 4}}\n")
        run = f"from {text}"
        ended = nextpixel("train", "bits.npz", "--config", "c.yaml", "--run", run, "--epochs", 1)
        assert ended.status == 0, ended.err
        config = json.loads((folder / run / "model/config.json").read_text())
        assert config["orders"] == ["raster", "flip-x"]
        assert nextpixel("train", "--resume", run).status == 0


def test_fresh_orders_on_the_command_line(nextpixel, folder):  # noqa: F811
    made = ["--family", "made", "--option", "hidden=12", "--epochs", 1]
    ended = nextpixel("train", "bits.npz", *made, "--orders", 2, "--fresh-orders", "--run", "agnostic")
    assert ended.status == 0, ended.err
    weights = load_file(folder / "agnostic/model/model.safetensors")
    assert weights["order_pixels"].tolist()[1] == np.random.default_rng(1).permutation(30).tolist()
    said = " ".join(nextpixel("evaluate", "agnostic").out.split())
    assert "orders mixed" in said
    assert "permutation-1 order" in said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train bits.npz --orders flipx", "Did you mean 'flip-x'"),
        ("train bits.npz --orders 9", "1 to 8"),
        ("train bits.npz --orders 0", "1 to 8"),
        ("train bits.npz --orders raster,raster", "twice"),
        ("train bits.npz --orders permutation-1", "no order of prediction"),
        ("train bits.npz --orders 2 --multiscale 2", "order of prediction of its own"),
        ("train bits.npz --fresh-orders", "fresh_orders"),
        ("train --resume run --orders 2", "--orders"),
        ("sample run --order flip-x", "it has: raster"),
        ("complete run --order flip-x", "it has: raster"),
        ("check gated_pixelcnn --orders flipx", "Did you mean 'flip-x'"),
    ],
)
def test_a_mistake_with_orders_gives_one_sentence(nextpixel, folder, line, says):  # noqa: F811
    ended = nextpixel(*line.split())
    assert ended.status == 2, ended.err
    assert says in ended.error()
