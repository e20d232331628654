"""Trained models frozen to integers, so that what one machine encodes another decodes."""

from nextpixel.exact.decoder import Decoder
from nextpixel.exact.freezing import freeze
from nextpixel.exact.frequencies import frequencies
from nextpixel.exact.model import ExactModel

__all__ = ["Decoder", "ExactModel", "freeze", "frequencies"]
