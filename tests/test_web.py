"""The operations over HTTP give what the library gives."""

import base64
import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

import nextpixel as npx

pytest.importorskip("fastapi")

from web_server import client, events, named

from nextpixel.images.levels import binarise, to_grey
from nextpixel.tasks.threshold import calibrate
from nextpixel.web import looking
from nextpixel.web.served import Served
from nextpixel.web.served import named as names_of


def levels_in(text, shape, levels=4):
    return torch.from_numpy(
        np.frombuffer(base64.b64decode(text), "<u1" if levels <= 256 else "<u2").astype(np.int64).reshape(shape)
    )


def floats_in(text, shape):
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64).reshape(shape))


def drawn(found, n, shape, start=None, levels=4):
    """The pictures that the frames make."""
    begin = named(found, "begin")[0]
    places = np.frombuffer(base64.b64decode(begin["places"]), "<u4").astype(np.int64)
    values = [levels_in(frame["values"], (n, -1), levels) for frame in named(found, "frame")]
    pictures = torch.zeros(n, *shape, dtype=torch.long) if start is None else start.long().repeat(n, 1, 1, 1)
    pictures.view(n, -1)[:, places] = torch.cat(values, 1)
    return pictures


class NoJob:
    seconds = 10.0

    def check(self):
        pass


CASES = {
    "grey": {},
    "rgb": {"shape": (3, 4, 3)},
    "codes": {"shape": (1, 3, 3), "levels": 300, "embedding": "learned"},
    "classes": {"classes": 3},
    "turned": {"orders": ["transpose"]},
}


@pytest.mark.parametrize("case", CASES)
def test_generate_streams_what_sample_draws(tiny, case):
    model = tiny(spread=1.0, **CASES[case])
    with client(model) as asked:
        found = events(asked.post("/api/generate", json={"n": 3, "seed": 5, "temperature": 0.8}))
    expected = npx.sample(model, 3, seed=5, temperature=0.8, method="cursor").long()
    assert [event["event"] for event in found[:2]] == ["job", "begin"]
    assert found[-1] == {"event": "end"}
    assert torch.equal(drawn(found, 3, model.shape, levels=model.levels), expected)
    last = named(found, "pictures")[0]
    assert torch.equal(levels_in(last["images"], expected.shape, model.levels), expected)
    labels = named(found, "begin")[0]["classes"]
    log_p = model.log_prob(expected, None if labels is None else torch.tensor(labels))
    assert torch.allclose(torch.tensor(last["nats"]), -log_p, atol=1e-3)


def test_generate_takes_a_class_and_a_multi_scale_model(tiny):
    multi = npx.build_multiscale(
        "gated_pixelcnn", shape=(1, 4, 4), levels=3, classes=2, layers=1, features=4, first_kernel=3
    ).eval()
    with client(tiny(classes=3), multi) as asked:
        found = events(asked.post("/api/generate", json={"n": 2, "class": 1}))
        assert named(found, "begin")[0]["classes"] == [1, 1]
        found = events(asked.post("/api/generate", json={"model": "b", "n": 2, "class": 1, "seed": 3}))
        expected = npx.sample(multi, 2, seed=3, condition=1, method="cursor").long()
        assert torch.equal(drawn(found, 2, (1, 4, 4)), expected)
        wrong = named(events(asked.post("/api/generate", json={"class": 3})), "error")[0]
        assert wrong == {"event": "error", "error": "The class must be 0..2, not 3.", "status": 422}


def test_a_model_of_several_orders_draws_each_request_in_one(tiny):
    model = tiny(orders=["raster", "transpose"], spread=1.0)
    with client(model) as asked:
        orders = set()
        for seed in range(8):
            found = events(asked.post("/api/generate", json={"seed": seed}))
            orders.add(named(found, "begin")[0]["order"])
            one = npx.sample(model, 1, seed=seed, order=order_of(model, found), method="cursor").long()
            assert torch.equal(drawn(found, 1, model.shape), one)
    assert len(orders) == 2


def order_of(model, found):
    words = named(found, "begin")[0]["order"]
    return next(one.order.name for one in model.each_order() if one.order_in_words == words)


