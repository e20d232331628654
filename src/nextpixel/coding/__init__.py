"""The lossless code: frequencies from integer masses, the range coder, the archive. docs/format.md specifies it."""

from nextpixel.coding.chunks import piece_intervals
from nextpixel.coding.coders import Kind, coder_kind
from nextpixel.coding.layout import Header
from nextpixel.coding.pieces import Run, groups
from nextpixel.coding.protocol import Codable, Decoder
from nextpixel.coding.reading import MAX_PIXELS, Parsed, parse
from nextpixel.coding.restoring import Restored, check_model, restore
from nextpixel.coding.sections import File, pack_files, pack_model, unpack_files, unpack_model
from nextpixel.coding.writing import check_size, write

__all__ = [
    "MAX_PIXELS",
    "Codable",
    "Decoder",
    "File",
    "Header",
    "Kind",
    "Parsed",
    "Restored",
    "Run",
    "check_model",
    "check_size",
    "coder_kind",
    "groups",
    "pack_files",
    "pack_model",
    "parse",
    "piece_intervals",
    "restore",
    "unpack_files",
    "unpack_model",
    "write",
]
