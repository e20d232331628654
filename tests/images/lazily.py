"""What the tests of data that are read when asked for have in common."""

import torch

from nextpixel.images.lazy import LazySplit


def assert_equal(lazily, at_once):
    for name in ("train", "valid", "test"):
        one, other = getattr(lazily, name), getattr(at_once, name)
        assert isinstance(one, LazySplit)
        assert not isinstance(other, LazySplit)
        assert torch.equal(one.images, other.images)
        assert one.images.dtype == other.images.dtype
        assert one.sha256 == other.sha256
        assert repr(one) == repr(other)
        assert (one.labels is None) == (other.labels is None)
        assert one.labels is None or torch.equal(one.labels, other.labels)
