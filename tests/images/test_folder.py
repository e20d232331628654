import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from nextpixel.errors import UserError
from nextpixel.images import dataset, decode, read_picture


def pixels(seed, height=6, width=5, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def every_image(data):
    return torch.cat([data.train.images, data.valid.images, data.test.images])


def test_a_flat_folder_is_cut_into_seeded_splits(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i:02}.png", pixels(i))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"no picture")
    data = dataset(tmp_path)
    assert (len(data.train), len(data.valid), len(data.test)) == (16, 2, 2)
    assert (data.shape, data.levels, data.classes, data.protocol) == ((3, 6, 5), 256, None, "8-bit")
    order = np.random.default_rng(0).permutation(20)
    for image, i in zip(every_image(data), order, strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels(i))
    assert dataset(str(tmp_path), seed=0).test.sha256 == data.test.sha256
    assert dataset(tmp_path, seed=1).test.sha256 != data.test.sha256


def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path):
    for number, name in enumerate(["zebra", "ant", "mole"]):
        for i in range(4):
            save(tmp_path / name / "deeper" / f"{i}.png", np.full((4, 4), 10 * number + i, np.uint8))
    data = dataset(tmp_path)
    assert data.classes == 3
    expected = {0: 2, 1: 0, 2: 1}  # zebra, ant, mole
    for split in (data.train, data.valid, data.test):
        for image, label in zip(split.images, split.labels, strict=True):
            assert label.item() == expected[int(image[0, 0, 0]) // 10]


def test_one_sub_folder_or_pictures_beside_them_give_no_classes(tmp_path):
    for i in range(5):
        save(tmp_path / "only" / f"{i}.png", pixels(i))
    assert dataset(tmp_path).classes is None
    save(tmp_path / "other" / "x.png", pixels(9))
    assert dataset(tmp_path).classes == 2
    save(tmp_path / "top.png", pixels(10))
    assert dataset(tmp_path).classes is None


def test_folders_named_as_splits_are_the_splits(tmp_path):
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        for i in range(count):
            save(tmp_path / part / ("cat" if i % 2 else "dog") / f"{i}.png", pixels(i))
    data = dataset(tmp_path)
    assert (len(data.train), len(data.valid), len(data.test)) == (6, 2, 3)
    assert data.classes == 2
    assert data.test.labels.tolist() == [0, 1, 1]  # cat/1, dog/0, dog/2 in sorted order
    assert np.array_equal(data.test.images[0].permute(1, 2, 0).numpy(), pixels(1))


@pytest.mark.parametrize("folders", [("Train", "test"), ("train", "test", "others"), ("training", "validation")])
@pytest.mark.parametrize("lazy", [False, True])
def test_folders_that_may_have_been_meant_for_splits_are_named_in_a_warning(tmp_path, monkeypatch, folders, lazy):
    monkeypatch.setenv("NEXTPIXEL_CACHE", str(tmp_path / ".cache"))
    for folder in folders:
        for i in range(4):
            save(tmp_path / folder / f"{i}.png", pixels(i))
    with pytest.warns(UserWarning, match=r"not taken for splits: .* called train, valid and test"):
        data = dataset(tmp_path, lazy=lazy)
    assert data.classes == len(folders)


def test_train_and_test_alone_leave_valid_to_be_carved(tmp_path):
    for part, count in (("train", 20), ("test", 3)):
        for i in range(count):
            save(tmp_path / part / f"{i}.png", pixels(i))
    data = dataset(tmp_path)
    assert (len(data.train), len(data.valid), len(data.test)) == (18, 2, 3)


def test_damaged_pictures_are_skipped_named_and_counted(tmp_path):
    for i in range(12):
        save(tmp_path / f"{i:02}.png", pixels(i))
    whole = (tmp_path / "03.png").read_bytes()
    (tmp_path / "03.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "04.png").write_bytes(b"")
    (tmp_path / "05.jpg").write_text("<html>")
    with pytest.warns(UserWarning, match=r"3 of 13 pictures .* were skipped: .*03\.png"):
        data = dataset(tmp_path)
    assert len(every_image(data)) == 10
    assert [name.split(" ")[0].split("/")[-1] for name in data.skipped] == ["03.png", "04.png", "05.jpg"]


def test_nothing_to_read_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no pictures"):
        dataset(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"No picture in .*1 in all.*a\.png"):
        dataset(tmp_path)
    save(tmp_path / "b.png", pixels(0))
    with pytest.raises(UserError, match="at least 3"), pytest.warns(UserWarning, match="skipped"):
        dataset(tmp_path)


def test_huge_pictures_are_skipped(tmp_path, monkeypatch):
    for i in range(4):
        save(tmp_path / f"{i}.png", pixels(i))
    save(tmp_path / "huge.png", pixels(0, 40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(UserWarning, match=r"huge\.png \(more than 1000 pixels\)"):
        assert len(every_image(dataset(tmp_path))) == 4


def test_mixed_sizes_need_a_size(tmp_path):
    for i in range(6):
        save(tmp_path / f"{i}.png", pixels(i, 8, 10) if i % 2 else pixels(i, 9, 6))
    with pytest.raises(UserError, match=r"8x10 and 9x6.*--size"):
        dataset(tmp_path)
    cropped = dataset(tmp_path, size=(8, 6))
    assert cropped.shape == (3, 8, 6)
    assert cropped.protocol == "8-bit, centre 8x6"
    found = {image.permute(1, 2, 0).numpy().tobytes() for image in every_image(cropped)}
    assert pixels(1, 8, 10)[:, 2:8].tobytes() in found  # every pixel as it was
    assert pixels(0, 9, 6)[0:8].tobytes() in found
    with pytest.raises(UserError, match=r"0\.png: .*--fit resize"):
        dataset(tmp_path, size=12)
    assert dataset(tmp_path, size=12, fit="resize").protocol == "8-bit, resized to 12x12"


def test_resizing_covers_then_crops_the_centre(tmp_path):
    wide = pixels(0, 10, 30)
    for i in range(3):
        save(tmp_path / f"{i}.png", wide)
    images = every_image(dataset(tmp_path, size=5, fit="resize"))
    assert images.shape == (3, 3, 5, 5)
    # The whole picture scaled to 5x15, and its centre taken.
    expected = np.asarray(Image.fromarray(wide).resize((15, 5), Image.Resampling.LANCZOS))[:, 5:10]
    assert np.abs(images[0].permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def test_grey_and_colour_together_become_rgb_unless_told(tmp_path):
    grey, colour = pixels(0, channels=1), pixels(1)
    for i in range(3):
        save(tmp_path / f"g{i}.png", grey)
    assert dataset(tmp_path).shape == (1, 6, 5)
    save(tmp_path / "c.png", colour)
    data = dataset(tmp_path)
    assert data.shape == (3, 6, 5)
    found = {image.permute(1, 2, 0).numpy().tobytes() for image in every_image(data)}
    assert found == {colour.tobytes(), np.repeat(grey[..., None], 3, axis=2).tobytes()}
    told = dataset(tmp_path, channels=1)
    assert told.shape == (1, 6, 5)
    assert told.protocol == "8-bit, grey"
    assert {i.numpy().tobytes() for i in every_image(told)} == {
        grey.tobytes(),
        np.asarray(Image.fromarray(colour).convert("L")).tobytes(),
    }


def check_read(path, expected):
    read = read_picture(path)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(read if read.shape[2] == 3 else read[..., 0], expected)


def test_palettes_bits_and_opaque_alpha_are_converted(tmp_path):
    colour = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 8, 7]]], np.uint8)
    Image.fromarray(colour).quantize(4).save(tmp_path / "palette.png")
    check_read(tmp_path / "palette.png", colour)
    opaque = Image.fromarray(colour).convert("RGBA")
    opaque.save(tmp_path / "opaque.png")
    check_read(tmp_path / "opaque.png", colour)
    bits = np.array([[0, 255], [255, 0]], np.uint8)
    Image.fromarray(bits).convert("1").save(tmp_path / "bits.png")
    check_read(tmp_path / "bits.png", bits)
    Image.fromarray(bits).convert("LA").save(tmp_path / "grey_alpha.png")
    check_read(tmp_path / "grey_alpha.png", bits)


def test_the_orientation_mark_is_followed(tmp_path):
    picture = Image.fromarray(pixels(0, 4, 7))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    picture.save(tmp_path / "turned.png", exif=exif)
    assert read_picture(tmp_path / "turned.png").shape == (1, 3, 7, 4)


def transparent(path):
    picture = Image.fromarray(pixels(0)).convert("RGBA")
    picture.putpixel((1, 1), (0, 0, 0, 100))
    picture.save(path)


def transparent_palette(path):
    Image.fromarray(pixels(0, channels=1)).quantize(4).save(path, transparency=0)


def sixteen_bit_grey(path):
    Image.fromarray(pixels(0, channels=1).astype(np.uint16) * 257).save(path)


def sixteen_bit_rgb(path):
    """Pillow cannot write one, so the header of an 8-bit picture is put together by hand."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(2 * 6) for _ in range(2))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (transparent, "partly transparent"),
        (transparent_palette, "partly transparent"),
        (sixteen_bit_grey, "more than 8 bits"),
        (sixteen_bit_rgb, "more than 8 bits"),
    ],
)
def test_what_8_bits_cannot_hold_is_refused_with_its_name(tmp_path, write, words):
    for i in range(3):
        save(tmp_path / f"{i}.png", pixels(i))
    write(tmp_path / "odd.png")
    with pytest.raises(UserError, match=rf"odd\.png.*{words}"):
        dataset(tmp_path)


def test_documents_are_not_pictures(tmp_path):
    assert PngImagePlugin  # registers .png
    assert {".png", ".jpg", ".webp", ".bmp"} <= decode.suffixes()
    assert not {".eps", ".pdf", ".ps"} & decode.suffixes()
    (tmp_path / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(UserError, match=r"program\.png cannot be read"):
        read_picture(tmp_path / "program.png")
    with pytest.raises(UserError, match="There is no picture"):
        read_picture(tmp_path / "nothing.png")


@pytest.mark.parametrize("lazy", [False, True])
def test_links_to_folders_are_followed(tmp_path, monkeypatch, lazy):
    monkeypatch.setenv("NEXTPIXEL_CACHE", str(tmp_path / "cache"))
    for i in range(12):
        save(tmp_path / "elsewhere" / f"{i}.png", pixels(i))
        save(tmp_path / "set" / "train" / f"{i}.png", pixels(i))
    (tmp_path / "set" / "test").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert len(dataset(tmp_path / "set", lazy=lazy).test) == 12
    (tmp_path / "set" / "train" / "round").symlink_to(tmp_path / "set", target_is_directory=True)
    with pytest.warns(UserWarning, match="round is a link to a folder that it lies in"):
        data = dataset(tmp_path / "set", lazy=lazy)
    assert len(data.train) + len(data.valid) == 12


def deep_jpeg2000():
    """Pillow writes 8 bits; the header then says 16."""
    file = io.BytesIO()
    Image.fromarray(pixels(0)).save(file, "JPEG2000")
    content = bytearray(file.getvalue())
    at = content.index(b"\xff\x4f\xff\x51") + 42  # the first component's
    assert content[at] == 7
    content[at + 3] = 15  # of the second
    return bytes(content)


def deep_avif():
    file = io.BytesIO()
    Image.fromarray(pixels(0, 64, 64)).save(file, "AVIF")
    content = bytearray(file.getvalue())
    content[content.index(b"av1C") + 6] |= 0x40
    return bytes(content)


@pytest.mark.parametrize(("kind", "write"), [("JPEG2000", deep_jpeg2000), ("AVIF", deep_avif)])
def test_colours_of_more_than_8_bits_are_refused_in_every_format(kind, write):
    """Pillow would hand out 8 of them without a word."""
    plain = io.BytesIO()
    Image.fromarray(pixels(0, 64, 64)).save(plain, kind)
    assert decode.read_header(plain, "plain").colour
    opened = SimpleNamespace(format=kind)  # such a file cannot be written here, only its header changed
    assert not decode._is_deep(opened, plain)
    assert decode._is_deep(opened, io.BytesIO(write()))
