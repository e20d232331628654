"""What is to be explained: a model or a family, and what its figures are shown on."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from nextpixel.image_model import ImageModel, build
from nextpixel.images import Split
from nextpixel.model import Model
from nextpixel.tasks.beginner import beginner

CANVAS = (11, 15)  # on which fields are shown
PIXEL = (7, 6)  # whose field is shown
SHALLOW: dict[str, dict[str, Any]] = {
    "pixelcnn": {"blocks": 3, "features": 8},
    "gated_pixelcnn": {"layers": 4, "features": 8},
    "row_lstm": {"layers": 1, "features": 8},
    "diagonal_bilstm": {"layers": 2, "features": 8},
    "pixelcnnpp": {"scales": 2, "blocks": 2, "features": 8, "dropout": 0.0},
    "local": {"layers": 2, "features": 8},
    "pixelsnail": {"blocks": 1, "layers": 2, "features": 8, "heads": 1},
    "made": {"hidden": 120},
}
"""Networks for figures: depth would only fill the picture, and what a family never sees stays unseen at any depth."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is to be explained: a model, or a family of which one is built with `options`; both empty: each figure's own
    choice. picture: uint8 [C, H, W] of 256 levels; images: of the model's data."""

    model: Model | None = None
    family: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    picture: Tensor | None = None
    images: Split | None = None
    layer: str = ""

    def network(self, default: str, shape: tuple[int, int, int] = (1, *CANVAS), **more: Any) -> ImageModel:
        """The model in question; else one of the family, or of the default one, for images of `shape`."""
        if isinstance(self.model, ImageModel):
            return self.model
        name = self.family or default
        head = "autoregressive_categorical" if shape[0] > 1 and name not in MASKING else None
        options = {**SHALLOW.get(name, {}), **(more if name == default else {}), **self.options}
        torch.manual_seed(0)
        return build(name, shape=shape, levels=4 if shape[0] > 1 else 2, head=head, **options).eval()

    def canvas(self, model: ImageModel) -> tuple[tuple[int, int], tuple[int, int]]:
        """A size on which the model runs, and a pixel in it."""
        if model.network.family.any_size:
            return CANVAS, PIXEL
        height, width = model.shape[1:]
        return (height, width), (height * 2 // 3, width // 2 - (width > 4))

    def trained(self) -> Model:
        """The model in question if it is one that was trained; else one that learns the digits for some seconds."""
        return (
            self.model
            if self.model is not None
            else beginner(self.family or "gated_pixelcnn", tuple(self.options.items()))
        )


MASKING = ("pixelcnn", "gated_pixelcnn", "row_lstm", "diagonal_bilstm", "local")
