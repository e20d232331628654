"""Parquet and tar shards: the images and labels that were put in, in order; damage named; nothing extracted."""

import gzip
import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from nextpixel.errors import UserError
from nextpixel.images import dataset, parquet_shards
from nextpixel.images.lazy import LazySplit

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def pixels(seed, height=6, width=5):
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def png(seed, **size):
    file = io.BytesIO()
    Image.fromarray(pixels(seed, **size)).save(file, "PNG")
    return file.getvalue()


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_parquet(path, pictures, labels=None, image="image", plain=False, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = pictures if plain else [{"bytes": picture, "path": None} for picture in pictures]
    columns = {image: rows} if labels is None else {image: rows, "label": labels}
    parquet.write_table(pyarrow.table(columns), path, **options)


def tars(folder, part, count, start=0):
    """Two shards."""
    for shard, numbers in enumerate(np.array_split(np.arange(start, start + count), 2)):
        members = [
            (f"{i:06}.{end}", content)
            for i in numbers
            for end, content in (("cls", str(i % 3).encode()), ("json", b"{}"), ("png", png(int(i))))
        ]
        write_tar(folder / f"{part}{shard:04}.tar", members)


def parquets(folder, part, count, start=0):
    for shard, numbers in enumerate(np.array_split(np.arange(start, start + count), 2)):
        write_parquet(
            folder / f"{part}{shard:05}-of-00002.parquet",
            [png(int(i)) for i in numbers],
            (numbers % 3).tolist(),
            row_group_size=4,
        )


def assert_holds(split, seeds):
    assert isinstance(split, LazySplit)
    expected = torch.stack([torch.from_numpy(pixels(int(i)))[None] for i in seeds])
    assert torch.equal(split.images, expected)
    assert torch.equal(split.draw(torch.arange(len(split)).flip(0)), expected.flip(0))
    assert split.labels.tolist() == [int(i) % 3 for i in seeds]


@pytest.mark.parametrize("write", [tars, parquets])
def test_shards_named_as_splits_are_the_splits(tmp_path, write):
    write(tmp_path / "set" / "data", "train-", 23)
    write(tmp_path / "set" / "data", "validation-", 5, 100)
    write(tmp_path / "set" / "data", "test-", 4, 200)
    data = dataset(tmp_path / "set")
    assert_holds(data.train, range(23))
    assert_holds(data.valid, range(100, 105))
    assert_holds(data.test, range(200, 204))
    assert (data.name, data.classes, data.shape, data.protocol) == ("set", 3, (1, 6, 5), "8-bit")
    assert dataset(tmp_path / "set").train.sha256 == data.train.sha256  # from the index


@pytest.mark.parametrize("write", [tars, parquets])
def test_folders_named_as_splits_are_the_splits(tmp_path, write):
    for part, start in (("train", 0), ("val", 100), ("test", 200)):
        write(tmp_path / part, "", 6, start)
    data = dataset(tmp_path)
    assert [split.labels.tolist() for split in (data.valid, data.test)] == [[1, 2, 0, 1, 2, 0], [2, 0, 1, 2, 0, 1]]
    assert_holds(data.train, range(6))


@pytest.mark.parametrize("write", [tars, parquets])
def test_other_shards_are_cut_like_a_folder(tmp_path, write):
    write(tmp_path, "part-", 40)
    data = dataset(tmp_path)
    order = np.random.default_rng(0).permutation(40)
    assert_holds(data.train, order[:32])
    assert_holds(data.valid, order[32:36])
    assert_holds(data.test, order[36:])
    shard = next(path for path in sorted(tmp_path.iterdir()) if path.is_file())
    assert sum(len(split) for split in (dataset(shard).train, dataset(shard).valid, dataset(shard).test)) == 20


def test_a_change_of_a_shard_is_seen(tmp_path):
    tars(tmp_path, "part-", 20)
    assert len(dataset(tmp_path).train) == 16
    tars(tmp_path, "part-", 30)
    assert len(dataset(tmp_path).train) == 24


def test_options_apply(tmp_path):
    tars(tmp_path, "part-", 20)
    data = dataset(tmp_path, size=4, levels=16, channels=3)
    assert (data.shape, data.levels) == ((3, 4, 4), 16)
    first = np.random.default_rng(0).permutation(20)[0]
    expected = torch.from_numpy(pixels(int(first))[1:5, 0:4] // 16)
    assert all(torch.equal(data.train[0].images[0, channel], expected) for channel in range(3))


def test_tar_samples_are_told_by_names_and_nothing_is_extracted(tmp_path):
    outside = tmp_path / "outside.png"
    shard = tmp_path / "set" / "a.tar"
    write_tar(
        shard,
        [
            ("../outside.png", png(0)),
            ("/etc/x.y.PNG", png(1)),
            ("dir/x.txt", b"no picture"),
            ("dir/two.png", png(2)),
            ("dir/two.jpg", png(3)),
            ("dir/empty.png", b""),
            ("dir/bad.png", b"bad"),
            ("dir/.hidden.png", png(4)),
            ("last.png", png(5)),
        ],
    )
    with tarfile.open(shard, "a") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.warns(UserWarning, match="3 of 6 pictures"):
        data = dataset(tmp_path / "set")
    found = {split.images.numpy().tobytes() for split in (data.train, data.valid, data.test)}
    assert found == {pixels(i).tobytes() for i in (0, 1, 5)}
    assert [line.split(" (")[0] for line in data.skipped] == [f"a.tar: dir/{n}.png" for n in ("two", "empty", "bad")]
    assert not outside.exists()


def test_parquet_columns_of_plain_bytes_and_other_names(tmp_path):
    write_parquet(tmp_path / "a.parquet", [png(i) for i in range(5)], image="img", plain=True)
    data = dataset(tmp_path)
    assert (data.classes, len(data.train)) == (None, 3)


def test_empty_and_damaged_rows_are_skipped_and_named(tmp_path):
    write_parquet(tmp_path / "a.parquet", [png(0), None, png(2), b"bad", png(4)], [0, 1, 2, 0, 1], row_group_size=2)
    with pytest.warns(UserWarning, match="2 of 5"):
        data = dataset(tmp_path)
    assert [line.split(" (")[0] for line in data.skipped] == [
        "a.parquet: row group 0, row 1",
        "a.parquet: row group 1, row 1",
    ]
    labels = torch.cat([split.labels for split in (data.train, data.valid, data.test)])
    assert sorted(labels.tolist()) == [0, 1, 2]


def test_few_row_groups_are_kept(tmp_path, monkeypatch):
    parquets(tmp_path, "part-", 40)
    data, kept = dataset(tmp_path), set()
    store = data.train.store.store
    for at in range(0, 32, 4):
        data.train.draw(torch.arange(at, at + 4))
        kept.add(len(store.reader.kept))
    assert max(kept) == parquet_shards.KEPT


def spoilt_parquet(path):
    """Its end, which says where everything is, is whole."""
    write_parquet(path, [png(i) for i in range(5)])
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda p: (p / "a.tar").write_bytes(b"x" * 2000), "cannot be read as an uncompressed tar"),
        (lambda p: (p / "a.tar").write_bytes(gzip.compress(b"x" * 20000)), "cannot be read as an uncompressed tar"),
        (lambda p: write_tar(p / "a.tar", [("1.png", png(1)), ("1.cls", b"cat")]), r"1\.png has the class b'cat'"),
        (lambda p: write_tar(p / "a.tar", [("1.png", png(1)), ("1.cls", b"9" * 40)]), r"must hold a class number"),
        (lambda p: spoilt_parquet(p / "a.parquet"), "cannot be read as parquet"),
        (lambda p: write_tar(p / "a.tar", [("1.txt", b"")]), "None of the 0 pictures"),
        (lambda p: (p / "a.parquet").write_bytes(b"x" * 2000), "cannot be read as parquet"),
        (lambda p: write_parquet(p / "a.parquet", [png(1)], image="photo"), "no column image or img"),
        (lambda p: write_parquet(p / "a.parquet", [png(1)], ["cat"]), "has the label 'cat'"),
        (lambda p: (write_parquet(p / "a.parquet", [png(1)]), write_tar(p / "b.tar", [])), "both .parquet and .tar"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, write, says):
    write(tmp_path)
    with pytest.raises(UserError, match=says):
        dataset(tmp_path)


def test_a_shard_cut_off_is_refused_and_one_cut_off_later_is_named(tmp_path):
    tars(tmp_path, "part-", 20)
    data = dataset(tmp_path)
    shard = tmp_path / "part-0001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:3000])
    with pytest.raises(UserError, match=r"part-0001\.tar: 0000\d\d\.png cannot be read \(the shard ends before it\)"):
        data.train.images  # noqa: B018
    with pytest.raises(UserError, match=r"part-0001\.tar cannot be read as an uncompressed tar file"):
        dataset(tmp_path)


def test_some_labels_only_are_refused(tmp_path):
    write_tar(tmp_path / "a.tar", [("1.png", png(1)), ("1.cls", b"0"), *((f"{i}.png", png(i)) for i in range(2, 9))])
    with pytest.raises(UserError, match=r"7 of 8 pictures .* have no class"):
        dataset(tmp_path)


def test_a_part_of_which_nothing_can_be_read_is_refused(tmp_path):
    write_tar(tmp_path / "train-0.tar", [(f"{i}.png", png(i)) for i in range(10)])
    write_tar(tmp_path / "test-0.tar", [(f"{i}.png", b"torn") for i in range(10)])
    with pytest.raises(UserError, match="None of the test pictures"):
        dataset(tmp_path)
