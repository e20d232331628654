"""What the table of the families trains: networks of about equal numbers of parameters, one recipe a data set."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

import nextpixel as npx
from nextpixel.images import Dataset
from nextpixel.model import Model
from nextpixel.tasks.train import TrainOptions


@dataclasses.dataclass(frozen=True)
class Protocol:
    data: str
    models: dict[str, tuple[str, dict[str, Any]]]  # label: family, options
    training: TrainOptions
    equal_steps: int  # epochs after which the families are compared at equal steps
    cpu_minutes: float = 0.0  # 0: as many epochs as `training` says


DROPOUT = {"dropout": 0.3}
DIGITS = Protocol(
    "digits",
    {
        "pixelcnn": ("pixelcnn", {"blocks": 8, "features": 60, **DROPOUT}),
        "gated_pixelcnn": ("gated_pixelcnn", {"layers": 8, "features": 43, **DROPOUT}),
        "row_lstm": ("row_lstm", {"layers": 5, "features": 43, **DROPOUT}),
        "diagonal_bilstm": ("diagonal_bilstm", {"layers": 5, "features": 40, **DROPOUT}),
        "pixelcnnpp": ("pixelcnnpp", {"scales": 2, "blocks": 1, "features": 29, **DROPOUT}),
        "pixelsnail": ("pixelsnail", {"blocks": 2, "layers": 2, "features": 49, **DROPOUT}),
        "multiscale": (
            "gated_pixelcnn",
            {"scale": 2, "layers": 7, "features": 36, "small_options": {"layers": 4, "features": 24}, **DROPOUT},
        ),
        "made": ("made", {"hidden": 132, **DROPOUT}),
        "nade": ("nade", {"hidden": 246}),
    },
    TrainOptions(learning_rate=2e-3, schedule="constant", weight_decay=0.05, valid_images=0, sample_every=0, threads=1),
    equal_steps=50,
    cpu_minutes=20.0,
)
BINARIZED_MNIST = Protocol(
    "binarized_mnist",
    {
        "pixelcnn": ("pixelcnn", {"blocks": 5, "features": 20}),
        "gated_pixelcnn": ("gated_pixelcnn", {"layers": 5, "features": 15}),
        "row_lstm": ("row_lstm", {"layers": 4, "features": 13}),
        "diagonal_bilstm": ("diagonal_bilstm", {"layers": 4, "features": 12}),
        "pixelcnnpp": ("pixelcnnpp", {"scales": 2, "blocks": 1, "features": 8, "dropout": 0.0}),
        "pixelsnail": ("pixelsnail", {"blocks": 1, "layers": 2, "features": 19, "heads": 1, "keys": 16, "values": 32}),
        "multiscale": (
            "gated_pixelcnn",
            {"scale": 2, "layers": 3, "features": 10, "small_options": {"layers": 3, "features": 8}},
        ),
        "made": ("made", {"hidden": 10, "direct": False}),
        "nade": ("nade", {"hidden": 10}),
        # Larger ones: the depth and width of the PixelCNN, and fully connected networks as wide as the literature's.
        "diagonal_bilstm, 5 layers of 20": ("diagonal_bilstm", {"layers": 5, "features": 20}),
        "nade, 32 hidden": ("nade", {"hidden": 32}),
        "made, 500 hidden": ("made", {"hidden": 500, "direct": False}),
    },
    TrainOptions(epochs=8, learning_rate=2e-3, sample_every=0, threads=1),
    equal_steps=8,
)
PROTOCOLS = {protocol.data: protocol for protocol in (DIGITS, BINARIZED_MNIST)}


def made(protocol: Protocol, label: str, data: Dataset, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    family, options = protocol.models[label]
    build = npx.build_multiscale if "scale" in options else npx.build
    return build(family, like=data, **options)


def name_of(protocol: Protocol, label: str, seed: int) -> str:
    """Of a run and of its card."""
    return f"{protocol.data}-{label.replace(', ', '-').replace(' ', '-')}-{seed}"
