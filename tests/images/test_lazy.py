"""Data that are read when asked for: the same images, labels and checksums as the same data in memory."""

import os
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lazily import assert_equal

from nextpixel.errors import UserError
from nextpixel.images import dataset
from nextpixel.images.lazy import Damaged, LazySplit
from nextpixel.images.split import Split
from nextpixel.images.store import ArrayStore, Store, UnreadableImageError
from nextpixel.tasks.batches import Batches


def saved(path, shape=(23, 5, 4), high=256, dtype=np.uint8):
    np.save(path, np.random.default_rng(0).integers(0, high, shape).astype(dtype))
    return path


@pytest.mark.parametrize(
    ("shape", "dtype", "high", "options"),
    [
        ((23, 5, 4), np.uint8, 256, {}),
        ((23, 5, 4), np.uint8, 2, {}),
        ((23, 5, 4, 3), np.uint8, 256, {}),
        ((23, 3, 5, 4), np.uint8, 256, {"channels": 1}),
        ((23, 5, 4), np.uint8, 256, {"channels": 3}),
        ((23, 5, 4), np.int64, 512, {}),
        ((23, 5, 4), np.uint16, 500, {"levels": 512}),
        ((23, 5, 4), bool, 2, {}),
        ((23, 9, 8, 3), np.uint8, 256, {"size": (5, 4)}),
        ((23, 9, 8), np.uint8, 256, {"size": (5, 4), "fit": "resize"}),
        ((23, 5, 4), np.uint8, 256, {"binarise": "threshold"}),
    ],
)
def test_a_mapped_array_gives_the_splits_of_the_array_in_memory(tmp_path, shape, dtype, high, options):
    path = saved(tmp_path / "x.npy", shape, high, dtype)
    assert_equal(dataset(path, lazy=True, **options), dataset(path, lazy=False, **options))


def test_by_default_only_what_is_large_is_mapped(tmp_path, monkeypatch):
    path = saved(tmp_path / "x.npy")
    assert not isinstance(dataset(path).train, LazySplit)
    monkeypatch.setattr("nextpixel.images.store.LAZY_BYTES", 100)
    assert isinstance(dataset(path).train, LazySplit)
    assert not isinstance(dataset(path, lazy=False).train, LazySplit)


def test_fixed_draws_are_the_same_every_time_and_another_one_in_every_split(tmp_path):
    np.save(tmp_path / "x.npy", np.full((40, 6, 5), 128, np.uint8))
    data = dataset(tmp_path / "x.npy", lazy=True, binarise="fixed")
    again = dataset(tmp_path / "x.npy", lazy=True, binarise="fixed").test.images
    assert torch.equal(data.test.images, again)
    assert torch.equal(data.test[1:3].images, again[1:3])  # an image's draw does not depend on what else is read
    assert not torch.equal(data.test.images, data.valid.images)
    assert "image by image" in data.protocol  # another draw than that of the same data in memory
    assert 0.4 < data.train.images.float().mean() < 0.6  # 960 values, p = 128/255: 6 standard errors


def test_dynamic_binarisation_draws_as_in_memory(tmp_path):
    path = saved(tmp_path / "x.npy")
    one, other = (dataset(path, lazy=lazy, binarise="dynamic").train for lazy in (True, False))
    chosen = torch.tensor([3, 0, 11])
    draws = [split.draw(chosen, torch.Generator().manual_seed(5)) for split in (one, other)]
    assert torch.equal(*draws)
    assert torch.equal(one.grey, other.grey)
    assert torch.equal(one[2:9].grey, other[2:9].grey)
    assert dataset(path, lazy=True, binarise="dynamic").test.grey is None


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_choosing_is_as_in_memory_however_often(data):
    images = torch.arange(13, dtype=torch.uint8)[:, None, None, None].expand(13, 1, 1, 1)
    labels = torch.arange(13) % 4
    one: Split = LazySplit(ArrayStore(images[:, 0].numpy(), 256, "numbers"), labels, 256, "n", "p", 4)
    other = Split(images.clone(), labels, 256, "n", "p", 4)
    for _ in range(3):
        count = len(other)
        bounds = st.integers(-15, 15) | st.none()
        kinds = [
            st.builds(slice, bounds, bounds, st.sampled_from([None, 1, 2, -1, -3])),
            st.lists(st.booleans(), min_size=count, max_size=count),
        ]
        if count:
            kinds += [st.integers(-count, count - 1), st.lists(st.integers(-count, count - 1), max_size=6)]
        index = data.draw(st.one_of(kinds))
        one, other = one[index], other[index]
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert one.sha256 == other.sha256
        assert len(one) == len(other)


