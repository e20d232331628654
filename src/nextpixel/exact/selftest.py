"""Whether this machine, as it is set now, multiplies matrices of the model's integers exactly.

TF32, bfloat16 products (set by name, by an environment variable, or by autocast) and faulty libraries give products
that are nearly right. They are found by computing what was worked out before in integers: sums that reach the proved
bounds, of inputs with all bits set, at several numbers of rows, which libraries multiply by different programs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nextpixel.exact.layers import IntegerWeights

PATTERNS = 8
ROWS = (1, 7, 256)


class SelfTest:
    """The known answers of one model: worked out at the first use, compared at each."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, Tensor, Tensor]] | None = None

    @torch.no_grad()
    def passes(self, model: nn.Module) -> bool:
        if self._known is None:
            layers = [module for module in model.modules() if isinstance(module, IntegerWeights)]
            self._known = [(layer, *_worst(layer)) for layer in layers]
        for layer, inputs, wanted in self._known:
            weight = layer.kernel().flatten(1).t()
            x, right = inputs.to(weight), wanted.to(weight)
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