@pytest.mark.parametrize("case", ["grey", "rgb", "turned"])
def test_complete_keeps_what_is_known_and_says_what_the_rest_costs(tiny, case):
    model = tiny(spread=1.0, **CASES[case])
    _, height, width = model.shape
    image = npx.sample(model, 1, seed=9)
    first = 2 * width + 1 if case != "turned" else 2 * height + 1
    pixels = torch.arange(height * width).view(height, width)
    known = (pixels if case != "turned" else pixels.view(-1).view(width, height).T) < first
    with client(model) as asked:
        ask = {"image": image[0].tolist(), "known": known.tolist(), "fills": 3, "seed": 2}
        found = events(asked.post("/api/complete", json=ask))
    pictures = drawn(found, 3, model.shape, start=image)
    last = named(found, "pictures")[0]
    assert last["exact"] is True
    assert torch.equal(levels_in(last["images"], pictures.shape), pictures)
    assert (pictures[:, :, known] == image[:, :, known]).all()
    cost = -(model.log_prob_per_symbol(pictures) * ~known).flatten(1).sum(1)
    assert torch.allclose(torch.tensor(last["nats"]), cost, atol=1e-4)
    same = npx.complete(model, image, known, fills=3, seed=2)
    assert torch.equal(same.images[0].long(), pictures)


def test_other_holes_are_left_to_complete(tiny):
    model = tiny()
    image, known = torch.zeros(1, 1, 4, 5, dtype=torch.long), torch.ones(4, 5, dtype=torch.bool)
    known[0, 0] = False
    with client(model) as asked:
        ask = {"image": image[0].tolist(), "known": known.tolist(), "fills": 2, "seed": 3}
        found = events(asked.post("/api/complete", json=ask))
    last, same = named(found, "pictures")[0], npx.complete(model, image, known, fills=2, seed=3)
    assert (last["exact"], last["nats"], last["ess"]) == (False, same.nats[0].tolist(), same.ess[0].tolist())
    assert torch.equal(drawn(found, 2, model.shape, start=image), same.images[0].long())


def test_complete_asks_for_a_class_and_for_something_to_do(tiny):
    ask = {"image": torch.zeros(1, 4, 5, dtype=torch.int).tolist(), "known": [[True] * 5] * 4}
    with client(tiny(), tiny(classes=3)) as asked:
        everything = named(events(asked.post("/api/complete", json=ask)), "error")[0]["error"]
        assert everything == "Everything is known: mark what is to be filled in."
        ask["known"] = [[True] * 5] * 3 + [[False] * 5]
        no_class = named(events(asked.post("/api/complete", json={"model": "b", **ask})), "error")[0]["error"]
        assert no_class == "This model is class-conditional: choose the class of the picture."
        given = events(asked.post("/api/complete", json={"model": "b", "class": 2, **ask}))
        assert given[-1] == {"event": "end"}


def test_surprise_is_the_bits_and_on_average_what_was_expected(tiny):
    """Over all images, weighted by p, bits are what the model expected: Σ p(x) (bits(x) − Σ entropies(x)) = 0."""
    model = tiny(shape=(1, 2, 3), levels=2, head="bernoulli", double=True, spread=1.0)
    served = Served("a", model)
    average = 0.0
    for values in itertools.product(range(2), repeat=6):
        image = torch.tensor(values).view(1, 1, 2, 3)
        with torch.no_grad():
            told = looking.surprise(served, image, None, NoJob())
        bits = -model.log_prob(image).item() / np.log(2)
        assert told["total_bits"] == pytest.approx(bits, rel=1e-9)
        assert told["bits_per_dim"] == pytest.approx(bits / 6, rel=1e-9)
        assert floats_in(told["bits"], (2, 3)).sum() == pytest.approx(bits, rel=1e-5)
        assert np.sign(told["total_z"]) == np.sign(told["total_bits"] - told["expected_bits"])
        average += 2**-bits * (told["total_bits"] - told["expected_bits"])
    assert average == pytest.approx(0, abs=1e-9)
    normal = told["normal"]
    assert normal["low"] <= normal["median"] <= normal["high"]
    assert normal["values"] == sorted(normal["values"])


