"""The pixel work of a Cursor without a Python call for each of its operations.

What a network does at a pixel is recorded on a small canvas, at two positions of every class of positions. Where both
recordings say the same, the compiled kernels do it at all such positions; everything else stays with the network: row
work, the first rows, networks whose steps differ from place to place or hold what the kernels do not know, other
devices, machines without a compiler. Nothing of a network's mathematics is written twice. Results differ from the
network's own by rounding, as they do between two batch sizes, and do not depend on what was stepped before.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextpixel.causal import Cursor, Memory, Ring
from nextpixel.replay.learning import Learned, function_for, learned
from nextpixel.replay.recording import PixelRecorder, Place, Recording, UnsupportedError, levels, packed, rings_of

LEAST_PIXELS = 100  # of a picture; smaller ones are done before a recording would pay


class Replay:
    """The pixel work of `network` for the pictures of one memory."""

    def __init__(self, network: Any, memory: Memory):
        self.network, self.memory = network, memory
        self._function = None
        self._learned: Learned | None = None
        if memory.height * memory.width >= LEAST_PIXELS:
            self._function = function_for(memory.like)
        if self._function is not None:
            self._learned = learned(network, memory.like, _learn)
        self._programs: dict[Any, _Program] = {}
        self._roles = _Roles(memory)
        self._row = self._begin = -1

    def fork(self, memory: Memory) -> Replay:
        """The same for a fork of the memory."""
        made = copy.copy(self)
        made.memory, made._programs, made._roles, made._row = memory, {}, _Roles(memory), -1
        return made

    def pixels(self, contexts: list[Tensor], run: Cursor) -> Tensor:
        """What network.pixels gives at the run's position."""
        if self._learned is not None and self._learned.recordings:
            period: int = self._learned.more
            if self._begin < 0:  # the first rows find out what row work there is, on every level
                self._begin = -(-run.row // period) * period + period
            recording = self._learned.recordings.get(place_class(run, period))
            if run.row >= self._begin and recording is not None:
                return self._program(recording, contexts, run).run(self._function, self._roles, run)
        result: Tensor = self.network.pixels(None, contexts, run)
        return result

    def _program(self, recording: Recording, contexts: list[Tensor], run: Cursor) -> _Program:
        if run.row != self._row:
            self._row = run.row
            _row_work(self.memory, run.row)
            self._roles.bind(contexts, run.row)
        program = self._programs.get(id(recording))
        if program is None:
            program = self._programs[id(recording)] = _Program(recording, self._roles, self.memory)
            self._roles.bind(contexts, run.row)
        return program


def applies(network: Any, like: Tensor, pixels: int) -> bool:
    """Whether steps of the network are replayed, in pictures of so many pixels."""
    if pixels < LEAST_PIXELS or function_for(like) is None:
        return False
    found = learned(network, like, _learn)
    return found is not None and bool(found.recordings)


def place_class(run: Cursor, period: int) -> tuple[int, int, int]:
    """Positions of a class are alike: those at the same place within the block of pixels that the lowest level holds;
    the first columns are classes of their own, and so is every channel group."""
    column = run.column if run.column < period else period + run.column % period
    return run.row % period, column, run.group


def _learn(network: Any, like: Tensor) -> tuple[dict[Any, Recording], int]:
    """Recordings by class of positions, of those classes that can be replayed; and the size of the lowest level's
    pixels. They are made of two samples, so that nothing passes that mixes them."""
    if not network.family.any_size:
        return {}, 1
    first: dict[Any, tuple[Recording | None, int, int]] = {}
    confirmed: dict[Any, Recording] = {}
    period = 1
    with torch.no_grad():
        side = 3
        memory, run = _canvas(network, like, side)
        condition = None if network.condition is None else like.new_zeros(2, 1, 1, network.condition)
        while run.row < side:
            if run.row == period and len(levels(memory)) > 1 and period == 1:  # now the levels are known
                period = 1 << (len(levels(memory)) - 1)
                side = 3 * period
                memory, run = _canvas(network, like, side)
            contexts = network.rows(None, condition, run)
            for run.column in range(side):
                for run.group in range(network.inputs.groups):
                    key = place_class(run, period)
                    before = first.get(key)
                    own_column = run.column < period
                    apart = before is not None and run.row != before[1] and (own_column or run.column != before[2])
                    if run.row < period or (before is not None and not apart) or key in confirmed:
                        network.pixels(None, contexts, run)
                    else:
                        recording = _recorded(network, memory, contexts, run)
                        if before is None:
                            first[key] = (recording, run.row, run.column)
                        elif recording is not None and before[0] is not None and before[0].same_as(recording):
                            confirmed[key] = recording
                    _write_input(network, memory, run)
            run.row += 1
    return confirmed, period


def _canvas(network: Any, like: Tensor, side: int) -> tuple[Memory, Cursor]:
    memory = Memory(like, 2, side, side)
    above, left, right = network.input_reach()
    memory.input = Ring(like, 2, above + 1, side, network.inputs.width, left, right)
    return memory, Cursor(memory)


def _write_input(network: Any, memory: Memory, run: Cursor) -> None:
    ends = network.inputs.ends()
    start = ends[run.group - 1] if run.group else 0
    memory.input.write(run.row, run.column, start, memory.like.new_ones(2, ends[run.group] - start))


def _recorded(network: Any, memory: Memory, contexts: list[Tensor], run: Cursor) -> Recording | None:
    _row_work(memory, run.row)
    try:
        with PixelRecorder(memory, contexts, run.row, run.column) as recorder:
            features = network.pixels(None, contexts, run)
            return recorder.finish(features)
    except UnsupportedError:
        network.pixels(None, contexts, run)  # to its end
        return None


def _row_work(memory: Memory, row: int) -> None:
    """Do now what pixel work would ask for at the first pixel of the row."""
    for depth, level in enumerate(levels(memory)):
        if row % (1 << depth) == 0:
            cursor = Cursor(level)
            cursor.row = row >> depth
            for owner, make in level.makers.items():
                level.once_a_row(owner, cursor, make)


class _Roles:
    """Where the things that recordings name lie now, as kernels.c wants it: for each role the address at column 0, the
    step from column to column, the level's depth, the stride from sample to sample."""

    def __init__(self, memory: Memory):
        self.memory = memory
        self.numbers: dict[Any, int] = {}
        self.bases = self.steps = self.depths = self.strides = np.zeros(0, np.int64)
        self.made = memory.like.new_zeros(0)
        self._held: list[Tensor] = []

    def number(self, home: Any) -> int:
        if home not in self.numbers:
            self.numbers[home] = len(self.numbers)
        return self.numbers[home]

    def need(self, temporaries: int) -> None:
        if self.made.numel() < temporaries * self.memory.n:
            self.made = self.memory.like.new_zeros(temporaries * self.memory.n)

    def bind(self, contexts: list[Tensor], row: int) -> None:
        """Find everything for this row."""
        count, found, size = len(self.numbers), levels(self.memory), self.memory.like.element_size()
        table = np.zeros((4, count), np.int64)
        self._held = []
        for home, number in self.numbers.items():
            kind = home[0]
            if kind == "made":
                entry = (self.made.data_ptr(), 0, 0, 0)
            elif kind == "constant":
                entry = (home[1], 0, 0, 0)
            elif kind == "ring":
                _, depth, owner, back = home
                ring = rings_of(found[depth])[owner]
                slot = ((row >> depth) + back) % ring.rows
                address = ring.data.data_ptr() + size * slot * ring.data.stride(1)
                entry = (address, size * ring.features, depth, ring.data.stride(0))
            else:
                x = contexts[home[1]] if kind == "context" else found[home[1]].row_results[home[2]][1]
                if x.stride(-1) != 1:
                    x = x.contiguous()
                self._held.append(x)
                depth = (
                    0 if x.shape[-2] == 1 else next(d for d, level in enumerate(found) if level.width == x.shape[-2])
                )
                entry = (x.data_ptr(), size * x.stride(-2) if x.shape[-2] > 1 else 0, depth, x.stride(0))
            table[:, number] = entry
        self.bases, self.steps, self.depths, self.strides = table


class _Program:
    """A recording, ready to be run on one memory."""

    def __init__(self, recording: Recording, roles: _Roles, memory: Memory):
        def role(place: Place) -> int:
            if place.home[0] == "constant":
                return roles.number(("constant", recording.constants[place.home[1]].data_ptr()))
            return roles.number(place.home)

        numbers = [packed(operation, role) for operation in recording.operations]
        self.operations = np.array(numbers, np.int64)
        self.count, self.n, self.recording = len(numbers), memory.n, recording
        if recording.result.home != ("made",):
            raise ValueError("the result of a step must be a new array")
        roles.need(recording.temporaries)
        self._made = roles.made
        self._features = self._view(roles.made)
        found = levels(memory)
        self.written: list[tuple[Ring, int, int, int]] = []  # ring, depth, row relative to the current, end
        for operation in recording.operations:
            place = operation.places[0]
            assert place is not None
            if place.home[0] == "ring":
                _, depth, owner, back = place.home
                ring = rings_of(found[depth])[owner]
                end = place.offset - ring.left * ring.features + operation.columns
                self.written.append((ring, depth, back, end))

    def _view(self, made: Tensor) -> Tensor:
        n, columns = self.n, self.recording.columns
        place = self.recording.result
        return made[place.block * n + place.offset :].as_strided((n, columns), (place.stride, 1))

    def run(self, function: Any, roles: _Roles, run: Cursor) -> Tensor:
        if roles.made is not self._made:
            self._made, self._features = roles.made, self._view(roles.made)
        function(
            self.operations.ctypes.data,
            self.count,
            roles.bases.ctypes.data,
            roles.steps.ctypes.data,
            roles.depths.ctypes.data,
            roles.strides.ctypes.data,
            len(roles.bases),
            run.column,
            self.n,
            torch.get_num_threads(),
        )
        for ring, depth, back, end in self.written:
            row = (run.row >> depth) + back
            slot = row % ring.rows
            ring.held[slot] = row
            ring.filled[slot] = (run.column >> depth) * ring.features + end
        return self._features
