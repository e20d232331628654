"""Which images are for training, validation and test. Every rule is seeded and documented here.

- A source's own parts are kept, in their own order; in particular a test part is never shuffled.
- Without a valid part: a seeded permutation of train; its last ``min(5000, max(1, N // 10))`` are valid.
  So MNIST, Fashion-MNIST and CIFAR-10 give 5,000, and small sets a tenth.
- Without a test part, where there is a valid part: test is taken out of train by the same rule.
- Without parts: a seeded permutation; the last tenth is test, the tenth before it valid (each at least one).
- digits: ``default_rng(0).permutation(1797)``: 1,350 train, 150 valid, 297 test.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from nextpixel.errors import UserError
from nextpixel.images.source import Array, Part, StorePart

Kind = TypeVar("Kind", Part, StorePart)


def complete(parts: dict[str, Kind], seed: int, cut: tuple[int, int, int] | None, name: str) -> dict[str, Kind]:
    """Parts "train", "valid" and "test" from what a source has, by the rules above. Raises UserError if too small."""
    if "all" in parts:
        return _cut(parts["all"], seed, cut, name)
    done = dict(parts)
    for missing in ("test", "valid"):
        if missing not in done:
            done["train"], done[missing] = _carve(done["train"], seed, name)
    return done


def _carve(part: Kind, seed: int, name: str) -> tuple[Kind, Kind]:
    count = len(part.images)
    if count < 2:
        raise UserError(f"{name} has too few training images ({count}): at least 2 are needed to set some aside.")
    aside = min(5000, max(1, count // 10))
    order = np.random.default_rng(seed).permutation(count)
    return _take(part, order[:-aside]), _take(part, order[-aside:])


def _cut(part: Kind, seed: int, cut: tuple[int, int, int] | None, name: str) -> dict[str, Kind]:
    count = len(part.images)
    if count < 3:
        raise UserError(f"{name} has too few images ({count}): at least 3 are needed for train, valid and test.")
    tenth = max(1, count // 10)
    train, valid, _ = cut or (count - 2 * tenth, tenth, tenth)
    order = np.random.default_rng(seed).permutation(count)
    return {
        "train": _take(part, order[:train]),
        "valid": _take(part, order[train : train + valid]),
        "test": _take(part, order[train + valid :]),
    }


def _take(part: Kind, order: Array) -> Kind:
    taken = part._replace(images=part.images[order], labels=None if part.labels is None else part.labels[order])
    if isinstance(taken, Part):
        return taken._replace(told={kind: values[order] for kind, values in taken.told.items()})
    return taken
