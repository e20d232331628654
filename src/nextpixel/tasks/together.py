"""What the processes of one training say to each other, and the trainer's strategy that brings them together.

Gradients are the strategy's business. The rest goes through `Together`: sums of figures, and agreements, without which
one process could stop or save while another one waits for it for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, distributed

from nextpixel.errors import UserError
from nextpixel.model import Model
from nextpixel.tasks.train import Interrupted

LOST = ("gloo", "NCCL", "Connection closed", "Connection reset")  # in errors of the communication
PATIENCE = 10.0  # seconds for the other processes of this machine to end by themselves after an error here


def strategy(processes: int) -> str | DDPStrategy:
    """The trainer's strategy for so many processes in all."""
    if processes == 1:
        return "auto"
    # Every parameter of every family has a gradient in every step, and no buffer changes while training.
    return DDPStrategy(find_unused_parameters=False, broadcast_buffers=False)


class Together:
    """The processes of one training; alone, it has nothing to do. Every process must make the same calls."""

    def __init__(self, world: int = 1):
        self.world = world
        self._group: Any = None
        if world > 1:
            _disconnect_at_exit()

    def sum(self, values: Tensor) -> Tensor:
        """Element by element over all processes; on the device, without waiting for it."""
        if self.world > 1:
            distributed.all_reduce(values, group=None if values.is_cuda else self._on_cpu())
        return values

    def largest(self, *values: int) -> list[int]:
        """Of each number the largest over all processes. Never waits for a device."""
        if self.world == 1:
            return list(values)
        agreed = torch.tensor(values)
        distributed.all_reduce(agreed, distributed.ReduceOp.MAX, group=self._on_cpu())
        return [int(value) for value in agreed]

    def share(self, model: Model) -> None:
        """Give the weights of the first process's model (on the CPU) to the others' models."""
        if self.world > 1:
            for tensor in model.state_dict().values():
                distributed.broadcast(tensor, 0, group=self._on_cpu())

    @contextlib.contextmanager
    def ending_all(self, trainer: pl.Trainer) -> Iterator[None]:
        """Within, if this process fails, the others end too: by themselves, where they have been told the same or miss
        this one; those that it started at last by force."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Interrupted):  # which all have agreed upon
                _disconnect()
            started: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
            until = time.monotonic() + PATIENCE
            while any(process.poll() is None for process in started) and time.monotonic() < until:
                time.sleep(0.05)
            for process in started:
                if process.poll() is None:
                    process.kill()
            if another_ended(error):
                raise UserError(
                    "Another process of this training has ended, so this one had to. What was saved last is whole: see "
                    "what the other one said, then go on with nextpixel train --resume and the run folder."
                ) from error
            raise

    def _on_cpu(self) -> Any:
        if self._group is None:  # the strategy's own group may be for GPUs only
            self._group = distributed.new_group(backend="gloo")
        return self._group


def another_ended(error: BaseException) -> bool:
    """Whether the error says that the communication broke off."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in LOST)


@functools.cache
def _disconnect_at_exit() -> None:
    # Not after each training: another one may follow in the same processes. Left to the end of the interpreter, a
    # thread of the communication may outlive it, and abort the process.
    atexit.register(_disconnect)


def _disconnect() -> None:
    if distributed.is_initialized():
        gc.collect()  # what holds groups of processes is part of cycles
        with contextlib.suppress(RuntimeError):
            distributed.destroy_process_group()


def seed_of_pass(seed: int, step: int, number: int, rank: int) -> None:
    """Set what dropout draws from in one of several processes: a function of the place in the training alone."""
    torch.manual_seed(int(np.random.default_rng([seed, step, number, rank, 4]).integers(2**63)))
