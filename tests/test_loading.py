"""Batches that are read ahead: the same ones in the same order, and a clean end whatever happens."""

import threading
import time

import pytest
import torch

from nextpixel.errors import UserError
from nextpixel.images.lazy import LazySplit
from nextpixel.images.split import Split
from nextpixel.images.store import ArrayStore
from nextpixel.tasks.batches import Batches
from nextpixel.tasks.loading import read_ahead, workers_for


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("nextpixel-read")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_though_later_ones_are_made_first(workers):
    def slow_at_first(position):
        time.sleep(0.02 if position % 3 == 0 else 0)
        return position * position

    assert list(read_ahead(slow_at_first, range(20), workers)) == [i * i for i in range(20)]
    assert list(read_ahead(slow_at_first, [], workers)) == []
    assert not readers()


def test_no_more_is_read_ahead_than_said():
    made = []
    batches = read_ahead(lambda at: made.append(at) or at, range(100), 2)
    assert next(batches) == 0
    time.sleep(0.1)
    assert len(made) <= 1 + 2 * 2
    batches.close()
    assert not readers()


def test_an_error_comes_at_its_batch_and_ends_the_threads():
    def broken(position):
        if position == 5:
            raise UserError("5.png cannot be read.")
        return position

    batches = read_ahead(broken, range(50), 2)
    assert [next(batches) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match=r"5\.png"):
        next(batches)
    assert not readers()


def test_an_interruption_while_a_batch_is_used_ends_the_threads():
    def use():
        for batch in read_ahead(lambda at: at, range(50), 2):
            if batch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert not readers()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("trained", [0, 3, 9])
def test_batches_are_the_same_with_readers_from_any_position(workers, trained):
    grey = torch.arange(0, 210, 3, dtype=torch.uint8).view(70, 1, 1, 1).expand(70, 1, 4, 3).contiguous()
    labels = torch.arange(70) % 5
    at_once = Split((grey > 127).to(torch.uint8), labels, 2, "n", "dynamic", 5, grey, 256)
    store = ArrayStore(grey[:, 0].numpy(), 256, "n")
    lazily = LazySplit(store, labels, 2, "n", "dynamic", 5, grey_store=store)
    expected = list(Batches(at_once, 16, 7, lambda: trained))
    found = list(Batches(lazily, 16, 7, lambda: trained, workers=workers))
    assert len(found) == len(expected) == 5 - trained % 5
    for (images, given, _), (wanted, truth, _) in zip(found, expected, strict=True):
        assert torch.equal(images, wanted)
        assert torch.equal(given["class"], truth["class"])


def test_only_what_is_read_lazily_has_readers_unasked():
    lazily = LazySplit(ArrayStore(torch.zeros(3, 2, 2).byte().numpy(), 2, "n"), None, 2, "n", "p")
    at_once = Split(lazily.images, None, 2, "n", "p")
    assert [workers_for(split, asked) for split in (lazily, at_once) for asked in (-1, 0, 3)] == [2, 0, 3, 0, 0, 3]
