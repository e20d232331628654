"""What happens at one position alone. All of it goes through modules, so that a trained network can be converted
module for module (to integers, to intervals) without its blocks being written again.

Every module works on the last dimension and is the same in both schedules.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextpixel.causal.gate import gated


class Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Concat(nn.Module):
    """Stack features; the result has the pieces of x, then those of y."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y], -1)


class Split(nn.Module):
    """The two pieces of a layer with two."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.chunk(2, -1)
        return first, second


class Gate(nn.Module):
    """tanh(first piece) · sigmoid(second piece) (van den Oord et al. 2016b, equation 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return gated(x)


class LinearGate(nn.Module):
    """first piece · sigmoid(second piece) (PixelCNN++)."""

    def forward(self, x: Tensor) -> Tensor:
        content, gate = x.chunk(2, -1)
        return content * torch.sigmoid(gate)


class ConcatELU(nn.Module):
    """elu of x and of −x, stacked: twice the features (PixelCNN++)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(torch.cat([x, -x], -1))


class Dropout(nn.Dropout):
    """Nothing at all outside training: a Cursor calls it once a pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training and self.p else x


class ReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)


class Sigmoid(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


class Highway(nn.Module):
    """sigmoid(gate) · new + (1 − sigmoid(gate)) · old (gating over depth)."""

    def forward(self, gate: Tensor, new: Tensor, old: Tensor) -> Tensor:
        share = torch.sigmoid(gate)
        return share * new + (1 - share) * old
