"""The Gated PixelCNN as public code usually writes it: full k×k kernels times a mask, channels first.

The yardstick of training_step.py. One channel only. Its weights can be taken from ours, so that the two are known to
be the same function.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextpixel.image_model import ImageModel

Modules = Any  # lists of modules do not say of which


class MaskedConv(nn.Conv2d):
    """k×k convolution whose kernel is multiplied by a mask at every call."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], mask: Tensor):
        super().__init__(inputs, outputs, size, padding=(size[0] // 2, size[1] // 2))
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.get_buffer("mask"), self.bias, padding=self.padding)


class PlainLayer(nn.Module):
    def __init__(self, inputs: int, features: int, kernel: int, first: bool):
        super().__init__()
        half, self.first = kernel // 2, first
        above, left = torch.ones(1, 1, kernel, kernel), torch.ones(1, 1, 1, kernel)
        above[:, :, half + (0 if first else 1) :] = 0
        left[..., half + (0 if first else 1) :] = 0
        self.vertical = MaskedConv(inputs, 2 * features, (kernel, kernel), above)
        self.horizontal = MaskedConv(inputs, 2 * features, (1, kernel), left)
        self.link = nn.Conv2d(2 * features, 2 * features, 1)
        self.residual, self.skip = nn.Conv2d(features, features, 1), nn.Conv2d(features, features, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        down = self.vertical(v)
        gated = _gate(self.horizontal(h) + self.link(down))
        residual = self.residual(gated)
        return _gate(down), residual if self.first else h + residual, self.skip(gated)


class PlainGated(nn.Module):
    """Input [N, 2, H, W] (a constant 1 and the scaled pixel) → logits [N, K, H, W]."""

    layers: Modules
    out: Modules

    def __init__(self, layers: int, features: int, outputs: int):
        super().__init__()
        self.layers = nn.ModuleList(
            PlainLayer(2 if i == 0 else features, features, 7 if i == 0 else 3, i == 0) for i in range(layers)
        )
        self.out = nn.Sequential(
            nn.ReLU(), nn.Conv2d(features, features, 1), nn.ReLU(), nn.Conv2d(features, outputs, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        v = h = x
        skips: Tensor | float = 0.0
        for layer in self.layers:
            v, h, skip = layer(v, h)
            skips = skips + skip
        return self.out(skips)

    @torch.no_grad()
    def take_weights(self, model: ImageModel) -> None:
        """Become the same function as our one-channel Gated PixelCNN."""
        ours: Any = model.network
        for plain, layer in zip(self.layers, ours.layers, strict=True):
            first = plain.first
            half = plain.vertical.kernel_size[0] // 2
            plain.vertical.weight.zero_()
            # Ours is shifted once, in front; theirs looks up by itself in the first layer.
            plain.vertical.weight[:, :, : half + (0 if first else 1)] = layer.down.weight
            plain.vertical.bias.copy_(layer.down.bias)
            plain.horizontal.weight.zero_()
            plain.horizontal.weight[:, :, 0, :half] = layer.left.before
            if not first:
                plain.horizontal.weight[:, :, 0, half] = layer.left.centre
            plain.horizontal.bias.copy_(layer.left.bias)
            plain.link.weight.copy_(layer.link.weight[..., None, None])
            plain.link.bias.copy_(layer.link.bias)
            features = plain.skip.out_channels
            mix, bias = layer.mix.centre, layer.mix.bias
            if not layer.last:
                plain.residual.weight.copy_(mix[:features, :, None, None])
                plain.residual.bias.copy_(bias[:features])
            plain.skip.weight.copy_(mix[-features:, :, None, None])
            plain.skip.bias.copy_(bias[-features:])
        for plain, conv in ((self.out[1], ours.out[1]), (self.out[3], ours.out[3])):
            plain.weight.copy_(conv.centre[..., None, None])
            plain.bias.copy_(conv.bias)


def _gate(x: Tensor) -> Tensor:
    content, gate = x.chunk(2, 1)
    return torch.tanh(content) * torch.sigmoid(gate)
