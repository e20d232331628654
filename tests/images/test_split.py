from dataclasses import FrozenInstanceError

import pytest
import torch

from nextpixel.errors import UserError, did_you_mean
from nextpixel.images import Dataset, Split


def make(count=6, levels=17, **changes):
    images = torch.randint(0, levels, (count, 1, 3, 2), generator=torch.Generator().manual_seed(0))
    given = {
        "images": images,
        "labels": torch.arange(count) % 3,
        "levels": levels,
        "name": "toy/test",
        "protocol": f"{levels} levels",
        "classes": 3,
    }
    return Split(**(given | changes))


def test_a_split_knows_its_size_and_keeps_small_integers():
    split = make()
    assert len(split) == 6
    assert split.shape == (1, 3, 2)
    assert split.images.dtype == torch.uint8
    assert split.labels.dtype == torch.int64
    assert make(levels=1000).images.dtype == torch.int32
    with pytest.raises(FrozenInstanceError):
        split.levels = 3


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (2, [2]),
        (-1, [5]),
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -2), [5, 3, 1]),
        (slice(1, 4, -1), []),
        ([4, 0, 4], [4, 0, 4]),
        (torch.tensor([5, 1]), [5, 1]),
        (torch.tensor([1, 0], dtype=torch.uint8), [1, 0]),
        (torch.tensor([True, False, False, True, False, False]), [0, 3]),
        ([], []),
    ],
)
def test_choosing_images_gives_a_split_of_them(index, expected):
    split = make()
    chosen = split[index]
    assert isinstance(chosen, Split)
    assert torch.equal(
        chosen.images, torch.stack([split.images[i] for i in expected]) if expected else split.images[:0]
    )
    assert chosen.labels.tolist() == [split.labels[i].item() for i in expected]
    assert (chosen.levels, chosen.protocol, chosen.classes) == (17, "17 levels", 3)


def test_a_split_says_what_it_is_and_nothing_twice():
    images = torch.zeros(3, 1, 4, 5, dtype=torch.uint8)
    assert repr(Split(images, None, 17, "a/test", "17 levels")) == "Split(a/test: 3 x (1, 4, 5), 17 levels, no labels)"
    assert repr(Split(images, None, 256, "a/test", "8-bit")).endswith("256 levels, no labels, 8-bit)")


def test_choosing_what_is_not_there_fails():
    with pytest.raises(IndexError):
        make()[6]
    with pytest.raises(UserError, match="mask"):
        make()[torch.tensor([True, False])]
    with pytest.raises(UserError, match="integers"):
        make()[torch.tensor([0.5])]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": torch.full((6, 1, 3, 2), 17)}, "levels=18"),
        ({"images": torch.full((6, 1, 3, 2), -1)}, "-1"),
        ({"images": torch.zeros(6, 1, 3, 2)}, "integers"),
        ({"images": torch.zeros(6, 3, 2, dtype=torch.uint8)}, r"\[N,C,H,W\]"),
        ({"labels": torch.zeros(5, dtype=torch.long)}, "6 images"),
        ({"labels": torch.tensor([0, 1, 2, 3, 0, 0])}, "0..3"),
        ({"labels": torch.tensor([0, 1, 2, -1, 0, 0])}, "-1"),
        ({"labels": torch.zeros(6)}, "labels"),
        ({"classes": None}, "classes"),
        ({"levels": 1}, "levels"),
        ({"grey": torch.zeros(6, 1, 3, 2, dtype=torch.uint8)}, "grey"),
    ],
)
def test_a_split_that_does_not_fit_together_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        make(**changes)


def test_the_hash_is_of_the_data_and_of_nothing_else():
    split = make()
    assert make(name="other", protocol="other").sha256 == split.sha256
    assert make(images=split.images.long()).sha256 == split.sha256
    altered = split.images.clone()
    altered[5, 0, 2, 1] = (altered[5, 0, 2, 1] + 1) % 17
    others = [
        make(images=altered),
        make(images=split.images.view(6, 1, 2, 3)),
        make(levels=18, images=split.images),
        make(labels=(torch.arange(6) + 1) % 3),
        make(labels=None),
        split[:0],
        split[[1, 0, 2, 3, 4, 5]],
    ]
    assert len({other.sha256 for other in others} | {split.sha256}) == len(others) + 1


def test_drawing_is_anew_only_under_dynamic_binarisation():
    plain = make()
    assert torch.equal(plain.draw(torch.tensor([3, 1])), plain.images[[3, 1]])
    grey = torch.full((200, 1, 3, 2), 100, dtype=torch.uint8)
    dynamic = make(200, 2, grey=grey, grey_levels=256)
    generator = torch.Generator().manual_seed(0)
    indices = torch.arange(100)
    first, second = (dynamic.draw(indices, generator) for _ in range(2))
    assert first.shape == (100, 1, 3, 2)
    assert set(first.unique().tolist()) == {0, 1}
    assert not torch.equal(first, second)
    assert not torch.equal(first, dynamic.images[:100])
    assert len(dynamic[:7].grey) == 7


def test_a_dataset_needs_equal_splits():
    part = make()
    data = Dataset("toy", part, part[:2], part[2:3])
    assert (data.levels, data.shape, data.classes, data.protocol) == (17, (1, 3, 2), 3, "17 levels")
    assert data.describe()["splits"]["test"] == {"images": 1, "sha256": part[2:3].sha256}
    with pytest.raises(UserError, match="levels"):
        Dataset("toy", part, part, make(levels=18))


def test_names_are_suggested():
    assert did_you_mean("MNITS", ["mnist", "cifar10"]) == " Did you mean 'mnist'?"
    assert did_you_mean("zebra", ["mnist", "cifar10"]) == ""
