"""How many multiplications with an addition a training takes: counted in one forward pass, not timed."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from nextpixel.model import Model

TRAINING = 3  # forward, and as much again for the gradient of the activations and for that of the weights


def multiply_adds(model: Model) -> int:
    """Of scoring one image, products of matrices and convolutions only; of training on it about TRAINING times that."""
    images = torch.zeros(1, *model.shape, dtype=torch.uint8)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: _batched})
    with counter, torch.no_grad():
        model.log_prob(images)
    return counter.get_total_flops() // 2


def _batched(_: Any, left: tuple[int, ...], right: tuple[int, ...], *args: Any, **options: Any) -> int:
    """Of baddbmm_, with which the Diagonal BiLSTM goes on, and which PyTorch does not count."""
    batch, rows, inner = left
    return 2 * batch * rows * inner * right[2]
