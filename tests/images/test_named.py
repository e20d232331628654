"""Small files in the layouts of the named sets, and the real ones where they are."""

import gzip
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from nextpixel.errors import UserError
from nextpixel.images import dataset, info, names, verify
from nextpixel.images.source import array_sha256


def idx(array):
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder, pack=True, train=40, test=10):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    arrays = {}
    for stem, count in (("train", train), ("t10k", test)):
        arrays[stem] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 10
        for name, array in zip(("images-idx3", "labels-idx1"), arrays[stem], strict=True):
            raw = idx(array)
            path = folder / f"{stem}-{name}-ubyte"
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(raw)) if pack else path.write_bytes(raw)
    return arrays


def test_digits_come_with_the_package_in_the_documented_split(shared_data):
    data = dataset("digits")
    assert (len(data.train), len(data.valid), len(data.test)) == (1350, 150, 297)
    assert (data.shape, data.levels, data.classes, data.protocol) == ((1, 8, 8), 17, 10, "17 levels")
    with np.load(shared_data / "digits" / "digits.npz") as arrays:
        order = np.random.default_rng(0).permutation(1797)
        for split, part in ((data.train, order[:1350]), (data.valid, order[1350:1500]), (data.test, order[1500:])):
            assert np.array_equal(split.images[:, 0].numpy(), arrays["images"][part])
            assert np.array_equal(split.labels.numpy(), arrays["labels"][part])


def test_the_embedded_digits_are_the_published_ones():
    assert set(verify("digits")) == {"all images", "all labels"}


@pytest.mark.parametrize("pack", [True, False])
def test_idx_folders_are_read_and_the_test_part_keeps_its_order(tmp_path, pack):
    written = write_mnist(tmp_path / "mnist", pack)
    data = dataset("mnist", data_dir=tmp_path)
    assert (len(data.train), len(data.valid), len(data.test)) == (36, 4, 10)
    assert np.array_equal(data.test.images[:, 0].numpy(), written["t10k"][0])
    assert np.array_equal(data.test.labels.numpy(), written["t10k"][1])
    together = np.concatenate([data.train.images[:, 0].numpy(), data.valid.images[:, 0].numpy()])
    assert sorted(p.tobytes() for p in together) == sorted(p.tobytes() for p in written["train"][0])
    order = np.random.default_rng(0).permutation(40)
    assert np.array_equal(data.valid.images[:, 0].numpy(), written["train"][0][order[-4:]])


