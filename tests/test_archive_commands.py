"""compress, decompress, verify and info as commands, with a small integer model in place of a frozen one."""

import json
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from integer_model import IntegerModel, pictures_of
from PIL import Image

import nextpixel as npx
from nextpixel.coding import parse
from nextpixel.tasks import decompress as decompressing

GREY, RGB, BINARY = IntegerModel((1, 6, 5), 256), IntegerModel((3, 6, 5), 256), IntegerModel((1, 6, 5), 2)


@pytest.fixture
def using(monkeypatch, tmp_path):
    """Every command finds this model, whatever it is called."""
    monkeypatch.chdir(tmp_path)

    def use(model):
        monkeypatch.setattr("nextpixel.cli.archive.open_model", lambda *where: model)

    return use


def noise(shape, top=256):
    return np.random.default_rng(sum(shape)).integers(0, top, shape, dtype=np.uint8)


def modes_of(folder):
    return {str(path.relative_to(folder)): Image.open(path).mode for path in folder.rglob("*.*")}


def test_a_folder_comes_back_with_names_modes_and_sizes(using, nextpixel, tmp_path):
    using(RGB)
    (tmp_path / "in/deep er").mkdir(parents=True)
    kept = {
        "a.png": Image.fromarray(noise((6, 5, 3))),
        "deep er/Ä.bmp": Image.fromarray(noise((6, 5))),
        "b.tif": Image.fromarray(noise((4, 7)) > 127),
        "wide.ppm": Image.fromarray(noise((3, 9, 3))),
        "c.png": Image.fromarray(noise((4, 7))),
    }
    for name, picture in kept.items():
        picture.save(tmp_path / "in" / name)
    Image.fromarray(noise((6, 5, 3))).save(tmp_path / "in/photo.jpg")
    assert kept["b.tif"].mode == "1"
    done = nextpixel("compress", "m", "in", "--out", "out.npx", "--json", "facts.json")
    assert done.status == 0, done.err
    assert "every pixel equal" in done.out
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert (facts["pictures"], facts["named_files"], facts["verified"]) == (6, 6, True)
    assert nextpixel("decompress", "out.npx", "m", "--out", "again").status == 0
    wanted = {name: picture.mode for name, picture in kept.items()} | {"photo.jpg.png": "RGB"}
    assert modes_of(tmp_path / "again") == wanted
    for name, picture in kept.items():
        assert np.array_equal(np.asarray(Image.open(tmp_path / "again" / name)), np.asarray(picture))
    jpeg = np.asarray(Image.open(tmp_path / "in/photo.jpg"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "again/photo.jpg.png")), jpeg)


def test_black_and_white_files_for_a_binary_model(using, nextpixel, tmp_path):
    using(BINARY)
    one = Image.fromarray(noise((6, 5)) > 127)
    other = Image.fromarray((noise((6, 5), 2) * 255).astype(np.uint8))
    one.save(tmp_path / "one.png")
    other.save(tmp_path / "other.png")
    assert nextpixel("compress", "m", "one.png", "other.png").status == 0
    assert nextpixel("decompress", "archive.npx", "m").status == 0
    assert modes_of(tmp_path / "pictures") == {"one.png": "1", "other.png": "L"}
    for name, picture in (("one", one), ("other", other)):
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"pictures/{name}.png")), np.asarray(picture))


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_arrays_come_back_as_arrays(using, nextpixel, tmp_path, suffix):
    model = IntegerModel((1, 6, 5), 17, classes=3)
    using(model)
    images, labels = pictures_of(model, 12)
    np.savez(tmp_path / "in.npz", images=images.numpy(), labels=labels.numpy())
    assert nextpixel("compress", "m", "in.npz", "--bits-map", "bits.png").status == 0
    assert Image.open(tmp_path / "bits.png").width > 100
    done = nextpixel("decompress", "archive.npx", "m", "--out", f"again.{suffix}")
    assert done.status == 0
    assert ("left out" in done.out) == (suffix == "npy")  # the labels
    found = np.load(tmp_path / f"again.{suffix}")
    assert np.array_equal(found if suffix == "npy" else found["images"], images.numpy())
    if suffix == "npz":
        assert np.array_equal(found["labels"], labels.numpy())


