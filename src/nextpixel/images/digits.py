"""The digits that come with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from nextpixel.images.source import Part, Parts, load_npz


def embedded_folder() -> Path:
    """The folder of the package that holds ``digits.npz``."""
    return Path(str(files("nextpixel.images")))


def read_digits(folder: Path) -> Parts:
    """All 1,797 images [N,8,8] with values 0..16, and their labels."""
    arrays = load_npz(folder / "digits.npz")
    return {"all": Part(arrays["images"], arrays["labels"])}
