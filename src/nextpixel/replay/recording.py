"""What the pixel work of one position does, written down so that it can be done again at the others.

A recording names every number by where it lives, never by address: in a ring, relative to the current row and column;
in a result of row work, relative to the column; in a weight; or among the numbers made on the way. So a recording of
one position is right for every other at which the network does the same, and for any number of pictures.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nextpixel.causal import Memory, Ring

KINDS = [
    "copy", "tanh", "sigmoid", "relu", "elu", "negate", "add", "multiply", "subtract", "clamp", "scale", "pick",
    "product",
]  # fmt: skip
KIND = {name: number for number, name in enumerate(KINDS)}
aten = torch.ops.aten
UNARY = {
    aten.tanh.default: "tanh",
    aten.sigmoid.default: "sigmoid",
    aten.relu.default: "relu",
    aten.neg.default: "negate",
}
BINARY = {aten.add.Tensor: "add", aten.mul.Tensor: "multiply", aten.sub.Tensor: "subtract"}
VIEWS = {
    aten.alias.default, aten.detach.default, aten.expand.default, aten.permute.default, aten.select.int,
    aten.slice.Tensor, aten.split.Tensor, aten.split_with_sizes.default, aten.t.default, aten.transpose.int,
    aten.unsqueeze.default, aten.squeeze.dim, aten.view.default, aten._unsafe_view.default,
}  # fmt: skip


class UnsupportedError(Exception):
    """The network does something that cannot be replayed."""


class Place(NamedTuple):
    """Where an array [n, m] begins: in what; for a number made on the way, after how many others of every sample; how
    far from there, or from the place of the current row and column; its stride from sample to sample (-1: that of the
    thing it lies in)."""

    home: tuple[Any, ...]
    block: int
    offset: int
    stride: int


class Operation(NamedTuple):
    kind: str
    columns: int
    inner: int
    constants: tuple[float, float]
    places: tuple[Place | None, ...]  # out, a, b, c


class Recording(NamedTuple):
    operations: tuple[Operation, ...]
    result: Place
    columns: int
    constants: dict[int, Tensor]  # by number, in the order of first use
    temporaries: int  # numbers made on the way, a sample

    def same_as(self, other: Recording) -> bool:
        if self.operations != other.operations or self.result != other.result:
            return False
        pairs = zip(self.constants.values(), other.constants.values(), strict=True)
        return all(a.data_ptr() == b.data_ptr() for a, b in pairs)


class Recorder(TorchDispatchMode):
    """Runs what it records, for n samples."""

    def __init__(self, n: int):
        super().__init__()
        self.n = n
        self.operations: list[Operation] = []
        self.made: dict[int, tuple[int, int]] = {}  # storage: first number of its temporary, columns
        self.constants: dict[int, Tensor] = {}
        self._numbers: dict[int, int] = {}
        self.temporaries = 0
        self._kept: list[Tensor] = []  # nothing is freed while recording, so no address is used twice

    def remembered(self, storage: int, x: Tensor) -> Place | None:
        """Where x lies if it is of the memory or of row work, whose storages begin at known addresses."""
        raise NotImplementedError

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import the compiler, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in VIEWS:
            return result
        self._kept += [t for t in (*args, result) if isinstance(t, Tensor)]
        if func in UNARY:
            self._add(UNARY[func], result, args[0])
        elif func in BINARY:
            if kwargs or not isinstance(args[1], Tensor) or args[0].shape != args[1].shape:
                raise UnsupportedError(str(func))
            self._add(BINARY[func], result, args[0], args[1])
        elif func is aten.addmm.default and not kwargs:
            self._product(result, args[1], args[2], args[0])
        elif func is aten.elu.default and all(value == 1 for value in args[1:]):
            self._add("elu", result, args[0])
        elif func is aten.rsub.Scalar and len(args) == 2:
            self._add("scale", result, args[0], constants=(-1.0, args[1]))
        elif func is aten.clamp.default and len(args) == 3:
            self._add("clamp", result, args[0], constants=(args[1], args[2]))
        elif func is aten.cat.default and result.dim() == 2 and (args[1:] or (0,))[0] in (1, -1):
            self._place(result, True)
            at = 0
            for part in args[0]:
                self._add("copy", result[:, at : at + part.shape[1]], part)
                at += part.shape[1]
        elif func is aten.copy_.default and args[0].shape == args[1].shape and args[0].dtype == args[1].dtype:
            self._add("copy", args[0], args[1])
        elif func is aten.index_select.default and args[1] == 1:
            place = self._constant(args[2])
            self._append("pick", result, (self._place(result, True), self._place(args[0]), place, None))
        else:
            raise UnsupportedError(str(func))
        return result

    def finish(self, features: Tensor) -> Recording:
        operations, result, size = reuse(self.operations, self._place(features), self.made)
        return Recording(tuple(operations), result, features.shape[1], self.constants, size)

    def _product(self, out: Tensor, a: Tensor, b: Tensor, c: Tensor) -> None:
        if not b.is_contiguous():
            raise UnsupportedError("a product with weights that are not contiguous")
        if c.dim() == 1:
            c = c.expand(self.n, -1)
        places = (self._place(out, True), self._place(a), self._constant(b), self._place(c))
        self._append("product", out, places, inner=a.shape[1])

    def _add(self, kind: str, out: Tensor, *inputs: Tensor, constants: tuple[float, float] = (0.0, 0.0)) -> None:
        places = (self._place(out, True), *(self._place(x) for x in inputs))
        self._append(kind, out, places, constants=constants)

    def _append(self, kind: str, out: Tensor, places: Any, inner: int = 0, constants: Any = (0.0, 0.0)) -> None:
        padded = (*places, *[None] * (4 - len(places)))
        self.operations.append(Operation(kind, out.shape[1], inner, (float(constants[0]), float(constants[1])), padded))

    def _place(self, x: Tensor, written: bool = False) -> Place:
        """Where x [n, m] lies; with `written`, storage that was never seen is a temporary's."""
        if x.dim() != 2 or x.shape[0] != self.n or (x.stride(1) != 1 and x.shape[1] > 1):
            raise UnsupportedError(f"an array of shape {list(x.shape)}, strides {x.stride()}")
        storage, offset = storage_of(x), int(x.storage_offset())
        place = self.remembered(storage, x)
        if place is not None:
            return place
        if storage in self.made:
            first, columns = self.made[storage]
            if not (self.n == 1 or x.stride(0) == columns) or offset + x.shape[1] > columns:
                raise UnsupportedError("a view across samples")
            return Place(("made",), first, offset, columns)
        if written:
            if not x.is_contiguous() and self.n > 1:
                raise UnsupportedError("a result that is not contiguous")
            whole = x.untyped_storage().nbytes() // x.element_size() // self.n
            self.made[storage] = (self.temporaries, whole)
            self.temporaries += whole
            return Place(("made",), self.made[storage][0], offset, whole)
        if self.n > 1 and x.stride(0) != 0:
            raise UnsupportedError("an array of unknown origin")
        return self._constant(x)

    def _constant(self, x: Tensor) -> Place:
        key = x.data_ptr()
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self.constants[self._numbers[key]] = x
        return Place(("constant", self._numbers[key]), 0, 0, 0)