@pytest.mark.parametrize("out", ["there", "there.npz", "sizes.npz", "link"])
def test_where_nothing_can_be_written_nothing_is_decoded(using, nextpixel, tmp_path, monkeypatch, out):
    using(GREY)
    for name, size in (("a.png", (6, 5)), ("b.png", (5, 6))):
        Image.fromarray(noise(size)).save(tmp_path / name)
    assert nextpixel("compress", "m", "a.png", "b.png").status == 0
    (tmp_path / "there").mkdir()
    (tmp_path / "there/kept.txt").touch()
    (tmp_path / "there.npz").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(decompressing, "unpack", None)
    ended = nextpixel("decompress", "archive.npx", "m", "--out", out)
    assert ended.status == 2
    assert ("pictures of 2 sizes" if out == "sizes.npz" else "is there already") in ended.error()


def test_info_needs_no_limit(using, nextpixel, tmp_path, monkeypatch):
    using(GREY)
    Image.fromarray(noise((6, 5))).save(tmp_path / "a.png")
    assert nextpixel("compress", "m", "a.png").status == 0
    header = bytearray((tmp_path / "archive.npx").read_bytes()[:92])
    header[76:84] = struct.pack("<II", 1 << 20, 1 << 20)  # the size of the picture
    header[88:] = struct.pack("<I", zlib.crc32(header[:88]))
    (tmp_path / "huge.npx").write_bytes(header + (tmp_path / "archive.npx").read_bytes()[92:])
    assert "raise max_pixels" in nextpixel("verify", "huge.npx").error()
    assert "1048576x1048576" in nextpixel("info", "huge.npx").out


def test_named_data(using, nextpixel, tmp_path):
    using(IntegerModel((1, 8, 8), 17))
    done = nextpixel("compress", "m", "digits", "--split", "valid", "--no-verify")
    assert done.status == 0, done.err
    images = npx.dataset("digits").valid.images
    assert torch.equal(npx.decompress(tmp_path / "archive.npx", IntegerModel((1, 8, 8), 17)).images, images)


def test_the_model_inside(using, nextpixel, tmp_path, monkeypatch):
    """It is saved and loaded as any model; here a stand-in that keeps one number."""

    class Saved(IntegerModel):
        def save_pretrained(self, folder):
            folder.mkdir(parents=True)
            (folder / "config.json").write_text("{}")
            (folder / "model.safetensors").write_bytes(b"weights")

    def load(folder):
        assert (tmp_path.__class__(folder) / "model.safetensors").read_bytes() == b"weights"
        return GREY

    using(Saved((1, 6, 5), 256))
    monkeypatch.setattr(decompressing, "load", load)
    np.save(tmp_path / "in.npy", noise((4, 6, 5)))
    assert nextpixel("compress", "m", "in.npy", "--embed-model").status == 0
    assert nextpixel("decompress", "archive.npx", "--out", "again.npy").status == 0
    assert np.array_equal(np.load(tmp_path / "again.npy")[:, 0], noise((4, 6, 5)))
    assert "every picture was decoded" in nextpixel("verify", "archive.npx").out
    damaged = bytearray((tmp_path / "archive.npx").read_bytes())
    damaged[npx.archive_info(bytes(damaged))["framing_bytes"] + 8] ^= 1
    (tmp_path / "archive.npx").write_bytes(damaged)
    assert "the model inside" in nextpixel("verify", "archive.npx").error()


def test_verify_and_info(using, nextpixel, tmp_path):
    using(GREY)
    np.save(tmp_path / "in.npy", noise((4, 6, 5)))
    nextpixel("compress", "m", "in.npy")
    assert "pass the model" in nextpixel("verify", "archive.npx").out
    done = nextpixel("verify", "archive.npx", "m", "--json", "verified.json")
    assert done.status == 0
    assert json.loads((tmp_path / "verified.json").read_text()) == {"in_order": True, "decoded": True}
    done = nextpixel("info", "archive.npx", "--json", "info.json")
    assert GREY.identity.hex() in done.out
    assert json.loads((tmp_path / "info.json").read_text())["pictures"] == 4


