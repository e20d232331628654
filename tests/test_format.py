"""docs/format.md, read by a stranger: a decoder from the page alone, in Python integers and the standard library.

It decodes what nextpixel writes, and the archive of format 1 that is kept here for ever.
"""

import hashlib
import json
import struct
import zlib
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from integer_model import IntegerModel, pictures_of

import nextpixel as npx
from nextpixel.coding import File, pack_files, write
from nextpixel.tasks.decompress import unpack

GOLDEN = Path(__file__).parent / "archives" / "format-1.npx"


class Words:
    def __init__(self, data):
        self.words, self.at = struct.unpack(f"<{len(data) // 4}I", data), 0
        self.offset, self.range = self.word() << 32 | self.word(), 2**64 - 1

    def word(self):
        self.at += 1
        return self.words[self.at - 1] if self.at <= len(self.words) else 0

    def symbol(self, masses):
        values, total = len(masses), sum(masses)
        cum = [c * (2**24 - values) // total for c in accumulate(masses)]
        lefts = [0] + [cum[k - 1] + k for k in range(1, values)]
        sizes = [cum[k] - (cum[k - 1] if k else 0) + 1 for k in range(values)]
        scale = self.range >> 24
        quantile = self.offset // scale
        k = next(k for k in range(values) if lefts[k] <= quantile < lefts[k] + sizes[k])
        self.offset -= scale * lefts[k]
        self.range = scale * sizes[k]
        if self.range < 2**32:
            self.offset = self.offset << 32 | self.word()
            self.range <<= 32
        return k


def bits_of(data):
    for byte in data:
        for place in range(7, -1, -1):
            yield byte >> place & 1


def number(bits, width):
    value = 0
    for _ in range(width):
        value = value << 1 | next(bits)
    return value


def decoded(data, model):
    """{(picture, channel, row, column): value}, labels by picture, and names."""
    fields = struct.unpack("<8sBBH32sHHIIIIIII", data[:76])
    magic, version, arithmetic, flags, identity, channels, top, classes, th, tw, files, inside, chunks, runs = fields
    assert (magic, version, flags) == (bytes.fromhex("894E50580D0A1A0A"), 1, 0)
    assert (arithmetic, identity) == (model.arithmetic, model.identity)
    levels, at = top + 1, 76 + 12 * runs
    assert struct.unpack("<I", data[at : at + 4])[0] == zlib.crc32(data[:at])
    pieces, first_picture = [], 0  # (height, width, picture, top, left)
    for run in range(runs):
        height, width, count = struct.unpack("<III", data[76 + 12 * run : 88 + 12 * run])
        h, w = (th, tw) if th else (height, width)
        for rows, high in ((range(0, height // h * h, h), h), (range(height // h * h, height, h), height % h)):
            for columns, wide in ((range(0, width // w * w, w), w), (range(width // w * w, width, w), width % w)):
                for picture in range(first_picture, first_picture + count):
                    pieces += [(high, wide, picture, row, column) for row in rows for column in columns]
        first_picture += count
    table = at + 4
    sections = table + 24 * chunks
    place, first = sections + files + inside, 0
    pixels, labels = {}, {}
    for chunk in range(chunks):
        entry = data[table + 24 * chunk : table + 24 * chunk + 24]
        length, held, digest, crc = struct.unpack("<II12sI", entry)
        stored, held = held >> 31, held & 2**31 - 1
        coded = data[place : place + length]
        assert zlib.crc32(entry[:20] + coded) == crc
        mine = pieces[first : first + held]
        height, width = mine[0][:2]
        assert all(piece[:2] == (height, width) for piece in mine)
        given, values = (from_bits if stored else from_words)(coded, model, held, (height, width), classes, levels)
        sha = hashlib.sha256(struct.pack("<IIIIIQ", channels, height, width, levels, classes, first))
        sha.update(b"".join(struct.pack("<I", label) for label in given))
        size = "<B" if levels <= 256 else "<H"
        order = [(c, i, j) for c in range(channels) for i in range(height) for j in range(width)]
        sha.update(b"".join(struct.pack(size, piece[where]) for piece in values for where in order))
        assert sha.digest()[:12] == digest
        for index, (_, _, picture, row, column) in enumerate(mine):
            for c, i, j in order:
                assert (picture, c, row + i, column + j) not in pixels
                pixels[picture, c, row + i, column + j] = values[index][c, i, j]
            if classes:
                labels[picture] = given[index]
        place, first = place + length, first + held
    assert (place, first) == (len(data), len(pieces))
    names = None
    if files:
        section = data[sections : sections + files]
        assert zlib.crc32(section[4:]) == struct.unpack("<I", section[:4])[0]
        names = json.loads(zlib.decompress(section[4:]))
    return pixels, labels, names


def from_words(coded, model, held, size, classes, levels):
    words = Words(coded)
    labels = [words.symbol([1] * classes) if classes > 1 else 0 for _ in range(held)] if classes else []
    steps = model.decoder(held, torch.tensor(labels) if classes else None, size)
    values = [{} for _ in range(held)]
    for row in range(size[0]):  # the model's own order: raster, channels inside a pixel
        for column in range(size[1]):
            for channel in range(model.shape[0]):
                found = [words.symbol(masses) for masses in steps.masses()[0].tolist()]
                steps.push(torch.tensor(found)[None])
                for piece, value in zip(values, found, strict=True):
                    piece[channel, row, column] = value
    return labels, values


def from_bits(coded, model, held, size, classes, levels):
    bits = bits_of(coded)
    labels = [number(bits, (classes - 1).bit_length()) for _ in range(held)] if classes else []
    where = [(c, i, j) for c in range(model.shape[0]) for i in range(size[0]) for j in range(size[1])]
    values = [{place: number(bits, (levels - 1).bit_length()) for place in where} for _ in range(held)]
    assert not any(bits)
    return labels, values


def equal(pixels, pictures):
    wanted, first = {}, 0
    for run in pictures:
        for place, value in zip(
            torch.cartesian_prod(*map(torch.arange, run.shape)).tolist(), run.flatten(), strict=True
        ):
            wanted[place[0] + first, *place[1:]] = int(value)
        first += len(run)
    return pixels == wanted


@pytest.mark.parametrize("tile", [None, (3, 4)])
@pytest.mark.parametrize(
    "model",
    [IntegerModel((1, 6, 5), 2), IntegerModel((3, 6, 5), 5, classes=7), IntegerModel((1, 4, 4), 300, classes=1)],
    ids=["binary", "colour and classes", "many levels"],
)
def test_a_stranger_decodes_what_is_written(model, tile):
    drawn = [pictures_of(model, n, n, size) for n, size in ((9, (6, 5)), (2, (7, 9)))]
    noise = torch.randint(model.levels, (3, *model.shape), generator=torch.Generator().manual_seed(0))
    pictures = [*(images for images, _ in drawn), noise.to(drawn[0][0].dtype)]
    labels = None if model.classes is None else [*(each for _, each in drawn), torch.zeros(3).long()]
    files = pack_files([File(f"{index}.png", "L") for index in range(14)])
    pixels, found, names = decoded(write(model, pictures, labels, tile=tile, chunk_bytes=40, files=files), model)
    assert equal(pixels, pictures)
    assert names == {"names": [f"{index}.png" for index in range(14)], "modes": [0] * 14}
    if labels is not None:
        assert [found[index] for index in range(14)] == torch.cat(labels).tolist()


GOLDEN_MODEL = IntegerModel((3, 6, 7), 5, classes=4, sharpness=10)


def golden():
    """Pictures and labels of the kept archive, by a formula: smooth ones, then some that cannot be predicted."""
    n, c, i, j = torch.meshgrid(torch.arange(8), torch.arange(3), torch.arange(6), torch.arange(7), indexing="ij")
    smooth = ((i + j + n) // 5 % 5).to(torch.uint8)
    rough = ((n * 7919 + c * 104729 + i * 1299709 + j * 15485863) // 37 % 5).to(torch.uint8)[:3, :, :4]
    return [smooth, rough], [torch.arange(8) % 4, torch.tensor([3, 3, 0])]


def test_the_kept_archive_of_format_1():
    pictures, labels = golden()
    data = GOLDEN.read_bytes()
    found = unpack(data, GOLDEN_MODEL)
    assert all(map(torch.equal, found.pictures.images, pictures))
    assert all(map(torch.equal, found.pictures.labels, labels))
    assert found.pictures.files[0] == File("smooth/0.png", "RGB")
    assert 0 < npx.archive_info(data)["stored_chunks"] < npx.archive_info(data)["chunks"]
    pixels, _, _ = decoded(data, GOLDEN_MODEL)
    assert equal(pixels, pictures)


def test_the_same_bytes_are_still_written():
    pictures, labels = golden()
    names = [f"smooth/{index}.png" for index in range(8)] + [f"rough/{index}.png" for index in range(3)]
    files = GOLDEN.read_bytes()[80 + 24 + 24 * npx.archive_info(GOLDEN)["chunks"] :][
        : npx.archive_info(GOLDEN)["names_bytes"]
    ]
    assert [file.name for file in unpack(GOLDEN, GOLDEN_MODEL).pictures.files] == names
    # The names as they are in the kept archive: zlib may pack them otherwise one day.
    again = write(GOLDEN_MODEL, pictures, labels, tile=(4, 4), chunk_bytes=60, files=files)
    assert again == GOLDEN.read_bytes()