class PixelRecorder(Recorder):
    """Of one position of a Cursor. `rings`, `rows`: from where a storage begins to what it is."""

    def __init__(self, memory: Memory, contexts: list[Tensor], row: int, column: int):
        super().__init__(memory.n)
        self.rings: dict[int, tuple[tuple[Any, ...], Ring, int, int]] = {}
        self.rows: dict[int, tuple[tuple[Any, ...], int]] = {}  # results of row work: home, step from column to column
        for depth, level in enumerate(levels(memory)):
            for owner, ring in rings_of(level).items():
                self.rings[storage_of(ring.data)] = (("ring", depth, owner), ring, row >> depth, column >> depth)
            for owner, (_, result) in level.row_results.items():
                self.rows[storage_of(result)] = (("row", depth, owner), _across(result, column >> depth))
        for number, context in enumerate(contexts):
            depth = next(d for d, level in enumerate(levels(memory)) if context.shape[-2] in (1, level.width))
            self.rows[storage_of(context)] = (("context", number), _across(context, column >> depth))

    def remembered(self, storage: int, x: Tensor) -> Place | None:
        offset = int(x.storage_offset())
        if storage in self.rings:
            home, ring, row, column = self.rings[storage]
            size = ring.data.stride(1)
            back = (row - offset // size) % ring.rows
            return Place((*home, -back), 0, offset % size - column * ring.features, -1)
        if storage in self.rows:
            home, across = self.rows[storage]
            return Place(home, 0, offset - across, -1)
        return None


def reuse(
    operations: list[Operation], result: Place, made: dict[int, tuple[int, int]]
) -> tuple[list[Operation], Place, int]:
    """The same operations with temporaries that lie where others are no longer needed, and how much room all take."""
    sizes = dict(made.values())
    last: dict[int, int] = {}
    for number, operation in enumerate(operations):
        for place in operation.places:
            if place is not None and place.home == ("made",):
                last[place.block] = number
    if result.home == ("made",):
        last[result.block] = len(operations)
    free: dict[int, list[int]] = {}
    moved: dict[int, int] = {}
    size = 0
    for number, operation in enumerate(operations):
        used = {place.block for place in operation.places if place is not None and place.home == ("made",)}
        for first in used - moved.keys():
            if free.get(sizes[first]):
                moved[first] = free[sizes[first]].pop()
            else:
                moved[first], size = size, size + sizes[first]
        for first in used:
            if last[first] == number:
                free.setdefault(sizes[first], []).append(moved[first])

    def move(place: Place | None) -> Place | None:
        if place is None or place.home != ("made",):
            return place
        return place._replace(block=moved[place.block])

    changed = [operation._replace(places=tuple(map(move, operation.places))) for operation in operations]
    final = move(result)
    assert final is not None
    return changed, final, size


def levels(memory: Memory) -> list[Memory]:
    """The memory and those of the smaller levels."""
    found = [memory]
    while found[-1].lower is not None:
        found.append(found[-1].lower)
    return found


def rings_of(memory: Memory) -> dict[Any, Ring]:
    own = dict(memory.rings)
    if hasattr(memory, "input"):
        own["input"] = memory.input
    return own


def storage_of(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _across(x: Tensor, column: int) -> int:
    """How far column `column` of row work [N, (1,) W or 1, D] lies from its beginning."""
    return int(x.storage_offset()) + (column * x.stride(-2) if x.shape[-2] > 1 else 0)


def packed(operation: Operation, role: Callable[[Place], int]) -> list[int]:
    """The operation as kernels.c reads it."""
    bits = struct.unpack("2q", struct.pack("2d", *operation.constants))
    numbers = [KIND[operation.kind], operation.columns, operation.inner, *bits]
    for place in operation.places:
        numbers += [-1, 0, 0, 0] if place is None else [role(place), place.block, place.offset, place.stride]
    return numbers
