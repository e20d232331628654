"""From pictures to an archive's bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from nextpixel.coding.chunks import encode, piece_intervals, store
from nextpixel.coding.coders import Kind
from nextpixel.coding.frequencies import bits
from nextpixel.coding.layout import (
    CHUNK_BYTES,
    MOST_IN_PIECE,
    MOST_RUNS,
    MOST_SYMBOLS,
    Entry,
    Header,
    digest_of,
    most_pieces,
)
from nextpixel.coding.pieces import Group, Run
from nextpixel.coding.protocol import Codable
from nextpixel.errors import UserError

Intervals = Callable[[int, int, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""`piece_intervals` of pieces [n, C, h, w] with labels [n]: those of the numbered group that begin at the given one"""

FINE = 1 << 16  # costs are counted in this part of a bit


class _Coded(NamedTuple):
    """Pieces that wait for their chunk to be full: [n, C, h, w], [n], [n, T], [n, T]."""

    pieces: Tensor
    labels: Tensor | None
    left: Tensor
    size: Tensor


def write(
    model: Codable,
    pictures: Sequence[Tensor],
    labels: Sequence[Tensor] | None,
    *,
    tile: tuple[int, int] | None = None,
    batch_size: int = 32,
    chunk_bytes: int = CHUNK_BYTES,
    files: bytes = b"",
    embedded: bytes = b"",
    kind: Kind | None = None,
    intervals: Intervals | None = None,
    progress: Callable[[int], None] = lambda symbols: None,
) -> bytes:
    """The archive of pictures, runs of one size [n, C, H, W] each, with labels [n] for each run if the model has
    classes. files, embedded: sections, ready made. intervals: has asked the model already, for batches of the same
    size. progress: told of every batch how many symbols it had.

    The model sees at most `batch_size` pieces at a time; neither that nor `kind` changes the archive.
    """
    if len(pictures) > MOST_RUNS:
        raise UserError(f"An archive takes pictures of up to {MOST_RUNS} sizes: make several archives.")
    header = Header(
        arithmetic=model.arithmetic,
        identity=model.identity,
        channels=model.shape[0],
        levels=model.levels,
        classes=model.classes or 0,
        tile=tile,
        runs=[Run(images.shape[2], images.shape[3], len(images)) for images in pictures],
        chunks=0,
        files=len(files),
        model=len(embedded),
    )
    entries, coded, first = [], [], 0
    for number, group in enumerate(header.groups()):
        check_size(header.channels, group)
        pieces = group.cut(pictures[group.run])
        given = None
        if labels is not None:
            given = labels[group.run].repeat_interleave(group.per_picture)

        def ask(at: int, images: Tensor, labels: Tensor | None, number: int = number) -> tuple[Tensor, Tensor]:
            progress(images.numel())
            return (
                piece_intervals(model, images, labels) if intervals is None else intervals(number, at, images, labels)
            )

        for chunk in _chunks(ask, header, group, pieces, given, batch_size, chunk_bytes):
            packed = encode(chunk.left, chunk.size, header.levels, chunk.labels, header.classes, kind)
            plain = -(-len(chunk.pieces) * header.raw_bits(group.height, group.width) // 8)
            if stored := len(packed) >= plain:
                packed = store(chunk.pieces, chunk.labels, header.levels, header.classes)
            digest = digest_of(header, first, chunk.pieces, chunk.labels)
            entries.append(Entry.of(packed, len(chunk.pieces), stored, digest))
            coded.append(packed)
            first += len(chunk.pieces)
    header = replace(header, chunks=len(entries))
    return b"".join([header.pack(), *[entry.pack() for entry in entries], files, embedded, *coded])


def check_size(channels: int, group: Group) -> None:
    """UserError if the pieces of a group are too large to be coded each by itself."""
    if channels * group.height * group.width > MOST_IN_PIECE:
        raise UserError(f"Pictures of {group.height}x{group.width} must be cut into tiles: pass tile=64 (--tile 64).")


def _chunks(
    ask: Callable[[int, Tensor, Tensor | None], tuple[Tensor, Tensor]],
    header: Header,
    group: Group,
    pieces: Tensor,
    labels: Tensor | None,
    batch_size: int,
    chunk_bytes: int,
) -> Iterator[_Coded]:
    """A group's pieces in chunks of at least `chunk_bytes` (the last one may be smaller)."""
    plain = header.raw_bits(group.height, group.width) * FINE
    symbols = header.channels * group.height * group.width
    most = max(1, min(most_pieces(header.levels), MOST_SYMBOLS // symbols))
    waiting: list[_Coded] = []
    waits = cost = 0
    for at in range(0, len(pieces), batch_size):
        images = pieces[at : at + batch_size]
        given = None if labels is None else labels[at : at + batch_size]
        left, size = ask(at, images, given)
        # Whole numbers, so that their sum does not depend on how the pieces were batched.
        costs = (bits(size) * FINE).long().sum(1).clamp(max=plain).tolist()
        begin = 0
        for end, cost_of_one in enumerate(costs, 1):
            cost, waits = cost + cost_of_one, waits + 1
            if cost >= (8 * chunk_bytes + 64) * FINE or waits == most:
                part = slice(begin, end)
                yield _joined([*waiting, _part(images, given, left, size, part)])
                waiting, cost, waits, begin = [], 0, 0, end
        if begin < len(images):
            waiting.append(_part(images, given, left, size, slice(begin, None)))
    if waiting:
        yield _joined(waiting)


def _part(images: Tensor, labels: Tensor | None, left: Tensor, size: Tensor, which: slice) -> _Coded:
    return _Coded(images[which], None if labels is None else labels[which], left[which], size[which])


def _joined(parts: list[_Coded]) -> _Coded:
    labels = [part.labels for part in parts if part.labels is not None]
    return _Coded(
        torch.cat([part.pieces for part in parts]),
        torch.cat(labels) if labels else None,
        torch.cat([part.left for part in parts]),
        torch.cat([part.size for part in parts]),
    )
