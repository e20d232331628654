"""The states of every random generator that a step may draw from, as numbers that a checkpoint can hold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_states() -> list[dict[str, Any]]:
    """Of this process, or, where many train together, of each of them by rank (all must call this then)."""
    kind, keys, position, has_normal, normal = np.random.get_state(legacy=True)
    own: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (str(kind), [int(key) for key in keys], int(position), int(has_normal), float(normal)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }
    if not _together():
        return [own]
    every: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, own)
    return every


def restore_random_states(states: list[dict[str, Any]]) -> None:
    """What `random_states` gave; a process of a rank that there was not keeps what it has."""
    rank = torch.distributed.get_rank() if _together() else 0
    if rank >= len(states):
        return
    own = states[rank]
    version, keys, normal = own["python"]
    random.setstate((version, tuple(keys), normal))
    kind, numbers, *rest = own["numpy"]
    np.random.set_state((kind, np.array(numbers, dtype=np.uint32), *rest))
    torch.set_rng_state(own["torch"])
    if own["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(own["cuda"])


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
