"""Scores of images against the model's own likelihoods and against files written by Pillow."""

import io
import math

import pytest
import torch
from PIL import Image

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.tasks import score as scoring
from nextpixel.tasks.normality import Normality
from nextpixel.tasks.scores import SCORES


@pytest.fixture
def x():
    return torch.randint(4, (7, 1, 4, 5))


def test_sums_of_an_image_are_sums_over_its_maps(tiny, x):
    model, other = tiny(double=True, spread=0.4), tiny("pixelcnn", double=True, spread=0.4)
    found = npx.score(model, x, against=other, maps=True, batch_size=3)
    bits = -model.log_prob(x).detach() / math.log(2)
    torch.testing.assert_close(found.bits_per_dim, bits / 20)
    torch.testing.assert_close(found.ratio, (bits + other.log_prob(x).detach() / math.log(2)) / 20)
    excess, variance = (found.maps.bits - found.maps.entropy).flatten(1).sum(1), found.maps.variance.flatten(1).sum(1)
    torch.testing.assert_close(found.typicality, excess / variance.sqrt())
    torch.testing.assert_close(found.anomaly("typicality"), found.typicality.abs())
    assert found.symbol_z.shape == (7, 1, 4, 5)
    assert found.pixel_z.shape == (7, 4, 5)
    assert found.names == ["0", "1", "2", "3", "4", "5", "6"]
    assert found.available == ["bits", "typicality", "complexity", "ratio"]


def test_z_of_a_pixel_is_that_of_all_its_channels(tiny):
    model, x = tiny(shape=(3, 4, 5), double=True, spread=0.4), torch.randint(4, (2, 3, 4, 5))
    found = npx.score(model, x, maps=True, complexity=False)
    excess = found.maps.bits - found.maps.entropy
    torch.testing.assert_close(found.pixel_z, excess.sum(1) / found.maps.variance.sum(1).sqrt())
    torch.testing.assert_close(found.symbol_z, excess / found.maps.variance.sqrt())


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batches_change_nothing(tiny, x, batch_size):
    model = tiny(classes=2, double=True, spread=0.4)
    whole, parts = npx.score(model, x, batch_size=7), npx.score(model, x, batch_size=batch_size)
    for mine, theirs in zip(vars(parts.model).values(), vars(whole.model).values(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert not model.training


@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (1, 4), (3, 256)])
def test_the_corrected_score_is_bits_minus_those_of_the_shorter_file(tiny, channels, levels):
    model = tiny(shape=(channels, 4, 5), levels=levels)
    x = torch.randint(levels, (3, channels, 4, 5))
    found = npx.score(model, x)
    for n in range(3):
        array = x[n].permute(1, 2, 0).to(torch.uint8).numpy()
        picture = Image.fromarray(array if channels == 3 else array[..., 0] * (255 if levels == 2 else 1))
        lengths = []
        for kind, options in [("PNG", {"optimize": True}), ("WebP", {"lossless": True, "quality": 100, "method": 6})]:
            file = io.BytesIO()
            small = picture.convert("1") if levels == 2 and kind == "PNG" else picture
            (small.convert("RGB") if kind == "WebP" else small).save(file, kind, **options)
            lengths.append(8 * file.tell())
        bits = float(found.bits_per_dim[n]) * x[n].numel()
        assert float(found.complexity[n]) * x[n].numel() == pytest.approx(bits - min(lengths), rel=1e-6)


def test_images_that_no_file_holds_have_no_corrected_score(tiny, assert_sentence):
    found = npx.score(tiny(shape=(2, 4, 5)), torch.randint(4, (2, 2, 4, 5)))
    assert found.complexity is None
    with pytest.raises(UserError, match="complexity") as error:
        found.anomaly("complexity")
    assert_sentence(error)


@pytest.mark.parametrize("levels", [300, 65536])
def test_many_levels(tiny, levels):
    model = tiny(shape=(1, 3, 3), levels=levels)
    found = npx.score(model, torch.randint(levels, (2, 1, 3, 3)))
    assert torch.isfinite(found.typicality).all()
    assert found.complexity is None


def test_given_the_class_and_as_a_mixture(tiny, x):
    model, labels = tiny(classes=3, double=True, spread=0.4), torch.arange(7) % 3
    split = Split(x, labels, 4, "drawn", "drawn", 3)
    mixed, told = npx.score(model, split), npx.score(model, split, given_class=True)
    torch.testing.assert_close(mixed.bits_per_dim, -model.log_prob(x).detach() / math.log(2) / 20)
    torch.testing.assert_close(told.bits_per_dim, -model.log_prob(x, labels).detach() / math.log(2) / 20)
    assert told.labels.tolist() == labels.tolist()


