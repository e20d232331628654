"""The model families, one a file. Importing this package registers them."""

from nextpixel.networks import gated_pixelcnn, pixelcnn
from nextpixel.networks.network import Condition, Family, Network, families, family, register, unregister

__all__ = [
    "Condition",
    "Family",
    "Network",
    "families",
    "family",
    "gated_pixelcnn",
    "pixelcnn",
    "register",
    "unregister",
]
