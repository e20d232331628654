"""What standard lossless codecs make of pictures: whole files, of the values as they are."""

from __future__ import annotations

import io
from typing import Any

import torch
from PIL import Image, features
from torch import Tensor

from nextpixel.errors import UserError


def strip(images: Tensor, levels: int) -> Image.Image | None:
    """Images [N, C, H, W] side by side in one picture: 1 bit a pixel for 2 levels and one channel, else 8 bits with
    the values as they are; None where files cannot hold them: C not 1 or 3, or K > 256."""
    count, channels, height, width = images.shape
    if channels not in (1, 3) or levels > 256:
        return None
    row = images.cpu().to(torch.uint8).permute(2, 0, 3, 1).reshape(height, count * width, channels).numpy()
    if channels == 3:
        return Image.fromarray(row)
    if levels == 2:
        return Image.fromarray(row[..., 0] * 255).convert("1", dither=Image.Dither.NONE)
    return Image.fromarray(row[..., 0])


def png_bytes(picture: Image.Image) -> int:
    """Length of the picture as an optimised PNG file."""
    return _length(picture, "PNG", optimize=True)


def webp_bytes(picture: Image.Image) -> int:
    """Length of the picture as a lossless WebP file at the highest effort; grey goes through RGB."""
    return _length(picture.convert("RGB"), "WebP", lossless=True, quality=100, method=6, exact=True)


def file_bits(images: Tensor, levels: int) -> dict[str, Tensor]:
    """Bits of every image [N, C, H, W] as a file of its own, float64 [N], by format: PNG and, where Pillow has it,
    lossless WebP. UserError where files cannot hold the images."""
    coders = {"png": png_bytes, **({"webp": webp_bytes} if features.check("webp") else {})}
    lengths: dict[str, list[int]] = {name: [] for name in coders}
    for image in images:
        picture = strip(image[None], levels)
        if picture is None:
            raise UserError(
                f"PNG and WebP hold 1 or 3 channels of up to 256 levels, not {images.shape[1]} of {levels}: leave out "
                "the score that is corrected for complexity (complexity=False, --no-complexity)."
            )
        for name, coder in coders.items():
            lengths[name].append(8 * coder(picture))
    return {name: torch.tensor(bits, dtype=torch.float64) for name, bits in lengths.items()}


def _length(picture: Image.Image, kind: str, **options: Any) -> int:
    file = io.BytesIO()
    picture.save(file, format=kind, **options)
    return file.tell()
