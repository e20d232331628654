"""Whether a training run is well: gradients that jump, and a likelihood that is too good to be true."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from nextpixel.images import Dataset
from nextpixel.model import Model
from nextpixel.tasks.baselines import baselines
from nextpixel.tasks.batches import spaced

WINDOW, AT_LEAST, SPIKE = 100, 20, 10.0  # steps remembered, steps before a verdict, times the median
PACKERS = ("gzip", "xz", "png")
TOO_GOOD = 0.25  # of what the best packer needs; trained models of this library need more than half
PACKED = 256  # images given to the packers


class GradientNorms:
    """Spikes of the gradient's norm, before clipping: more than 10 times the median of the last 100 steps. A median
    takes no notice of the spikes themselves, and follows the norm as it falls."""

    def __init__(self) -> None:
        self.last: deque[float] = deque(maxlen=WINDOW)

    def spike(self, norm: float) -> float | None:
        """How many times the median this step's norm is, if that is a spike; and remember it."""
        usual = statistics.median(self.last) if len(self.last) >= AT_LEAST else math.inf
        self.last.append(norm)
        return norm / usual if norm > SPIKE * usual > 0 else None


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients together, still on their device."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


@torch.no_grad()
def all_finite(tensors: Iterable[Tensor]) -> bool:
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())


def too_good(bits: float, data: Dataset) -> float | None:
    """The best packer's bits/dim for images of `data`, if `bits` is less than a quarter of it; else None.

    It is a reason to look, no proof: images may be as simple as that, and training images can be learnt by heart.
    """
    if bits >= TOO_GOOD * 1.1 * math.log2(data.levels):  # no packer needs much more than the plain levels
        return None
    some = spaced(data.valid, PACKED)
    figures = baselines(Dataset(data.name, some, some, some))
    best = min(figures[name] for name in PACKERS if name in figures)
    return best if bits < TOO_GOOD * best else None


def leak_warning(model: Model, data: Dataset, train: float, valid: float | None) -> str | None:
    """What there is to say, in a sentence, about bits/dim that are too good; None if they are not."""
    if model.condition is not None and not model.condition.only_classes:
        return None  # a map may say all there is to know
    figures = [train] if valid is None else [train, valid]
    packed = too_good(min(figures), data)
    if packed is None:
        return None
    from nextpixel.checking.leaks import leaks  # takes a second to import, and is nearly never needed

    said = f"train {train:.4f}" + ("" if valid is None else f", valid {valid:.4f}")
    about = f"The likelihood is too good to be true ({said} bits/dim; the best packer needs {packed:.4f})"
    found: list[Any] = leaks(model)
    if found:
        faults = ", ".join(dict.fromkeys(finding.fault for finding in found))
        return f"{about}, and the model leaks: {faults} ({found[0].detail}). Its figures mean nothing."
    if valid is not None and valid >= TOO_GOOD * packed:
        return f"{about}, but no leak was found: the model has learnt the training images by heart."
    return f"{about}, but no leak was found: are the images as simple as that, or the same ones in train and valid?"
