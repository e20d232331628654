"""Downloads with the hub replaced by a parquet file of our own."""

import io
from dataclasses import replace

import huggingface_hub
import numpy as np
import pytest
from PIL import Image

from nextpixel.errors import UserError
from nextpixel.images import catalogue, dataset, download, fetch
from nextpixel.images.source import array_sha256

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def write_parquet(path, images, labels, column="image", with_bytes=True):
    cells = [{"bytes": png(image) if with_bytes else None, "path": "x.png"} for image in images]
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({column: cells, "label": [int(v) for v in labels]}), path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A small "mnist" on the hub: its arrays, its files, and the calls that were made."""
    random = np.random.default_rng(0)
    arrays, sums, calls = {}, {}, []
    entry = catalogue.CATALOGUE["mnist"]
    for part, count in (("train", 20), ("test", 5)):
        images, labels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 10
        arrays[part], sums[part] = (images, labels), (array_sha256(images), array_sha256(labels))
        write_parquet(tmp_path / entry.hub.files[part], images, labels)

    def give(repo_id, filename, revision, repo_type):
        calls.append((repo_id, revision, repo_type))
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", give)
    monkeypatch.setitem(catalogue.CATALOGUE, "mnist", replace(entry, checksums=sums))
    return arrays, tmp_path, calls


def test_a_set_is_fetched_once_checked_and_kept(hub, own_cache):
    arrays, _, calls = hub
    data = dataset("mnist")
    assert np.array_equal(data.test.images[:, 0].numpy(), arrays["test"][0])
    assert np.array_equal(data.test.labels.numpy(), arrays["test"][1])
    assert calls == [("ylecun/mnist", catalogue.CATALOGUE["mnist"].hub.revision, "dataset")] * 2
    assert [path.name for path in (own_cache / "mnist").iterdir()] == [download.FILE]
    assert dataset("mnist").train.sha256 == data.train.sha256
    assert fetch("mnist") == own_cache / "mnist"
    assert len(calls) == 2


def test_a_damaged_cache_is_fetched_again(hub, own_cache):
    fetch("mnist")
    path = own_cache / "mnist" / download.FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=download.FILE):
        dataset("mnist")
    fetch("mnist")
    assert len(dataset("mnist").test) == 5


def test_pixels_that_are_not_the_published_ones_are_not_kept(hub, own_cache):
    arrays, folder, _ = hub
    images = arrays["test"][0].copy()
    images[3, 2, 1] ^= 1
    write_parquet(folder / catalogue.CATALOGUE["mnist"].hub.files["test"], images, arrays["test"][1])
    with pytest.raises(UserError, match="test images of mnist from ylecun/mnist are not the published ones"):
        dataset("mnist")
    assert not (own_cache / "mnist").exists()


def test_files_of_another_make_are_explained(hub):
    arrays, folder, _ = hub
    path = folder / catalogue.CATALOGUE["mnist"].hub.files["train"]
    write_parquet(path, *arrays["train"], with_bytes=False)
    with pytest.raises(UserError, match="paths instead of pictures"):
        dataset("mnist")
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="parquet"):
        dataset("mnist")


def test_without_a_network_one_sentence_says_what_to_do(monkeypatch):
    def fail(**_):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(UserError, match="check the network, or pass data_dir=DIR"):
        dataset("fashion_mnist")


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r"nextpixel\[parquet\]"):
        dataset("cifar10")


def test_blocks_in_another_order_are_put_right(tmp_path, monkeypatch):
    random = np.random.default_rng(1)
    images, labels = random.integers(0, 256, (10, 4, 4, 3), dtype=np.uint8), np.arange(10, dtype=np.uint8)
    blocks = tuple(array_sha256(images[i : i + 2]) for i in range(0, 10, 2))
    order = np.array([6, 7, 4, 5, 2, 3, 8, 9, 0, 1])
    write_parquet(tmp_path / "a.parquet", images[order], labels[order], column="img")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda **_: str(tmp_path / "a.parquet"))
    hub = catalogue.Hub("a/b", "0" * 40, {"train": "a.parquet"}, image_column="img", train_blocks=blocks)
    part = download.from_hub(hub, "toy")["train"]
    assert np.array_equal(part.images, images)
    assert np.array_equal(part.labels, labels)
