"""The model families, one a file. Importing this package registers them."""

from nextpixel.networks import (
    diagonal_bilstm,
    gated_pixelcnn,
    local,
    made,
    nade,
    pixelcnn,
    pixelcnnpp,
    pixelsnail,
    row_lstm,
)
from nextpixel.networks.network import Condition, Family, Network, families, family, register, unregister

__all__ = [
    "Condition",
    "Family",
    "Network",
    "diagonal_bilstm",
    "families",
    "family",
    "gated_pixelcnn",
    "local",
    "made",
    "nade",
    "pixelcnn",
    "pixelcnnpp",
    "pixelsnail",
    "register",
    "row_lstm",
    "unregister",
]
