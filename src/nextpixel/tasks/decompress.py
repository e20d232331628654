"""An archive's pictures, and what it says of itself."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from nextpixel.coding import MAX_PIXELS, File, Parsed, Restored, parse, restore, unpack_files, unpack_model
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.saving import CONFIG, WEIGHTS, load
from nextpixel.tasks.compress import codable
from nextpixel.tasks.options import with_overrides
from nextpixel.tasks.pictures import Pictures
from nextpixel.tasks.progress import Steps

Archive = bytes | bytearray | memoryview | str | Path
Damaged = Literal["raise", "report"]


@dataclasses.dataclass(frozen=True)
class DecompressOptions:
    """How to open an archive."""

    batch_size: int = 64
    """pictures (or tiles) that the model steps together"""
    damaged: Damaged = "raise"
    """raise: any damage is an error; report: say what is damaged and hand out what is not"""
    max_pixels: int = MAX_PIXELS
    """an archive that claims more pixels than this is refused unread"""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.max_pixels < 1:
            raise UserError("batch_size and max_pixels must be positive.")
        if self.damaged not in ("raise", "report"):
            raise UserError(f"damaged must be raise or report, not {self.damaged!r}.")


@dataclasses.dataclass(frozen=True)
class Unpacked:
    """What `unpack` found. whole [N]: pictures that are there; partial [N]: those of which only some tiles
    are, with 0 in place of the others; faults: a few words on each damage."""

    pictures: Pictures
    whole: Tensor
    partial: Tensor
    faults: list[str]
    levels: int
    classes: int | None


def decompress(
    archive: Archive,
    model: Any = None,
    options: DecompressOptions | None = None,
    *,
    chunks: Collection[int] | None = None,
    progress: bool = False,
    **overrides: Any,
) -> Split:
    """The pictures (and labels) of an archive, given as bytes or as a file, that was made with `model`.

    model: may be left out if it is in the archive. chunks: only the pictures that lie in these, such as [3].
    options or overrides: fields of DecompressOptions. With damaged="report" a damaged archive gives the pictures that
    are whole, and a warning says what is lost; every picture that is handed out has passed its checksum. UserError for
    anything that is wrong with the archive, for another model, and for pictures of several sizes (`unpack` has those).
    """
    unpacked = unpack(archive, model, options, chunks=chunks, progress=progress, **overrides)
    if len(unpacked.pictures.images) > 1:
        raise UserError(
            f"The archive holds pictures of {len(unpacked.pictures.images)} sizes: write them to a folder with "
            "nextpixel decompress."
        )
    if unpacked.faults:
        warnings.warn(damage(unpacked.faults), stacklevel=2)
    images, labels = unpacked.pictures.images[0][unpacked.whole], None
    if unpacked.pictures.labels is not None:
        labels = unpacked.pictures.labels[0][unpacked.whole]
    return Split(images, labels, unpacked.levels, "archive", "as compressed", unpacked.classes)


def unpack(
    archive: Archive,
    model: Any = None,
    options: DecompressOptions | None = None,
    *,
    chunks: Collection[int] | None = None,
    progress: bool = False,
    **overrides: Any,
) -> Unpacked:
    """All that is in an archive, in runs of one size, with the names of the files; arguments as of `decompress`."""
    options = with_overrides(options or DecompressOptions(), overrides)
    parsed = _parsed(archive, options.max_pixels)
    _refuse(parsed.faults, options.damaged)
    restored = _restored(parsed, model, options, chunks, progress)
    _refuse(restored.faults, options.damaged)
    header = parsed.header
    return Unpacked(
        Pictures(restored.pictures, restored.labels, files_of(parsed)),
        torch.cat(restored.whole),
        torch.cat(restored.partial),
        restored.faults,
        header.levels,
        header.classes or None,
    )


def verify(
    archive: Archive,
    model: Any = None,
    options: DecompressOptions | None = None,
    *,
    progress: bool = False,
    **overrides: Any,
) -> bool:
    """Check an archive, writing nothing. True: every pixel was decoded and has its checksum. False: no model was given
    and none is inside, so only the coded bytes were compared with theirs. UserError says what is damaged."""
    options = dataclasses.replace(with_overrides(options or DecompressOptions(), overrides), damaged="raise")
    parsed = _parsed(archive, options.max_pixels)
    _refuse(parsed.faults, "raise")
    files_of(parsed)
    if model is None and not parsed.model:
        return False
    _refuse(_restored(parsed, model, options, None, progress).faults, "raise")
    return True


def archive_info(archive: Archive, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
    """What an archive says of itself, ready for JSON: sizes in bytes, bits_per_dim of the whole archive without an
    embedded model, whether its checksums hold."""
    parsed = _parsed(archive, max_pixels)
    header = parsed.header
    names = None if not parsed.files else len(unpack_files(parsed.files, header.pictures))
    return {
        "pictures": header.pictures,
        "sizes": [[run.height, run.width, run.pictures] for run in header.runs[:100]],
        "channels": header.channels,
        "levels": header.levels,
        "classes": header.classes or None,
        "tile": header.tile,
        "bytes": parsed.size,
        "framing_bytes": header.sections,
        "names_bytes": header.files,
        "model_bytes": header.model,
        "bytes_per_picture": (parsed.size - header.model) / header.pictures,
        "bits_per_dim": 8 * (parsed.size - header.model) / header.symbols,
        "chunks": header.chunks,
        "stored_chunks": sum(chunk.entry.stored for chunk in parsed.chunks if chunk is not None),
        "named_files": names,
        "arithmetic": header.arithmetic,
        "model": header.identity.hex(),
        "damage": parsed.faults,
    }


def files_of(parsed: Parsed) -> list[File] | None:
    """The names of the files, if there are any that can be read; UserError for those of other pictures."""
    if not parsed.files:
        return None
    files, channels = unpack_files(parsed.files, parsed.header.pictures), parsed.header.channels
    if channels not in (1, 3) or (channels == 1 and any(file.mode == "RGB" for file in files)):
        raise UserError(f"The archive names picture files of other modes than {channels} channels make: it is damaged.")
    return files


def damage(faults: list[str]) -> str:
    return f"The archive is damaged: {'; '.join(faults)}."


def _restored(
    parsed: Parsed, model: Any, options: DecompressOptions, chunks: Collection[int] | None, progress: bool
) -> Restored:
    if model is None:
        if not parsed.model:
            raise UserError(
                f"The archive was made with the model {parsed.header.identity.hex()[:16]}, which is not inside it: "
                "pass that model."
            )
        model = _inside(parsed)
    symbols = parsed.header.symbols
    with torch.no_grad(), Steps(symbols, "decoding", unit=" symbols", show=progress) as steps:
        return restore(
            parsed,
            codable(model, parsed.header.identity),
            chunks=chunks,
            batch_size=options.batch_size,
            progress=lambda done: steps.to(math.floor(done)),
        )


def _inside(parsed: Parsed) -> Any:
    """The model that is embedded in an archive: data only, as `nextpixel.load` reads it from a folder."""
    config, weights = unpack_model(parsed.model)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_bytes(config)
        (Path(folder) / WEIGHTS).write_bytes(weights)
        return load(folder)


def _refuse(faults: list[str], damaged: Damaged) -> None:
    if faults and damaged == "raise":
        raise UserError(f"{damage(faults)} With damaged='report' (--damaged report) what is left of it is decoded.")


def _parsed(archive: Archive, max_pixels: int) -> Parsed:
    data = _bytes(archive)
    try:
        return parse(data, max_pixels)
    except UserError as error:
        raise UserError(f"{archive}: {error}" if isinstance(archive, str | Path) else str(error)) from error


def _bytes(archive: Archive) -> bytes:
    if isinstance(archive, bytes | bytearray | memoryview):
        return bytes(archive)
    if not isinstance(archive, str | Path):
        raise UserError(f"An archive is bytes or the name of a file, not a {type(archive).__name__}.")
    path = Path(archive)
    if not path.is_file():
        raise UserError(f"There is no archive {path}.")
    return path.read_bytes()
