"""The LSTM cell, and its scan along the diagonals of an image with a backward pass of its own.

Left to autograd, the scan records some twenty small operations a diagonal and runs them back one by one, with a product
for the weights' gradient in each. Here the states are kept, the elementwise part is done in place, and the gradient of
the weights is one product at the end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CELL_LIMIT = 8.0


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """gates [..., 4d] (input, forget, output, content), cell [..., d] → hidden, cell."""
    take, keep, show, content = gates.chunk(4, -1)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(take) * torch.tanh(content)
    cell = cell.clamp(-CELL_LIMIT, CELL_LIMIT)
    return torch.sigmoid(show) * torch.tanh(cell), cell


def diagonal_scan(gates: Tensor, weight: Tensor, first_hidden: Tensor, first_cell: Tensor) -> Tensor:
    """States of LSTMs that come from the left neighbour and the one above, for all pixels: one step a diagonal.

    gates: the input's part [B, N, H, W, 4d]; weight: [B, 2d, 4d], of the left neighbour's hidden state (first d) and of
    the one above; first_hidden, first_cell: [B, d], left of every row. Above the first row is zero. → [B, N, H, W, d]
    """
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (gates, weight, first_hidden, first_cell))
    result: Tensor = _DiagonalScan.apply(gates, weight.to(gates.dtype), first_hidden, first_cell, keep)
    return result


class Diagonals:
    """The pixels sorted by diagonal: diagonal t holds the pixels (i, t - i) of rows i = first..end-1."""

    def __init__(self, height: int, width: int, device: torch.device):
        self.height, self.width = height, width
        spans = [(max(0, t - width + 1), min(height, t + 1)) for t in range(height + width - 1)]
        pixels = [i * width + t - i for t, (first, end) in enumerate(spans) for i in range(first, end)]
        self.order = torch.tensor(pixels, device=device)
        self.back = torch.empty_like(self.order)
        self.back[self.order] = torch.arange(len(pixels), device=device)
        self.steps: list[tuple[int, int, slice]] = []  # first, end, and where they lie among the sorted pixels
        at = 0
        for first, end in spans:
            self.steps.append((first, end, slice(at, at + end - first)))
            at += end - first

    def sort(self, x: Tensor) -> Tensor:
        """[B, N, H, W, D] → [B, pixels by diagonal, N, D]"""
        return x.flatten(2, 3).transpose(1, 2).index_select(1, self.order)

    def unsort(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.back).transpose(1, 2).unflatten(2, (self.height, self.width))


class _DiagonalScan(torch.autograd.Function):
    """Inside, tensors are [B, pixels by diagonal, N, ·].

    A gradient is what arrives from later steps times a factor that the forward pass knows: with s and g the activated
    gates and content, s(1-s) or 1-g² and the number it is multiplied with. The factors are kept, nothing else is.
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, weight: Tensor, first_hidden: Tensor, first_cell: Tensor, keep: bool
    ) -> Tensor:
        directions, n, height, width, _ = gates.shape
        d = weight.shape[1] // 2
        diagonals = Diagonals(height, width, gates.device)
        acts = diagonals.sort(gates)  # with `keep`, replaced by the factors of the gates, step by step
        states = acts.new_zeros(directions, height * width, n, 2 * d)  # hidden: of the left neighbour, of the one above
        states[..., :d] = first_hidden[:, None, None]
        hiddens = acts.new_empty(directions, height * width, n, d)
        cell = first_cell[:, None, None].expand(-1, height, n, -1).to(acts, copy=True)  # the newest of each row
        if keep:
            forgets, shows = torch.empty_like(hiddens), torch.empty_like(hiddens)
            free = torch.empty_like(hiddens, dtype=torch.bool)  # where the cell is within its limit
        for t, (first, end, here) in enumerate(diagonals.steps):
            act = acts[:, here]
            act.flatten(1, 2).baddbmm_(states[:, here].flatten(1, 2), weight)
            opened, content = torch.sigmoid(act[..., : 3 * d]), torch.tanh(act[..., 3 * d :])
            take, forget, show = opened.chunk(3, -1)
            before = cell[:, first:end]
            new = torch.addcmul(forget * before, take, content)
            if keep:
                torch.lt(new.abs(), CELL_LIMIT, out=free[:, here])
            shown = torch.tanh(new.clamp_(-CELL_LIMIT, CELL_LIMIT))
            hidden = torch.mul(show, shown, out=hiddens[:, here])
            if keep:
                torch.addcmul(opened, opened, opened, value=-1, out=act[..., : 3 * d])
                torch.addcmul(take, take * content, content, value=-1, out=act[..., 3 * d :])
                act[..., :d] *= content
                act[..., d : 2 * d] *= before
                act[..., 2 * d : 3 * d] *= shown
                torch.addcmul(show, hidden, shown, value=-1, out=shows[:, here])
                forgets[:, here] = forget
            cell[:, first:end] = new
            if t + 1 < len(diagonals.steps):
                later, stop, there = diagonals.steps[t + 1]
                following = states[:, there]  # rows later..stop-1
                most = min(end, stop)
                following[:, : most - later, :, :d] = hidden[:, later - first : most - first]
                begin = max(first + 1, later)
                following[:, begin - later :, :, d:] = hidden[:, begin - 1 - first : stop - 1 - first]
        if keep:
            ctx.save_for_backward(acts, forgets, shows, free, states, weight)
            ctx.diagonals = diagonals
        return diagonals.unsort(hiddens)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        factors, forgets, shows, free, states, weight = ctx.saved_tensors
        diagonals: Diagonals = ctx.diagonals
        onto = diagonals.sort(grad)
        directions, _, n, d = onto.shape
        gates = torch.empty_like(factors)
        # What later steps say of each row's newest states; row i lies at i, and a row below the last is never written.
        of_state = onto.new_zeros(directions, diagonals.height + 1, n, 2 * d)
        of_cell = onto.new_zeros(directions, diagonals.height, n, d)
        back = weight.transpose(1, 2)
        for first, end, here in reversed(diagonals.steps):
            hidden = onto[:, here] + of_state[:, first:end, :, :d]
            hidden += of_state[:, first + 1 : end + 1, :, d:]
            cell = of_cell[:, first:end]
            cell.addcmul_(hidden, shows[:, here]).mul_(free[:, here])
            gate, factor = gates[:, here], factors[:, here]
            torch.mul(factor[..., :d], cell, out=gate[..., :d])
            torch.mul(factor[..., d : 2 * d], cell, out=gate[..., d : 2 * d])
            torch.mul(factor[..., 2 * d : 3 * d], hidden, out=gate[..., 2 * d : 3 * d])
            torch.mul(factor[..., 3 * d :], cell, out=gate[..., 3 * d :])
            cell *= forgets[:, here]
            of_state[:, first:end] = torch.bmm(gate.flatten(1, 2), back).unflatten(1, (end - first, n))
        of_weight = torch.bmm(states.flatten(1, 2).transpose(1, 2), gates.flatten(1, 2))
        of_first = of_state[:, :-1, :, :d].sum((1, 2))
        return diagonals.unsort(gates), of_weight, of_first, of_cell.sum((1, 2)), None
