"""Mirrored training images: which ones is a function of seed and step, whatever the run is cut into."""

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_train import assert_same_state, checkpoint, fit, interrupt_at, metrics

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.tasks.batches import Batches
from nextpixel.tasks.train import Interrupted


def told(count):
    """Images, and maps of another size, whose rows rise to the right; both hold the image's number. Dynamic: no."""
    number = torch.arange(count).view(-1, 1, 1, 1)
    images = torch.cat(
        [number.expand(count, 1, 2, 1), number.expand(count, 1, 2, 1), 255 - number.expand(-1, 1, 2, 1)], 3
    )
    maps = torch.cat([number.float(), 1000.0 - number], 3)
    vectors = torch.stack([number.flatten().float(), torch.ones(count)], 1)
    return Split(images, torch.arange(count) % 3, 256, "told", "8-bit", 3, told={"map": maps, "vector": vectors})


def numbers_and_mirrored(images):
    """The numbers of the images [n], and which are mirrored [n]."""
    turned = images[:, 0, 0, 0] + images[:, 0, 0, 1].int() == 255
    return images[:, 0, 0, 1].long(), turned


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(0, 30))
def test_processes_and_passes_mirror_what_one_would(count, batch_size, world, passes, trained):
    split = told(count)
    whole = list(Batches(split, batch_size, 5, lambda: trained, flip=0.5))
    each = [
        list(Batches(split, batch_size, 5, lambda: trained, rank=rank, world=world, passes=passes, flip=0.5))
        for rank in range(world)
    ]
    for at, (images, known, _) in enumerate(whole):
        items = [each[rank][at * passes + number] for rank in range(world) for number in range(passes)]
        assert torch.equal(torch.cat([part for part, _, w in items if w]), images)
        for kind, values in known.items():
            assert torch.equal(torch.cat([more[kind] for _, more, w in items if w]), values)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_images_and_their_maps_are_mirrored_together(share):
    split = told(100)
    turned, order = [], []
    for epoch in range(20):
        for images, known, _ in Batches(split, 20, 1, lambda epoch=epoch: epoch * 5, flip=share):
            number, which = numbers_and_mirrored(images)
            order.append(number)
            turned.append(which)
            assert torch.equal(known["class"], number % 3)
            assert torch.equal(known["vector"], split.told["vector"][number])
            assert torch.equal(known["map"][:, 0, 0, :].flip(1)[which], split.told["map"][number[which], 0, 0])
            assert torch.equal(known["map"][~which], split.told["map"][number[~which]])
    assert torch.cat(order).bincount().unique().tolist() == [20], "every image once an epoch"
    found = torch.cat(turned).double().mean()
    assert abs(float(found) - share) < 4 * (share * (1 - share) / 2000) ** 0.5 + 1e-9
    if share == 0.25:  # not the same images, nor the same places, every time
        by_image = torch.zeros(100).index_add_(0, torch.cat(order), torch.cat(turned).float())
        assert by_image.min() < 5 < by_image.max() < 16
        assert len({tuple(which.tolist()) for which in turned}) > 90


def test_the_order_is_that_without_mirroring_and_other_seeds_mirror_others():
    split = told(60)
    plain, one, other = (
        torch.cat([images for images, _, _ in Batches(split, 16, seed, flip=flip)])
        for seed, flip in ((3, 0.0), (3, 0.5), (4, 0.5))
    )
    assert torch.equal(numbers_and_mirrored(plain)[0], numbers_and_mirrored(one)[0])
    assert not torch.equal(numbers_and_mirrored(one)[1], numbers_and_mirrored(other)[1])


def test_dynamic_draws_are_mirrored_after_they_are_drawn():
    grey = torch.arange(0, 240, 4).view(20, 1, 1, 3)
    split = Split((grey > 127).long(), None, 2, "grey", "dynamic", grey=grey)
    plain, turned = (torch.cat([x for x, _, _ in Batches(split, 7, 0, flip=flip)]) for flip in (0.0, 1.0))
    assert torch.equal(plain.flip(3), turned)


@pytest.mark.parametrize("flip", [0.0, 0.5])
@pytest.mark.parametrize("world", [1, 3])
def test_batches_made_on_the_device_are_the_same(flip, world, monkeypatch):
    split = told(50)
    for rank in range(world):
        here = Batches(split, 16, 2, lambda: 2, rank=rank, world=world, passes=2, flip=flip)
        there = Batches(split, 16, 2, lambda: 2, rank=rank, world=world, passes=2, flip=flip)
        there.keep_on(torch.device("cpu"))
        with monkeypatch.context() as patch:
            patch.setattr(Split, "drawn", None)  # all images lie on the device
            found = list(there)
        for (images, known, weight), (same, told_same, weight_same) in zip(here, found, strict=True):
            assert torch.equal(images, same)
            assert weight == weight_same
            assert all(torch.equal(known[kind], told_same[kind]) for kind in known)


def test_what_is_drawn_at_random_is_not_kept_on_the_device():
    grey = torch.arange(0, 240, 4).view(20, 1, 1, 3)
    split = Split((grey > 127).long(), None, 2, "grey", "dynamic", grey=grey)
    batches = Batches(split, 7, 0)
    plain = [images for images, _, _ in batches]
    batches.keep_on(torch.device("cpu"))
    assert all(torch.equal(a, b) for a, (b, _, _) in zip(plain, batches, strict=True))


@pytest.mark.parametrize("step", [1, 6])
def test_a_run_with_flips_goes_on_to_the_bit_and_says_so(digits, tiny, tmp_path, monkeypatch, step):
    settings = {"epochs": 2, "learning_rate": 1e-2, "ema": 0.9, "flip": 0.5}
    whole = fit(tiny(like=digits), digits, tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(Interrupted):
            fit(tiny(like=digits), digits, tmp_path / "parts", **settings)
    npx.train(tiny(like=digits), digits, run=tmp_path / "parts", resume=True, progress=False)
    assert_same_state(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    assert yaml.safe_load((tmp_path / "whole" / "config.yaml").read_text())["train"]["flip"] == 0.5
    assert whole.card["training"]["flipped_share"] == 0.5
    plain = fit(tiny(like=digits), digits, tmp_path / "plain", **{**settings, "flip": 0.0})
    assert plain.card["training"]["flipped_share"] is None
    assert not torch.equal(next(plain.parameters()), next(whole.parameters()))


def test_validation_is_never_mirrored(digits, tiny, run):
    """All training images are mirrored, and the validation figure is that of the images as they are."""
    model = fit(tiny(like=digits), digits, run, epochs=1, flip=1.0, valid_images=0)
    assert model.card["training"]["valid_bits_per_dim"] == pytest.approx(
        npx.evaluate(model, digits.valid).bits_per_dim, abs=1e-5
    )


def test_on_the_command_line(nextpixel, run):
    options = ["--option", "layers=1", "--option", "features=4", "--epochs", "1"]
    assert nextpixel("train", "digits", "--flip", "0.5", "--run", run, *options).status == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["flip"] == 0.5
    ended = nextpixel("train", "--resume", run, "--flip", "0.2")
    assert ended.status == 2
    assert "--flip" in ended.error()


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan")])
def test_wrong_shares_are_refused(digits, tiny, run, wrong, assert_sentence):
    with pytest.raises(UserError, match="flip") as caught:
        fit(tiny(like=digits), digits, run, flip=wrong)
    assert_sentence(caught)
    assert not run.exists()
