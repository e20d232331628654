"""The Python batch files of CIFAR-10 and down-sampled ImageNet, read as data.

These files are pickles. A pickle is a program, so it is never run here: its instructions are listed with
``pickletools.genops`` and followed by a small machine that knows the instructions which such batches consist
of, builds only dicts, lists, tuples, numbers, strings and NumPy arrays, and refuses everything else. Nothing
that a file names is imported or called.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from nextpixel.errors import UserError
from nextpixel.images.source import Array

_RECONSTRUCT = {
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
}
_NDARRAY, _DTYPE, _ENCODE = "numpy ndarray", "numpy dtype", "_codecs encode"
_NAMES = _RECONSTRUCT | {_NDARRAY, _DTYPE, _ENCODE}
_DTYPE_CODES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"}

_VALUES = {  # the instruction carries the value
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("SHORT_BINSTRING", "BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_IGNORED = {"PROTO", "FRAME"}


class Batch(NamedTuple):
    """images: uint8 [N,size,size,3]; labels: int64 [N], as in the file."""

    images: Array
    labels: Array


class RefusedError(Exception):
    """The file is not one of the batches this module reads."""


@dataclass
class _Name:
    """A name of the file, as text."""

    text: str


@dataclass
class _DType:
    """What "dtype(code)" stands for."""

    code: str
    order: str = "<"


@dataclass
class _Ndarray:
    """What "_reconstruct(ndarray, ...)" stands for, filled by the BUILD that follows."""

    value: Array | None = None


def read_batch(path: Path, size: int) -> Batch:
    """One batch of 3 x size x size images. Raises UserError naming the file if it is anything else."""
    try:
        with path.open("rb") as file:
            content = parse(file)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: put it there.") from None
    except RefusedError as error:
        raise UserError(
            f"{path} is not a batch of images that can be read safely ({error}): use the published file."
        ) from None
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, MemoryError, OSError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}): fetch it again.") from error
    data, labels = content.get("data"), content.get("labels")
    return Batch(as_images(data, size, path), as_labels(labels, len(data) if isinstance(data, np.ndarray) else 0, path))


def as_images(data: Any, size: int, path: Path) -> Array:
    """[N,3*size*size] uint8, channel by channel, to [N,size,size,3]."""
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * size * size:
        raise UserError(f"{path} does not hold images of {size}x{size} under 'data': fetch it again.")
    return data.reshape(-1, 3, size, size).transpose(0, 2, 3, 1)


def as_labels(labels: Any, count: int, path: Path) -> Array:
    """A list or array of ``count`` integers to int64 [N]."""
    if isinstance(labels, list) and not all(type(label) is int for label in labels):
        labels = None  # never hand nested lists of unknown depth to NumPy
    array = np.asarray(labels if labels is not None else [])
    if array.shape != (count,) or (count and array.dtype.kind not in "iu"):
        raise UserError(f"{path} does not hold one label for each of its {count} images: fetch it again.")
    return array.astype(np.int64)


def parse(file: BinaryIO) -> dict[Any, Any]:
    """The dict that a batch file describes. Raises RefusedError, or a built-in error where the file is damaged."""
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(file):
        machine.step(opcode.name, argument)
    if len(machine.stack) != 1 or not isinstance(machine.stack[0], dict):
        raise RefusedError("it holds something other than one dict")
    return {key: _plain(value) for key, value in machine.stack[0].items()}


class _Machine:
    """A stack with marks and a memo, as the pickle format needs."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self._pop(int(name[-1]))))
        elif name == "TUPLE":
            self.stack.append(tuple(self._pop_to_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
            self._set_items(items)
        elif name == "GLOBAL":
            self._push_name(argument)
        elif name == "STACK_GLOBAL":
            self._push_name(" ".join(str(part) for part in self._pop(2)))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            self.stack.append(_reduce(function, arguments))
        elif name == "BUILD":
            (state,) = self._pop(1)
            _build(self.stack[-1], state)
        elif name != "STOP" and name not in _IGNORED:
            raise RefusedError(f"instruction {name}")

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("the stack is empty")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise RefusedError(f"items for something other than a {kind.__name__}")
        return self.stack[-1]

    def _set_items(self, items: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key.decode("latin-1") if isinstance(key, bytes) else str(key)] = value

    def _push_name(self, text: str) -> None:
        if text not in _NAMES:
            raise RefusedError(f"the name {text!r}"[:80])
        self.stack.append(_Name(text))


def _reduce(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise RefusedError("a call of something unknown")
    if function.text in _RECONSTRUCT and isinstance(arguments[0], _Name) and arguments[0].text == _NDARRAY:
        return _Ndarray()
    if function.text == _DTYPE and arguments[0] in _DTYPE_CODES:
        return _DType(arguments[0])
    if function.text == _ENCODE and isinstance(arguments[0], str) and arguments[1:] == ("latin1",):
        return arguments[0].encode("latin-1")  # how Python 3 writes bytes in the old protocol
    raise RefusedError(f"a call of {function.text}")


def _build(target: Any, state: Any) -> None:
    if isinstance(target, _DType) and isinstance(state, tuple):
        if state[1] not in ("<", ">", "|") or any(state[2:5]):
            raise RefusedError("a structured type")
        target.order = state[1]
    elif isinstance(target, _Ndarray) and isinstance(state, tuple):
        target.value = _array(*state)
    else:
        raise RefusedError("a state for something unknown")


def _array(version: Any, shape: Any, dtype: Any, fortran: Any, data: Any) -> Array:
    if not isinstance(dtype, _DType):
        raise RefusedError("an array of an unknown type")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise RefusedError("an array of an unknown shape")
    raw = data.encode("latin-1") if isinstance(data, str) else data
    kind = np.dtype(dtype.order + dtype.code)
    if not isinstance(raw, bytes) or len(raw) != math.prod(shape) * kind.itemsize:
        raise ValueError("an array of another size than it says")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, _Ndarray) else value
