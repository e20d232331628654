"""Pictures that appear pixel by pixel, as a GIF."""

from __future__ import annotations

import io

from PIL import Image
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images.pictures import grid


def animation(frames: Tensor, levels: int, seconds: float = 4.0, columns: int | None = None) -> bytes:
    """A GIF of sheets of pictures, integers [frames, n, C, H, W], that waits at its end and begins again."""
    if frames.dim() != 5 or not len(frames):
        raise UserError(f"An animation needs frames [frames, n, C, H, W], not {list(frames.shape)}.")
    zoom = max(1, 240 // max(int(frames.shape[1] ** 0.5) * max(frames.shape[3:]), 1))
    sheets = [grid(frame, levels, columns, zoom=zoom) for frame in frames]
    if frames.shape[2] == 3:  # a palette of each sheet's own colours, which the GIF's usual one would only come near
        sheets = [sheet.quantize(256, dither=Image.Dither.NONE) for sheet in sheets]
    each = max(int(1000 * seconds / len(sheets)), 20)
    file = io.BytesIO()
    durations = [each] * (len(sheets) - 1) + [1500]
    sheets[0].save(file, "GIF", save_all=True, append_images=sheets[1:], duration=durations, loop=0, optimize=False)
    return file.getvalue()
