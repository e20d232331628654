"""The pixel work of a whole diagonal without a Python call for each of its operations: as replay.py, for a `Wave`.

All pixels of a diagonal do the same, and so do all diagonals: one recording a channel group, confirmed on every
diagonal of a small canvas. A number's place is told by stream, by how many diagonals ago and how many rows above.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextpixel.causal import Stream, Wave, WaveMemory
from nextpixel.replay.learning import Learned, function_for, learned
from nextpixel.replay.recording import Place, Recorder, Recording, packed, storage_of


class WaveReplay:
    """The pixel work of `network` for the pictures of one memory."""

    def __init__(self, network: Any, memory: WaveMemory):
        self.network = network
        self._function = function_for(memory.like)
        self._learned: Learned | None = None if self._function is None else learned(network, memory.like, _learn)
        self._programs: dict[int, _Program] = {}
        if self._learned is not None and self._learned.recordings:
            for owner, times, features, above, top in self._learned.more:
                memory.stream(owner, times, features, above, top)

    def pixels(self, contexts: list[Tensor], run: Wave) -> Tensor:
        """What network.pixels gives on the run's diagonal."""
        recording = self._learned.recordings.get(run.group) if self._learned else None
        if recording is None:
            result: Tensor = self.network.pixels(None, contexts, run)
            return result
        program = self._programs.get(run.group)
        if program is None:
            program = self._programs[run.group] = _Program(recording, run.memory)
        return program.run(self._function, contexts, run)


class _WaveRecorder(Recorder):
    """Of one diagonal."""

    def __init__(self, run: Wave, contexts: list[Tensor]):
        super().__init__((run.last - run.first + 1) * run.memory.n)
        self.run = run
        self.streams = {storage_of(stream.data): (owner, stream) for owner, stream in run.memory.streams.items()}
        self.contexts = {storage_of(context): number for number, context in enumerate(contexts)}

    def remembered(self, storage: int, x: Tensor) -> Place | None:
        offset = int(x.storage_offset())
        if storage in self.contexts:
            return Place(("context", self.contexts[storage]), 0, offset, x.stride(0))
        if storage not in self.streams:
            return None
        owner, stream = self.streams[storage]
        slot, rest = divmod(offset, stream.data.stride(0))
        row, feature = divmod(rest, stream.data.stride(1))
        back = (self.run.time - slot) % stream.times
        return Place(("stream", owner, back, stream.above + self.run.first - row), 0, feature, stream.features)


def _learn(network: Any, like: Tensor) -> tuple[dict[Any, Recording], Any]:
    """One recording a channel group, if all diagonals are alike; and the streams that there must be."""
    slope = network.slope
    memory = WaveMemory(like, 2, 4, 2 * slope + 1, slope)
    source = network.input_stream(memory)
    condition = None if network.condition is None else like.new_zeros(2, 1, 1, network.condition)
    run = Wave(memory)
    whole = network.rows(None, condition, run)
    ends = network.inputs.ends()
    found: dict[Any, Recording] = {}
    with torch.no_grad():
        for time in range(memory.steps):
            run.at(time)
            contexts = run.contexts(whole)
            for run.group, end in enumerate(ends):
                if time == 0:
                    network.pixels(None, contexts, run)
                else:
                    with _WaveRecorder(run, contexts) as recorder:
                        recording = recorder.finish(network.pixels(None, contexts, run))
                    if not found.setdefault(run.group, recording).same_as(recording):
                        return {}, None
                start = ends[run.group - 1] if run.group else 0
                source.write(run, start, like.new_ones((run.last - run.first + 1) * 2, end - start))
    made = [(owner, s.times, s.features, s.above, s.top) for owner, s in memory.streams.items()]
    return found, made


class _Program:
    """A recording, ready to be run on one memory."""

    def __init__(self, recording: Recording, memory: WaveMemory):
        self.recording, self.memory = recording, memory
        if recording.result.home != ("made",):
            raise ValueError("the result of a step must be a new array")
        longest = min(memory.height, -(-memory.width // memory.slope)) * memory.n  # samples of a diagonal
        self.made = memory.like.new_zeros(recording.temporaries * longest)
        homes: dict[Any, int] = {}
        rows: list[tuple[int, int, int, int, int, int, int]] = []  # address, times, slot and row size, back, up, above
        self.contexts: list[tuple[int, int]] = []  # role, number
        size = memory.like.element_size()

        def role(place: Place) -> int:
            home = place.home
            if home[0] == "constant":
                home = (home[0], recording.constants[home[1]].data_ptr())
            if home in homes:
                return homes[home]
            number = homes[home] = len(homes)
            entry = (0, 1, 0, 0, 0, 0, 0)
            if home[0] == "made":
                entry = (self.made.data_ptr(), *entry[1:])
            elif home[0] == "constant":
                entry = (home[1], *entry[1:])
            elif home[0] == "context":
                self.contexts.append((number, home[1]))
            else:
                _, owner, back, up = home
                stream = memory.streams[owner]
                slot, row = (size * stream.data.stride(dim) for dim in (0, 1))
                entry = (stream.data.data_ptr(), stream.times, slot, row, back, up, stream.above)
            rows.append(entry)
            return number

        numbers = [packed(operation, role) for operation in recording.operations]
        self.operations, self.count = np.array(numbers, np.int64), len(numbers)
        self.address, self.times, self.slots, self.rows, self.back, up, above = np.array(rows, np.int64).T.copy()
        self.lift = above - up
        self.zeros = np.zeros(len(rows), np.int64)
        self.written: list[tuple[Stream, int]] = []
        for operation in recording.operations:
            place = operation.places[0]
            assert place is not None
            if place.home[0] == "stream":
                self.written.append((memory.streams[place.home[1]], place.offset + operation.columns))

    def run(self, function: Any, contexts: list[Tensor], run: Wave) -> Tensor:
        n, time = (run.last - run.first + 1) * self.memory.n, run.time
        bases = self.address + (time - self.back) % self.times * self.slots + (run.first + self.lift) * self.rows
        for number, context in self.contexts:
            bases[number] = contexts[context].data_ptr()
        zeros = self.zeros.ctypes.data
        function(
            self.operations.ctypes.data,
            self.count,
            bases.ctypes.data,
            zeros,
            zeros,
            zeros,
            len(bases),
            0,
            n,
            torch.get_num_threads(),
        )
        for stream, end in self.written:
            stream.filled[time % stream.times] = end
        place = self.recording.result
        return self.made[place.block * n + place.offset :].as_strided((n, self.recording.columns), (place.stride, 1))
