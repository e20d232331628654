"""A trained network whose activations are those of its frozen twin, so that it can be trained to live with them.

Going forward every module gives what its twin on integers gives; going back, the gradient is that of the module in
floating point at these activations (the straight-through estimator: Bengio, Léonard and Courville 2013). So rounded
weights, bits left off, saturation and tables are all there, and none of them is written a second time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nextpixel.exact.embedding import ExactEmbedding
from nextpixel.exact.halves import ExactHalves
from nextpixel.exact.layers import IntegerWeights
from nextpixel.exact.model import ExactModel
from nextpixel.exact.pointwise import Pointwise
from nextpixel.exact.proof import rebuilt
from nextpixel.image_model import ImageModel

TWINS = (ExactEmbedding, Pointwise, IntegerWeights, ExactHalves)


def simulated(model: ImageModel, exact: ExactModel) -> ImageModel:
    """The model with the features of `exact`, which is the same model frozen, and the gradients of its own parameters.

    Its features, times 2^(bits of activations), are the integers of the frozen network. Its head is in floating point,
    but for weights of the head's layers; the tables of the frozen head are not simulated.
    """

    def replace(name: str, module: nn.Module) -> nn.Module | None:
        try:
            twin = exact.get_submodule(name)
        except AttributeError:  # the frozen model keeps it elsewhere
            return None
        return _Simulated(module, twin) if isinstance(twin, TWINS) else None

    made = rebuilt(model, replace)
    own, given = model.embed_condition, exact.embed_condition

    def embed_condition(condition: object, n: int, size: tuple[int, int]) -> Tensor | None:
        vector, integers = own(condition, n, size), given(condition, n, size)
        if vector is None or integers is None:
            return None
        return _straight_through(vector, integers / exact.formats.one)

    made.__dict__["embed_condition"] = embed_condition
    return made


class _Simulated(nn.Module):
    """One module, and the twin on integers whose results it gives."""

    def __init__(self, module: nn.Module, twin: Any):
        super().__init__()
        self.module = module
        self.__dict__["twin"] = twin  # not trained

    def forward(self, *inputs: Any) -> Tensor:
        twin: Any = self.__dict__["twin"]
        formats = twin.formats
        kind = getattr(torch, formats.form)

        def integers(x: Any) -> Any:
            if not isinstance(x, Tensor) or not x.is_floating_point():
                return x
            return x.detach().to(kind).mul(formats.one).add_(0.5).floor_()

        with torch.no_grad():
            given = twin(*map(integers, inputs)) / formats.one
        return _straight_through(self.module(*inputs), given)


def _straight_through(own: Tensor, given: Tensor) -> Tensor:
    """The values of `given`, with the gradient of `own`."""
    made: Tensor = _StraightThrough.apply(own, given)
    return made


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, given: Tensor) -> Tensor:
        return given.to(own.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
