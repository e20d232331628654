"""What is reported of a set of codes: usage and copies, against counting by hand."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpixel.images import Dataset, Split
from nextpixel.tasks import codes


def dataset(train, valid, test, levels):
    parts = {"train": train, "valid": valid, "test": test}
    splits = {name: Split(images, None, levels, f"codes/{name}", f"{levels} levels") for name, images in parts.items()}
    return Dataset("codes", **splits)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=3, max_size=3), st.integers(2, 5), st.integers(0, 2**16), st.data())
def test_usage_and_copies(counts, levels, seed, data):
    """Grids of one or two codes, so that copies are frequent."""
    generator = torch.Generator().manual_seed(seed)
    width = data.draw(st.integers(1, 2))
    parts = [torch.randint(levels, (count, 1, 1, width), generator=generator) for count in counts]
    found = codes.code_usage(dataset(*parts, levels))
    train, valid, test = ([tuple(x.flatten().tolist()) for x in part] for part in parts)
    values = Counter(value for image in train for value in image)
    assert found["used"] == len(values)
    assert found["usage"] == pytest.approx(len(values) / levels)
    total = sum(values.values())
    product = 1.0
    for count in values.values():
        product *= (total / count) ** (count / total)
    assert found["perplexity"] == pytest.approx(product)
    for name, images in (("train", train), ("valid", valid), ("test", test)):
        assert found["copies"][name] == sum(image in images[:i] for i, image in enumerate(images))
    for name, images in (("valid", valid), ("test", test)):
        assert found["of_train"][name] == sum(image in train for image in images)


def test_sets_are_read_in_pieces(monkeypatch):
    parts = [torch.arange(7).view(7, 1, 1, 1) % 3] * 3
    whole = codes.code_usage(dataset(*parts, 4))
    monkeypatch.setattr(codes, "CHUNK", 2)
    assert codes.code_usage(dataset(*parts, 4)) == whole
    assert whole["copies"]["train"] == 4
    assert whole["of_train"] == {"valid": 7, "test": 7}
