"""Trained models frozen to integers, so that what one machine encodes another decodes."""

from nextpixel.exact.coded import Coded
from nextpixel.exact.decoder import Decoder, DiagonalDecoder
from nextpixel.exact.freezing import TOLERATED, check_form, cost_percent, freeze, frozen, nats
from nextpixel.exact.model import ExactModel, check_freezable
from nextpixel.exact.simulated import simulated

__all__ = [
    "TOLERATED",
    "Coded",
    "Decoder",
    "DiagonalDecoder",
    "ExactModel",
    "check_form",
    "check_freezable",
    "cost_percent",
    "freeze",
    "frozen",
    "nats",
    "simulated",
]