def test_damage_is_said_and_the_rest_written(using, nextpixel, tmp_path):
    using(BINARY)
    (tmp_path / "in").mkdir()
    images, _ = pictures_of(BINARY, 40)
    for index, image in enumerate(images):
        Image.fromarray(image[0].numpy() * 255).save(tmp_path / f"in/{index:02d}.png")
    nextpixel("compress", "m", "in", "--chunk-bytes", "30")
    data = bytearray((tmp_path / "archive.npx").read_bytes())
    data[-1] ^= 1
    (tmp_path / "archive.npx").write_bytes(data)
    for verb in ("decompress", "verify"):
        ended = nextpixel(verb, "archive.npx", "m")
        assert ended.status == 2
        assert "chunk" in ended.error()
    assert not (tmp_path / "pictures").exists()
    ended = nextpixel("decompress", "archive.npx", "m", "--damaged", "report")
    assert ended.status == 2
    assert "What is whole has been written" in ended.error()
    written = sorted((tmp_path / "pictures").iterdir())
    assert 0 < len(written) < 40
    assert all((tmp_path / "in" / path.name).read_bytes() == path.read_bytes() for path in written)


def test_one_chunk(using, nextpixel, tmp_path):
    using(BINARY)
    images, _ = pictures_of(BINARY, 60)
    np.save(tmp_path / "in.npy", images.numpy())
    nextpixel("compress", "m", "in.npy", "--chunk-bytes", "30")
    assert nextpixel("decompress", "archive.npx", "m", "--chunk", "0", "--out", "first.npy").status == 0
    first = np.load(tmp_path / "first.npy")
    assert 0 < len(first) < 60
    assert np.array_equal(first, images[: len(first)].numpy())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("compress m alpha.png", "partly transparent"),
        ("compress m deep.png", "more than 8 bits"),
        ("compress m deep.ppm", "more than 8 bits"),
        ("compress m deep.sgi", "more than 8 bits"),
        ("compress m colour.png", "is in colour, and the model is for grey pictures"),
        ("compress m cmyk.tif", "has the colour mode CMYK"),
        ("compress m film.gif", "holds 2 frames"),
        ("compress m text.png", "cannot be read as a picture (it is damaged, or no picture)"),
        ("compress m nowhere.png", "There is no file or folder nowhere.png"),
        ("compress m empty", "holds no pictures"),
        ("compress m grey.png twice/grey.png", "would get the same name"),
        ("compress m grey.png --levels 2", "compressed as they are"),
        ("compress m grey.png --batch-size 0", "must be positive"),
        ("compress m grey.png --out empty", "cannot be written"),
        ("compress m grey.png --out good.npx", "is there already"),
        ("compress m grey.png --embed-model", "cannot be embedded"),
        ("compress m grey.png --bits-map bits.jpg", "must end in .png"),
        ("compress m large.npy", "holds the value 70000, but 256 levels end at 255: 65536 is the most"),
        ("compress m float.npy", "floats"),
        ("decompress grey.png m", "grey.png: This is no nextpixel archive"),
        ("decompress nowhere.npx m", "There is no archive"),
        ("decompress good.npx m --out twice", "is there already"),
        ("decompress good.npx m --out some.jpg", "must end in"),
        ("decompress good.npx m --chunk 7", "has the chunks 0..0"),
        ("decompress good.npx m --max-pixels 5", "raise max_pixels"),
        ("decompress good.npx m --damaged perhaps", "perhaps"),
        ("decompress good.npx", "pass that model"),
        ("verify grey.png", "no nextpixel archive"),
        ("info grey.png", "grey.png: This is no nextpixel archive"),
    ],
)
def test_mistakes_end_with_one_sentence(using, nextpixel, tmp_path, line, says):
    using(GREY)
    for folder in ("empty", "twice"):
        (tmp_path / folder).mkdir()
    for where in ("grey.png", "twice/grey.png"):
        Image.fromarray(noise((6, 5))).save(tmp_path / where)
    Image.fromarray(noise((6, 5, 4))).save(tmp_path / "alpha.png")
    Image.fromarray(noise((6, 5)).astype(np.uint16) * 256).save(tmp_path / "deep.png")
    deep = b"\x01\x07" * 90
    (tmp_path / "deep.ppm").write_bytes(b"P6\n5 6\n65535\n" + deep)
    (tmp_path / "deep.sgi").write_bytes(struct.pack(">hbbHHHH", 474, 0, 2, 3, 5, 6, 3).ljust(512, b"\0") + deep)
    Image.fromarray(noise((6, 5, 3))).save(tmp_path / "colour.png")
    Image.fromarray(noise((6, 5, 3))).convert("CMYK").save(tmp_path / "cmyk.tif")
    Image.fromarray(noise((6, 5))).save(tmp_path / "film.gif", save_all=True, append_images=[Image.new("L", (5, 6))])
    (tmp_path / "text.png").write_text("no picture")
    np.save(tmp_path / "float.npy", np.zeros((2, 6, 5)))
    np.save(tmp_path / "large.npy", np.full((2, 6, 5), 70000))
    (tmp_path / "good.npx").write_bytes(npx.compress(GREY, torch.zeros(1, 1, 6, 5, dtype=torch.uint8)))
    kept = (tmp_path / "good.npx").read_bytes()
    ended = nextpixel(*line.split())
    assert ended.status == 2
    assert says in ended.error()
    assert (tmp_path / "good.npx").read_bytes() == kept


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_an_archive_is_written_like_any_other_file(using, nextpixel, tmp_path):
    using(GREY)
    Image.fromarray(noise((6, 5))).save(tmp_path / "grey.png")
    (tmp_path / "usual").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "elsewhere/facts.json")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        assert nextpixel("compress", "m", "grey.png", "--out", "pipe", "--json", "link.json").status == 0
        (tmp_path / "a.npx").write_bytes(read.result(timeout=30))
    assert pipe.is_fifo()
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "elsewhere/facts.json").read_text())["bytes"] == (tmp_path / "a.npx").stat().st_size
    assert nextpixel("verify", "a.npx", "m").status == 0
    assert nextpixel("compress", "m", "grey.png").status == 0
    assert (tmp_path / "archive.npx").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_full_disk_leaves_nothing_behind(using, nextpixel, tmp_path, monkeypatch):
    using(GREY)
    Image.fromarray(noise((6, 5))).save(tmp_path / "grey.png")
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    ended = nextpixel("compress", "m", "grey.png")
    assert (ended.status, ended.error()) == (2, "Error: archive.npx cannot be written (No space left on device).")
    (tmp_path / "whole.npx").write_bytes(npx.compress(GREY, torch.zeros(1, 1, 6, 5, dtype=torch.uint8)))
    for name in ("out.npy", "out.npz"):
        assert f"{name} cannot be written" in nextpixel("decompress", "whole.npx", "m", "--out", name).error()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grey.png", "whole.npx"]


