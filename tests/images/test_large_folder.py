"""Folders that are read picture by picture: the splits of the folder in memory, indexed once, nothing lost silently."""

import os

import numpy as np
import pytest
import torch
from lazily import assert_equal
from PIL import Image, PngImagePlugin

from nextpixel.errors import UserError
from nextpixel.images import dataset, large_folder
from nextpixel.images.lazy import LazySplit


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEXTPIXEL_CACHE", str(tmp_path / "cache"))


def save(path, seed, height=6, width=5, channels=1, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, channels) if channels > 1 else (height, width)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path, **options)


def flat(folder):
    for i in range(30):
        save(folder / f"{i:02}.png", i)


def classes(folder):
    for number, name in enumerate(["b", "a", "a-b", "a b"]):
        for i in range(6):
            save(folder / name / ("deeper" if i % 2 else ".") / f"{i}.png", 10 * number + i)


def splits(folder):
    for part, count in (("train", 12), ("val", 3), ("test", 4)):
        for i in range(count):
            save(folder / part / ("cat" if i % 3 else "dog") / f"{i}.png", i)


def train_and_test(folder):
    for part, count in (("train", 25), ("test", 4)):
        for i in range(count):
            save(folder / part / f"{i}.png", i)


def one_in_colour(folder):
    flat(folder)
    save(folder / "colour.png", 99, channels=3)


def many_modes(folder):
    flat(folder)
    grey = Image.fromarray(np.random.default_rng(3).integers(0, 256, (6, 5), dtype=np.uint8))
    grey.convert("1").save(folder / "one-bit.png")
    grey.convert("LA").save(folder / "opaque.png")
    grey.quantize(16).save(folder / "palette.png")
    turned = Image.Exif()
    turned[274] = 6
    grey.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=turned, quality=95)
    grey.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=turned)
    (folder / "damaged.png").write_bytes(b"no picture")
    (folder / ".hidden.png").write_bytes(b"no picture")


@pytest.mark.parametrize("make", [flat, classes, splits, train_and_test, one_in_colour, many_modes])
@pytest.mark.filterwarnings("ignore:1 of")
def test_a_folder_gives_the_splits_of_the_folder_in_memory(tmp_path, make):
    make(tmp_path / "set")
    lazily, at_once = (dataset(tmp_path / "set", lazy=lazy) for lazy in (True, False))
    assert_equal(lazily, at_once)
    assert lazily.skipped == at_once.skipped
    assert (lazily.classes, lazily.shape) == (at_once.classes, at_once.shape)


@pytest.mark.parametrize(
    "options",
    [
        {"size": (3, 4)},
        {"size": 3, "fit": "resize"},
        {"size": (6, 5)},
        {"channels": 3},
        {"levels": 8},
        {"binarise": "threshold"},
    ],
)
def test_options_do_what_they_do_in_memory(tmp_path, options):
    flat(tmp_path / "set")
    assert_equal(*(dataset(tmp_path / "set", lazy=lazy, **options) for lazy in (True, False)))


def test_sizes_that_differ_are_refused_or_cut(tmp_path):
    flat(tmp_path / "set")
    save(tmp_path / "set" / "other.png", 7, 8, 9)
    with pytest.raises(UserError, match=r"several sizes, such as 6x5 and 8x9 .*--size"):
        dataset(tmp_path / "set", lazy=True)
    with pytest.raises(UserError, match=r"00\.png: A picture of 6x5 has no centre of 7x7"):
        dataset(tmp_path / "set", size=7, lazy=True)
    assert_equal(*(dataset(tmp_path / "set", size=5, lazy=lazy) for lazy in (True, False)))
    assert dataset(tmp_path / "set", size=5, lazy=True).protocol == "8-bit, centre 5x5"


def counted_headers(monkeypatch):
    read, calls = large_folder.read_header, []
    monkeypatch.setattr(large_folder, "read_header", lambda *args: calls.append(args) or read(*args))
    return calls


def test_the_second_start_reads_no_picture_and_a_change_is_seen(tmp_path, monkeypatch):
    folder = tmp_path / "set"
    classes(folder)
    headers = counted_headers(monkeypatch)
    first = dataset(folder, lazy=True)
    assert len(headers) == 24
    monkeypatch.setattr(large_folder, "walk", None)
    assert dataset(folder, lazy=True).test.sha256 == first.test.sha256
    assert len(headers) == 24
    monkeypatch.undo()
    monkeypatch.setenv("NEXTPIXEL_CACHE", str(tmp_path / "cache"))
    save(folder / "b" / "new.png", 77)
    assert sum(map(len, (lambda d: (d.train, d.valid, d.test))(dataset(folder, lazy=True)))) == 25
    (folder / "b" / "new.png").unlink()
    (folder / "a" / "0.png").rename(folder / "a" / "renamed.png")
    assert_equal(dataset(folder, lazy=True), dataset(folder, lazy=False))
    assert len(list((tmp_path / "cache" / "indexes").iterdir())) == 1  # the older ones are gone


