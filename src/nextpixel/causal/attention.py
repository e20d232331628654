"""Causal attention over the pixels of an image in raster order (Chen et al. 2018, "PixelSNAIL").

Keys and values may be made from the pixels themselves, so a position attends to strictly earlier ones. Before the first
stands a learned start: no position's soft-max runs over nothing, where some published code leaks the whole image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextpixel.causal.runs import Cursor, Memory, Run


class Positions(nn.Module):
    """Row and column of every position of x on [-1, 1]: [N, H, W, 2] in Whole, [N, 2] in a Cursor."""

    def forward(self, x: Tensor, run: Run) -> Tensor:
        if isinstance(run, Cursor):
            memory = run.memory
            here = [_place(run.row, memory.height), _place(run.column, memory.width)]
            return x.new_tensor([here]).expand(len(x), -1)
        _, rows, width, _ = x.shape
        height = run.height or rows  # first rows are not the whole picture
        down = x.new_tensor([_place(i, height) for i in range(rows)])
        across = x.new_tensor([_place(j, width) for j in range(width)])
        places = torch.stack(torch.meshgrid(down, across, indexing="ij"), -1)
        return places.expand(len(x), -1, -1, -1)


class CausalAttention(nn.Module):
    """Multi-head attention of every position over the start and all strictly earlier positions.

    query: features [.., inputs]. `memory_of`: a module that makes keys and values, [.., heads · (keys + values)], from
    the features and the network's input; it is part of this layer because in a Cursor the input of a position is known
    only when the next one is reached. Result: [.., heads · values].
    """

    def __init__(self, query: nn.Module, memory_of: nn.Module, heads: int, keys: int, values: int):
        super().__init__()
        self.query, self.memory_of = query, memory_of
        self.heads, self.keys, self.values = heads, keys, values
        self.start = nn.Parameter(torch.randn(heads * (keys + values)) * 0.1)
        self.input_reach = (1, 1, 0)

    def forward(self, x: Tensor, raw: Tensor | None, run: Run) -> Tensor:
        """x: features, raw: the network's input (None in a Cursor)."""
        if isinstance(run, Cursor):
            return self._step(x, run)
        assert raw is not None
        n, height, width, _ = x.shape
        made = self.memory_of(torch.cat([x, raw], -1)).flatten(1, 2)  # [N, H*W, heads*(keys+values)]
        if run.memory is not None:
            store = self._store(run.memory)
            store.write(1, *self._split(made))
        # Shifted by one, with the start in front, "strictly earlier" is the usual causal mask.
        shifted = torch.cat([self.start.expand(n, 1, -1), made[:, :-1]], 1)
        keys, values = self._split(shifted)
        attended = _attend(self._queries(x.flatten(1, 2)), keys, values)
        return attended.transpose(1, 2).flatten(2).unflatten(1, (height, width))

    def _step(self, x: Tensor, run: Cursor) -> Tensor:
        memory, width = run.memory, run.memory.width
        store, at = self._store(memory), run.row * width + run.column
        if store.filled == at:  # the position before is known by now
            assert store.features is not None
            row, column = divmod(at - 1, width)
            raw = memory.input.window(row, column + 1, 1, 0)
            made = self.memory_of(torch.cat([store.features, raw], -1))
            store.write(at, *self._split(made[:, None]))
        store.features = x
        keys, values = store.seen(at + 1)
        queries = self._queries(x[:, None]).flatten(0, 1) * self.keys**-0.5
        shares = torch.softmax(torch.bmm(queries, keys.mT), -1)
        return torch.bmm(shares, values).view(len(x), self.heads * self.values)

    def _queries(self, x: Tensor) -> Tensor:
        """[N, T, ·] → [N, heads, T, keys]"""
        made: Tensor = self.query(x)
        return made.unflatten(-1, (self.heads, self.keys)).transpose(1, 2)

    def _split(self, made: Tensor) -> tuple[Tensor, Tensor]:
        """[N, T, heads·(keys + values)] → keys [N, heads, T, keys], values [N, heads, T, values]"""
        both = made.unflatten(-1, (self.heads, self.keys + self.values)).transpose(1, 2)
        return both[..., : self.keys], both[..., self.keys :]

    def _store(self, memory: Memory) -> _Attended:
        store = memory.stores.get(self)
        if store is None:
            room = (memory.n, self.heads, memory.height * memory.width + 1)
            store = memory.stores[self] = _Attended(
                memory.like.new_zeros(*room, self.keys), memory.like.new_zeros(*room, self.values)
            )
            store.write(0, *self._split(self.start.detach().expand(memory.n, 1, -1)))
        assert isinstance(store, _Attended)
        return store


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention, [N, heads, T, ·]. Keys and values of different widths are filled up with zeros: PyTorch's fused
    kernels, which never hold all T × T weights, want them equal."""
    width, wanted = keys.shape[-1], values.shape[-1]
    more = wanted - width
    queries, keys = (F.pad(x, (0, max(more, 0))) for x in (queries, keys))
    values = F.pad(values, (0, max(-more, 0)))
    attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=width**-0.5)
    return attended[..., :wanted]


class _Attended:
    """Keys and values so far, [N, heads, H*W + 1, ·], the start first; and the features of the position being made."""

    def __init__(self, keys: Tensor, values: Tensor, filled: int = 0, features: Tensor | None = None):
        self.keys, self.values, self.filled, self.features = keys, values, filled, features

    def write(self, first: int, keys: Tensor, values: Tensor) -> None:
        """Those of positions from `first` on, [N, heads, T, ·]."""
        end = first + keys.shape[2]
        self.keys[:, :, first:end], self.values[:, :, first:end] = keys, values
        self.filled = end

    def seen(self, count: int) -> tuple[Tensor, Tensor]:
        """Of the start and the first positions, [N · heads, count, ·]: views, nothing is copied."""
        if count > self.filled:
            raise RuntimeError("attention to a position that has not been computed")
        return self.keys.flatten(0, 1)[:, :count], self.values.flatten(0, 1)[:, :count]

    def fork(self, indices: Tensor) -> _Attended:
        features = None if self.features is None else self.features[indices]
        return _Attended(self.keys[indices], self.values[indices], self.filled, features)


def _place(index: int, count: int) -> float:
    return 2 * index / (count - 1) - 1 if count > 1 else 0.0