def test_other_levels_and_sizes_need_arrays_or_folders(using, nextpixel, tmp_path):
    grey = noise((6, 5))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    using(BINARY)
    assert "is not black and white" in nextpixel("compress", "m", "grey.png").error()
    using(IntegerModel((1, 6, 5), 17))
    assert "picture files have 2 or 256" in nextpixel("compress", "m", "grey.png").error()
    assert "There is no file or folder nowhere" in nextpixel("compress", "m", "nowhere").error()
    model = IntegerModel((1, 6, 5), 300)
    using(model)
    np.savez(tmp_path / "parts.npz", train=pictures_of(model, 3)[0].numpy(), test=pictures_of(model, 2)[0].numpy())
    assert "has no valid images" in nextpixel("compress", "m", "parts.npz", "--split", "valid").error()
    assert nextpixel("compress", "m", "parts.npz").status == 0
    assert "cannot hold 300 levels" in nextpixel("decompress", "archive.npx", "m").error()
    assert nextpixel("decompress", "archive.npx", "m", "--out", "two.npy").status == 0
    assert np.load(tmp_path / "two.npy").shape == (2, 1, 6, 5)
    using(GREY)
    Image.fromarray(grey.T.copy()).save(tmp_path / "turned.png")
    assert nextpixel("compress", "m", "grey.png", "turned.png", "--out", "sizes.npx").status == 0
    assert "pictures of 2 sizes" in nextpixel("decompress", "sizes.npx", "m", "--out", "a.npz").error()


