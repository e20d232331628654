"""How small a picture becomes: the model's archive beside PNG and WebP."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor

from nextpixel.images import to_uint8
from nextpixel.model import Model
from nextpixel.tasks.baselines import png_bytes
from nextpixel.tasks.compress import bits_map, compress
from nextpixel.tasks.decompress import decompress
from nextpixel.web.jobs import Event, Job
from nextpixel.web.pixels import floats, packed
from nextpixel.web.served import Served, class_for


def size(served: Served, image: Tensor, condition: int | None, job: Job) -> Iterator[Event]:
    """Compress an image [1, C, H, W], decode it again, and compare: "stage"s, then "size"."""
    image = image.to(torch.uint8 if served.model.levels <= 256 else torch.int32).cpu()
    given = class_for(served.model, image, condition)
    labels = None if given is None else torch.tensor([given])
    yield {"event": "stage", "stage": "freezing the model to integers (once)"}
    frozen = served.frozen()
    yield {"event": "stage", "stage": "compressing"}
    archive = compress(frozen, image, labels=labels, verify=False)
    bits = bits_map(frozen, image, labels=labels)[0]
    yield {"event": "stage", "stage": "decompressing"}
    restored = decompress(archive, frozen).images
    symbols = image.numel()
    yield {
        "event": "size",
        "bytes": len(archive),
        "payload_bits": float(bits.sum()),
        "bits_per_dim": float(bits.sum()) / symbols,
        "symbols": symbols,
        "raw_bits": symbols * (served.model.levels - 1).bit_length(),
        "png_bytes": png_bytes(image, served.model.levels),
        "webp_bytes": _webp_bytes(served.model, image),
        "bits": floats(bits),
        "restored": packed(restored[0], served.model.levels),
        "same": bool((restored == image).all()),
        "archive": base64.b64encode(archive).decode("ascii"),
        "class": given,
    }


def _webp_bytes(model: Model, image: Tensor) -> int | None:
    """WebP without loss, of the values as they are shown; None above 256 levels, which it cannot hold."""
    if model.levels > 256:
        return None
    pixels = to_uint8(image[0], model.levels).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    picture.save(file, "WEBP", lossless=True, quality=100, method=6)
    return file.tell()
