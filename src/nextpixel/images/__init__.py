"""What pixels are: values and levels, splits, data sets by name or from files, and pictures to look at."""

from nextpixel.images.load import dataset
from nextpixel.images.named import fetch, info, names, verify
from nextpixel.images.pictures import grid, read_picture, save_grid, to_uint8
from nextpixel.images.split import Dataset, Split

__all__ = [
    "Dataset",
    "Split",
    "dataset",
    "fetch",
    "grid",
    "info",
    "names",
    "read_picture",
    "save_grid",
    "to_uint8",
    "verify",
]