def test_a_map_as_condition(tiny, x):
    model = tiny(map_shape=(2, 2, 2), double=True, spread=0.4)
    told = torch.randn(7, 2, 2, 2).double()
    found = npx.score(model, x, condition={"map": told}, batch_size=3)
    torch.testing.assert_close(found.bits_per_dim, -model.log_prob(x, {"map": told}).detach() / math.log(2) / 20)


def test_one_of_several_orders(tiny, x, assert_sentence):
    model = tiny(orders=["raster", "flip-x"], double=True, spread=0.4)
    with pytest.raises(UserError, match=r"predicts in 2 orders .*name it") as error:
        npx.score(model, x)
    assert_sentence(error)
    found = npx.score(model, x, order="flip-x")
    torch.testing.assert_close(found.bits_per_dim, -model.in_order("flip-x").log_prob(x).detach() / math.log(2) / 20)


def test_multiscale_and_frozen_models(x):
    options = {"layers": 1, "features": 6, "first_kernel": 3}
    torch.manual_seed(0)
    scales = npx.build_multiscale("gated_pixelcnn", shape=(1, 4, 5), levels=4, **options).double().eval()
    frozen = npx.freeze(npx.build("gated_pixelcnn", shape=(1, 4, 5), levels=4, **options).eval())
    for model in (scales, frozen):
        found = npx.score(model, x)
        bits = -model.log_prob(x).detach().double() / math.log(2) / 20
        torch.testing.assert_close(found.bits_per_dim, bits, rtol=1e-5, atol=1e-6)


def test_distance_to_normal_images():
    """Correlated statistics of two scales: what lies off their line is far, however near in each of them."""
    generator = torch.Generator().manual_seed(0)
    line = torch.randn(500, generator=generator).double()
    normal = torch.stack([line, 1000 * line + 20 * torch.randn(500, generator=generator)], 1).double()
    distance = Normality(normal).distance(torch.tensor([[1.0, 1000.0], [1.0, -1000.0]]).double())
    assert float(distance[1]) > 20 * float(distance[0])
    units = torch.tensor([3.0, 0.01]).double()
    same = Normality(normal * units + 7).distance(torch.tensor([[1.0, 1000.0], [1.0, -1000.0]]).double() * units + 7)
    torch.testing.assert_close(same, distance)
    twice = Normality(normal[:, [0, 0]]).distance(normal[:5, [0, 0]])  # statistics that depend on each other
    assert torch.isfinite(twice).all()
    assert Normality(normal).distance(torch.tensor([[math.inf, 0.0]]).double()).tolist() == [math.inf]


def test_too_few_normal_images_and_other_statistics(assert_sentence):
    with pytest.raises(UserError, match="more than 10") as error:
        Normality(torch.ones(10, 2))
    assert_sentence(error)
    with pytest.raises(UserError, match="2 statistics, these images have 3") as error:
        Normality(torch.ones(11, 2)).distance(torch.ones(1, 3))
    assert_sentence(error)


@pytest.mark.parametrize("name", list(SCORES))
def test_a_score_that_cannot_be_had_says_what_it_needs(tiny, x, name, assert_sentence):
    found = npx.score(tiny(), x, complexity=False)
    if name in found.available:
        assert torch.isfinite(found.anomaly(name)).all()
        return
    with pytest.raises(UserError, match=f"'{name}' needs") as error:
        found.anomaly(name)
    assert_sentence(error)


def split_of(shape, levels):
    return Split(torch.zeros(3, *shape, dtype=torch.uint8), None, levels, "given", "drawn")


