"""What a model must beat: simple codes for the same test images, in bits/dim."""

from __future__ import annotations

import gzip
import lzma
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nextpixel.images.split import Dataset, Split
from nextpixel.tasks.codecs import png_bytes, strip

POSITION_WEIGHT = 8.0  # how many training images the pooled histogram counts for at each position
CHUNK = 1024  # images at a time: the indices of the histogram take 8 bytes a symbol


def baselines(data: Dataset) -> dict[str, float]:
    """Bits/dim (bits / (N C H W)) of the test split under codes that look at no context, and under general packers.

    uniform:      log2 K.
    pooled:       one histogram of all symbols of train, plus one for each level: it sums to 1, no value is impossible.
    per_position: a histogram for each (c,i,j) of train, to which the pooled one is added with the weight of
                  8 images: (n(v) + 8 pooled(v)) / (N + 8), again proper.
    gzip, xz:     all test images as one stream [N,C,H,W], one byte a symbol (little-endian pairs above 256 levels,
                  eight symbols a byte for 2 levels), at the highest setting.
    png:          all test images side by side in one picture (1 bit a pixel for 2 levels and one channel, else 8 bits
                  with the values as they are); absent where PNG cannot hold them: C not 1 or 3, or K > 256.

    The packers' figures include their headers, which weigh on small sets. No labels are coded.
    """
    test = data.test.images
    symbols = test.numel()
    stream = _as_bytes(test, data.levels)
    pooled, per_position = _marginals(data.train, data.test, data.levels)
    figures = {
        "uniform": math.log2(data.levels),
        "pooled": pooled,
        "per_position": per_position,
        "gzip": 8 * len(gzip.compress(stream, compresslevel=9, mtime=0)) / symbols,
        "xz": 8 * len(lzma.compress(stream, preset=9 | lzma.PRESET_EXTREME)) / symbols,
    }
    picture = strip(test, data.levels)
    if picture is not None:
        figures["png"] = 8 * png_bytes(picture) / symbols
    return figures


def _marginals(train: Split, test: Split, levels: int) -> tuple[float, float]:
    counts = _histograms(train, levels).astype(np.float64)  # [positions, K]
    tests = _histograms(test, levels)
    pooled = (counts.sum(axis=0) + 1) / (counts.sum() + levels)
    mixed = (counts + POSITION_WEIGHT * pooled) / (len(train) + POSITION_WEIGHT)
    # The code length depends on the test images only through how often each value stands at each position.
    bits_pooled = -(tests.sum(axis=0) * np.log2(pooled)).sum()
    bits_mixed = -(tests * np.log2(mixed)).sum()
    return float(bits_pooled / tests.sum()), float(bits_mixed / tests.sum())


def _histograms(split: Split, levels: int) -> NDArray[np.int64]:
    """[C*H*W, K]: how many images have the value at the position."""
    positions = math.prod(split.shape)
    counts = torch.zeros(positions * levels, dtype=torch.long)
    offsets = torch.arange(positions) * levels
    for start in range(0, len(split), CHUNK):
        chunk = split[start : start + CHUNK].images
        counts += torch.bincount((chunk.flatten(1).long() + offsets).flatten(), minlength=positions * levels)
    return counts.view(positions, levels).numpy()


def _as_bytes(images: Tensor, levels: int) -> bytes:
    array = images.contiguous().numpy()
    if levels == 2:
        return np.packbits(array).tobytes()
    return array.astype("<u1" if levels <= 256 else "<u2").tobytes()
