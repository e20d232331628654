"""Pictures that are completed or drawn, as a GIF in the order of prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from nextpixel.figures.animation import animation
from nextpixel.images.pictures import tinted
from nextpixel.model import Model

FRAMES = 48
SHOWN = 8  # pictures at most


def filling(model: Model, images: Tensor, known: Tensor | None = None) -> bytes:
    """A GIF of the first images [N, C, H, W] being made in the one order of the model; what is still to
    come is tinted. known: a mask [H, W] or [N, H, W] of what is there from the start; None: nothing."""
    size = (images.shape[2], images.shape[3])
    sequence = model.from_sequence(torch.arange(images[0].numel()), size)
    turns = turns_of(sequence, torch.zeros(size, dtype=torch.bool) if known is None else known)
    turns = turns.expand(len(images), *size)[:SHOWN]
    last = int(turns.max()) + 1
    count = min(FRAMES, last)
    cuts = [last * number // count for number in range(count + 1)]
    return animation(torch.stack([tinted(images[:SHOWN], model.levels, turns < cut) for cut in cuts]), 256)


def turns_of(sequence: Tensor, known: Tensor) -> Tensor:
    """When each pixel is made, 0, 1, ..., of masks [..., H, W] of what is known, which has the turn -1.

    sequence: integers [C, H, W], the number of every symbol in the order of prediction. A pixel is made with its last.
    """
    pixels = torch.where(known, -1, sequence.amax(0)).flatten(-2)
    made = pixels.argsort(-1).argsort(-1) - known.flatten(-2).sum(-1, keepdim=True)
    return torch.where(pixels < 0, -1, made).view(known.shape)