def test_choosing_reads_nothing_and_drawing_reads_what_is_drawn():
    class Counted(Store):
        shape = (100, 1, 2, 2)
        read_so_far: ClassVar[list] = []

        def read(self, indices):
            self.read_so_far.extend(indices.tolist())
            return torch.zeros(len(indices), 1, 2, 2, dtype=torch.uint8)

    split = LazySplit(Counted(), None, 2, "n", "p")
    part = split[10:90][torch.tensor([5, 6, 7])][1:]
    assert (len(part), part.shape) == (2, (1, 2, 2))
    assert Counted.read_so_far == []
    part.draw(torch.tensor([1]))
    assert Counted.read_so_far == [17]
    assert split.fingerprint.startswith("sampled:")
    assert len(Counted.read_so_far) == 101  # 256 at most


def test_the_fingerprint_tells_pixels_labels_and_counts_apart(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (30, 3, 2), dtype=np.uint8)

    def fingerprint(array, labels):
        return LazySplit(ArrayStore(array, 256, "x"), labels, 256, "n", "p", 3).fingerprint

    labels = torch.arange(30) % 3
    found = {
        fingerprint(array, labels),
        fingerprint(array, labels.flip(0)),
        fingerprint(array, None),
        fingerprint(array[:-1], labels[:-1]),
        fingerprint(255 - array, labels),
    }
    assert len(found) == 5
    assert fingerprint(array.copy(), labels) in found


def test_values_that_do_not_fit_are_named_with_their_image(tmp_path):
    array = np.zeros((30, 3, 2), np.int16)
    array[17, 2, 1] = 9
    np.save(tmp_path / "x.npy", array)
    data = dataset(tmp_path / "x.npy", levels=8, lazy=True)
    with pytest.raises(UserError, match=r"x\.npy holds the value 9 in image 17, but 8 levels end at 7: .*levels=10"):
        torch.cat([data.train.images, data.valid.images, data.test.images])
    array[17, 2, 1] = -4
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(UserError, match=r"x\.npy holds the value -4, but pixel values start at 0"):
        dataset(tmp_path / "x.npy", lazy=True)
    data = dataset(tmp_path / "x.npy", levels=8, lazy=True)
    with pytest.raises(UserError, match="holds the value -4 in image 17"):
        torch.cat([data.train.images, data.valid.images, data.test.images])


def test_levels_are_found_past_the_first_piece(tmp_path):
    array = np.zeros((3000, 2, 1), np.uint8)
    assert (np.save(tmp_path / "a.npy", array), dataset(tmp_path / "a.npy", lazy=True).levels)[1] == 2
    array[2999] = 2
    assert (np.save(tmp_path / "b.npy", array), dataset(tmp_path / "b.npy", lazy=True).levels)[1] == 256


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda p: np.save(p, np.zeros((5, 4, 3))), "holds floats"),
        (lambda p: np.save(p, np.zeros((5, 3, 4, 3), int)), "ambiguous"),
        (lambda p: p.write_bytes(b"not an array"), "file of numbers"),
        (lambda p: p.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '|u1'}"), "cannot be read"),
        (lambda p: np.save(p, np.array([None, 1]), allow_pickle=True), "file of numbers"),
    ],
)
def test_what_is_no_array_of_images_is_refused(tmp_path, content, says):
    content(tmp_path / "x.npy")
    with pytest.raises(UserError, match=says):
        dataset(tmp_path / "x.npy", lazy=True)