def test_surprise_without_a_class_is_that_of_all_classes(tiny):
    model = tiny(classes=3, spread=1.0)
    image = npx.sample(model, 1, seed=1)
    with client(model) as asked:
        told = asked.post("/api/surprise", json={"image": image[0].tolist()}).json()
        given = asked.post("/api/surprise", json={"image": image[0].tolist(), "class": 2}).json()
    assert (told["class"], given["class"]) == (None, 2)
    assert told["total_bits"] == pytest.approx(float(-model.log_prob(image).detach()) / np.log(2), abs=1e-4)
    assert given["total_bits"] == pytest.approx(float(-model.log_prob(image, 2).detach()) / np.log(2), abs=1e-4)
    assert given["bits_per_dim"] == told["bits_per_dim"]  # of all classes together, whichever is looked at


def test_a_saved_threshold_gives_the_verdict(tiny):
    model = tiny(spread=0.3)
    normal, odd = npx.sample(model, 40, seed=1), torch.arange(20).view(1, 4, 5) * 7 % 4
    scores = npx.score(model, normal).anomaly("typicality")
    with client(Served("a", model, threshold=calibrate("typicality", scores, 0.1, data="normal ones"))) as asked:
        for image in (*normal[:5], odd):
            told = asked.post("/api/surprise", json={"image": image.tolist()}).json()["threshold"]
            own = npx.score(model, image[None].long()).anomaly("typicality")
            assert told["anomaly"] == bool((scores < own).sum() >= 37)  # above the ceil(41 * 0.9)-th of 40
            assert told["p"] == pytest.approx((1 + int((scores >= own).sum())) / 41)
            assert (told["n"], told["data"], told["false_alarms"]) == (40, "normal ones", 0.1)


def test_distributions_without_a_class_are_of_the_likeliest(tiny):
    model = tiny(classes=3, spread=1.0)
    image = npx.sample(model, 1, seed=1)
    likeliest = int((model.log_prob_given_classes(image) + model.log_class_prior()).argmax())
    with client(model) as asked:
        told = asked.post("/api/distributions", json={"image": image[0].tolist()}).json()
        given = asked.post("/api/distributions", json={"image": image[0].tolist(), "class": likeliest}).json()
    assert (told["class"], told["class_was_guessed"]) == (likeliest, True)
    assert (given["class"], given["class_was_guessed"]) == (likeliest, False)
    assert given["p"] == told["p"]


@pytest.mark.parametrize("case", ["rgb", "turned"])
def test_distributions_are_the_steppers(tiny, case):
    model = tiny(spread=1.0, **CASES[case])
    image = npx.sample(model, 1, seed=4)[0].long()
    with client(model) as asked:
        told = asked.post("/api/distributions", json={"image": image.tolist()}).json()
    p = floats_in(told["p"], (*image.shape, model.levels))
    stepper, turn = model.stepper(1), 0
    while stepper.position is not None:
        row, column, channel = stepper.position
        assert told["turns"][row][column] == turn // model.shape[0]
        assert torch.allclose(p[channel, row, column], stepper.pmf()[0].double(), atol=1e-5)
        stepper.push(image[channel, row, column][None])
        turn += 1


@pytest.mark.parametrize("orders", [None, ["transpose"]])
def test_a_field_is_the_declared_one_and_the_plain_one_has_its_blind_spot(tiny, orders):
    """A plain PixelCNN of 3×3 kernels sees d columns to the right only from d rows above on (van den Oord et al. 2016b,
    figure 1)."""
    model, row, column = tiny(shape=(1, 6, 7), layers=1, orders=orders), 4, 2
    with client(model) as asked:
        told = asked.post("/api/field", json={"row": row, "column": column}).json()
    seen, plain, before = (torch.tensor(told[name]).bool() for name in ("seen", "plain", "before"))
    if orders:  # look at it in the order's own grid
        seen, plain, before, row, column = seen.T, plain.T, before.T, column, row
    height, width = seen.shape
    assert torch.equal(seen, model.network.receptive_field(height, width, row, column))
    numbered = torch.arange(height * width).view(height, width)
    assert torch.equal(before, numbered < row * width + column)
    above, right = row - torch.arange(height)[:, None], torch.arange(width) - column
    assert torch.equal(plain, before & (right <= above))
    strength = floats_in(told["strength"], (model.shape[1], model.shape[2]))
    strength = strength.T if orders else strength
    assert strength.max() == 1
    assert (strength[~seen] == 0).all()
    assert told["plain_count"] == int(plain.sum())


