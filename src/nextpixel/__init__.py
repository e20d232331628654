"""Exact-likelihood image models that predict the next pixel."""

from nextpixel.heads import heads
from nextpixel.image_model import ImageModel, build
from nextpixel.images import Dataset, Split, dataset
from nextpixel.networks import families
from nextpixel.saving import load
from nextpixel.stepping import Stepper
from nextpixel.version import __version__

__all__ = ["Dataset", "ImageModel", "Split", "Stepper", "__version__", "build", "dataset", "families", "heads", "load"]
