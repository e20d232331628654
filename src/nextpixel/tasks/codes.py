"""What to know about a set of codes before and after a prior is trained on it: are they used, are they copies?"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import Tensor

from nextpixel.images import Dataset, Split

CHUNK = 4096  # images read at a time


def code_usage(data: Dataset) -> dict[str, Any]:
    """Usage and copies, ready for JSON.

    used, usage: how many of the K values occur in the training images, and their share of K. perplexity: 2 to the power
    of the entropy of one value drawn from the training images: how many values of equal use would be as uncertain.
    bits_per_code: that entropy, which is what an ideal code without context needs. copies: images of a split that are
    equal to an earlier one of the same split; of_train: images of valid and test that are also in train, which make a
    likelihood look better than it is.
    """
    counts, seen = _read(data.train)
    shares = counts[counts > 0].double() / counts.sum()
    bits = float(-(shares * shares.log2()).sum())
    copies, of_train = {"train": len(data.train) - len(seen)}, {}
    for name, split in (("valid", data.valid), ("test", data.test)):
        _, own = _read(split)
        copies[name] = len(split) - len(own)
        of_train[name] = sum(own[digest] for digest in own.keys() & seen.keys())
    return {
        "levels": data.levels,
        "used": int((counts > 0).sum()),
        "usage": float((counts > 0).double().mean()),
        "perplexity": math.pow(2, bits),
        "bits_per_code": bits,
        "images": {"train": len(data.train), "valid": len(data.valid), "test": len(data.test)},
        "copies": copies,
        "of_train": of_train,
    }


def _read(split: Split) -> tuple[Tensor, dict[bytes, int]]:
    """How often each value occurs, [K], and each different image's digest with the number of its occurrences."""
    counts, seen = torch.zeros(split.levels, dtype=torch.long), dict[bytes, int]()
    for start in range(0, len(split), CHUNK):
        images = split[start : start + CHUNK].images
        counts += torch.bincount(images.flatten().long(), minlength=split.levels)
        for image in images.numpy():
            digest = hashlib.sha256(image.tobytes()).digest()
            seen[digest] = seen.get(digest, 0) + 1
    return counts, seen