def test_by_default_large_folders_are_indexed(tmp_path, monkeypatch):
    flat(tmp_path / "set")
    assert not isinstance(dataset(tmp_path / "set").train, LazySplit)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr("nextpixel.images.store.LAZY_BYTES", 30 * 6 * 5 - 1)
    assert isinstance(dataset(tmp_path / "set").train, LazySplit)
    assert not isinstance(dataset(tmp_path / "set", size=5).train, LazySplit)  # 30 x 5 x 5 bytes


def test_an_index_that_is_damaged_is_made_anew(tmp_path):
    flat(tmp_path / "set")
    first = dataset(tmp_path / "set", lazy=True).test.sha256
    (index,) = (tmp_path / "cache" / "indexes").iterdir()
    (index / "index.json").write_text("{")
    assert dataset(tmp_path / "set", lazy=True).test.sha256 == first
    (index,) = (tmp_path / "cache" / "indexes").iterdir()
    (index / "ends.npy").write_bytes(b"torn")
    assert dataset(tmp_path / "set", lazy=True).test.sha256 == first


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    flat(tmp_path / "set")
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="NEXTPIXEL_CACHE"):
        dataset(tmp_path / "set", lazy=True)


def test_a_file_that_is_torn_behind_its_header_is_found_when_it_is_read(tmp_path):
    for i in range(10):
        save(tmp_path / "set" / f"{i}.png", i, 40, 50)
    torn = tmp_path / "set" / "4.png"
    torn.write_bytes(torn.read_bytes()[:500])
    data = dataset(tmp_path / "set", lazy=True)
    assert data.skipped == []
    order = np.random.default_rng(0).permutation(10)[:8].tolist()
    at = order.index(4)
    with pytest.raises(UserError, match=r"set/4\.png cannot be read"):
        data.train[at].images  # noqa: B018
    drawn = data.train.draw(torch.tensor([at]))
    assert torch.equal(drawn, data.train[(at + 1) % 8].images)
    assert list(data.train.damaged.names) == [str(torn)]


def test_what_changed_after_indexing_is_named(tmp_path):
    flat(tmp_path / "set")
    data = dataset(tmp_path / "set", lazy=True)
    for i in range(30):
        os.utime(tmp_path / "set")  # as if nothing had changed; the file below is written in place
        save(tmp_path / "set" / f"{i:02}.png", i, 7, 7)
    with pytest.raises(UserError, match=r"\.png cannot be read \(its size or colours are not those"):
        data.test.images  # noqa: B018


@pytest.mark.parametrize(("mode", "says"), [("I;16", "more than 8 bits"), ("RGBA", "partly transparent")])
def test_pictures_that_8_bits_cannot_hold_are_refused(tmp_path, mode, says):
    flat(tmp_path / "set")
    Image.new(mode, (5, 6)).save(tmp_path / "set" / "odd.png")

    def read_all():
        data = dataset(tmp_path / "set", lazy=True)
        return [split.images for split in (data.train, data.valid, data.test)]

    with pytest.raises(UserError, match=says):
        read_all()


@pytest.mark.filterwarnings("ignore:3 of")
def test_a_folder_without_readable_pictures_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        dataset(tmp_path / "set", lazy=True)
    for i in range(3):
        (tmp_path / "set" / f"{i}.png").write_bytes(b"x")
    with pytest.raises(UserError, match="None of the 3 pictures"):
        dataset(tmp_path / "set", lazy=True)


def test_an_orientation_mark_in_xmp_is_followed(tmp_path):
    said = PngImagePlugin.PngInfo()
    xmp = '<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    said.add_itxt("XML:com.adobe.xmp", xmp)
    for i in range(9):
        save(tmp_path / "set" / f"{i}.png", i, height=4, width=7, pnginfo=said)
    assert_equal(dataset(tmp_path / "set", lazy=True), dataset(tmp_path / "set", lazy=False))
    assert dataset(tmp_path / "set", lazy=True).shape == (1, 7, 4)
