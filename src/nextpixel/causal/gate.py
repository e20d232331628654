"""The gate of the Gated PixelCNN, and its compiled form for whole maps of features.

Left to PyTorch, the gate reads and writes its features several times, a dozen with its gradient, which keeps both
activations. Compiled (gate.c), it reads them once each way, and the gradient keeps only the input.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextpixel.native import library

SOURCE = Path(__file__).with_name("gate.c")
TYPES = {torch.float32: "float", torch.float64: "double"}


def gated(x: Tensor) -> Tensor:
    """tanh(first half) · sigmoid(second half) of the last dimension: [..., 2d] → [..., d]."""
    if x.dim() == 4 and x.is_cpu and x.dtype in TYPES and not torch.compiler.is_compiling() and _functions():
        result: Tensor = _Gate.apply(x) if x.requires_grad and torch.is_grad_enabled() else _compiled(x)
        return result
    return plain(x)


def plain(x: Tensor) -> Tensor:
    content, gate = x.chunk(2, -1)
    return torch.tanh(content) * torch.sigmoid(gate)


@functools.cache
def _functions() -> dict[str, Callable[..., None]]:
    """gate_float, gate_back_float and the same for double; empty if they cannot be had on this machine."""
    compiled = library(SOURCE)
    if compiled is None:
        return {}
    pointer, count, found = ctypes.c_void_p, ctypes.c_int64, {}
    for kind in TYPES.values():
        gate, back = getattr(compiled, f"gate_{kind}"), getattr(compiled, f"gate_back_{kind}")
        gate.argtypes, gate.restype = [pointer, pointer, count, count, ctypes.c_int], None
        back.argtypes, back.restype = [pointer] * 3 + [count] * 7 + [ctypes.c_int], None
        found[gate.__name__], found[back.__name__] = gate, back
    return found


def _compiled(x: Tensor) -> Tensor:
    x = x.contiguous()
    y = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
    run = _functions()[f"gate_{TYPES[x.dtype]}"]
    run(x.data_ptr(), y.data_ptr(), y.numel() // max(y.shape[-1], 1), y.shape[-1], torch.get_num_threads())
    return y


class _Gate(torch.autograd.Function):
    """x [N, H, W, 2d] → [N, H, W, d]"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _compiled(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated once more
            return torch.autograd.grad(plain(x), x, grad, create_graph=True)[0]
        x = x.contiguous()
        result = torch.empty_like(x)
        if grad.stride(3) != 1:
            grad = grad.contiguous()
        n, height, width, features = grad.shape
        run = _functions()[f"gate_back_{TYPES[x.dtype]}"]
        places = x.data_ptr(), grad.data_ptr(), result.data_ptr()
        run(*places, n * height, height, width, features, *grad.stride()[:3], torch.get_num_threads())
        return result
