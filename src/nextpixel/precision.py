"""Full precision under a caller's autocast: what is made in steps must be what the parallel pass says it is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")
DEVICES = ("cpu", "cuda")


def without_autocast(function: Callable[P, T]) -> Callable[P, T]:
    """The function, in the types of its tensors. In half precision steps would not add up to a whole pass, and compiled
    kernels, which are chosen by the type of the weights, would read other numbers than were written."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                with torch.autocast(device, enabled=False):
                    return call(*args, **kwargs)
        return function(*args, **kwargs)

    return call
