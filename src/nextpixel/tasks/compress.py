"""Pictures to an archive that decodes to the same pixels on every machine."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextpixel.coding import (
    Codable,
    Parsed,
    Run,
    groups,
    pack_files,
    pack_model,
    parse,
    piece_intervals,
    restore,
    write,
)
from nextpixel.coding.frequencies import bits
from nextpixel.coding.layout import CHUNK_BYTES
from nextpixel.errors import UserError
from nextpixel.exact import Coded, ExactModel, freeze
from nextpixel.images import Split
from nextpixel.model import check_model
from nextpixel.saving import CONFIG, WEIGHTS
from nextpixel.tasks.archive_pieces import archive_in_pieces
from nextpixel.tasks.evaluate import check_split
from nextpixel.tasks.options import with_overrides
from nextpixel.tasks.pictures import Pictures
from nextpixel.tasks.progress import Steps

LIKE = (32, 1 << 18, 128)  # of the pictures on which freezing is measured: how many, symbols in all, largest side


@dataclasses.dataclass(frozen=True)
class CompressOptions:
    """How to make an archive. Only tile and chunk_bytes change what is in it."""

    batch_size: int = 32
    """pictures (or tiles) per pass of the model"""
    tile: int = 0
    """cut pictures into tiles of this side, coded each by itself and decoded together; 0 keeps them whole"""
    chunk_bytes: int = CHUNK_BYTES
    """coded bytes after which a chunk ends; a damaged byte loses one chunk"""
    verify: bool = True
    """decode the archive and compare every pixel before it is handed out"""
    embed_model: bool = False
    """put the model into the archive"""
    work: str = ""
    """folder that keeps finished pieces: go on after an interruption, and share the work under torchrun"""
    piece: int = 1000
    """pictures (or tiles) of a piece, fewer of large ones"""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.chunk_bytes < 1 or self.piece < 1 or self.tile < 0:
            raise UserError("batch_size, chunk_bytes and piece must be positive and tile must not be negative.")
        if self.tile >= 2**32:
            raise UserError(f"A tile of {self.tile} is larger than an archive can say: leave tile out.")


def codable(model: Any, identity: bytes | None = None, like: Split | None = None) -> Codable:
    """The model in integer arithmetic: as it is, if it is frozen, or frozen now.

    like: pictures such as will be coded, on which it is measured whether the shorter numbers cost too much. identity:
    of an archive; the model is frozen in the form in which it was then.
    """
    if _is_codable(model):
        given: Codable = model
        return given
    check_model(model)
    if isinstance(model, ExactModel):
        return Coded(model)
    frozen = Coded(freeze(model, like))
    return frozen if identity in (None, frozen.identity) else Coded(freeze(model, form="float64"))


def _is_codable(model: Any) -> bool:
    return isinstance(getattr(model, "identity", None), bytes)


def like(model: Any, data: Split | Tensor | Pictures, labels: Tensor | None = None) -> Split | None:
    """A few of the pictures, for `codable`; None if they do not fit the model, which is said elsewhere."""
    if isinstance(data, Pictures):
        images, given = data.images[0], None if data.labels is None else data.labels[0]
    else:
        images, given = (data.images, data.labels) if isinstance(data, Split) else (data, None)
    given = labels if labels is not None else given
    count = max(1, min(LIKE[0], LIKE[1] // max(1, images[0].numel()))) if len(images) else 0
    try:
        part = images[:count, :, : LIKE[2], : LIKE[2]]
        some = Split(part, None if given is None else given[:count], model.levels, "the pictures", "", model.classes)
        check_split(model, some)
    except (UserError, IndexError):
        return None
    return None if model.classes is not None and given is None else some


def compress(
    model: Any,
    data: Split | Tensor | Pictures,
    options: CompressOptions | None = None,
    *,
    labels: Tensor | None = None,
    progress: bool = False,
    **overrides: Any,
) -> bytes:
    """An archive of a Split, of images [N, C, H, W] (with labels [N] for a class-conditional model), or of Pictures.

    options or overrides: fields of CompressOptions. The labels are kept, and counted in the size, if the model is
    class-conditional. The archive is never larger than the symbols packed into ⌈log2 K⌉ bits each, 92 bytes and 24 a
    chunk, names of files and an embedded model apart. docs/format.md says what is in it. UserError if model and data do
    not fit.
    """
    options = with_overrides(options or CompressOptions(), overrides)
    if not _is_codable(model):
        check_model(model)
    if not isinstance(data, Split | Tensor | Pictures) or not isinstance(labels, Tensor | None):
        raise UserError("Pictures must be a Split or a tensor [N, C, H, W], with labels in a tensor [N].")
    frozen = codable(model, like=like(model, data, labels))
    pictures = as_pictures(frozen, data, labels)
    symbols = sum(images.numel() for images in pictures.images)
    arguments: dict[str, Any] = {
        "tile": (options.tile, options.tile) if options.tile else None,
        "chunk_bytes": options.chunk_bytes,
        "files": b"" if pictures.files is None else pack_files(pictures.files),
        "embedded": _saved(frozen) if options.embed_model else b"",
    }
    if options.work:
        return archive_in_pieces(frozen, pictures, arguments, options, progress)
    with torch.no_grad(), Steps(symbols, "compressing", unit=" symbols", show=progress) as steps:
        archive = write(
            frozen,
            pictures.images,
            pictures.labels,
            batch_size=options.batch_size,
            progress=lambda symbols: steps.to(steps.done + symbols),
            **arguments,
        )
    if options.verify:
        _verified(frozen, archive, pictures, symbols, progress)
    return archive


@torch.no_grad()
def bits_map(
    model: Any, data: Split | Tensor, *, labels: Tensor | None = None, tile: int = 0, batch_size: int = 32
) -> Tensor:
    """The bits that each pixel takes in an archive, summed over its channels: float64 [N, H, W]. Arguments as of
    `compress`; a label's bits belong to no pixel."""
    frozen = codable(model)
    pictures = as_pictures(frozen, data, labels)
    images = pictures.images[0]
    shown = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.float64)
    for group in groups([Run(images.shape[2], images.shape[3], len(images))], (tile, tile) if tile else None):
        pieces = group.cut(images)
        given = None if pictures.labels is None else pictures.labels[0].repeat_interleave(group.per_picture)
        for at in range(0, len(pieces), batch_size):
            part = slice(at, at + batch_size)
            _, size = piece_intervals(frozen, pieces[part], None if given is None else given[part])
            costs = frozen.from_sequence(bits(size), (group.height, group.width))
            group.put(shown, at, costs.sum(1, keepdim=True))
    return shown[:, 0]


