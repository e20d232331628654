"""Data-dependent initialisation of weight-normalised layers (Salimans and Kingma 2016; used by PixelCNN++).

Every layer's gain and bias are set so that its outputs have mean 0 and variance 1 over a first batch, layer by layer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


@torch.no_grad()
def initialise_from_data(network: nn.Module, run_once: Callable[[], object]) -> int:
    """Call `run_once` (a Whole pass over a batch), setting the layers with a gain on the way; returns how many."""
    layers = [layer for layer in network.modules() if isinstance(getattr(layer, "gain", None), nn.Parameter)]
    hooks = [layer.register_forward_hook(_normalise) for layer in layers]
    try:
        run_once()
    finally:
        for hook in hooks:
            hook.remove()
    return len(layers)


def _normalise(layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
    seen = output.flatten(0, -2)
    if len(seen) < 2:  # a lowest level of one pixel, of one picture: nothing is known of the spread
        return output
    mean, deviation = seen.mean(0), seen.std(0).clamp(min=1e-3)
    gain, bias = layer.get_parameter("gain"), layer.get_parameter("bias")
    gain.div_(deviation)
    bias.sub_(mean).div_(deviation)
    return (output - mean) / deviation
