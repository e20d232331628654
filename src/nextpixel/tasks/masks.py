"""What is known of pictures: masks from a number of rows, a side, a box, chance, or a picture file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError, did_you_mean
from nextpixel.images.pictures import read_picture

SIDES = ("left", "right", "top", "bottom")


def known_pixels(known: int | Tensor, n: int, size: tuple[int, int]) -> Tensor:
    """What is known of n pictures of size (H, W), as one mask each, bool [n, H, W].

    known: the number of known first rows; or a mask [H, W] for all, or [n, H, W] with one for each, of bools or of the
    numbers 0 and 1. UserError for a mask of another size or with other values, and where nothing or all is known.
    """
    height, width = size
    if isinstance(known, int):
        if not 1 <= known < height:
            raise UserError(
                f"The number of known rows must be between 1 and {height - 1}, not {known}"
                + (": where nothing is known, draw pictures with sample." if known == 0 else ".")
            )
        mask = torch.arange(height)[:, None].expand(height, width) < known
    elif isinstance(known, Tensor):
        mask = known.detach().cpu()
    else:
        raise UserError(f"What is known must be a number of rows or a mask (a tensor), not {known!r}.")
    if mask.shape not in ((height, width), (n, height, width)):
        raise UserError(
            f"The mask must have the picture's size {height}x{width} (or be {n} such masks), "
            f"not {'x'.join(map(str, mask.shape))}."
        )
    if mask.dtype != torch.bool and not ((mask == 0) | (mask == 1)).all():
        raise UserError("A mask says True or False (1 or 0) of every pixel: known or not; this one has other values.")
    mask = mask.bool().expand(n, height, width)
    if mask.flatten(1).all(1).any():
        raise UserError("Everything is known: there is nothing to complete.")
    if not mask.flatten(1).any(1).all():
        raise UserError("Nothing is known: draw pictures with sample instead of completing them.")
    return mask


def side_known(side: str, size: tuple[int, int]) -> Tensor:
    """The mask [H, W] of which one half is known: left, right, top or bottom; the middle of odd sizes is not."""
    height, width = size
    if side not in SIDES:
        raise UserError(f"The known side must be left, right, top or bottom, not {side!r}.{did_you_mean(side, SIDES)}")
    mask = torch.zeros(height, width, dtype=torch.bool)
    rows, columns = height // 2, width // 2
    part = {
        "left": mask[:, :columns],
        "right": mask[:, width - columns :],
        "top": mask[:rows],
        "bottom": mask[height - rows :],
    }
    part[side][:] = True
    return mask


def box_unknown(top: int, left: int, height: int, width: int, size: tuple[int, int]) -> Tensor:
    """The mask [H, W] of which all but a box is known; UserError for a box that is empty or not inside."""
    if height < 1 or width < 1 or top < 0 or left < 0 or top + height > size[0] or left + width > size[1]:
        raise UserError(
            f"The box at row {top} and column {left}, {height} rows by {width} columns, does not lie in a picture of "
            f"{size[0]}x{size[1]}."
        )
    mask = torch.ones(size, dtype=torch.bool)
    mask[top : top + height, left : left + width] = False
    return mask


def random_unknown(share: float, n: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Masks [n, H, W], one each, of which this share of the pixels, drawn at random, is unknown. Picture i of a seed
    has the same mask whatever n is; at least one pixel is known and one unknown."""
    if not 0 < share < 1:
        raise UserError(f"The unknown share of the pixels must lie between 0 and 1, not be {share}.")
    pixels = size[0] * size[1]
    if pixels < 2:
        raise UserError("A picture of one pixel cannot be known in part.")
    unknown = min(max(round(share * pixels), 1), pixels - 1)
    drawn = [np.random.default_rng([seed, index, 5]).permutation(pixels) >= unknown for index in range(n)]
    return torch.from_numpy(np.stack(drawn)).view(n, *size)


def read_mask(path: str | Path) -> Tensor:
    """A picture file as a mask, bool [H, W]: white is unknown, black is known; UserError for any other value."""
    pixels = read_picture(path)[0]
    if not ((pixels == 0) | (pixels == 255)).all() or not (pixels == pixels[:1]).all():
        raise UserError(f"{path} must be black (known) and white (unknown) only: it has other values.")
    return pixels[0] == 0
