"""What is known of networks' steps, kept as long as their weights stay what they are."""

from __future__ import annotations

import threading
import weakref
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nextpixel.replay.native import kernels
from nextpixel.replay.recording import Recording

TYPES = {torch.float32: "float", torch.float64: "double"}
Learn = Callable[[Any, Tensor], tuple[dict[Any, Recording], Any]]


class Learned(NamedTuple):
    """Recordings by class of positions, of those classes that can be replayed, and what else their user needs."""

    signature: tuple[Any, ...]
    recordings: dict[Any, Recording]
    more: Any


_of_network: weakref.WeakKeyDictionary[nn.Module, dict[Learn, Learned]] = weakref.WeakKeyDictionary()
_learning = threading.Lock()


def function_for(like: Tensor) -> Callable[..., None] | None:
    """The compiled function for tensors like this one; None where there is none."""
    return kernels().get(TYPES.get(like.dtype, "")) if like.device.type == "cpu" else None


def learned(network: Any, like: Tensor, learn: Learn) -> Learned | None:
    """What `learn` says of the network with the weights that it has now; None where a change would not be seen."""
    try:
        weights = tuple((p.data_ptr(), p._version, _sum(p)) for p in (*network.parameters(), *network.buffers()))
    except RuntimeError:  # inference tensors keep no version
        return None
    signature = (like.dtype, network.training, *weights)
    with _learning:
        known = _of_network.setdefault(network, {})
        found = known.get(learn)
        if found is None or found.signature != signature:
            try:
                found = Learned(signature, *learn(network, like))
            except Exception:  # a network that does not run on a small canvas is run as it is
                found = Learned(signature, {}, None)
            known[learn] = found
    return found


def _sum(x: Tensor) -> int:
    """A checksum of what is in x: its version says nothing of changes that were made through `x.data`."""
    return zlib.crc32(x.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
