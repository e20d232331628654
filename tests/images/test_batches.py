"""Batches are written with pickle here, and read without it."""

import builtins
import io
import os
import pickle
import struct

import numpy as np
import pytest

from nextpixel.errors import UserError
from nextpixel.images.batches import read_batch

SIZE = 4


def content(count=5, **changes):
    data = np.random.default_rng(0).integers(0, 256, (count, 3 * SIZE * SIZE), dtype=np.uint8)
    labels = [(7 * i) % 1000 for i in range(count)]
    return {"data": data, "labels": labels, "batch_label": "batch 1", "filenames": ["a.png"] * count} | changes


def python2_batch(data, labels):
    """The bytes that Python 2 wrote: byte strings as strings, and the array by _reconstruct and a state."""

    def text(s):
        raw = s.encode("latin-1") if isinstance(s, str) else s
        return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85" + text("b") + b"\x87Rq\x04("
        b"K\x01" + b"M" + struct.pack("<H", data.shape[0]) + b"M" + struct.pack("<H", data.shape[1]) + b"\x86"
        b"cnumpy\ndtype\nq\x05" + text("u1") + b"K\x00K\x01\x87Rq\x06(K\x03" + text("|") + b"NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + text(data.tobytes()) + b"tb"
    )
    numbers = b"".join(b"M" + struct.pack("<H", label) for label in labels)
    body = b"}q\x01(" + text("data") + array + text("labels") + b"]q\x07(" + numbers + b"eu."
    return b"\x80\x02" + body


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_batch_is_read_as_it_was_written(tmp_path, protocol):
    written = content()
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(written, protocol=protocol))
    batch = read_batch(path, SIZE)
    assert batch.images.shape == (5, SIZE, SIZE, 3)
    for n, c, i, j in [(0, 0, 0, 0), (4, 2, 3, 1), (2, 1, 0, 3)]:
        assert batch.images[n, i, j, c] == written["data"][n, c * SIZE * SIZE + i * SIZE + j]
    assert batch.labels.tolist() == written["labels"]


def test_a_python_2_batch_is_read(tmp_path):
    written = content()
    path = tmp_path / "data_batch_1"
    path.write_bytes(python2_batch(written["data"], written["labels"]))
    batch = read_batch(path, SIZE)
    assert np.array_equal(batch.images.transpose(0, 3, 1, 2).reshape(5, -1), written["data"])
    assert batch.labels.tolist() == written["labels"]


def test_arrays_besides_the_images_do_not_matter(tmp_path):
    path = tmp_path / "train_data_batch_1"
    path.write_bytes(pickle.dumps(content(mean=np.zeros(48), labels=np.arange(5)), protocol=2))
    assert read_batch(path, SIZE).labels.tolist() == [0, 1, 2, 3, 4]


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("function", [os.mkdir, builtins.exec, builtins.eval, getattr])
def test_nothing_in_a_file_is_ever_run(tmp_path, protocol, function):
    victim = tmp_path / "victim"
    arguments = {
        os.mkdir: (str(victim),),
        builtins.exec: (f"import os; os.mkdir({str(victim)!r})",),
        builtins.eval: (f"__import__('os').mkdir({str(victim)!r})",),
        getattr: (0, "real"),
    }[function]
    path = tmp_path / "batch"
    for evil in (Evil(function, *arguments), content(filenames=Evil(function, *arguments))):
        path.write_bytes(pickle.dumps(evil, protocol=protocol))
        with pytest.raises(UserError, match="batch"):
            read_batch(path, SIZE)
    assert not victim.exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x02cposix\nsystem\n(X\x04\x00\x00\x00truetR.",
        b"\x80\x02(iposix\nsystem\n.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x02c__builtin__\nobject\n)\x81.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02cnumpy\nndarray\n)R.",
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x85R}bu.",
    ],
)
def test_other_ways_into_the_machine_are_closed(tmp_path, raw):
    path = tmp_path / "batch"
    path.write_bytes(raw)
    with pytest.raises(UserError, match="batch"):
        read_batch(path, SIZE)


def test_damaged_files_are_named_wherever_they_end(tmp_path):
    whole = pickle.dumps(content(2), protocol=2)
    path = tmp_path / "data_batch_3"
    for end in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match="data_batch_3"):
            read_batch(path, SIZE)


def test_flipped_bytes_never_escape_as_another_error(tmp_path):
    whole = bytearray(pickle.dumps(content(1), protocol=2))
    path = tmp_path / "batch"
    random = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_batch(path, SIZE)
        except UserError:
            continue


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": np.zeros((5, 47), np.uint8)}, "4x4"),
        ({"data": np.zeros((5, 48), np.float32)}, "data"),
        ({"data": [1, 2]}, "data"),
        ({"labels": [1, 2]}, "label"),
        ({"labels": ["a"] * 5}, "label"),
        ({"labels": [[1]] * 5}, "label"),
    ],
)
def test_a_batch_of_something_else_is_refused(tmp_path, changes, words):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(content(**changes), protocol=2))
    with pytest.raises(UserError, match=words):
        read_batch(path, SIZE)


def test_an_object_array_is_refused(tmp_path):
    stream = io.BytesIO()
    pickle.dump(content(data=np.array([None, {}], dtype=object)), stream, protocol=2)
    (tmp_path / "batch").write_bytes(stream.getvalue())
    with pytest.raises(UserError, match="safely"):
        read_batch(tmp_path / "batch", SIZE)
