"""A chunk's bytes from its symbols, and back. A chunk is a group of pieces that are stepped together.

Symbols are coded position-major: the labels of all pieces, the first symbol of every piece, the second of every piece,
and so on. So one call of the coder serves all pieces at a position, and a decoder may evaluate the model for as many
pieces at a time as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nextpixel.coding.coders import Kind, SymbolDecoder, decoder, encoder
from nextpixel.coding.frequencies import frequencies, intervals
from nextpixel.coding.protocol import Codable
from nextpixel.coding.range_coder import InvalidWordsError
from nextpixel.images.levels import storage_dtype


class Job(NamedTuple):
    """A chunk to be decoded: its bytes, and how many pieces there are."""

    coded: bytes
    pieces: int


class Decoded(NamedTuple):
    """Pieces [n, C, h, w] and labels [n] of one chunk."""

    pieces: Tensor
    labels: Tensor | None


def piece_intervals(model: Codable, pieces: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where the symbols of pieces [n, C, h, w] lie: (left, size), int32 [n, T] in coding order."""
    symbols = model.in_sequence(pieces).long().cpu()
    left, size = torch.empty_like(symbols, dtype=torch.int32), torch.empty_like(symbols, dtype=torch.int32)
    at = 0
    for masses in model.masses(pieces, labels):
        stretch = slice(at, at + masses.shape[1])
        left[:, stretch], size[:, stretch] = intervals(masses.cpu(), symbols[:, stretch])
        at = stretch.stop
    if at != symbols.shape[1]:
        raise ValueError(f"the model gave masses for {at} of {symbols.shape[1]} symbols")
    order = model.coding_order((pieces.shape[2], pieces.shape[3]))
    return (left, size) if order is None else (left[:, order], size[:, order])


def encode(
    left: Tensor, size: Tensor, levels: int, labels: Tensor | None, classes: int, kind: Kind | None = None
) -> bytes:
    """The coded bytes of pieces whose symbols lie at (left, size), [n, T], and of their labels [n]."""
    coder = encoder(kind)
    if labels is not None and classes > 1:
        sizes = _label_frequencies(classes) + 1
        starts = sizes.cumsum(0) - sizes
        coder.encode(starts[labels].numpy(), sizes[labels].numpy(), classes)
    coder.encode(left.T.reshape(-1).long().numpy(), size.T.reshape(-1).long().numpy(), levels)
    return coder.words().astype("<u4").tobytes()


def decode(
    model: Codable,
    jobs: Sequence[Job],
    size: tuple[int, int],
    batch_size: int,
    kind: Kind | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Decoded | None]:
    """The pieces of several chunks, all of (h, w) = size; None for a chunk whose bytes contradict the model.

    The model steps at most `batch_size` pieces at a time, all chunks side by side.
    """
    classes = model.classes or 0
    coders: list[SymbolDecoder | None] = [decoder(np.frombuffer(job.coded, "<u4"), kind) for job in jobs]
    labels = None
    if classes:
        labels = torch.cat([_labels(coders, index, job.pieces, classes) for index, job in enumerate(jobs)])
    ends = np.cumsum([job.pieces for job in jobs]).tolist()
    total = ends[-1]
    steppers = []
    for first in range(0, total, batch_size):
        last = min(first + batch_size, total)
        given = None if labels is None else labels[first:last]
        steppers.append((first, last, model.decoder(last - first, given, size)))
    length = model.shape[0] * size[0] * size[1]
    symbols = torch.empty(total, length, dtype=storage_dtype(model.levels))
    at = 0
    while at < length:
        masses = [stepper.masses().cpu() for _, _, stepper in steppers]
        wanted = frequencies(torch.cat(masses, 1)).numpy()  # [a, pieces, K]
        values = np.zeros(wanted.shape[:2], np.int64)
        for index, job in enumerate(jobs):
            which, coder = slice(ends[index] - job.pieces, ends[index]), coders[index]
            if coder is None:
                continue
            try:
                found = coder.decode(wanted[:, which].reshape(-1, wanted.shape[2]))
            except InvalidWordsError:
                coders[index] = None  # its lanes go on with zeros, which nobody reads
            else:
                values[:, which] = found.reshape(-1, job.pieces)
        pushed = torch.from_numpy(values)
        symbols[:, at : at + len(pushed)] = pushed.T
        for first, last, stepper in steppers:
            stepper.push(pushed[:, first:last])
        at += len(pushed)
        progress(at / length)
    order = model.coding_order(size)
    if order is not None:
        symbols[:, order] = symbols.clone()
    decoded: list[Decoded | None] = []
    for job, end, intact in zip(jobs, ends, coders, strict=True):
        which = slice(end - job.pieces, end)
        pieces = model.from_sequence(symbols[which], size)
        decoded.append(None if intact is None else Decoded(pieces, None if labels is None else labels[which]))
    return decoded


def store(pieces: Tensor, labels: Tensor | None, levels: int, classes: int) -> bytes:
    """Pieces [n, C, h, w] as they are: labels, then values, each in as many bits as the largest needs, the high bit
    first; the last byte is filled up with zeros."""
    parts = [] if labels is None else [_bits(labels, (classes - 1).bit_length())]
    parts.append(_bits(pieces.reshape(-1), (levels - 1).bit_length()))
    return np.packbits(np.concatenate(parts)).tobytes()


def unstore(stored: bytes, shape: tuple[int, int, int, int], levels: int, classes: int) -> Decoded | None:
    """The inverse of `store`; None if the bytes hold a value or label that there is not, or are too few or many."""
    count, width, label_width = shape[0], (levels - 1).bit_length(), max(classes - 1, 0).bit_length()
    split = count * label_width
    total = split + int(np.prod(shape)) * width
    if len(stored) != -(-total // 8):
        return None
    bits = np.unpackbits(np.frombuffer(stored, np.uint8))
    if bits[total:].any():
        return None
    labels = _integers(bits[:split], label_width, count) if classes else None
    values = _integers(bits[split:total], width, int(np.prod(shape)))
    if int(values.max()) >= levels or (labels is not None and int(labels.max()) >= classes):
        return None
    return Decoded(values.to(storage_dtype(levels)).reshape(shape), None if labels is None else labels.long())


def _label_frequencies(classes: int) -> Tensor:
    """f of labels, [classes]: all equally likely."""
    return frequencies(torch.ones(classes, dtype=torch.long))


def _labels(coders: list[SymbolDecoder | None], index: int, count: int, classes: int) -> Tensor:
    """The labels [count] of chunk `index`, whose coder is dropped if there are none."""
    coder = coders[index]
    found = np.zeros(count, np.int64)
    if classes > 1 and coder is not None:
        row = _label_frequencies(classes).numpy()
        try:
            for at in range(count):  # one at a time: a table for all of them could be large
                found[at : at + 1] = coder.decode(row[None])
        except InvalidWordsError:
            coders[index] = None
    return torch.from_numpy(found)


def _bits(values: Tensor, width: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    shifts = np.arange(width - 1, -1, -1, dtype=np.int32)
    return (values.numpy().astype(np.int32)[:, None] >> shifts & 1).astype(np.uint8).reshape(-1)


def _integers(bits: np.ndarray[tuple[int], np.dtype[np.uint8]], width: int, count: int) -> Tensor:
    values = np.zeros(count, np.int32)
    for column in bits.reshape(count, width).T:
        values = values << 1 | column
    return torch.from_numpy(values)
