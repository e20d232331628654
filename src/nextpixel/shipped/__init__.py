"""Trained models that come with the package: a saved model's folder each, weights in half the bits.

`nextpixel.load`, and every command that takes a model, opens them by name, unless there is a folder of that name here.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def shipped() -> list[str]:
    """The names of the models in the package."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def shipped_folder(name: str) -> Path | None:
    """The folder of the model of that name, or None."""
    return FOLDER / name if name in shipped() else None
