"""From a parsed archive to pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from nextpixel.coding.chunks import Decoded, Job, decode, unstore
from nextpixel.coding.coders import Kind
from nextpixel.coding.layout import Header, digest_of
from nextpixel.coding.pieces import blank
from nextpixel.coding.protocol import Codable
from nextpixel.coding.reading import Chunk, Parsed
from nextpixel.errors import UserError
from nextpixel.images.levels import storage_dtype


@dataclass(frozen=True)
class Restored:
    """Pictures [n, C, H, W] and labels [n] by run of one size.

    whole [n]: pictures of which every piece is there; partial [n]: of which only some tiles are. What is not there,
    because of damage or because its chunk was not asked for, has the value 0. faults: what the damage is.
    """

    pictures: list[Tensor]
    labels: list[Tensor] | None
    whole: list[Tensor]
    partial: list[Tensor]
    faults: list[str]


def check_model(header: Header, model: Codable) -> None:
    """UserError unless the archive was made with this very model."""
    if header.identity != model.identity:
        raise UserError(
            f"The archive was made with the model {header.identity.hex()[:16]}, and this one is "
            f"{model.identity.hex()[:16]}: decode with that model, frozen in the same way."
        )
    about = (header.arithmetic, header.channels, header.levels, header.classes)
    if about != (model.arithmetic, model.shape[0], model.levels, model.classes or 0):
        raise UserError("The archive contradicts the model that it names: it is damaged or forged.")


def restore(
    parsed: Parsed,
    model: Codable,
    *,
    chunks: Collection[int] | None = None,
    batch_size: int = 64,
    kind: Kind | None = None,
    progress: Callable[[float], None] = lambda symbols: None,
) -> Restored:
    """All pictures of an archive, or those in the numbered chunks. Every chunk's pixels are compared with the digest in
    the table; what differs counts as damaged. progress: told again and again how many symbols have been decoded."""
    header = parsed.header
    check_model(header, model)
    count = len(parsed.chunks)
    if chunks is not None and not all(0 <= index < count for index in chunks):
        raise UserError(f"The archive has the chunks 0..{count - 1}.")
    dtype = storage_dtype(header.levels)
    pictures = [blank(run, header.channels, dtype) for run in header.runs]
    labels = [torch.zeros(run.pictures, dtype=torch.long) for run in header.runs] if header.classes else None
    there = [torch.zeros(run.pictures, dtype=torch.int32) for run in header.runs]  # pieces of each picture
    needed = [0] * len(there)
    for group in header.groups():
        needed[group.run] += group.per_picture
    faults, done = list(parsed.faults), 0
    wanted = [(i, c) for i, c in enumerate(parsed.chunks) if c is not None and (chunks is None or i in chunks)]
    for together in _together(wanted, batch_size):
        before = done

        def tell(share: float, before: int = before, symbols: int = _symbols(header, together)) -> None:
            progress(before + share * symbols)

        found = _decoded(header, model, [chunk for _, chunk in together], batch_size, kind, tell)
        done += _symbols(header, together)
        progress(done)
        for (index, chunk), decoded in zip(together, found, strict=True):
            if (
                decoded is None
                or digest_of(header, chunk.first_of_all, decoded.pieces, decoded.labels) != chunk.entry.digest
            ):
                faults.append(f"chunk {index} of {count} (its pixels are not those that were coded)")
                continue
            run = chunk.group.run
            chunk.group.put(pictures[run], chunk.first, decoded.pieces)
            numbers = torch.arange(chunk.first, chunk.first + chunk.entry.pieces) // chunk.group.per_picture
            there[run].index_add_(0, numbers, torch.ones(len(numbers), dtype=torch.int32))
            if labels is not None and decoded.labels is not None:
                labels[run][numbers] = decoded.labels
    return Restored(
        pictures,
        labels,
        [pieces == all_of_them for pieces, all_of_them in zip(there, needed, strict=True)],
        [(pieces > 0) & (pieces < all_of_them) for pieces, all_of_them in zip(there, needed, strict=True)],
        faults,
    )


def _together(chunks: list[tuple[int, Chunk]], batch_size: int) -> list[list[tuple[int, Chunk]]]:
    """Chunks to be stepped side by side: of one piece size, about `batch_size` pieces; stored ones by themselves."""
    batches: list[list[tuple[int, Chunk]]] = []
    last, pieces = None, 0
    for index, chunk in chunks:
        kind = (chunk.entry.stored, chunk.group.height, chunk.group.width)
        if kind != last or chunk.entry.stored or pieces >= batch_size:
            batches.append([])
            pieces = 0
        batches[-1].append((index, chunk))
        last, pieces = kind, pieces + chunk.entry.pieces
    return batches


def _symbols(header: Header, together: list[tuple[int, Chunk]]) -> int:
    return sum(c.entry.pieces * header.channels * c.group.height * c.group.width for _, c in together)


def _decoded(
    header: Header,
    model: Codable,
    chunks: list[Chunk],
    batch_size: int,
    kind: Kind | None,
    progress: Callable[[float], None],
) -> list[Decoded | None]:
    first, group = chunks[0], chunks[0].group
    if first.entry.stored:
        shape = (first.entry.pieces, header.channels, group.height, group.width)
        return [unstore(first.coded, shape, header.levels, header.classes)]
    jobs = [Job(chunk.coded, chunk.entry.pieces) for chunk in chunks]
    return decode(model, jobs, (group.height, group.width), batch_size, kind, progress)