def test_where_a_set_is_looked_for(tmp_path, monkeypatch, own_cache):
    write_mnist(own_cache / "mnist", test=10)
    assert len(dataset("mnist", download=False).test) == 10
    write_mnist(tmp_path / "env" / "mnist", test=11)
    monkeypatch.setenv("NEXTPIXEL_DATA", str(tmp_path / "env"))
    assert len(dataset("mnist", download=False).test) == 11
    write_mnist(tmp_path / "given" / "mnist", test=12)
    assert len(dataset("mnist", data_dir=tmp_path / "given").test) == 12
    with pytest.raises(UserError, match="does not exist"):
        dataset("mnist", data_dir=tmp_path / "nowhere")
    monkeypatch.setenv("NEXTPIXEL_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="nowhere, which NEXTPIXEL_DATA names, does not exist"):
        dataset("mnist")
    assert len(dataset("digits").test) == 297


@pytest.mark.parametrize("damage", ["cut", "flip", "short", "header", "text", "gone"])
def test_damaged_idx_files_are_named(tmp_path, damage):
    arrays = write_mnist(tmp_path / "mnist")
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    packed, raw = path.read_bytes(), idx(arrays["t10k"][0])
    replaced = {
        "cut": packed[: len(packed) // 2],
        "flip": packed[:200] + bytes([packed[200] ^ 255]) + packed[201:],
        "short": gzip.compress(raw[:-1]),
        "header": gzip.compress(raw[:9]),
        "text": b"<html>not found</html>",
    }
    path.unlink() if damage == "gone" else path.write_bytes(replaced[damage])
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte"):
        dataset("mnist", data_dir=tmp_path)


def test_a_set_that_is_nowhere_says_where_to_put_it(tmp_path):
    for name in ("binarized_mnist", "imagenet32", "imagenet64", "pneumonia_mnist"):
        with pytest.raises(UserError, match=f"{name} cannot be downloaded: put .* into DIR/{name} and pass data_dir"):
            dataset(name, data_dir=tmp_path)
    with pytest.raises(UserError, match="mnist is not here"):
        dataset("mnist", data_dir=tmp_path, download=False)
    with pytest.raises(UserError, match="Did you mean 'cifar10'"):
        dataset("cifar-10")
    with pytest.raises(UserError, match="Did you mean 'mnist'"):
        info("mnst")


def write_packed_bits(folder):
    folder.mkdir()
    random = np.random.default_rng(1)
    bits = {
        part: random.integers(0, 2, (n, 784), dtype=np.uint8) for part, n in (("train", 6), ("valid", 3), ("test", 4))
    }
    np.savez(folder / "binarized_mnist.npz", **{part: np.packbits(b, axis=1) for part, b in bits.items()})
    return bits


def test_binarized_mnist_from_packed_bits_and_from_text(tmp_path):
    bits = write_packed_bits(tmp_path / "binarized_mnist")
    packed = dataset("binarized_mnist", data_dir=tmp_path)
    assert (packed.levels, packed.protocol, packed.classes) == (2, "fixed binarisation (Larochelle)", None)
    text = tmp_path / "text" / "binarized_mnist"
    text.mkdir(parents=True)
    for part, rows in bits.items():
        lines = "\n".join(" ".join(str(bit) for bit in row) for row in rows)
        (text / f"binarized_mnist_{part}.amat").write_text(lines + "\n")
    for data in (packed, dataset("binarized_mnist", data_dir=tmp_path / "text")):
        for part in ("train", "valid", "test"):
            assert np.array_equal(getattr(data, part).images.view(-1, 784).numpy(), bits[part])
    (text / "binarized_mnist_valid.amat").write_text("0 1 2\n")
    with pytest.raises(UserError, match=r"binarized_mnist_valid\.amat"):
        dataset("binarized_mnist", data_dir=tmp_path / "text")
    (tmp_path / "binarized_mnist" / "binarized_mnist.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(UserError, match=r"binarized_mnist\.npz"):
        dataset("binarized_mnist", data_dir=tmp_path)


def test_an_npz_with_pickled_objects_is_refused(tmp_path):
    folder = tmp_path / "binarized_mnist"
    folder.mkdir()
    np.savez(folder / "binarized_mnist.npz", train=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"binarized_mnist\.npz"):
        dataset("binarized_mnist", data_dir=tmp_path)


def write_cifar_batches(folder, per_batch=4):
    folder.mkdir(parents=True)
    random = np.random.default_rng(2)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        data = random.integers(0, 256, (per_batch, 3072), dtype=np.uint8)
        batch = {"data": data, "labels": random.integers(0, 10, per_batch).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return data


def test_the_official_cifar_folder_and_the_strips_agree(tmp_path):
    last = write_cifar_batches(tmp_path / "cifar10" / "cifar-10-batches-py")
    data = dataset("cifar10", data_dir=tmp_path)
    assert (len(data.train), len(data.valid), len(data.test)) == (18, 2, 4)
    assert np.array_equal(data.test.images.flatten(1).numpy(), last)

    strips = tmp_path / "strips" / "cifar10"
    strips.mkdir(parents=True)
    hwc = data.test.images.permute(0, 2, 3, 1).numpy()
    for part in ("train", "test"):
        for number, half in enumerate((hwc[:2], hwc[2:])):
            Image.fromarray(half.reshape(-1, 32, 3)).save(
                strips / f"{part}_{number:02}.webp", lossless=True, exact=True
            )
    labels = data.test.labels.numpy().astype(np.uint8)
    np.savez(strips / "labels.npz", train=labels, test=labels)
    again = dataset("cifar10", data_dir=tmp_path / "strips")
    assert torch.equal(again.test.images, data.test.images)
    assert torch.equal(again.test.labels, data.test.labels)

    whole = (strips / "test_01.webp").read_bytes()
    (strips / "test_01.webp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"test_01\.webp"):
        dataset("cifar10", data_dir=tmp_path / "strips")


def test_imagenet_batches_and_pictures_say_which_release_they_are(tmp_path):
    folder = tmp_path / "imagenet32"
    folder.mkdir()
    random = np.random.default_rng(3)
    batches = [
        {"data": random.integers(0, 256, (6, 3072), dtype=np.uint8), "labels": random.integers(1, 1001, 6).tolist()}
        for _ in range(3)
    ]
    np.savez(folder / "train_data_batch_1.npz", **batches[0])
    (folder / "train_data_batch_2").write_bytes(pickle.dumps(batches[1], protocol=2))
    np.savez(folder / "val_data.npz", **batches[2])
    data = dataset("imagenet32", data_dir=tmp_path)
    assert (len(data.train), len(data.valid), len(data.test)) == (11, 1, 6)
    assert np.array_equal(data.test.images.flatten(1).numpy(), batches[2]["data"])
    assert data.test.labels.tolist() == [label - 1 for label in batches[2]["labels"]]
    assert "Chrabaszcz" in data.protocol
    assert "2 of 10" in data.protocol
    assert "not comparable" in data.protocol

    for part, batch in (("train", batches[0]), ("valid", batches[2])):
        pictures = tmp_path / "png" / "imagenet32" / f"{part}_32x32"
        pictures.mkdir(parents=True)
        for number, pixels in enumerate(batch["data"]):
            Image.fromarray(pixels.reshape(3, 32, 32).transpose(1, 2, 0)).save(pictures / f"{number:05}.png")
    data = dataset("imagenet32", data_dir=tmp_path / "png")
    assert np.array_equal(data.test.images.flatten(1).numpy(), batches[2]["data"])
    assert data.test.labels is None
    assert "van den Oord" in data.protocol


def test_a_set_of_other_pixels_is_not_verified(tmp_path):
    write_mnist(tmp_path / "mnist")
    with pytest.raises(UserError, match=r"train images of .* are not the published ones"):
        verify("mnist", tmp_path)
    (tmp_path / "imagenet32").mkdir()
    with pytest.raises(UserError, match="No checksums"):
        verify("imagenet32", tmp_path)


def test_every_name_is_described():
    assert names() == sorted(names())
    assert {"digits", "mnist", "fashion_mnist", "cifar10", "binarized_mnist", "pneumonia_mnist"} <= set(names())
    for name in names():
        entry = info(name)
        assert entry.about
        assert entry.licence
        assert entry.source


@pytest.mark.parametrize(
    ("name", "sizes", "shape", "levels", "classes"),
    [
        ("mnist", (55000, 5000, 10000), (1, 28, 28), 256, 10),
        ("fashion_mnist", (55000, 5000, 10000), (1, 28, 28), 256, 10),
        ("binarized_mnist", (50000, 10000, 10000), (1, 28, 28), 2, 10),
        ("cifar10", (45000, 5000, 10000), (3, 32, 32), 256, 10),
        ("pneumonia_mnist", (4708, 524, 624), (1, 28, 28), 256, 2),
    ],
)
def test_the_real_sets_are_the_published_ones(shared_data, name, sizes, shape, levels, classes):
    verify(name, shared_data)
    data = dataset(name, data_dir=shared_data)
    assert (len(data.train), len(data.valid), len(data.test)) == sizes
    assert (data.shape, data.levels, data.classes) == (shape, levels, classes)


def test_facts_that_others_published_of_the_real_sets(shared_data):
    mnist = dataset("mnist", data_dir=shared_data)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(mnist.test.labels).tolist() == counts
    assert mnist.test.images.double().mean().item() == pytest.approx(33.7912, abs=1e-4)
    fixed = dataset("binarized_mnist", data_dir=shared_data)
    assert [int(s.images.sum()) for s in (fixed.train, fixed.valid, fixed.test)] == [5118041, 1028036, 1038896]
    cifar = dataset("cifar10", data_dir=shared_data)
    assert array_sha256(cifar.test.images.permute(0, 2, 3, 1).numpy()).startswith("f9b1e2130bab680d")
    assert cifar.test.labels[:5].tolist() == [3, 8, 8, 0, 6]
