"""Animated GIFs of pictures that are filled in pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images.pictures import grid, tinted

FRAMES = 48
IN_A_GIF = 8  # pictures that commands show
MILLISECONDS = 80  # a frame
REST = 2000  # milliseconds of the last one


def check_gif(path: Path | None) -> Path | None:
    """UserError unless the name ends in .gif."""
    if path is not None and path.suffix.lower() != ".gif":
        raise UserError(f"The name {path.name} of an animation must end in .gif.")
    return path


def save_filling(path: str | Path, images: Tensor, levels: int, turns: Tensor, frames: int = FRAMES) -> int:
    """Write a GIF of images [N, C, H, W] (C = 1 or 3) side by side being filled in; returns the number of frames.

    turns: integers [H, W] or [N, H, W], when a pixel is made: 0, 1, ...; below 0 it is there from the start. Pixels
    that are still to come are tinted. At most `frames` frames, each of about as many pixels, and one of the start.
    Raises UserError where the file cannot be written.
    """
    check_gif(Path(path))
    last = int(turns.max()) + 1
    count = min(frames, last)
    cuts = [last * number // count for number in range(count + 1)] if last > 0 else [0]
    sheets = [grid(tinted(images, levels, turns < cut), 256) for cut in cuts]
    pauses = [MILLISECONDS] * (len(sheets) - 1) + [REST]
    try:
        sheets[0].save(path, save_all=True, append_images=sheets[1:], duration=pauses, loop=0)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be written ({getattr(error, 'strerror', None) or error}).") from error
    return len(sheets)


def turns_of(sequence: Tensor, known: Tensor | None = None) -> Tensor:
    """When each pixel is made, [H, W] or, for several masks [N, H, W] of what is known, [N, H, W].

    sequence: integers [C, H, W], the number of every symbol in the order of prediction. A pixel is made with its last
    symbol; what is known has the turn -1.
    """
    whole = sequence.amax(0)
    if known is None:
        return whole.flatten().argsort().argsort().view(whole.shape)
    pixels = torch.where(known, -1, whole).flatten(-2)
    made = pixels.argsort(-1).argsort(-1) - known.flatten(-2).sum(-1, keepdim=True)
    return torch.where(pixels < 0, -1, made).view(known.shape)