def test_a_photograph_with_a_lost_tile_is_written_as_damaged(using, nextpixel, tmp_path):
    using(BINARY)
    image = pictures_of(BINARY, 1, size=(40, 40))[0][0, 0].numpy() * 255
    Image.fromarray(image).save(tmp_path / "large.png")
    assert nextpixel("compress", "m", "large.png", "--tile", "8", "--chunk-bytes", "20").status == 0
    data = bytearray((tmp_path / "archive.npx").read_bytes())
    data[-1] ^= 1
    (tmp_path / "archive.npx").write_bytes(data)
    assert nextpixel("decompress", "archive.npx", "m", "--damaged", "report").status == 2
    found = np.asarray(Image.open(tmp_path / "pictures/large.png.damaged.png"))
    assert found.shape == image.shape
    assert np.array_equal(found[:8], image[:8])
    assert not np.array_equal(found, image)


def test_a_float_model_is_frozen_and_that_is_said(nextpixel, tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny(shape=(1, 8, 8), levels=17).save_pretrained(tmp_path / "float")
    ended = nextpixel("compress", "float", "digits", "--split", "valid", "--no-verify")
    assert ended.status == 0
    assert "nextpixel freeze" in ended.err
    assert nextpixel("freeze", "float", "--out", "frozen").status == 0
    assert nextpixel("verify", "archive.npx", "frozen").status == 0


def test_models_are_verified_too(nextpixel, tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny(shape=(1, 8, 8), levels=17)
    model.save_pretrained(tmp_path / "float")
    npx.freeze(model).save_pretrained(tmp_path / "frozen")
    assert "all finite" in nextpixel("verify", "float").out
    ended = nextpixel("verify", "frozen", "--json", "facts.json")
    assert "proved to be exact" in ended.out
    assert json.loads((tmp_path / "facts.json").read_text())["identity"] == npx.freeze(model).identity
    next(model.parameters()).data[0] = float("nan")
    model.save_pretrained(tmp_path / "spoilt")
    ended = nextpixel("verify", "spoilt")
    assert ended.status == 2
    assert "not finite" in ended.error()


def test_names_that_could_not_be_written_are_refused_before_anything_is_coded(using, nextpixel, tmp_path):
    using(RGB)
    for folder, name in (("one", "a.png"), ("two/a.png", "b.png"), ("long", "x" * 251 + ".jpg")):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(noise((6, 5, 3))).save(tmp_path / folder / name)
    ended = nextpixel("compress", "m", "one", "two", "--out", "out.npx")
    assert "would lie in one/a.png, a picture" in ended.error()
    assert "too long for a file" in nextpixel("compress", "m", "long", "--out", "out.npx").error()
    assert not (tmp_path / "out.npx").exists()


def test_without_their_names_pictures_of_several_sizes_are_numbered(using, nextpixel, tmp_path):
    using(RGB)
    (tmp_path / "in").mkdir()
    for name, size in (("a", (6, 5, 3)), ("b", (4, 7, 3)), ("c", (6, 5, 3))):
        Image.fromarray(noise(size)).save(tmp_path / f"in/{name}.png")
    assert nextpixel("compress", "m", "in", "--out", "out.npx").status == 0
    damaged = bytearray((tmp_path / "out.npx").read_bytes())
    damaged[parse(bytes(damaged)).header.sections + 6] ^= 1
    (tmp_path / "out.npx").write_bytes(damaged)
    ended = nextpixel("decompress", "out.npx", "m", "--out", "again", "--damaged", "report")
    assert "the names of the files" in ended.err
    found = {str(path.relative_to(tmp_path / "again")) for path in (tmp_path / "again").rglob("*.png")}
    assert found == {"0-6x5/00000.png", "0-6x5/00001.png", "1-4x7/00000.png"}
    assert np.array_equal(np.asarray(Image.open(tmp_path / "again/1-4x7/00000.png")), noise((4, 7, 3)))


def test_a_tile_that_an_archive_cannot_say(using, nextpixel, tmp_path):
    using(RGB)
    Image.fromarray(noise((6, 5, 3))).save(tmp_path / "a.png")
    assert "larger than an archive can say" in nextpixel("compress", "m", "a.png", "--tile", 2**32).error()
