"""An archive made in numbered pieces of work, by one process or several: the same bytes as if it were made at once.

The model works in two rounds, and both are cut: it says where the symbols of the pictures lie, and, to verify the
archive, decodes whole chunks. What lies between, cutting chunks and coding them, needs no model: every process does it.
"""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nextpixel.coding import Codable, Run, check_size, groups, parse, piece_intervals, restore, write
from nextpixel.tasks.pictures import Pictures
from nextpixel.tasks.pieces import Pieces, Result, joined
from nextpixel.tasks.processes import first_process
from nextpixel.tasks.progress import Steps

if TYPE_CHECKING:
    from nextpixel.tasks.compress import CompressOptions

MOST_SYMBOLS = 1 << 22  # in a piece of work, of which 8 bytes each are kept
LANES = 256  # pictures (or tiles) that are verified in one piece of work, or more: a chunk is not cut


@torch.no_grad()
def archive_in_pieces(
    model: Codable, pictures: Pictures, arguments: dict[str, Any], options: CompressOptions, progress: bool
) -> bytes:
    """The archive, from pieces in the folder options.work; arguments: of `write`, but for model and pictures."""
    runs = [Run(images.shape[2], images.shape[3], len(images)) for images in pictures.images]
    found = groups(runs, arguments["tile"])
    for group in found:
        check_size(model.shape[0], group)
    largest = max(model.shape[0] * group.height * group.width for group in found)
    size = max(1, min(options.piece, MOST_SYMBOLS // largest))
    spans = [(group, first) for group in found for first in range(0, group.pieces, size)]

    def about() -> dict[str, Any]:
        return {
            "task": "compress",
            "model": model.identity.hex(),
            "pictures": _sha256(pictures),
            "side of tiles": options.tile,
            "pictures a piece": size,
            "bytes a chunk": options.chunk_bytes,
        }

    work = Pieces(options.work, about)
    show = progress and first_process()

    def lie(number: int) -> Result:
        """Where the symbols of a span lie."""
        group, first = spans[number]
        images, labels = group.cut(pictures.images[group.run])[first : first + size], None
        if pictures.labels is not None:
            labels = pictures.labels[group.run].repeat_interleave(group.per_picture)[first : first + size]
        parts = []
        for at in range(0, len(images), options.batch_size):
            given = None if labels is None else labels[at : at + options.batch_size]
            left, length = piece_intervals(model, images[at : at + options.batch_size], given)
            parts.append({"left": left, "size": length})
            steps.to(steps.done + left.numel())
        return joined(parts)

    mine = [spans[number] for number in work.own(len(spans))]
    symbols = sum(
        min(size, group.pieces - first) * model.shape[0] * group.height * group.width for group, first in mine
    )
    with Steps(symbols, "compressing", unit=" symbols", show=show) as steps:
        kept = work.results("symbols", len(spans), lie, steps)

        def intervals(*which: object) -> tuple[Tensor, Tensor]:
            result = next(kept)  # `write` asks for the spans in their order
            return result["left"], result["size"]

        archive = write(model, pictures.images, pictures.labels, batch_size=size, intervals=intervals, **arguments)
    if options.verify:
        _verify(work, model, archive, options.batch_size, show)
    return archive


def _verify(work: Pieces, model: Codable, archive: bytes, batch_size: int, show: bool) -> None:
    """Decode every chunk; each process its own, of which the archive holds the digests of the pixels. What was found
    counts for these very chunks only: pieces of work may have been damaged since."""
    parsed = parse(archive, max_pixels=sys.maxsize)
    coded = hashlib.sha256()
    together: list[list[int]] = [[]]
    waits = 0
    for number, chunk in enumerate(parsed.chunks):
        if chunk is not None:
            waits += chunk.entry.pieces
            coded.update(chunk.entry.pack() + chunk.coded)
        together[-1].append(number)
        if waits >= LANES:
            together.append([])
            waits = 0
    parts = [part for part in together if part]
    name = f"verified-{coded.hexdigest()[:16]}"

    def decode(number: int) -> Result:
        faults = restore(parsed, model, chunks=set(parts[number]), batch_size=max(batch_size, 64)).faults
        steps.to(steps.done + len(parts[number]))
        return {"faults": torch.tensor([len(faults)])}

    mine = sum(len(parts[number]) for number in work.own(len(parts)))
    with Steps(mine, "verifying", unit=" chunks", show=show) as steps:
        if any(int(result["faults"]) for result in work.results(name, len(parts), decode, steps)):
            raise RuntimeError(
                "the archive does not decode to the same pixels here, so it was not written: remove the folder "
                f"{work.folder}, whose pieces may be damaged, and start again"
            )


def _sha256(pictures: Pictures) -> str:
    digest = hashlib.sha256()
    for number, images in enumerate(pictures.images):
        digest.update(f"{tuple(images.shape)} {images.dtype}\n".encode())
        digest.update(images.contiguous().numpy().data)
        if pictures.labels is not None:
            digest.update(pictures.labels[number].contiguous().numpy().data)
    return digest.hexdigest()
