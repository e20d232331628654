"""When there is not enough memory for a training step: which batch would fit."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

UNCLEAR = "could not create a "  # primitive, or memory object: oneDNN says so of lack of memory, and of other things
WORDS = ("not enough memory: you tried to allocate", "can't allocate memory", "out of memory", UNCLEAR)


def out_of_memory(error: BaseException) -> bool:
    """On any device: the CPU's allocator raises a plain RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)


def largest_that_runs(attempt: Callable[[int], None], below: int) -> int:
    """The largest power of two under `below` for which `attempt` does not run out of memory; 0 if there is none."""
    size = 1 << (below - 1).bit_length() >> 1 if below > 1 else 0
    gc.collect()
    while size:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(size)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            size //= 2
        else:
            return size
    return 0


def advice(asked: int, fits: int) -> str:
    if not fits:
        return (
            f"There is not enough memory for a step of {asked} images, nor for one of a single image: take a smaller "
            "model, or --recompute."
        )
    return (
        f"There is not enough memory for a step of {asked} images; one of {fits} was tried and fits: start a new run "
        f"with --batch-size {fits} (--recompute needs less memory too)."
    )
