"""Archives that are cut, changed, forged or too large: a sentence, or the right pixels; never others."""

import random
import warnings

import pytest
import torch
from fuzz_archives import mutated, outcome, repaired, subject
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_model import IntegerModel, pictures_of

import nextpixel as npx
from nextpixel.coding import Header, parse, reading, write
from nextpixel.coding.layout import STORED, Entry, digest_of
from nextpixel.coding.pieces import Run
from nextpixel.errors import UserError
from nextpixel.tasks.decompress import unpack

MODEL, IMAGES, ARCHIVE = subject()
CHUNKS = parse(ARCHIVE).header.chunks


def recovered(data, model=MODEL):
    """What is left of an archive, with the words of the warning."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = npx.decompress(data, model, damaged="report")
    return found.images, " ".join(str(warning.message) for warning in said)


def test_the_subject_has_several_chunks():
    assert CHUNKS >= 5
    assert torch.equal(npx.decompress(ARCHIVE, MODEL).images, IMAGES)


@pytest.mark.parametrize("change", [0x01, 0x80, 0xFF])
def test_one_damaged_byte_loses_one_chunk(change):
    """Wherever it is: in the header, in the table, among the names, or in a chunk."""
    parsed = parse(ARCHIVE)
    most = max(chunk.entry.pieces for chunk in parsed.chunks)
    body = parsed.header.body
    places = [*range(body), *range(body, len(ARCHIVE), 11)] if change == 0xFF else range(0, len(ARCHIVE), 29)
    for at in places:
        data = bytearray(ARCHIVE)
        data[at] ^= change
        with pytest.raises(UserError, match=r"damaged|format version|no nextpixel archive"):
            npx.verify(bytes(data))
        left = parse(bytes(data))
        assert left.faults
        lost = [index for index, chunk in enumerate(left.chunks) if chunk is None]
        inside_sections = at < body and not (parsed.header.table <= at < parsed.header.sections)
        assert len(lost) == (0 if inside_sections else 1), at
        for chunk, whole in zip(left.chunks, parsed.chunks, strict=True):
            assert chunk is None or chunk == whole
    images, said = recovered(bytes(data))
    assert len(images) >= len(IMAGES) - most
    assert said


def test_what_is_lost_is_said_and_the_rest_is_right():
    parsed = parse(ARCHIVE)
    first, second = parsed.chunks[0].entry.pieces, parsed.chunks[1].entry.pieces
    data = bytearray(ARCHIVE)
    data[parsed.header.body + parsed.chunks[0].entry.length + 3] ^= 4
    images, said = recovered(bytes(data))
    assert torch.equal(images, torch.cat([IMAGES[:first], IMAGES[first + second :]]))
    assert said == f"The archive is damaged: chunk 1 of {CHUNKS}."
    with pytest.raises(UserError, match=f"chunk 1 of {CHUNKS}"):
        npx.decompress(bytes(data), MODEL)


def test_bytes_lost_in_the_middle_of_a_chunk_leave_the_others():
    parsed = parse(ARCHIVE)
    at = parsed.header.body + sum(chunk.entry.length for chunk in parsed.chunks[:2])
    for data in (ARCHIVE[:at] + ARCHIVE[at + 5 :], ARCHIVE[:at] + b"12345" + ARCHIVE[at:]):
        lost = [index for index, chunk in enumerate(parse(data).chunks) if chunk is None]
        assert lost in ([2], [])
        images, said = recovered(data)
        assert "damaged" in said
        assert len(images) >= len(IMAGES) - parsed.chunks[2].entry.pieces


def test_a_lost_tile_leaves_the_rest_of_its_picture():
    model = IntegerModel((1, 8, 8), 4)
    images, _ = pictures_of(model, 1, size=(40, 40))
    data = bytearray(write(model, [images], None, tile=(8, 8), chunk_bytes=50))
    data[-1] ^= 1
    found = unpack(bytes(data), model, damaged="report")
    assert (found.whole.tolist(), found.partial.tolist()) == ([False], [True])
    same = found.pictures.images[0] == images
    last = parse(bytes(data)).chunks
    assert last[-1] is None
    assert same.float().mean() > 0.5
    assert same[0, 0, :16].all()


@pytest.mark.parametrize("length", [0, 1, 7, 50, 91, 92, 110, len(ARCHIVE) // 2, len(ARCHIVE) - 1])
def test_truncated_archives(length, assert_sentence):
    with pytest.raises(UserError) as error:
        npx.decompress(ARCHIVE[:length], MODEL)
    assert_sentence(error)


def test_the_end_may_be_missing():
    images, said = recovered(ARCHIVE[:-1])
    assert torch.equal(images, IMAGES[: len(images)])
    assert len(images) == len(IMAGES) - parse(ARCHIVE).chunks[-1].entry.pieces
    assert "chunk" in said


def test_another_model_is_refused(assert_sentence):
    other = IntegerModel((1, 8, 8), 4, seed=1)
    with pytest.raises(UserError, match="was made with the model") as error:
        npx.decompress(ARCHIVE, other)
    assert_sentence(error)
    with pytest.raises(UserError, match="not inside it"):
        npx.decompress(ARCHIVE)


def test_a_model_that_only_says_it_is_the_same_gives_no_pixels():
    other = type("Same", (IntegerModel,), {"identity": MODEL.identity})((1, 8, 8), 4, seed=1)
    with pytest.raises(UserError, match="its pixels are not those that were coded"):
        npx.decompress(ARCHIVE, other)
    images, said = recovered(ARCHIVE, other)
    assert len(images) == 0
    assert "pixels" in said


def test_a_newer_format_is_named(assert_sentence):
    data = bytearray(ARCHIVE)
    data[8] = 2
    with pytest.raises(UserError, match="format version 2, and this nextpixel reads 1") as error:
        npx.decompress(repaired(bytes(data)), MODEL)
    assert_sentence(error)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" * 40, b"\x89PNG\r\n\x1a\n" + bytes(200)])
def test_other_files_are_refused(data, assert_sentence):
    with pytest.raises(UserError, match="no nextpixel archive") as error:
        npx.decompress(data, MODEL)
    assert_sentence(error)


def test_a_file_that_is_not_there(tmp_path, assert_sentence):
    with pytest.raises(UserError, match="There is no archive") as error:
        npx.decompress(tmp_path / "a.npx", MODEL)
    assert_sentence(error)


def forged(runs, chunks=1, pieces=1, length=4, stored=False, **header):
    """An archive with right checksums whose header says this."""
    about = {"channels": 1, "levels": 4, "classes": 0, "tile": None, **header}
    head = Header(1, MODEL.identity, runs=runs, chunks=chunks, **about)
    entry = Entry.of(bytes(length), pieces, stored, bytes(12))
    return head.pack() + entry.pack() * min(chunks, 3) + bytes(length) * min(chunks, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (forged([Run(1 << 20, 1 << 20, 1)]), "raise max_pixels"),
        (forged([Run(1, 1, (1 << 32) - 1)], pieces=STORED - 1), "raise max_pixels"),
        (forged([Run(8, 8, 1)], channels=65535, tile=(1, 1)), "cut off|chunk"),
        (forged([Run(1, 1, 1 << 27)], pieces=1 << 24), "more pictures than its chunks can hold"),
        (forged([Run(1, 1, 1 << 15)], pieces=1 << 14), "do not make up its pictures"),
        (forged([Run(1, 1, (1 << 15) + 1)], pieces=(1 << 15) + 1), "more pictures than its chunks can hold"),
        (forged([Run(1, 1, 1 << 16)], chunks=2, pieces=1 << 16), "do not make up|chunk 0"),
        (forged([Run(8, 8, 1)], chunks=1 << 31), "cut off"),
        (forged([Run(8, 8, 1)], chunks=0), "cut off"),
        (forged([Run(8, 8, 1)], chunks=2, length=80), "more chunks than"),
        (forged([Run(8, 8, 1)], files=1 << 31), "cut off"),
        (forged([Run(8, 8, 1)], model=(1 << 32) - 1), "cut off"),
        (forged([Run(0, 8, 1)]), "without size"),
        (forged([Run(8, 8, 1)], tile=(3, 0)), "contradicts itself"),
        (forged([Run(8, 8, 1)], levels=1), "contradicts itself"),
        (forged([Run(8, 8, 1)], channels=0), "contradicts itself"),
        (forged([Run(8, 8, 1)], classes=1 << 17), "contradicts itself"),
        (forged([Run(8, 8, 1)], pieces=0), "do not make up|chunk 0"),
        (forged([Run(8, 8, 1)], pieces=2), "do not make up|chunk 0"),
        (forged([Run(8, 8, 1)], length=3), "chunk 0"),
        (forged([Run(8, 8, 1)], length=64), "chunk 0"),
        (forged([Run(8, 8, 1)], stored=True), "chunk 0"),
        (forged([Run(8, 8, 1)], classes=5), "contradicts the model"),
        (forged([Run(8192, 8192, 1)]), "chunk 0"),
    ],
)
def test_forged_headers(data, words, assert_sentence):
    with pytest.raises(UserError, match=words) as error:
        npx.decompress(data, MODEL)
    assert_sentence(error)


def test_more_pixels_than_allowed_are_refused_unread():
    with pytest.raises(UserError, match="raise max_pixels"):
        npx.decompress(ARCHIVE, MODEL, max_pixels=48 * 64 // 3 - 1)
    assert len(npx.decompress(ARCHIVE, MODEL, max_pixels=48 * 64)) == 48


@pytest.mark.parametrize(("channels", "more"), [(1, 0), (3, 0), (4, 1)])
def test_the_limit_is_of_pixels_and_of_three_values_each(channels, more):
    model = IntegerModel((channels, 4, 3), 5)
    archive = npx.compress(model, pictures_of(model, 10)[0])
    least = 10 * 4 * 3 * (3 + more) // 3
    assert len(npx.decompress(archive, model, max_pixels=least)) == 10
    with pytest.raises(UserError, match="raise max_pixels"):
        npx.decompress(archive, model, max_pixels=least - 1)


def test_a_stored_value_that_there_is_not():
    """Right checksums, and three levels in two bits each: the fourth is no value."""
    model = IntegerModel((1, 2, 2), 3)
    head = Header(1, model.identity, 1, 3, 0, None, [Run(2, 2, 1)], 1)
    pixels = torch.tensor([[[[0, 1], [2, 0]]]], dtype=torch.uint8)
    digest = digest_of(head, 0, pixels, None)
    right, wrong = bytes([0b00011000]), bytes([0b00011011])
    good, bad = (head.pack() + Entry.of(b, 1, True, digest).pack() + b for b in (right, wrong))
    assert torch.equal(npx.decompress(good, model).images, pixels)
    with pytest.raises(UserError, match="chunk 0"):
        npx.decompress(bad, model)


def test_names_that_were_forged_or_inflate_without_end(assert_sentence):
    import json
    import zlib

    def with_names(content):
        packed = zlib.compress(content, 9)
        section = zlib.crc32(packed).to_bytes(4, "little") + packed
        return write(MODEL, [IMAGES[:2]], None, files=section)

    good = json.dumps({"names": ["a", "b"], "modes": [0, 0]}).encode()
    assert len(unpack(with_names(good), MODEL).pictures.files) == 2
    for content in (
        bytes(1 << 24),
        good.replace(b'"b"', b'"../b"'),
        good.replace(b'"b"', b'"a"'),
        good.replace(b'"b"', b"7"),
        good.replace(b"[0, 0]", b"[0, 9]"),
        good.replace(b"[0, 0]", b"[0]"),
        good.replace(b"[0, 0]", b"[0, -1]"),
        good.replace(b"[0, 0]", b"[0, 1]"),
        b"[" * 100_000,
        b"[]",
    ):
        with pytest.raises(UserError, match="names") as error:
            unpack(with_names(content), MODEL)
        assert_sentence(error)


def test_chunks_that_changed_places_are_noticed():
    """Each is as it was written, and both hold as many pictures: only the digest knows the place."""
    data = write(MODEL, [torch.cat([IMAGES[:1]] * 40 + [IMAGES[1:2]] * 40)], None, chunk_bytes=30)
    parsed = parse(data)
    chunks = list(parsed.chunks)
    assert chunks[0].entry.pieces == chunks[1].entry.pieces
    chunks[0], chunks[1] = chunks[1], chunks[0]
    entries, coded = b"".join(c.entry.pack() for c in chunks), b"".join(c.coded for c in chunks)
    swapped = parsed.header.pack() + entries + coded
    assert parse(swapped).faults == []
    with pytest.raises(UserError, match="its pixels are not those"):
        npx.decompress(swapped, MODEL)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_any_mutation_ends_in_a_sentence_or_in_right_pixels(seed, repair, report):
    data = mutated(ARCHIVE, random.Random(seed))
    outcome(repaired(data) if repair else data, MODEL, IMAGES, "report" if report else "raise")


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 120), st.data())
def test_any_one_byte_of_a_header_is_put_right(sizes, data):
    """However many sizes the pictures have, wherever it is: in the sizes, their number, the checksum."""
    head = Header(1, MODEL.identity, 1, 4, 0, None, [Run(1 + i, 2, 1) for i in range(sizes)], sizes).pack()
    at, flip = data.draw(st.integers(0, len(head) - 1)), data.draw(st.integers(1, 255))
    damaged = bytearray(head)
    damaged[at] ^= flip
    if at != 8:  # a version that is not ours is no damage that could be known
        assert reading._repaired(bytes(damaged) + bytes(64)) == head
