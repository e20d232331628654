"""Archives of an integer model: what goes in comes out, whatever the batches, tiles, sizes, chunks and coder."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_model import IntegerModel, pictures_of
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import nextpixel as npx
from nextpixel.coding import File, pack_files, pack_model, parse, restore, unpack_files, unpack_model, write
from nextpixel.coding.chunks import store, unstore
from nextpixel.coding.layout import Header
from nextpixel.coding.pieces import Run, blank, groups
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.tasks.compress import codable
from nextpixel.tasks.pictures import read_files, write_files

MODELS = {
    "binary": IntegerModel((1, 6, 5), 2),
    "grey": IntegerModel((1, 6, 5), 256),
    "rgb": IntegerModel((3, 4, 5), 16),
    "classes": IntegerModel((1, 5, 4), 3, classes=10),
    "one class": IntegerModel((1, 5, 4), 3, classes=1),
    "many levels": IntegerModel((1, 3, 4), 300),
}
FRAMING, PER_CHUNK, PER_RUN = 92, 24, 12


def split_of(model, n, size=None, seed=0):
    images, labels = pictures_of(model, n, seed, size)
    return Split(images, labels, model.levels, "drawn", "", model.classes)


@pytest.mark.parametrize("coder", ["python", "constriction"])
@pytest.mark.parametrize("name", MODELS)
def test_pictures_come_back(name, coder, monkeypatch):
    if coder == "constriction":
        pytest.importorskip("constriction")
    monkeypatch.setenv("NEXTPIXEL_CODER", coder)
    model = MODELS[name]
    data = split_of(model, 23)
    archive = npx.compress(model, data, chunk_bytes=60, batch_size=7)
    again = npx.decompress(archive, model, batch_size=4)
    assert torch.equal(again.images, data.images)
    assert again.images.dtype == data.images.dtype
    assert (again.levels, again.classes) == (model.levels, model.classes)
    if model.classes is None:
        assert again.labels is None
    else:
        assert torch.equal(again.labels, data.labels)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6)), min_size=1, max_size=3),
    st.one_of(st.none(), st.tuples(st.integers(1, 7), st.integers(1, 7))),
    st.integers(1, 200),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_sizes_tiles_and_batches_in_any_mixture(name, sizes, tile, chunk_bytes, batch, other):
    model = MODELS[name]
    drawn = [pictures_of(model, n, seed=n, size=(h, w)) for h, w, n in sizes]
    pictures = [images for images, _ in drawn]
    labels = None if model.classes is None else [given for _, given in drawn]
    archive = write(model, pictures, labels, tile=tile, batch_size=batch, chunk_bytes=chunk_bytes)
    assert archive == write(
        model, pictures, labels, tile=tile, batch_size=other, chunk_bytes=chunk_bytes, kind="python"
    )
    parsed = parse(archive)
    assert parsed.faults == []
    restored = restore(parsed, model, batch_size=other)
    assert restored.faults == []
    assert all(map(torch.equal, restored.pictures, pictures))
    assert all(whole.all() for whole in restored.whole)
    assert not any(partial.any() for partial in restored.partial)
    if labels is not None:
        assert all(map(torch.equal, restored.labels, labels))
    header = parsed.header
    plain = sum(
        -(-chunk.entry.pieces * header.raw_bits(chunk.group.height, chunk.group.width) // 8) for chunk in parsed.chunks
    )
    assert len(archive) <= FRAMING + PER_RUN * (len(sizes) - 1) + PER_CHUNK * header.chunks + plain


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 10), st.integers(1, 10))
def test_tiles_cover_every_pixel_once(height, width, n, th, tw):
    run = Run(height, width, n)
    images = torch.arange(n * 2 * height * width).reshape(n, 2, height, width).int()
    put, seen = blank(run, 2, torch.int32), 0
    for group in groups([run], (th, tw)):
        pieces = group.cut(images)
        assert pieces.shape == (group.pieces, 2, min(group.height, th), min(group.width, tw))
        half = len(pieces) // 2
        group.put(put, half, pieces[half:])
        group.put(put, 0, pieces[:half])
        seen += pieces.numel()
    assert torch.equal(put, images)
    assert seen == images.numel()


@pytest.mark.parametrize(("levels", "classes"), [(2, 0), (3, 0), (256, 5), (257, 1), (65536, 65536)])
def test_stored_pixels_take_the_bits_they_need(levels, classes):
    generator = torch.Generator().manual_seed(0)
    dtype = torch.uint8 if levels <= 256 else torch.int32
    pieces = torch.randint(levels, (3, 2, 3, 3), generator=generator).to(dtype)
    pieces[0, 0, 0, 0] = levels - 1
    labels = torch.tensor([0, classes - 1, 0]) if classes else None
    packed = store(pieces, labels, levels, classes)
    header = Header(0, bytes(32), 2, levels, classes, None, [Run(3, 3, 3)], 1)
    assert len(packed) == -(-3 * header.raw_bits(3, 3) // 8)
    found = unstore(packed, tuple(pieces.shape), levels, classes)
    assert torch.equal(found.pieces, pieces)
    assert classes == 0 or torch.equal(found.labels, labels)
    assert unstore(packed + b"\0", tuple(pieces.shape), levels, classes) is None


def test_stored_values_that_there_are_not_are_refused():
    assert unstore(bytes([0b11000000]), (1, 1, 1, 1), 3, 0) is None
    assert unstore(bytes([0b00100000]), (1, 1, 1, 1), 3, 0) is None  # a bit set in what only fills the byte


def test_noise_is_stored_and_grows_by_framing_only():
    model = MODELS["grey"]
    noise = torch.randint(256, (600, 1, 6, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    archive = npx.compress(model, noise)
    chunks = parse(archive).header.chunks
    assert chunks == 2  # 18,000 bytes: one chunk of 16 KiB or more, and the rest
    assert len(archive) == noise.numel() + FRAMING + PER_CHUNK * chunks
    assert torch.equal(npx.decompress(archive, model).images, noise)


def test_framing_is_what_was_promised():
    data = split_of(MODELS["binary"], 2000)
    archive = npx.compress(MODELS["binary"], data, chunk_bytes=500)
    parsed = parse(archive)
    assert parsed.header.chunks > 5
    coded = sum(chunk.entry.length for chunk in parsed.chunks)
    assert all(chunk.entry.length >= 500 for chunk in parsed.chunks[:-1])
    assert len(archive) - coded == FRAMING + PER_CHUNK * parsed.header.chunks
    bits = float(npx.bits_map(MODELS["binary"], data).sum())
    assert coded * 8 <= bits + 64 * parsed.header.chunks


def test_a_chunk_by_itself():
    model = MODELS["classes"]
    data = split_of(model, 200)
    archive = npx.compress(model, data, chunk_bytes=50)
    starts = np.cumsum([0] + [chunk.entry.pieces for chunk in parse(archive).chunks])
    for index in (0, 2, len(starts) - 2):
        found = npx.decompress(archive, model, chunks=[index])
        part = slice(starts[index], starts[index + 1])
        assert torch.equal(found.images, data.images[part])
        assert torch.equal(found.labels, data.labels[part])
    with pytest.raises(UserError, match="has the chunks 0"):
        npx.decompress(archive, model, chunks=[len(starts) - 1])


def test_a_large_picture_in_tiles_is_decoded_side_by_side(monkeypatch):
    model = MODELS["binary"]
    images, _ = pictures_of(model, 1, size=(33, 41))
    asked = []
    monkeypatch.setattr(model, "decoder", lambda n, *rest: asked.append(n) or IntegerModel.decoder(model, n, *rest))
    archive = npx.compress(model, images, tile=8, verify=False, chunk_bytes=30)
    assert torch.equal(npx.decompress(archive, model, batch_size=20).images, images)
    assert parse(archive).header.chunks > 4
    assert max(asked) > 10  # whole tiles of several chunks at once: 4 rows of 5


def test_labels_are_counted():
    plain, labelled = IntegerModel((1, 5, 4), 3), MODELS["classes"]
    images, _ = pictures_of(plain, 3000)
    labels = torch.arange(3000) % 10
    sizes = [len(npx.compress(model, images, labels=labels)) for model in (plain, labelled)]
    own = float(npx.bits_map(labelled, images, labels=labels).sum() - npx.bits_map(plain, images).sum()) / 8
    assert abs(sizes[1] - sizes[0] - own - 3000 * np.log2(10) / 8) < 20


@pytest.mark.parametrize("tile", [0, 3])
def test_the_bits_map_adds_up_to_the_size(tile):
    model = MODELS["rgb"]
    data = split_of(model, 40, (7, 8))
    bits = npx.bits_map(model, data, tile=tile, batch_size=9)
    assert bits.shape == (40, 7, 8)
    coded = sum(chunk.entry.length for chunk in parse(npx.compress(model, data, tile=tile)).chunks)
    assert float(bits.sum()) / 8 <= coded <= float(bits.sum()) / 8 + 9 * 4


def test_the_bits_of_a_pixel_are_those_of_its_masses():
    model = IntegerModel((2, 3, 4), 5)
    images, _ = pictures_of(model, 1)
    steps, wanted = model.decoder(1, None, (3, 4)), torch.zeros(3, 4)
    for at, value in enumerate(model.in_sequence(images)[0].tolist()):
        masses = steps.masses()[0, 0].double()
        wanted.view(-1)[at // 2] -= torch.log2(masses[value] / masses.sum()).float()
        steps.push(torch.tensor([[value]]))
    torch.testing.assert_close(npx.bits_map(model, images)[0].float(), wanted, atol=1e-4, rtol=1e-4)


def test_names_and_modes_come_back():
    files = [File("a/b.png", "L"), File("Ärger.png", "RGB"), File("c d.tif", "1")]
    assert unpack_files(pack_files(files)[4:], 3) == files


@pytest.mark.parametrize(
    "name",
    ["/etc/x.png", "../x.png", "a/../../x.png", "a\\b.png", "C:x.png", "", ".", "a//b.png", "x\0.png", "x" * 2000],
)
def test_names_that_could_leave_the_folder_are_refused(name, assert_sentence):
    with pytest.raises(UserError, match="cannot be kept") as error:
        pack_files([File(name, "L")])
    assert_sentence(error)


def test_names_that_are_one_to_the_disk_do_not_overwrite_each_other(tmp_path, assert_sentence):
    """As "a.png" and "A.png" are on some; here two spellings of one path stand for them."""
    one, other = torch.zeros(1, 2, 2, dtype=torch.uint8), torch.full((1, 2, 2), 9, dtype=torch.uint8)
    with pytest.raises(UserError, match="has the same name on this disk") as error:
        write_files(tmp_path / "out", [one, other], [File("a/b.png", "L"), File("a//b.png", "L")], 256)
    assert_sentence(error)
    assert np.asarray(Image.open(tmp_path / "out/a/b.png")).max() == 0


def test_what_was_verified_is_the_archive_not_the_work(tmp_path):
    """Kept pieces that were damaged between two sittings make another archive than the one that was verified."""
    model, data = MODELS["grey"], split_of(MODELS["grey"], 30)
    work = str(tmp_path / "work")
    archive = npx.compress(model, data, work=work, piece=10)
    assert npx.compress(model, data, work=work, piece=10) == archive
    kept = tmp_path / "work/symbols-000001.safetensors"
    parts = load_file(kept)
    parts["left"][3, 4:9] = parts["left"][3, 4:9].flip(0)
    with safe_open(kept, "pt") as file:
        described = file.metadata()
    save_file(parts, kept, metadata=described)
    with pytest.raises(RuntimeError, match=r"not written: remove the folder .*work"):
        npx.compress(model, data, work=work, piece=10)


def test_a_float_model_is_frozen(tiny):
    model, images = tiny(), torch.randint(2, (3, 1, 4, 5), dtype=torch.uint8)
    archive = npx.compress(model, images, verify=False)
    assert archive == npx.compress(npx.freeze(model), images)
    assert torch.equal(npx.decompress(archive, model).images, images)
    assert codable(MODELS["grey"]) is MODELS["grey"]


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (torch.zeros(0, 1, 5, 4, dtype=torch.uint8), torch.zeros(0).long(), "holds no images"),
        (torch.zeros(2, 3, 5, 4, dtype=torch.uint8), torch.zeros(2).long(), "3 channels, the model is for 1"),
        (torch.full((2, 1, 5, 4), 3), torch.zeros(2).long(), "hold the value 3"),
        (torch.zeros(2, 1, 5, 4), torch.zeros(2).long(), "must be integers"),
        (torch.zeros(2, 1, 5, 0, dtype=torch.uint8), torch.zeros(2).long(), "no pixels"),
        (torch.zeros(2, 1, 5, 4, dtype=torch.uint8), None, "no labels"),
        (torch.zeros(2, 1, 5, 4, dtype=torch.uint8), torch.tensor([0, 10]), "10 classes are 0..9"),
    ],
)
def test_data_that_do_not_fit_are_refused(images, labels, words, assert_sentence):
    with pytest.raises(UserError, match=words) as error:
        npx.compress(MODELS["classes"], images, labels=labels)
    assert_sentence(error)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda model, x: npx.compress("model", x), "no model but a str"),
        (lambda model, x: npx.compress(model, x.numpy()), "must be a Split or a tensor"),
        (lambda model, x: npx.compress(model, x, labels=[0, 1]), "labels in a tensor"),
        (lambda model, x: npx.compress(model, x, batch_size=1.5), "batch_size must be a whole number, not 1.5"),
        (lambda model, x: npx.decompress(7, model), "not a int"),
        (lambda model, x: npx.decompress(npx.compress(model, x), "model"), "no model but a str"),
        (lambda model, x: npx.evaluate(npx.build("pixelcnn", shape=(1, 8, 8), levels=4), x), "not a Tensor"),
    ],
)
def test_things_of_another_kind_are_refused(mistake, words, assert_sentence):
    with pytest.raises(UserError, match=words) as error:
        mistake(MODELS["grey"], torch.zeros(2, 1, 6, 5, dtype=torch.uint8))
    assert_sentence(error)


def test_an_archive_may_be_any_bytes():
    images = torch.zeros(2, 1, 6, 5, dtype=torch.uint8)
    archive = npx.compress(MODELS["grey"], images)
    for held in (bytearray(archive), memoryview(archive)):
        assert torch.equal(npx.decompress(held, MODELS["grey"]).images, images)


def test_a_split_of_other_levels_is_refused():
    with pytest.raises(UserError, match="has 4 levels, the model 256"):
        npx.compress(MODELS["grey"], Split(torch.zeros(1, 1, 6, 5, dtype=torch.uint8), None, 4, "x", ""))


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"tile": -1}, {"chunk_bytes": 0}, {"chunk": 3}])
def test_options_are_checked(option, assert_sentence):
    with pytest.raises(UserError) as error:
        npx.compress(MODELS["grey"], torch.zeros(1, 1, 6, 5, dtype=torch.uint8), **option)
    assert_sentence(error)


def test_a_model_that_steps_otherwise_than_it_passes_is_found_out():
    class Liar(IntegerModel):
        def decoder(self, n, labels, size):
            steps = super().decoder(n, labels, size)
            steps.classed = steps.classed + 1000
            return steps

    data = split_of(IntegerModel((1, 6, 5), 4), 9)
    with pytest.raises(RuntimeError, match="does not decode to the same pixels"):
        npx.compress(Liar((1, 6, 5), 4), data)


def test_several_sizes_do_not_make_a_split(assert_sentence):
    model = MODELS["binary"]
    runs = [pictures_of(model, 2, size=size)[0] for size in ((3, 4), (4, 3))]
    with pytest.raises(UserError, match="pictures of 2 sizes") as error:
        npx.decompress(write(model, runs, None), model)
    assert_sentence(error)


def test_info_says_what_is_there():
    data = split_of(MODELS["classes"], 50)
    archive = npx.compress(MODELS["classes"], data)
    facts = npx.archive_info(archive)
    assert (facts["pictures"], facts["levels"], facts["classes"], facts["sizes"]) == (50, 3, 10, [[5, 4, 50]])
    assert facts["bits_per_dim"] == 8 * len(archive) / (50 * 20)
    assert facts["model"] == MODELS["classes"].identity.hex()
    assert facts["damage"] == []
    assert npx.verify(archive, MODELS["classes"])
    assert not npx.verify(archive)


@pytest.mark.parametrize(
    ("limit", "words"), [("MOST_IN_PIECE", "must be cut into tiles"), ("MOST_RUNS", "pictures of up to 1 sizes")]
)
def test_what_is_too_large_for_the_format_is_refused(monkeypatch, limit, words, assert_sentence):
    monkeypatch.setattr(f"nextpixel.coding.writing.{limit}", 1)
    runs = [torch.zeros(1, 1, side, side, dtype=torch.uint8) for side in (2, 3)]
    with pytest.raises(UserError, match=words) as error:
        write(MODELS["binary"], runs, None)
    assert_sentence(error)


def test_names_that_are_too_long_together(monkeypatch, assert_sentence):
    monkeypatch.setattr("nextpixel.coding.sections.LONGEST_LIST", 100)
    with pytest.raises(UserError, match="too long to be kept") as error:
        pack_files([File("x" * 90, "L")])
    assert_sentence(error)


@pytest.mark.parametrize("section", [b"", b"\x05\0\0\0abcd"])
def test_a_model_section_that_is_none(section, assert_sentence):
    with pytest.raises(UserError, match="model inside the archive is damaged") as error:
        unpack_model(section)
    assert_sentence(error)


def test_a_model_section():
    assert unpack_model(pack_model(b"{}", b"weights")[4:]) == (b"{}", b"weights")


def test_picture_files_are_not_for_models_of_other_channels(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="is for 4 channels, and picture files have 1 or 3"):
        read_files([tmp_path / "a.png"], channels=4, levels=256)
