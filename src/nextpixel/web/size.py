"""How small a picture becomes: the model's archive beside PNG and WebP."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import torch
from torch import Tensor

from nextpixel.tasks.codecs import file_bits
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
    files = file_bits(image, served.model.levels) if served.model.levels <= 256 else {}
    yield {
        "event": "size",
        "bytes": len(archive),
        "payload_bits": float(bits.sum()),
        "bits_per_dim": float(bits.sum()) / symbols,
        "symbols": symbols,
        "raw_bits": symbols * (served.model.levels - 1).bit_length(),
        **{f"{name}_bytes": int(bits) // 8 for name, bits in files.items()},
        "bits": floats(bits),
        "restored": packed(restored[0], served.model.levels),
        "same": bool((restored == image).all()),
        "archive": base64.b64encode(archive).decode("ascii"),
        "class": given,
    }
