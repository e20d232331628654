"""Levels of half the size, sizes rounded up (PixelCNN++).

The lower level's position (I, J) belongs to the positions (2I, 2J), (2I, 2J+1), (2I+1, 2J), (2I+1, 2J+1) of the upper
one and is computed from what is known at the first of them; it holds for the others. What comes back up depends on the
parity of the row and the column, so it is picked anew at every position.
"""

from __future__ import annotations

from torch import Tensor, nn

from nextpixel.causal.runs import Cursor, Run


class Halve(nn.Module):
    """Every second row and column. In a Cursor it is used at even positions only, where it changes a row's columns."""

    def forward(self, x: Tensor, run: Run) -> Tensor:
        if isinstance(run, Cursor):
            return x[:, :, ::2] if x.dim() == 4 else x
        return x[:, ::2, ::2]


class DoubleRows(nn.Module):
    """A row stream of the lower level with 4·D features → the upper level with D: one for each of four positions."""

    def forward(self, low: Tensor, width: int, height: int, run: Run) -> Tensor:
        if isinstance(run, Cursor):
            return _interleave(low, width, 2)[:, run.row % 2 : run.row % 2 + 1]
        return _interleave(low, width, height)


class DoublePixels(nn.Module):
    """The same for a pixel stream."""

    def forward(self, low: Tensor, width: int, height: int, run: Run) -> Tensor:
        if isinstance(run, Cursor):
            features = low.shape[1] // 4
            return low.narrow(1, (run.row % 2 * 2 + run.column % 2) * features, features)
        return _interleave(low, width, height)


def _interleave(low: Tensor, width: int, height: int) -> Tensor:
    """[N, h, w, 4·D] → [N, height, width, D], features by row parity, then column parity."""
    n, rows, columns, features = low.shape
    parts = low.view(n, rows, columns, 2, 2, features // 4).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, 2 * rows, 2 * columns, features // 4)[:, :height, :width]
