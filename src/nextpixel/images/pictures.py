"""Pictures to look at, and single pictures read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images import levels as values
from nextpixel.images.decode import UnreadableError, decode

GAP_COLOUR = 128
UNKNOWN_COLOUR = (255, 168, 64)  # amber: no level of a grey picture
COMFORTABLE_SIDE = 512  # pixels; small grids are magnified to about this


def to_uint8(images: Tensor, levels: int) -> Tensor:
    """Integers 0..K-1 of any shape to uint8 0..255 for the screen: 0 is black, K-1 is 255."""
    if levels <= 256:
        return values.dequantise(images, levels)
    return values.quantise(images, 256, levels)


def tinted(images: Tensor, levels: int, known: Tensor) -> Tensor:
    """Images [N, C, H, W] (C = 3, or the first channel) as uint8 RGB [N, 3, H, W] in which pixels that are not known,
    by a mask [H, W] or [N, H, W], have a colour of their own."""
    shown = images if images.shape[1] == 3 else images[:, :1]
    colours = values.to_rgb(to_uint8(shown.detach().cpu(), levels))
    mask = known.cpu().expand(len(images), *images.shape[2:])[:, None]
    return torch.where(mask, colours, torch.tensor(UNKNOWN_COLOUR, dtype=torch.uint8).view(1, 3, 1, 1))


def grid(images: Tensor, levels: int, columns: int | None = None, gap: int = 1, zoom: int | None = None) -> Image.Image:
    """Images [N,C,H,W] row by row on one sheet: C = 1 is grey, 3 is RGB, the channels of others stand below each other.

    columns: None makes the sheet about square; gap: grey pixels between images; zoom: every pixel becomes a square
    of this side (None: as large as keeps the sheet within about 512 pixels). Raises UserError for no images.
    """
    if images.dim() != 4 or 0 in images.shape:
        raise UserError(f"A grid needs images [N,C,H,W], none of these 0, not {list(images.shape)}.")
    if (columns is not None and columns < 1) or gap < 0 or (zoom is not None and zoom < 1):
        raise UserError(f"A grid needs columns >= 1, gap >= 0 and zoom >= 1, not {columns}, {gap} and {zoom}.")
    if images.shape[1] not in (1, 3):
        images = images.flatten(1, 2)[:, None]
    count, channels, height, width = images.shape
    across = min(columns or math.ceil(math.sqrt(count * height / width)), count)
    down = math.ceil(count / across)
    sheet_size = (down * (height + gap) - gap, across * (width + gap) - gap)
    factor = zoom or max(1, COMFORTABLE_SIDE // max(sheet_size))

    pixels = to_uint8(images.detach().cpu(), levels).permute(0, 2, 3, 1).numpy()
    sheet = np.full((*sheet_size, channels), GAP_COLOUR, np.uint8)
    for index, picture in enumerate(pixels):
        top, left = index // across * (height + gap), index % across * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    magnified = sheet.repeat(factor, axis=0).repeat(factor, axis=1)
    return Image.fromarray(magnified[..., 0] if channels == 1 else magnified)


def save_grid(
    path: str | Path, images: Tensor, levels: int, columns: int | None = None, gap: int = 1, zoom: int | None = None
) -> None:
    """``grid`` into a file; the format follows from its name. Raises UserError where it cannot be written."""
    sheet = grid(images, levels, columns, gap, zoom)
    try:
        sheet.save(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The picture {path} cannot be written ({error}): choose another name, such as grid.png."
        ) from error


def read_picture(path: str | Path) -> Tensor:
    """One picture file as uint8 [1,C,H,W], C = 1 or 3. Raises UserError if it is missing, damaged or not 8-bit."""
    if not Path(path).is_file():
        raise UserError(f"There is no picture {path}.")
    try:
        pixels = np.array(decode(Path(path)))
    except UnreadableError as error:
        raise UserError(f"{path} cannot be read as a picture ({error}).") from None
    hwc = pixels[..., None] if pixels.ndim == 2 else pixels
    return torch.from_numpy(hwc).permute(2, 0, 1)[None].contiguous()
