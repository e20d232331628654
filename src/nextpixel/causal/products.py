"""The products that layers are made of: convolutions of features-last tensors, and 1×1 ones."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolve(
    x: Tensor, kernel: Tensor, bias: Tensor | None, padding: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> Tensor:
    """conv2d of features-last tensors; padding is (left, right, top, bottom)."""
    if any(padding):
        x = _Padded.apply(x, padding) if x.requires_grad else F.pad(x, (0, 0, *padding))
    # A features-last tensor seen as [N, D, H, W] already lies in PyTorch's channels_last order: nothing is copied.
    y = F.conv2d(x.permute(0, 3, 1, 2), kernel, bias)
    return y.permute(0, 2, 3, 1)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear of features-last tensors. In training on a CPU it is a 1×1 convolution: the same product, but the bias
    costs no pass of its own over the features."""
    if x.requires_grad and x.dim() == 4 and x.is_cpu and x.dtype == torch.float32:
        return convolve(x, weight[:, :, None, None], bias)
    return F.linear(x, weight, bias)


class Pointwise(nn.Linear):
    """A product at every position alone, without channel groups: row work."""

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight, self.bias)


class _Padded(torch.autograd.Function):
    """F.pad of [N, H, W, D] by (left, right, top, bottom) zeros. Its gradient is a view, where F.pad's is a copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
        (_, height, width, _), (left, _, top, _) = x.shape, padding
        ctx.rows, ctx.columns = slice(top, top + height), slice(left, left + width)
        return F.pad(x, (0, 0, *padding))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad[:, ctx.rows, ctx.columns], None
