"""Trained models frozen to integers, so that what one machine encodes another decodes."""

from nextpixel.exact.coded import Coded
from nextpixel.exact.decoder import Decoder, DiagonalDecoder
from nextpixel.exact.freezing import freeze
from nextpixel.exact.model import ExactModel

__all__ = ["Coded", "Decoder", "DiagonalDecoder", "ExactModel", "freeze"]
