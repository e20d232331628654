"""What the queue trains, in the order of its worth. The seconds add up to 18 minutes.

None of these settings has been run on a GPU: widths, batches and rates are estimates. Models stay below 3.7 million
parameters: weights in 32 bits then take less than 15 MiB, and a checkpoint less than 60.
"""

from __future__ import annotations

from typing import Any

from benchmarks.gpu_training import Recipe

FAST: dict[str, Any] = {"precision": "bf16", "ema": 0.999, "warmup_steps": 200, "weight_decay": 0.01}
CIFAR: dict[str, Any] = {**FAST, "batch_size": 256, "learning_rate": 2e-3, "flip": 0.5, "valid_images": 1000}
MNIST: dict[str, Any] = {**FAST, "batch_size": 256, "learning_rate": 3e-3, "valid_images": 2000}

LARGE = {"batch_size": 512}  # networks that go step by step keep a GPU waiting, whatever the batch


def _mnist(family: str, seconds: float, training: dict[str, Any] | None = None, **options: Any) -> Recipe:
    return Recipe("binarized_mnist", family, options, seconds, training={**MNIST, **(training or {})})


def _cifar(
    family: str, seconds: float, head: str | None, head_options: dict[str, Any] | None = None, **options: Any
) -> Recipe:
    # Timing the compiled steps takes a compilation, which a short training never earns back.
    may_compile = seconds > 200
    return Recipe("cifar10", family, options, seconds, head, CIFAR, may_compile, head_options or {})


RECIPES: dict[str, Recipe] = {
    "cifar10-pixelcnnpp": _cifar("pixelcnnpp", 450, "logistic_mixture", scales=2, blocks=2, features=72, dropout=0.1),
    "cifar10-gated_pixelcnn": _cifar("gated_pixelcnn", 210, None, layers=12, features=96, dropout=0.1),
    "cifar10-local": _cifar(
        "local", 90, "logistic_mixture", {"zoom": 16}, layers=8, features=128, neighbours=3, dropout=0.05
    ),
    "binarized_mnist-gated_pixelcnn": _mnist("gated_pixelcnn", 70, layers=12, features=64, dropout=0.2),
    "binarized_mnist-diagonal_bilstm": _mnist("diagonal_bilstm", 80, LARGE, layers=7, features=32, dropout=0.2),
    "binarized_mnist-pixelcnnpp": _mnist("pixelcnnpp", 30, scales=2, blocks=2, features=48, dropout=0.3),
    "binarized_mnist-pixelsnail": _mnist("pixelsnail", 30, blocks=3, layers=3, features=64, dropout=0.2),
    "binarized_mnist-row_lstm": _mnist("row_lstm", 30, LARGE, layers=7, features=48, dropout=0.2),
    "binarized_mnist-pixelcnn": _mnist("pixelcnn", 20, blocks=12, features=64, dropout=0.2),
    "binarized_mnist-local": _mnist("local", 20, layers=8, features=64, dropout=0.1),
    "binarized_mnist-multiscale": _mnist(
        "gated_pixelcnn", 20, scale=2, layers=8, features=48, small_options={"layers": 6, "features": 32}, dropout=0.2
    ),
    "binarized_mnist-nade": _mnist("nade", 15, {**LARGE, "precision": "32"}, hidden=500),
    "binarized_mnist-made": _mnist("made", 15, {"precision": "32"}, hidden=1500, direct=False, dropout=0.3),
}
