"""The schedules in which a network's one forward pass is run, and the memory of those that go step by step.

`Whole` evaluates all positions in parallel: tensors are features-last, [N, H, W, D]. `Cursor` goes position by
position, like prefill and decode with a key/value cache: row work sees [N, 1, W, D] tensors (once a row), pixel work
[N, D] tensors (once a pixel, or once per channel group in channel-masked networks). What a layer must remember between
positions lies in a `Memory`, addressed by row, column and channel group. The run is an explicit argument of every
causal primitive, never state on a module: two threads or two forks of a picture may use the same weights. A third
schedule, for networks whose context allows it, is a Cursor over whole diagonals: diagonals.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nextpixel.causal.layout import Layout

T = TypeVar("T")


class UnwrittenError(RuntimeError):
    """A layer asked for a position that has not been computed: the network is not causal in this schedule."""


class Ring:
    """The last `rows` rows of one stream of features: [N, rows, left + W + right, D].

    Zero means padding, also above the first row. A slot knows which row it holds and how much of it was written;
    reading more raises `UnwrittenError`. Writing twice at one position is harmless.
    """

    def __init__(self, like: Tensor, n: int, rows: int, width: int, features: int, left: int = 0, right: int = 0):
        self.data = like.new_zeros(n, rows, left + width + right, features)
        self.rows, self.width, self.features, self.left, self.right = rows, width, features, left, right
        self.held = [slot - rows for slot in range(rows)]  # rows above the picture: all padding, all "written"
        self.filled = [width * features] * rows
        self._refresh()

    def _refresh(self) -> None:
        # One flat view a slot, so that a window of columns is a single narrow() without a copy.
        self.flat = [self.data[:, slot].flatten(1) for slot in range(self.rows)]

    def write(self, row: int, column: int, start: int, x: Tensor) -> None:
        """Store x [N, d] as features start..start+d of one position."""
        slot = row % self.rows
        if self.held[slot] != row:
            self.held[slot], self.filled[slot] = row, 0
        at = column * self.features + start
        if at > self.filled[slot]:
            raise UnwrittenError(f"row {row}, column {column}: the position before it was never written")
        self.flat[slot].narrow(1, self.left * self.features + at, x.shape[1]).copy_(x)
        self.filled[slot] = at + x.shape[1]

    def write_row(self, row: int, x: Tensor) -> None:
        """Store x [N, W, D] as one finished row."""
        slot = row % self.rows
        self.data[:, slot, self.left : self.left + self.width] = x
        self.held[slot], self.filled[slot] = row, self.width * self.features

    def write_last_rows(self, x: Tensor) -> None:
        """Store what is remembered of x [N, H, W, D], rows 0..H-1 (prefill)."""
        for row in range(max(0, x.shape[1] - self.rows), x.shape[1]):
            self.write_row(row, x[:, row])

    def window(self, row: int, column: int, taps: int, extra: int) -> Tensor:
        """The `taps` positions before `column` and the first `extra` features at it: a view [N, taps*D + extra]."""
        slot = row % self.rows
        first = (column - taps) * self.features
        length = taps * self.features + extra
        if first + length > 0 and (self.held[slot] != row or first + length > self.filled[slot]):
            raise UnwrittenError(f"row {row}: read beyond what was written, at column {column}")
        return self.flat[slot].narrow(1, self.left * self.features + first, length)

    def slots(self, first: int, last: int) -> list[int]:
        """Where the finished rows first..last are."""
        slots = []
        for row in range(first, last + 1):
            slot = row % self.rows
            if self.held[slot] != row or self.filled[slot] < self.width * self.features:
                raise UnwrittenError(f"row {row} was read before it was finished")
            slots.append(slot)
        return slots

    def block(self, first: int, last: int) -> Tensor:
        """Finished rows first..last with their padding, [N, last-first+1, left+W+right, D]."""
        slots = self.slots(first, last)
        if slots == list(range(slots[0], slots[0] + len(slots))):
            return self.data[:, slots[0] : slots[0] + len(slots)]
        return self.data[:, slots]

    def fork(self, indices: Tensor) -> Ring:
        copy = object.__new__(Ring)
        copy.__dict__.update(self.__dict__)
        copy.data = self.data[indices].clone()
        copy.held, copy.filled = list(self.held), list(self.filled)
        copy._refresh()
        return copy


class Forkable(Protocol):
    def fork(self, indices: Tensor) -> Forkable: ...


class Memory:
    """Everything a Cursor remembers for one batch of pictures being made.

    `input` is the ring of embedded symbols; a layer's own ring and its weights, laid out for stepping, are kept under
    the module itself. Weights are copied when first used: a Memory is short-lived and does not follow training.
    `order` (see `Whole`) must be set before anything is computed.
    """

    def __init__(self, like: Tensor, n: int, height: int, width: int):
        self.like, self.n, self.height, self.width = like, n, height, width
        self.rings: dict[Hashable, Ring] = {}
        self.plans: dict[Hashable, Any] = {}
        self.row_results: dict[nn.Module, tuple[int, Tensor]] = {}
        self.makers: dict[nn.Module, Callable[[Cursor], Tensor]] = {}  # how row_results are made
        self.stores: dict[nn.Module, Forkable] = {}  # what other layers keep, in a form of their own
        self.held: dict[nn.Module, list[Tensor]] = {}  # row work of a lower level, used for two rows of this one
        self.lower: Memory | None = None
        self.order: Tensor | None = None
        self.input: Ring

    def half(self) -> Memory:
        """The memory of the level of half the size, sizes rounded up."""
        if self.lower is None:
            self.lower = Memory(self.like, self.n, -(-self.height // 2), -(-self.width // 2))
        return self.lower

    def ring(self, owner: Hashable, rows: int, features: int, left: int = 0, right: int = 0) -> Ring:
        ring = self.rings.get(owner)
        if ring is None:
            ring = self.rings[owner] = Ring(self.like, self.n, rows, self.width, features, left, right)
        return ring

    def plan(self, owner: Hashable, make: Callable[[], T]) -> T:
        plan: T | None = self.plans.get(owner)
        if plan is None:
            plan = self.plans[owner] = make()
        return plan

    def once_a_row(self, owner: nn.Module, run: Cursor, make: Callable[[Cursor], Tensor]) -> Tensor:
        """Row work that is asked for by pixel work: done when it is first asked for in a row."""
        row, result = self.row_results.get(owner, (-1, self.like))
        if row != run.row:
            result = make(run)
            self.row_results[owner], self.makers[owner] = (run.row, result), make
        return result

    def numbers(self) -> int:
        """How many numbers are remembered, weights apart."""
        held = [x for rows in self.held.values() for x in rows] + [x for _, x in self.row_results.values()]
        held += [ring.data for ring in self.rings.values()]
        held += [x for store in self.stores.values() for x in vars(store).values() if isinstance(x, Tensor)]
        more = 0 if self.lower is None else self.lower.numbers()
        return sum(x.numel() for x in held) + more + (self.input.data.numel() if hasattr(self, "input") else 0)

    def fork(self, indices: Tensor) -> Memory:
        """The same pictures again, chosen by index [M]; the plans are shared, the rings are copied."""
        copy = Memory(self.like, len(indices), self.height, self.width)
        copy.plans = self.plans
        copy.rings = {owner: ring.fork(indices) for owner, ring in self.rings.items()}
        copy.row_results = {owner: (row, x[indices]) for owner, (row, x) in self.row_results.items()}
        copy.makers = dict(self.makers)
        copy.stores = {owner: store.fork(indices) for owner, store in self.stores.items()}
        copy.held = {owner: [x[indices] for x in held] for owner, held in self.held.items()}
        copy.lower = None if self.lower is None else self.lower.fork(indices)
        copy.order = self.order
        if hasattr(self, "input"):  # lower levels have none
            copy.input = self.input.fork(indices)
        return copy


class Whole:
    """All positions in parallel: training, scoring.

    With a `memory` it also fills in what a Cursor would have remembered after these rows (prefill).

    `height`: rows of the whole picture, where only its first ones are given; by default the memory's. None: all are.

    `order` [H*W] is for networks whose weights belong to pixels: position t (row-major) of the grid that they are given
    holds the model's pixel order[t]; None is the raster. By default it is the memory's.

    With `recompute`, backward passes find only the inputs of a network's blocks in memory and compute the rest anew
    (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    """

    def __init__(
        self,
        memory: Memory | None = None,
        order: Tensor | None = None,
        height: int | None = None,
        recompute: bool = False,
    ):
        self.memory, self.recompute = memory, recompute
        self.order = memory.order if order is None and memory is not None else order
        self.height = memory.height if height is None and memory is not None else height

    def here(self, context: Tensor, layout: Layout) -> Tensor:
        return context

    def row_of(self, condition: Tensor) -> Tensor:
        return condition

    def half(self) -> Whole:
        """The run of the level of half the size."""
        height = None if self.height is None else -(-self.height // 2)
        return Whole(None if self.memory is None else self.memory.half(), height=height, recompute=self.recompute)

    def block(self, part: Callable[..., T], *given: object) -> T:
        """part(*given, run): one of the parts between which `recompute` keeps what they hand on."""
        if not self.recompute or not torch.is_grad_enabled():
            return part(*given, self)
        result: T = checkpoint(part, *given, self, use_reentrant=False)
        return result

    def hold_rows(self, owner: nn.Module, make: Callable[[Run], list[Tensor]]) -> list[Tensor]:
        """Row work of the lower level."""
        made = make(self.half())
        if self.memory is not None:
            self.memory.held[owner] = [x[:, -1:] for x in made]
        return made

    def hold_pixel(self, owner: nn.Module, make: Callable[[Run], Tensor]) -> Tensor:
        """Pixel work of the lower level."""
        made = make(self.half())
        if self.memory is not None:
            self.memory.half().ring(owner, 1, made.shape[-1]).write_last_rows(made)
        return made


class Cursor:
    """One position after another. `row`, `column`, `group` are set by whoever steps."""

    def __init__(self, memory: Memory):
        self.memory = memory
        self.row = self.column = self.group = 0

    @property
    def order(self) -> Tensor | None:
        return self.memory.order

    def here(self, context: Tensor, layout: Layout) -> Tensor:
        """A row's result [N, 1, W or 1, D], at the current column and for the current channel group: [N, d]."""
        at = self.take(context)
        if layout.groups == 1:
            return at
        members = self.memory.plan(layout, lambda: [layout.members(g).to(at.device) for g in range(layout.groups)])
        return at.index_select(1, members[self.group])

    def take(self, context: Tensor) -> Tensor:
        """A row's result at the current column, [N, D]."""
        return context[:, 0, self.column if context.shape[2] > 1 else 0]

    def row_of(self, condition: Tensor) -> Tensor:
        """The current row of a condition [N, 1 or H, 1 or W, E]."""
        return condition if condition.shape[1] == 1 else condition[:, self.row : self.row + 1]

    def block(self, part: Callable[..., T], *given: object) -> T:
        return part(*given, self)

    def half(self) -> Cursor:
        """The run of the level of half the size, at the position that belongs to this one."""
        lower = Cursor(self.memory.half())
        lower.row, lower.column, lower.group = self.row // 2, self.column // 2, self.group
        return lower

    def hold_rows(self, owner: nn.Module, make: Callable[[Run], list[Tensor]]) -> list[Tensor]:
        """Row work of the lower level: done in even rows, and kept for the odd ones."""
        if self.row % 2 == 0:
            self.memory.held[owner] = make(self.half())
        return self.memory.held[owner]

    def hold_pixel(self, owner: nn.Module, make: Callable[[Run], Tensor]) -> Tensor:
        """Pixel work of the lower level: done at even positions of even rows, and kept for the three others."""
        lower = self.half()
        if self.row % 2 == 0 and self.column % 2 == 0:
            made = make(lower)
            lower.memory.ring(owner, 1, made.shape[-1]).write(lower.row, lower.column, 0, made)
        return lower.memory.rings[owner].window(lower.row, lower.column + 1, 1, 0)


Run = Whole | Cursor
