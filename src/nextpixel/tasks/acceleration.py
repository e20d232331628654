"""What makes training steps cheaper where the machine is made for it: bfloat16, torch.compile, recomputation.

None of it changes what is saved: weights keep their names and their 32 bits.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nextpixel.errors import UserError, warn
from nextpixel.image_model import ImageModel
from nextpixel.model import Model
from nextpixel.native import processor_features

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
BFLOAT16_FEATURES = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names them on x86 and on ARM


def accelerator(device: str) -> str:
    """What a training runs on: "auto" is a CUDA GPU where there is one, else the CPU. It is never mps, on which nothing
    has been tried."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_bfloat16(device: str) -> None:
    """UserError unless the device computes in bfloat16 itself: elsewhere it is emulated, many times slower."""
    kind = accelerator(device.partition(":")[0])
    if kind == "cuda":
        if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False):
            return
        raise UserError("This GPU does not compute in bfloat16: leave precision at 32.")
    if kind == "mps":
        raise UserError("Training in bfloat16 is for CUDA GPUs and some CPUs, not for mps: leave precision at 32.")
    if not BFLOAT16_FEATURES & set(processor_features().split()):
        raise UserError("This CPU does not compute in bfloat16: leave precision at 32.")


def keep_freed_memory() -> None:
    """Let this process keep what a step frees for the next one. By default glibc hands large arrays back to the system,
    which clears them page by page when they are asked for again. Elsewhere nothing is done."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc takes
    mallopt(TRIM_THRESHOLD, 2**31 - 1)


@contextlib.contextmanager
def recomputing(model: Model, wanted: bool) -> Iterator[None]:
    """Within, backward passes keep only what blocks hand on."""
    parts = [part for part in model.modules() if isinstance(part, Model)]
    for part in parts:
        part.recompute = wanted
    try:
        yield
    finally:
        for part in parts:
            part.recompute = False


@contextlib.contextmanager
def compiled(model: Model, wanted: bool) -> Iterator[None]:
    """Within, calls of the model's networks may be compiled; see `try_compiled`."""
    if not wanted:
        yield
        return
    import torch._dynamo  # takes a second or two

    # What cannot be compiled later, such as another shape, is run as it is written.
    with torch._dynamo.config.patch(suppress_errors=True):
        try:
            yield
        finally:
            _undo(model)


def try_compiled(model: Model, loss: Callable[[], Tensor]) -> bool:
    """Compile the model's networks, on the device where they are, by one step back from `loss`. If that fails, warn and
    leave all as it was. Neither gradients nor random numbers are changed."""
    # In place: parameters keep their names, and copies of the model are not compiled.
    for network in _networks(model):
        network.compile()
    devices = [model.like().device] if model.like().is_cuda else []
    try:
        with torch.random.fork_rng(devices=devices), torch._dynamo.config.patch(suppress_errors=False):
            torch.autograd.grad(loss(), [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    except Exception as error:
        _undo(model)
        why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        warn(f"torch.compile does not work here ({why[:200]}): training goes on without.")
        return False
    return True


def _networks(model: Model) -> list[torch.nn.Module]:
    return [part.network for part in model.modules() if isinstance(part, ImageModel)]


def _undo(model: Model) -> None:
    for network in _networks(model):
        network._compiled_call_impl = None