def test_a_cut_off_array_is_refused(tmp_path):
    path = saved(tmp_path / "x.npy")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="cannot be read"):
        dataset(path, lazy=True)


def test_an_npz_file_cannot_be_mapped(tmp_path):
    np.savez(tmp_path / "x.npz", np.zeros((9, 3, 2), np.uint8))
    with pytest.raises(UserError, match=r"save its images as a \.npy file"):
        dataset(tmp_path / "x.npz", lazy=True)
    assert len(dataset(tmp_path / "x.npz").train) == 7


class Holed(Store):
    """Image i is all i; some cannot be read."""

    def __init__(self, count, holes):
        self.shape, self.holes = (count, 1, 1, 1), holes

    def read(self, indices):
        for index in indices:
            if index in self.holes:
                raise UnreadableImageError(f"{index}.png", "torn")
        return torch.as_tensor(indices).to(torch.uint8)[:, None, None, None]


def test_training_replaces_a_damaged_image_by_the_next_of_its_split_and_names_it(tmp_path):
    split = LazySplit(Holed(400, {4, 6, 249}), None, 256, "n", "p")[2:250]
    split.damaged.log = tmp_path / "skipped.txt"
    for _ in range(2):
        drawn = split.draw(torch.tensor([1, 2, 3, 4, 247]))  # images 3, 4, 5, 6, 249
        assert drawn.flatten().tolist() == [3, 5, 5, 7, 2]
    assert (tmp_path / "skipped.txt").read_text().splitlines() == ["4.png (torn)", "6.png (torn)", "249.png (torn)"]


def test_nothing_but_training_replaces_images():
    split = LazySplit(Holed(400, {4}), None, 256, "n", "p")
    for read in (lambda: split.images, lambda: split[4].images, lambda: split[3:6].images, lambda: split.sha256):
        with pytest.raises(UserError, match=r"4\.png cannot be read \(torn\)"):
            read()


def test_too_many_damaged_images_stop_the_training():
    split = LazySplit(Holed(300, {4, 5, 6, 7}), None, 256, "n", "p")
    with pytest.raises(UserError, match=r"4 images cannot be read, more than 1% of the split; the last is 7\.png"):
        split.draw(torch.tensor([4]))


def test_when_nothing_can_be_read_it_ends():
    with pytest.raises(UserError, match="2 images cannot be read"):
        LazySplit(Holed(3, {0, 1, 2}), None, 256, "n", "p").draw(torch.tensor([0]))


def test_a_picture_that_replaces_another_brings_its_own_class():
    split = LazySplit(Holed(200, {4}), torch.arange(200) % 7, 256, "n", "p", classes=7)
    for images, told, _ in Batches(split, 50, 0):
        assert torch.equal(told["class"], images.flatten().long() % 7)
    images, used = split[2:150].drawn(torch.tensor([1, 2, 3]))
    assert (images.flatten().tolist(), used.tolist()) == ([3, 5, 5], [1, 3, 3])


def test_a_damaged_image_does_not_hinder_the_fingerprint():
    whole, torn = (LazySplit(Holed(400, holes), None, 256, "n", "p") for holes in (set(), {25}))
    assert torn.fingerprint == torn.fingerprint != whole.fingerprint


def test_a_part_that_is_damaged_as_a_whole_ends_too():
    split = LazySplit(Holed(400, {4}), None, 256, "n", "p")
    with pytest.raises(UserError, match=r"4\.png cannot be read"):
        split[4].draw(torch.tensor([0]))


def test_images_that_are_not_there_are_not_others():
    split = LazySplit(Holed(16, set()), None, 256, "n", "p")
    assert split[[-1, 3]].images.flatten().tolist() == [15, 3]
    for index in ([16], [100], [-17], [0, 16]):
        with pytest.raises(IndexError):
            split[index]


def test_names_that_are_no_text_are_written_down(tmp_path):
    damaged = Damaged(400)
    damaged.log = tmp_path / "skipped.txt"
    damaged.add(UnreadableImageError(os.fsdecode(b"a\xff.png"), "torn"))
    assert damaged.log.read_text() == "a\\udcff.png (torn)\n"