def as_pictures(model: Codable, data: Split | Tensor | Pictures, labels: Tensor | None = None) -> Pictures:
    """The data in runs, with labels exactly if the model has classes; UserError if they do not fit the model."""
    if isinstance(data, Pictures):
        runs = [(images, None if data.labels is None else data.labels[i]) for i, images in enumerate(data.images)]
        files = data.files
    elif isinstance(data, Split):
        runs, files = [(data.images, data.labels if labels is None else labels)], None
        check_split(model, data)
    else:
        runs, files = [(data, labels)], None
    splits = []
    for images, given in runs:
        if model.classes is not None and given is None:
            raise UserError("The model is class-conditional, but the images have no labels.")
        kept = None if model.classes is None else given
        split = Split(images, kept, model.levels, "the pictures", "", model.classes)
        if 0 in split.shape:
            raise UserError("The pictures have no pixels.")
        check_split(model, split)
        splits.append(split)
    each = [split.labels for split in splits if split.labels is not None]
    return Pictures([split.images for split in splits], each or None, files)


def _verified(model: Codable, archive: bytes, pictures: Pictures, symbols: int, progress: bool) -> None:
    parsed: Parsed = parse(archive, max_pixels=symbols)
    with torch.no_grad(), Steps(symbols, "verifying", unit=" symbols", show=progress) as steps:
        restored = restore(parsed, model, progress=lambda done: steps.to(math.floor(done)))
    same = all(map(torch.equal, restored.pictures, pictures.images))
    if pictures.labels is not None and restored.labels is not None:
        same = same and all(map(torch.equal, restored.labels, pictures.labels))
    if restored.faults or not same:
        raise RuntimeError("the archive does not decode to the same pixels here, so it was not written")


def _saved(model: Any) -> bytes:
    """The section of a saved model."""
    if not hasattr(model, "save_pretrained"):
        raise UserError("This model cannot be saved, so it cannot be embedded.")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "model")
        return pack_model(*((Path(folder) / "model" / name).read_bytes() for name in (CONFIG, WEIGHTS)))