def test_masks_show_the_order_of_the_channels(tiny):
    with client(tiny("pixelcnn", shape=(3, 4, 5), features=6)) as asked:
        layers = asked.get("/api/masks").json()["layers"]
    first = next(layer for layer in layers if layer["mask"] == "A")
    later = next(layer for layer in layers if layer["mask"] == "B")
    for layer, own in ((first, 0), (later, 1)):
        row, column = layer["centre"]
        for source, to in itertools.product(range(3), repeat=2):
            taps = layer["taps"][source][to]
            assert taps[row][column] == (1 if source < to else own if source == to else 0)
            assert sum(taps[row][column + 1 :]) == 0  # nothing to the right
            assert all(taps[row][:column])


def test_a_vertical_stack_has_no_hole(tiny):
    with client(tiny()) as asked:
        layers = asked.get("/api/masks").json()["layers"]
    vertical = next(layer for layer in layers if layer["mask"] == "vertical")
    assert all(all(row) for row in vertical["taps"][0][0])


def test_compress_shows_its_round_trip(tiny):
    model = tiny(shape=(1, 6, 7))
    image = npx.sample(model, 1, seed=4)
    with client(model) as asked:
        ask = {"image": image[0].tolist()}
        size = named(events(asked.post("/api/compress", json=ask)), "size")[0]
    archive = base64.b64decode(size["archive"])
    assert size["bytes"] == len(archive)
    assert torch.equal(npx.decompress(archive, npx.freeze(model)).images, image)
    assert torch.equal(levels_in(size["restored"], image[0].shape), image[0].long())
    assert size["same"] is True
    assert size["raw_bits"] == 42 * 2
    assert size["payload_bits"] == pytest.approx(float(-model.log_prob(image).detach()) / np.log(2), rel=0.01)
    assert floats_in(size["bits"], (6, 7)).sum() == pytest.approx(size["payload_bits"], rel=1e-5)
    assert size["png_bytes"] == len(file_of(image[0, 0].numpy(), optimize=True))
    colour = image[0].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    assert size["webp_bytes"] == len(file_of(colour, "WEBP", lossless=True, quality=100, method=6, exact=True))


def test_compress_refuses_what_cannot_be_frozen_with_its_sentence(tiny):
    model = npx.build("nade", shape=(1, 3, 3), levels=2, hidden=8).eval()
    with client(model) as asked:
        ask = {"image": torch.zeros(1, 3, 3, dtype=torch.int).tolist()}
        error = named(events(asked.post("/api/compress", json=ask)), "error")[0]
    with pytest.raises(npx.UserError) as refusal:
        npx.freeze(model)
    assert error == {"event": "error", "error": str(refusal.value), "status": 422}


