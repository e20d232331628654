"""Whether this machine, as it is set now, multiplies matrices of the model's integers exactly.

TF32, bfloat16 products (set by name, by an environment variable, or by autocast) and faulty libraries give products
that are nearly right. They are found by computing what was worked out before in integers: sums that reach the proved
bounds, of inputs with all bits set, at several numbers of rows, which libraries multiply by different programs.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nextpixel.exact.layers import IntegerWeights

PATTERNS = 8
ROWS = (1, 7, 256)
PRECISIONS = ("fp32_precision", "cuda.matmul.fp32_precision", "mkldnn.matmul.fp32_precision", "cuda.matmul.allow_tf32")
"""where torch.backends keeps how products are shortened; PyTorch 2.8 has the last only"""


class SelfTest:
    """The known answers of one model, worked out at the first use.

    All layers are tried at first, and again when the model is held in other tensors or a setting that is known to
    matter has changed; in between, at each use, the one layer whose numbers are the longest.
    """

    def __init__(self) -> None:
        self._known: list[tuple[Any, Tensor, Tensor]] = []
        self._passed: tuple[object, ...] = ()

    @torch.no_grad()
    def passes(self, model: nn.Module) -> bool:
        if not self._known:
            layers = [module for module in model.modules() if isinstance(module, IntegerWeights)]
            layers.sort(key=_longest_number, reverse=True)
            self._known = [(layer, *_worst(layer)) for layer in layers]
        settings = _settings(self._known[0][0].bias)
        passed = all(_is_exact(*known) for known in self._known[: 1 if settings == self._passed else None])
        self._passed = settings if passed else ()
        return passed


def _settings(like: Tensor) -> tuple[object, ...]:
    return (
        like.dtype,
        like.device,
        torch.get_num_threads(),
        _legacy_precision(),
        *map(_precision, PRECISIONS),
        torch.backends.mkldnn.enabled,
        torch.is_autocast_enabled(like.device.type),
    )


def _legacy_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # what it answers once a precision was set under one of the newer names
        return None


def _precision(name: str) -> object:
    try:
        return attrgetter(name)(torch.backends)
    except (AttributeError, RuntimeError):
        return None


def _longest_number(layer: Any) -> float:
    return max(float(layer.kernel().abs().max()), *layer.input_bounds)


def _is_exact(layer: Any, inputs: Tensor, sums: Tensor) -> bool:
    weight = layer.kernel().flatten(1).t()
    x, right = inputs.to(weight), sums.to(weight)
    for rows in ROWS:
        repeats = -(-rows // PATTERNS)
        several, wanted = x.repeat(repeats, 1)[:rows], right.repeat(repeats, 1)[:rows]
        for got in (torch.addmm(layer.bias, several, weight), several @ weight + layer.bias):
            if got.dtype != weight.dtype or not torch.equal(got, wanted):
                return False
    return True


def _worst(layer: Any) -> tuple[Tensor, Tensor]:
    """Inputs [patterns, ·] that make the sum of one output each nearly as large as it can be, and all sums, int64."""
    weight = layer.kernel().flatten(1).cpu().long().numpy()
    taps = weight.shape[1] // len(layer.input_bounds)
    bounds = np.repeat(np.array(layer.input_bounds, dtype=np.int64), taps)
    outputs = np.arange(PATTERNS) * max(1, len(weight) // PATTERNS) % len(weight)
    signs = np.where(weight[outputs] < 0, -1, 1) * np.where(np.arange(PATTERNS) % 2, -1, 1)[:, None]
    # one less than a bound is as a rule odd, with all its bits set
    inputs = signs * np.maximum(bounds - np.arange(len(bounds)) % 2, 0)
    return torch.from_numpy(inputs), torch.from_numpy(inputs @ weight.T + layer.bias.cpu().long().numpy())
