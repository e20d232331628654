"""The lossless code: frequencies from integer masses, the range coder, the archive. docs/format.md specifies it."""

from nextpixel.coding.coders import Kind, coder_kind
from nextpixel.coding.layout import Header
from nextpixel.coding.protocol import Codable, Decoder
from nextpixel.coding.reading import MAX_PIXELS, Parsed, parse
from nextpixel.coding.restoring import Restored, check_model, restore
from nextpixel.coding.sections import File, pack_files, pack_model, unpack_files, unpack_model
from nextpixel.coding.writing import write

__all__ = [
    "MAX_PIXELS",
    "Codable",
    "Decoder",
    "File",
    "Header",
    "Kind",
    "Parsed",
    "Restored",
    "check_model",
    "coder_kind",
    "pack_files",
    "pack_model",
    "parse",
    "restore",
    "unpack_files",
    "unpack_model",
    "write",
]