def file_of(array, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def test_a_picture_is_brought_to_the_model_and_what_was_done_is_said(tiny):
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    with client(tiny(levels=2, head="bernoulli"), tiny(shape=(3, 4, 5), levels=256, head="logistic_mixture")) as asked:
        told = asked.post("/api/picture", content=file_of(colour)).json()
        by_hand = binarise(to_grey(torch.from_numpy(colour).permute(2, 0, 1)[None]), "threshold")
        assert told["image"] == by_hand[0].tolist()
        assert told["notes"] == ["made grey", "made black and white at half of the highest value"]
        told = asked.post("/api/picture?model=b", content=file_of(colour)).json()
        assert told == {"image": colour.transpose(2, 0, 1).tolist(), "notes": []}
        large = rng.integers(0, 256, (40, 30), dtype=np.uint8)
        told = asked.post("/api/picture?model=b", content=file_of(large, "JPEG")).json()
        assert np.array(told["image"]).shape == (3, 4, 5)
        assert told["notes"] == ["cut and scaled from 40x30 to 4x5", "grey made RGB"]
        both = [
            asked.post("/api/distributions", json={"image": image, "model": "b"}).json()["p"]
            for image in (base64.b64encode(file_of(colour)).decode(), colour.transpose(2, 0, 1).tolist())
        ]
        assert both[0] == both[1]


def test_a_gif_ends_with_the_picture_and_begins_without(tiny):
    model = tiny(levels=2, head="bernoulli")
    image = torch.ones(1, 4, 5, dtype=torch.int)
    known = [[True] * 5] + [[False] * 5] * 3
    with client(model) as asked:
        ask = {"images": [image.tolist()], "known": known}
        response = asked.post("/api/gif", json=ask)
    assert response.headers["content-type"] == "image/gif"
    with Image.open(io.BytesIO(response.content)) as gif:
        frames = []
        for number in range(gif.n_frames):
            gif.seek(number)
            frames.append(np.array(gif.convert("L")))
    white = [(frame == 255).sum() for frame in frames]
    assert white == sorted(white)
    assert white[0] * 4 == white[-1] == frames[0].size  # one row of four, then all of them
    assert len(frames) == 16


def test_models_are_described_and_named_without_paths(tiny, digits, tmp_path):
    for folder in ("one/run", "two/model", "three"):
        (tmp_path / folder).mkdir(parents=True)
    wheres = [str(tmp_path / part) for part in ("one/run", "two/model", "three", "three")]
    assert names_of([*wheres, "user/model"]) == ["one/run", "two/model", "three", "three (2)", "user/model"]
    model = tiny(like=digits, classes=10)
    model.card = {"data": "digits", "training": {"epochs": 3}}
    with client(Served("a", model, lambda: digits.test), tiny()) as asked:
        first, second = asked.get("/api/models").json()["models"]
        assert (first["shape"], first["levels"], first["classes"], first["test_pictures"]) == ([1, 8, 8], 17, 10, 40)
        assert first["card"]["training"]["epochs"] == 3
        assert first["facts"]["family"] == "gated_pixelcnn"
        assert second["test_pictures"] == 0
        picture = asked.get("/api/test-picture?number=41").json()
        assert picture["image"] == digits.test.images[1].tolist()
        assert picture["class"] == int(digits.test.labels[1])
        missing = asked.get("/api/test-picture?model=b")
        assert (missing.status_code, missing.json()["error"]) == (422, "The data of this model are not at hand.")


def test_models_that_the_page_cannot_show_are_refused(tiny, assert_sentence):
    for model in (tiny(vector=3), tiny(shape=(2, 4, 5))):
        with pytest.raises(npx.UserError) as refusal:
            Served("a", model)
        assert_sentence(refusal)


def test_no_inside_where_there_are_no_gradients(tiny, assert_sentence):
    multi = npx.build_multiscale("gated_pixelcnn", shape=(1, 4, 4), levels=3, layers=1, features=4, first_kernel=3)
    with client(npx.freeze(tiny()), multi.eval()) as asked:
        for name in "ab":
            answer = asked.post("/api/field", json={"model": name, "row": 0, "column": 0})
            assert answer.status_code == 422
            assert_sentence(answer.json()["error"])
        outside = asked.post("/api/surprise", json={"image": [[[0] * 5] * 4]})  # the rest works with integers too
        assert outside.status_code == 200


def test_a_completion_goes_in_the_order_that_was_asked_for(tiny):
    model = tiny(orders=["raster", "flip-x"], spread=1.0)
    image = torch.zeros(model.shape, dtype=torch.long).tolist()
    known = (torch.arange(4)[:, None] < 2).expand(4, 5).tolist()
    with client(model) as asked:
        for name in ("raster", "flip-x"):
            body = {"image": image, "known": known, "order": name}
            begin = named(events(asked.post("/api/complete", json=body)), "begin")[0]
            assert begin["order"] == model.in_order(name).order_in_words
        failed = named(events(asked.post("/api/complete", json={**body, "order": "nonsense"})), "error")
        assert "no order 'nonsense'" in failed[0]["error"]
