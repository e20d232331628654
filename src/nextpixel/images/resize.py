"""Pictures of one size from pictures of another."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

from nextpixel.errors import UserError, did_you_mean
from nextpixel.images.source import Array

Fit = Literal["crop", "resize"]


def size_pair(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """(H,W) from H = W or (H,W). Raises UserError for anything else, or less than a pixel."""
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise UserError(f"size must be a positive number of pixels, or (height, width), not {size}.")
    return pair[0], pair[1]


def check_fit(fit: str) -> None:
    """Raises UserError unless ``fit`` is one of the two ways below."""
    known = get_args(Fit)
    if fit not in known:
        raise UserError(f"fit must be one of {', '.join(known)}, not '{fit}'.{did_you_mean(fit, known)}")


def fit_picture(picture: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """A picture of H x W pixels.

    "crop":   the centre, every pixel as it was. Raises UserError if the picture is too small.
    "resize": scaled (Lanczos) until H x W is covered, aspect kept, then the centre.
    """
    height, width = size
    if fit == "resize":
        return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    if picture.height < height or picture.width < width:
        raise UserError(
            f"A picture of {picture.height}x{picture.width} has no centre of {height}x{width} pixels: "
            'pass fit="resize" (--fit resize) or a smaller size.'
        )
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def fit_all(images: Array, size: tuple[int, int], fit: Fit) -> Array:
    """uint8 [N,H,W] or [N,H,W,C] to the same of another size, image by image."""
    if images.ndim == 4 and images.shape[-1] != 3:  # to Pillow the last of 2 or 4 channels would be transparency
        return np.stack([fit_all(channel, size, fit) for channel in np.moveaxis(images, -1, 0)], -1)
    return np.stack([np.asarray(fit_picture(Image.fromarray(image), size, fit)) for image in images])


def fit_note(size: tuple[int, int], fit: Fit) -> str:
    """What a protocol says of it."""
    return f"{'centre' if fit == 'crop' else 'resized to'} {size[0]}x{size[1]}"