def test_bad_input(tiny, x, assert_sentence):
    model, classes = tiny(), tiny(classes=3)
    for call, words in [
        (lambda: npx.score(model, split_of((1, 5, 5), 4)), "5x5, the model is for 4x5"),
        (lambda: npx.score(model, split_of((1, 4, 5), 8)), "8 levels, the model 4"),
        (lambda: npx.score(model, split_of((3, 4, 5), 4)), "3 channels"),
        (lambda: npx.score(model, x + 2), "levels 0..3"),
        (lambda: npx.score(model, x / 3), "integers"),
        (lambda: npx.score(model, x * math.nan), "integers"),
        (lambda: npx.score(model, x[:0]), "no images"),
        (lambda: npx.score(model, x, names=["one"]), "7 images but 1 names"),
        (lambda: npx.score(model, x, against=tiny(levels=5)), "must be equal"),
        (lambda: npx.score(model, x, given_class=True), "class-conditional"),
        (lambda: npx.score(classes, x, given_class=True), "no labels"),
        (lambda: npx.score(model, x, batch_size=0), "positive"),
        (lambda: npx.score(model, x, beauty=1), "no option 'beauty'"),
        (lambda: npx.score(model, x, order="flip-x"), "no order"),
        (lambda: npx.score(model, x).anomaly("ratios"), "Did you mean 'ratio'"),
    ]:
        with pytest.raises(UserError, match=words) as error:
            call()
        assert_sentence(error)


def test_detect(tiny):
    """Samples of the model are normal, uniform noise is not: the excess tells them, the wrong way round it does not."""
    model, other = tiny(spread=0.4), tiny()  # the other one knows next to nothing
    samples = npx.sample(model, n=120, seed=1)
    normal, reference = (Split(part, None, 4, "samples", "drawn") for part in (samples[:60], samples[60:]))
    noise = Split(torch.randint(4, (50, 1, 4, 5)), None, 4, "noise", "drawn")
    found = npx.detect(model, normal, noise, reference=reference, against=other, resamples=50)
    assert list(found) == list(SCORES)
    assert found["typicality"].auroc.value > 0.8
    assert found["ratio"].auroc.value > 0.8
    assert (found["bits"].normal, found["bits"].anomalies) == (60, 50)
    swapped = npx.detect(model, noise, normal, resamples=50)
    assert swapped["bits"].auroc.value == pytest.approx(1 - found["bits"].auroc.value)
    assert "distance" not in swapped


def test_detect_bad_input(tiny, x, assert_sentence):
    model, split = tiny(), Split(torch.randint(4, (20, 1, 4, 5)), None, 4, "given", "drawn")
    for arguments, words in [
        ((split[:0], split, None), "no normal images"),
        ((split, split[:0], None), "no anomalies"),
        ((split, split, split[:3]), "more than 10"),
        ((split, split, split), "in the reference too"),
    ]:
        with pytest.raises(UserError, match=words) as error:
            npx.detect(model, arguments[0], arguments[1], reference=arguments[2])
        assert_sentence(error)


def test_scores_in_pieces_are_the_same_and_are_not_made_twice(tiny, digits, tmp_path, monkeypatch):
    """Bit for bit, of two models, with maps; two sets share a folder; damage to a piece costs that piece."""
    model, other = tiny(like=digits), tiny("pixelcnn", like=digits)
    given = {"against": other, "maps": True, "batch_size": 4}
    whole = npx.score(model, digits.test, **given)
    kept = {**given, "work": str(tmp_path / "work"), "piece": 7}
    npx.score(model, digits.valid[:9], **kept)

    def same(found):
        for mine, theirs in ((found.model, whole.model), (found.against, whole.against)):
            assert all(torch.equal(getattr(mine, name), getattr(theirs, name)) for name in vars(theirs))
        assert all(map(torch.equal, found.maps, whole.maps))
        assert found.file_bits.keys() == whole.file_bits.keys()
        return all(torch.equal(found.file_bits[name], whole.file_bits[name]) for name in whole.file_bits)

    assert same(npx.score(model, digits.test, **kept))
    pieces = sorted((tmp_path / "work").glob("*/*.safetensors"))
    assert len(pieces) == 5 + 2, "40 and 9 images in pieces of two batches"
    asked = []
    original = scoring.surprise
    monkeypatch.setattr(scoring, "surprise", lambda *given: asked.append(len(given[1])) or original(*given))
    assert same(npx.score(model, digits.test, **kept))
    assert not asked
    damaged = max(pieces, key=lambda path: (len(list(path.parent.iterdir())), path.name))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert same(npx.score(model, digits.test, **kept))
    assert sum(asked) == 2 * 8, "one piece of 8 images, by both models"


def test_pieces_must_know_their_images_again(tiny, digits, tmp_path, assert_sentence):
    with pytest.raises(UserError, match="Split") as caught:
        npx.score(tiny(like=digits), digits.test.images, work=str(tmp_path / "work"))
    assert_sentence(caught)
