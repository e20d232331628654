"""Pictures as they come in and go out: files, integers in JSON, and bytes in base64."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.figures.animation import animation
from nextpixel.images import to_uint8
from nextpixel.images.decode import UnreadableError, decode_file
from nextpixel.images.levels import binarise, quantise, storage_dtype, to_grey, to_rgb
from nextpixel.images.resize import fit_picture
from nextpixel.images.source import channels_first
from nextpixel.model import Model

FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP"]
UNKNOWN = 96  # the grey of what is not there yet
GIF_FRAMES, GIF_SECONDS = 40, 2.0


def read_upload(model: Model, content: bytes, most_pixels: int) -> tuple[Tensor, list[str]]:
    """A picture file as an image [1, C, H, W] of the model, and what was done to it."""
    channels, height, width = model.shape
    if model.levels > 256:
        raise UserError(f"The model has {model.levels} levels, and picture files have 256: give integers.")
    try:
        picture = decode_file(io.BytesIO(content), "The picture", FORMATS, most_pixels)
    except UnreadableError as error:
        why = str(error) if "pixels" in str(error) else "it is damaged, or none of " + ", ".join(FORMATS)
        raise UserError(f"The picture cannot be read: {why}.") from None
    notes = []
    if picture.size != (width, height):
        notes.append(f"cut and scaled from {picture.height}x{picture.width} to {height}x{width}")
        picture = fit_picture(picture, (height, width), "resize")
    x = torch.from_numpy(channels_first(np.array(picture)[None]))
    if len(x[0]) != channels:
        notes.append("made grey" if channels == 1 else "grey made RGB")
        x = to_grey(x) if channels == 1 else to_rgb(x)
    if model.levels == 2:
        notes.append("made black and white at half of the highest value")
        x = binarise(x, "threshold")
    elif model.levels < 256:
        notes.append(f"quantised to {model.levels} levels")
        x = quantise(x, model.levels)
    return x, notes


def as_images(model: Model, image: list[Any] | str, most_pixels: int) -> Tensor:
    """One image [1, C, H, W] of the model from nested integers [C][H][W], or from a picture file in base64."""
    if isinstance(image, str):
        try:
            content = base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError) as error:
            raise UserError("A picture given as text must be a picture file in base64.") from error
        return read_upload(model, content, most_pixels)[0]
    x = _tensor(image, "The image must be integers [C][H][W], in rows that are equally long.")
    if x.shape != model.shape:
        raise UserError(f"The image must have the model's shape {list(model.shape)}, not {list(x.shape)}.")
    return model.check_images(x[None])


def as_mask(model: Model, known: list[Any]) -> Tensor:
    """bool [H, W]: what is known of an image."""
    rule = "The mask must be true and false [H][W], in rows that are equally long."
    mask = _tensor(known, rule)
    if mask.dtype != torch.bool:
        raise UserError(rule)
    if mask.shape != model.shape[1:]:
        raise UserError(f"The mask must have the picture's size {list(model.shape[1:])}, not {list(mask.shape)}.")
    return mask


def _tensor(values: list[Any], rule: str) -> Tensor:
    try:
        return torch.tensor(values)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise UserError(rule) from error


def packed(values: Tensor, levels: int) -> str:
    """Levels of any shape, in C order, as base64: a byte each, or two (the lower first) above 256 levels."""
    return text(values.cpu().to(storage_dtype(levels)).numpy().astype("<u1" if levels <= 256 else "<u2"))


def floats(values: Tensor) -> str:
    """Numbers of any shape, in C order, as base64 of 32-bit floats, lowest byte first."""
    return text(values.detach().cpu().float().numpy().astype("<f4"))


def numbers(values: Tensor) -> str:
    """Indices as base64 of 32-bit unsigned integers, lowest byte first."""
    return text(values.cpu().numpy().astype("<u4"))


def text(array: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def gif(model: Model, images: Tensor, known: Tensor | None) -> bytes:
    """Images [N, C, H, W] side by side as they come to be, in the model's (first) order: GIF."""
    one = model.each_order()[0]
    _, channels, height, width = images.shape
    free = torch.ones(channels, height, width, dtype=torch.bool) if known is None else ~known.expand(channels, -1, -1)
    places = one.in_sequence(torch.arange(channels * height * width).view(channels, height, width))
    places = places[one.in_sequence(free)]
    shown, frames = to_uint8(images.cpu(), model.levels).flatten(1), []
    for done in np.linspace(0, len(places), min(GIF_FRAMES, len(places) + 1)).round().astype(int):
        frame = shown.clone()
        frame[:, places[done:]] = UNKNOWN
        frames.append(frame.view(images.shape))
    return animation(torch.stack(frames), 256, GIF_SECONDS)
