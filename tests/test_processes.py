"""Several processes: the same steps, figures and archives as one process, and ends in which nobody is left waiting."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import several_processes
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.networks import families
from nextpixel.tasks import keeper
from nextpixel.tasks.batches import Batches, InOrder
from nextpixel.tasks.pieces import Pieces, fingerprint
from nextpixel.tasks.processes import Place, first_process, machines_and_devices, torchrun
from nextpixel.tasks.progress import Steps
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.train import Interrupted, TrainOptions

HERE = Path(__file__).parent
ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "SLURM_NTASKS", "SLURM_PROCID")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """As if nothing had launched these tests."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def launched(command, *, world=2, cwd=None):
    """`command` as torchrun would start it `world` times on this machine; the processes."""
    port = str(free_port())
    started = []
    for rank in range(world):
        place = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
        environment = {**os.environ, **{name: str(value) for name, value in place.items()}, **meeting}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
        started.append(
            subprocess.Popen(
                command, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    return started


def ended(started):
    """(status, output, errors) of each process."""
    out = [process.communicate(timeout=240) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, out, strict=True)]


def in_two_processes(folder, *cases):
    script = [sys.executable, str(HERE / "several_processes.py"), str(folder), *cases]
    for status, _, errors in ended(launched(script)):
        assert status == 0, errors


def losses(run, kind="train"):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[kind] for line in lines if kind in line]


def assert_trained_alike(case, folder, monkeypatch):
    monkeypatch.setattr("nextpixel.tasks.keeper.LOG_EVERY", 1)
    alone = several_processes.train(case, folder / "alone" / case)
    one, two = losses(folder / "alone" / case), losses(folder / case)
    assert len(one) == len(two) == 50
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 1e-9
    assert sum(one[:5]) - sum(one[-5:]) > 0.02, "or nothing was learned"
    valid = zip(losses(folder / "alone" / case, "valid"), losses(folder / case, "valid"), strict=True)
    assert max(abs(a - b) for a, b in valid) < 1e-9
    weights = [torch.load(folder / f"{case}-{rank}.pt", weights_only=True) for rank in range(2)]
    for name, expected in alone.state_dict().items():
        assert torch.equal(weights[0][name], weights[1][name]), name
        torch.testing.assert_close(weights[0][name], expected, atol=1e-9, rtol=0)


def test_two_processes_do_what_one_does(tmp_path, monkeypatch):
    """Training with AdamW in two passes and with SGD, in float64: 50 steps, dynamic binarisation, two orders, a last
    batch of one image. Then an evaluation and an archive, shared through a folder."""
    in_two_processes(tmp_path, "adamw", "sgd", "evaluate", "compress")
    assert_trained_alike("adamw", tmp_path, monkeypatch)
    assert_trained_alike("sgd", tmp_path, monkeypatch)
    assert (tmp_path / "evaluated").read_text() == repr(several_processes.evaluate().nats)
    assert (tmp_path / "archive.npx").read_bytes() == several_processes.compress()
    assert len(list((tmp_path / "evaluate").glob("nats-*"))) == 3


@pytest.mark.full
def test_two_processes_do_what_one_does_in_other_ways(tmp_path, monkeypatch):
    cases = ("rmsprop", "recompute", "no-average")
    in_two_processes(tmp_path, *cases)
    for case in cases:
        assert_trained_alike(case, tmp_path, monkeypatch)


# Shares of batches


def numbered(count, *, random=False):
    """Images that are recognised by their pixel; if `random`, by what is drawn for them."""
    values = torch.arange(count).view(-1, 1, 1, 1)
    if not random:
        return Split(values, None, 256, "numbered", "test")
    grey = torch.full((count, 1, 4, 4), 128)
    return Split(torch.zeros_like(grey), None, 2, "drawn", "dynamic", grey=grey)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(0, 30), st.booleans())
def test_items_of_all_processes_and_passes_make_up_the_step(count, batch_size, world, passes, trained, random):
    split = numbered(count, random=random)
    whole = list(Batches(split, batch_size, 5, lambda: trained))
    each = [
        list(Batches(split, batch_size, 5, lambda: trained, rank=rank, world=world, passes=passes))
        for rank in range(world)
    ]
    for at, (images, _, weight) in enumerate(whole):
        assert weight == 1.0
        items = [each[rank][at * passes + number] for rank in range(world) for number in range(passes)]
        assert torch.equal(torch.cat([part for part, _, w in items if w]), images), "every image once, as drawn alone"
        assert all(len(part) for part, _, _ in items), "no process is without images"
        assert max(len(part) for part, _, _ in items) <= -(-len(images) // (world * passes)) + 1
        mean = sum(w * part.double().flatten(1).sum(1).mean() for part, _, w in items) / len(items)
        assert float(mean) == pytest.approx(float(images.double().flatten(1).sum(1).mean()), rel=1e-12)
    assert all(len(items) == len(whole) * passes for items in each)


def test_only_the_share_is_read(monkeypatch):
    read = []
    original = Split.drawn
    monkeypatch.setattr(Split, "drawn", lambda self, i, g=None: read.extend(i.tolist()) or original(self, i, g))
    list(Batches(numbered(40), 8, 0, rank=1, world=4))
    assert len(read) == 10


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5))
def test_validation_counts_every_image_once(count, batch_size, world):
    found = {}
    for rank in range(world):
        batches = InOrder(numbered(count), batch_size, rank=rank, world=world)
        items = list(batches)
        assert len(items) == len(batches) >= 1, "a process without a batch would not take part in the sum"
        for images, _, first in items:
            for number, image in enumerate(images.flatten().tolist(), first):
                assert number not in found
                found[number] = image
    assert found == {number: number for number in range(count)}


@pytest.mark.parametrize("name", families())
def test_every_parameter_has_a_gradient_in_every_step(name):
    """DDP waits for all of them."""
    shapes = [((3, 4, 5), 4, None), ((1, 4, 5), 2, None), ((3, 4, 5), 8, "logistic_mixture")]
    for shape, levels, head in shapes:
        options = [{}, {"orders": 2}] if families()[name].channel_masks or shape[0] == 1 or head else []
        for more in options:
            try:
                model = npx.build(name, shape=shape, levels=levels, head=head, **more)
            except UserError:
                continue
            x = torch.randint(levels, (2, *shape))
            (model.in_order(1) if more else model).log_prob(x).sum().backward()
            assert [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_every_parameter_of_two_scales_has_a_gradient():
    model = npx.build_multiscale("gated_pixelcnn", shape=(3, 6, 8), levels=4, layers=2, features=6, first_kernel=3)
    model.log_prob(torch.randint(4, (2, 3, 6, 8))).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


# What is refused


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"devices": 0}, "devices must be between 1"),
        ({"nodes": 0}, "nodes must be between 1"),
        ({"accumulate": 0}, "accumulate must be between 1"),
        ({"strategy": "dpp"}, "strategy must be one of"),
        ({"strategy": "fsdp"}, "fsdp is not supported"),
    ],
)
def test_wrong_options_are_refused(wrong, words, assert_sentence):
    with pytest.raises(UserError, match=words) as caught:
        TrainOptions(**wrong)
    assert_sentence(caught)


@pytest.mark.parametrize("options", [{"devices": 3}, {"accumulate": 3}, {"devices": 2, "accumulate": 2}, {"nodes": 3}])
def test_a_batch_has_an_image_for_every_part(options, digits, tiny, run, assert_sentence):
    with pytest.raises(UserError, match="fewer images than the") as caught:
        npx.train(tiny(like=digits), digits, run=run, batch_size=2, device="cpu", **options)
    assert_sentence(caught)
    assert not run.exists()


def test_one_mps_device(digits, tiny, run):
    with pytest.raises(UserError, match="one mps device"):
        npx.train(tiny(like=digits), digits, run=run, devices=2, device="mps")


def test_places_in_the_environment(monkeypatch, assert_sentence):
    assert torchrun() is None
    assert first_process()
    assert machines_and_devices(2, 3) == (2, 3)
    for name, value in {"RANK": "5", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    assert torchrun() == Place(5, 6, 3)
    assert not first_process()
    assert machines_and_devices(1, 1) == machines_and_devices(2, 3) == (2, 3)
    with pytest.raises(UserError, match="torchrun started 2 x 3 processes") as caught:
        machines_and_devices(1, 2)
    assert_sentence(caught)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(UserError, match="as many processes on every machine"):
        machines_and_devices(1, 1)
    monkeypatch.setenv("RANK", "6")
    with pytest.raises(UserError, match="no place of a process"):
        torchrun()


@pytest.mark.parametrize(
    ("values", "first"),
    [
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, False),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, True),
    ],
)
def test_the_first_process_is_known(monkeypatch, values, first):
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert first_process() is first


def test_commands_ask_for_a_folder_to_share(nextpixel, tiny, digits, tmp_path, monkeypatch):
    tiny(like=digits).save_pretrained(tmp_path / "model")
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    for verb in ("evaluate", "compress"):
        found = nextpixel(verb, tmp_path / "model", "digits")
        assert found.status == 2
        assert "name one with --work" in found.error()


# Pieces


def named(number):
    return {"value": torch.tensor([number, 10 * number]), "flag": torch.tensor([number % 2 == 0])}


def results(pieces, count=5, do=named, name="part"):
    return list(pieces.results(name, count, do, Steps(count, "working", show=False)))


def about(**more):
    return lambda: {"task": "test", "model": "a", **more}


def same(found, count=5):
    assert len(found) == count
    return all(torch.equal(one[key], value) for i, one in enumerate(found) for key, value in named(i).items())


def test_pieces_without_a_folder(tmp_path):
    assert same(results(Pieces("", lambda: pytest.fail("nobody needs to know"))))


def test_pieces_are_done_once(tmp_path):
    done = []
    pieces = Pieces(tmp_path / "w", about())
    assert same(results(pieces, do=lambda n: done.append(n) or named(n)))
    assert same(results(Pieces(tmp_path / "w", about()), do=lambda n: pytest.fail("it is there")))
    assert done == list(range(5))


def test_pieces_go_on_after_a_failure(tmp_path):
    def fail(number):
        if number == 3:
            raise KeyboardInterrupt
        return named(number)

    with pytest.raises(KeyboardInterrupt):
        results(Pieces(tmp_path, about()), do=fail)
    done = []
    assert same(results(Pieces(tmp_path, about()), do=lambda n: done.append(n) or named(n)))
    assert done == [3, 4]


@pytest.mark.parametrize("damage", [b"", b"\0" * 8, "cut", "other"])
def test_damaged_and_foreign_pieces_are_done_again(tmp_path, damage):
    pieces = Pieces(tmp_path / "w", about())
    results(pieces)
    path = tmp_path / "w" / "part-000002.safetensors"
    if damage == "other":
        other = Pieces(tmp_path / "other", about(model="b"))
        results(other, do=lambda number: named(number + 1))
        path.write_bytes((tmp_path / "other" / path.name).read_bytes())
    else:
        path.write_bytes(path.read_bytes()[:-1] if damage == "cut" else damage)
    done = []
    assert same(results(Pieces(tmp_path / "w", about()), do=lambda n: done.append(n) or named(n)))
    assert done == [2]


def test_a_folder_holds_one_work(tmp_path, assert_sentence):
    results(Pieces(tmp_path, about()))
    with pytest.raises(UserError, match=r"pieces of other work \(model differ\)") as caught:
        Pieces(tmp_path, about(model="b"))
    assert_sentence(caught)
    (tmp_path / "work.json").write_text("{")
    with pytest.raises(UserError, match="pieces of other work"):
        Pieces(tmp_path, about())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be used") as caught:
        Pieces(tmp_path / "file", about())
    assert_sentence(caught)


def test_a_full_disk(tmp_path, monkeypatch, assert_sentence):
    pieces = Pieces(tmp_path, about())
    results(pieces, count=2)
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="free some space") as caught:
        results(pieces)
    assert_sentence(caught)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "part-000000.safetensors",
        "part-000001.safetensors",
        "work.json",
    ]


def test_two_processes_share_and_wait(tmp_path):
    done, found = {0: [], 1: []}, {}

    def process(rank):
        pieces = Pieces(tmp_path, about())
        pieces.place = Place(rank, 2, 2)
        found[rank] = results(pieces, do=lambda n: done[rank].append(n) or named(n))

    second = threading.Thread(target=process, args=(1,))
    second.start()
    time.sleep(0.2)
    assert second.is_alive(), "the pieces of the first one are missing"
    process(0)
    second.join()
    assert done == {0: [0, 2, 4], 1: [1, 3]}
    assert same(found[0])
    assert same(found[1])


def test_a_fingerprint_tells_models_apart(tiny):
    model = tiny("made", orders=3)
    again = tiny("made", orders=3)
    assert fingerprint(model) == fingerprint(again)
    others = [tiny("made", orders=3, seed=2), model.in_order(1), model.in_order(2), tiny("made", orders=2), tiny()]
    others += [model.in_order(torch.arange(20).flip(0)), model.in_order(torch.arange(20).roll(1))]
    assert len({fingerprint(one) for one in [model, *others]}) == len(others) + 1
    with torch.no_grad():
        next(again.parameters()).view(-1)[0].add_(1e-6)
    assert fingerprint(model) != fingerprint(again)


# Evaluations and archives


def figures(result):
    return {name: value for name, value in result.to_dict().items() if name != "seconds"}


@pytest.mark.parametrize("piece", [1, 4, 7, 1000])
def test_an_evaluation_in_pieces_is_the_same_to_the_bit(tiny, tmp_path, piece):
    model = tiny(classes=3, orders=2, spread=0.4)
    data = Split(torch.randint(4, (23, 1, 4, 5)), torch.arange(23) % 3, 4, "drawn", "as drawn", 3)
    whole = figures(npx.evaluate(model, data, batch_size=4))
    kept = figures(npx.evaluate(model, data, batch_size=4, piece=piece, work=tmp_path))
    assert kept == whole
    again = figures(npx.evaluate(model, data, batch_size=4, piece=piece, work=tmp_path))
    assert again == whole
    assert len(list(tmp_path.glob("nats-*"))) == -(-23 // (-(-piece // 4) * 4))
    for changed in ({"batch_size": 5}, {"limit": 5}):
        with pytest.raises(UserError, match="other work"):
            npx.evaluate(model, data, **{"batch_size": 4, "piece": piece, **changed}, work=tmp_path)
    with pytest.raises(UserError, match=r"other work \(model differ\)"):
        npx.evaluate(tiny(classes=3, orders=2, spread=0.4, seed=2), data, batch_size=4, piece=piece, work=tmp_path)


@pytest.mark.parametrize("piece", [1, 3, 1000])
@pytest.mark.parametrize("options", [{}, {"tile": 3}, {"chunk_bytes": 5}, {"embed_model": True, "verify": False}])
def test_an_archive_in_pieces_is_the_same_byte_for_byte(tiny, tmp_path, piece, options):
    from nextpixel.tasks.pictures import Pictures

    model = npx.freeze(tiny(classes=2, spread=0.4))
    sizes = [(4, 5, 7), (6, 2, 2)]
    pictures = Pictures(
        [torch.randint(4, (count, 1, height, width), dtype=torch.uint8) for height, width, count in sizes],
        [torch.arange(count) % 2 for *_, count in sizes],
    )
    whole = npx.compress(model, pictures, batch_size=2, **options)
    assert npx.compress(model, pictures, batch_size=2, **options, piece=piece, work=tmp_path) == whole
    assert npx.compress(model, pictures, batch_size=3, **options, piece=piece, work=tmp_path) == whole
    pictures.images[1][0, 0, 0, 0] ^= 1
    with pytest.raises(UserError, match=r"other work \(pictures differ\)"):
        npx.compress(model, pictures, **options, piece=piece, work=tmp_path)


def test_an_archive_in_pieces_is_proved(tiny, tmp_path, monkeypatch):
    """The second round finds an archive that does not decode."""
    from nextpixel.tasks import archive_pieces

    model = npx.freeze(tiny(spread=1.0))
    images = npx.sample(model, 40)
    right = archive_pieces.piece_intervals

    def wrong(model, pieces, labels):
        left, size = right(model, pieces, labels)
        return torch.where(left > 0, left - 1, left), size

    monkeypatch.setattr(archive_pieces, "piece_intervals", wrong)
    with pytest.raises(RuntimeError, match="does not decode"):
        npx.compress(model, images, work=tmp_path)


def test_pictures_that_are_too_large_are_refused_before_the_work(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("nextpixel.coding.writing.MOST_IN_PIECE", 10)
    with pytest.raises(UserError, match="must be cut into tiles"):
        npx.compress(npx.freeze(tiny()), torch.zeros(2, 1, 4, 5, dtype=torch.uint8), work=tmp_path / "w")
    assert not (tmp_path / "w").exists()


# The command line, started in every way


COMMAND = [sys.executable, "-m", "nextpixel", "train"]
SMALL = ["digits", "--option", "layers=1", "--option", "features=4", "--device", "cpu", "--sample-every", "0"]


def valid_of(run):
    return [json.loads(line)["valid"] for line in (run / "metrics.jsonl").read_text().splitlines() if "valid" in line]


@pytest.fixture
def as_a_user(tmp_path, monkeypatch):
    """In an empty folder, one thread a process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.mark.full
def test_every_way_of_starting_gives_the_same_figures(as_a_user):
    once = [*SMALL, "--epochs", "1"]
    torchrun_ = [sys.executable, "-m", "torch.distributed.run"]
    end = ["-m", "--", "nextpixel", "train", *once, "--run", "torchrun"]
    subprocess.run([*COMMAND, *once, "--run", "one"], check=True, timeout=240)
    subprocess.run([*COMMAND, *once, "--run", "two", "--devices", "2"], check=True, timeout=240)
    subprocess.run([*torchrun_, "--standalone", "--nproc-per-node", "2", *end], check=True, timeout=240)
    end[-1] = "machines"
    meeting = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port"]
    port = str(free_port())
    launchers = [
        subprocess.Popen([*torchrun_, "--node-rank", str(node), *meeting, port, *end], stdout=subprocess.DEVNULL)
        for node in range(2)
    ]
    assert [launcher.wait(240) for launcher in launchers] == [0, 0]
    port = str(free_port())
    nodes = [
        subprocess.Popen(
            [*COMMAND, *once, "--run", "nodes", "--nodes", "2"],
            env={**os.environ, "NODE_RANK": str(node), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
            stdout=subprocess.DEVNULL,
        )
        for node in range(2)
    ]
    assert [node.wait(240) for node in nodes] == [0, 0]
    expected = valid_of(as_a_user / "one")
    for run in ("two", "torchrun", "machines", "nodes"):
        assert valid_of(as_a_user / run) == pytest.approx(expected, abs=1e-5)  # in float32
    assert sorted(path.name for path in as_a_user.iterdir()) == ["machines", "nodes", "one", "torchrun", "two"]


def long_run(folder, name):
    """A training of two processes that has begun."""
    command = [*COMMAND, *SMALL, "--epochs", "500", "--run", name, "--devices", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (folder / name / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return process


def children_of(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    return [int(line) for line in found.stdout.split()]


@pytest.mark.full
def test_a_signal_to_one_stops_all_and_one_process_goes_on(as_a_user):
    process = long_run(as_a_user, "run")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.count("nothing is lost: go on with nextpixel train --resume run") == 1
    steps = RunFolder("run").checkpoints.newest()[1]["global_step"]
    resumed = [*COMMAND, "--resume", "run", "--max-minutes", "0.02", "--devices", "1"]
    subprocess.run(resumed, check=True, timeout=240)
    assert RunFolder("run").checkpoints.newest()[1]["global_step"] > steps


@pytest.mark.full
@pytest.mark.parametrize("which", ["first", "other"])
def test_a_killed_process_ends_all(as_a_user, which):
    process = long_run(as_a_user, "run")
    (other,) = children_of(process)
    os.kill(other if which == "other" else process.pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Another process of this training has ended" in errors
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            os.kill(other, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a process was left behind")


@pytest.mark.full
def test_a_killed_evaluation_goes_on(as_a_user, tiny, digits):
    tiny(like=digits, layers=3, features=16).save_pretrained(as_a_user / "model")
    command = [sys.executable, "-m", "nextpixel", "evaluate", "model", "digits", "--batch-size", "1", "--piece", "10"]
    subprocess.run([*command, "--json", "one.json"], check=True, timeout=240)
    started = launched([*command, "--work", "work"], cwd=as_a_user)
    while len(list((as_a_user / "work").glob("nats-*"))) < 3:
        assert started[0].poll() is None
        time.sleep(0.01)
    for process in started:
        process.kill()
        process.wait()
    kept = {path: path.stat().st_mtime_ns for path in (as_a_user / "work").glob("nats-*")}
    assert 3 <= len(kept) < 30
    for status, _, errors in ended(launched([*command, "--work", "work", "--json", "two.json"], cwd=as_a_user)):
        assert status == 0, errors
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    one, two = (json.loads((as_a_user / name).read_text()) for name in ("one.json", "two.json"))
    assert {**one, "seconds": 0} == {**two, "seconds": 0}
    assert math.isfinite(one["nats"])


@pytest.mark.parametrize("at", [1, 5, 7])
def test_a_stopped_run_of_several_passes_goes_on_to_the_bit(tmp_path, monkeypatch, at):
    """7 is in the middle of the second epoch, 5 at the end of the first one."""
    original = keeper.Keeper.on_train_batch_end

    def stopped(self, trainer, *rest):
        self.stop = keeper.STOPS.index("by a signal") if trainer.global_step == at else 0
        original(self, trainer, *rest)

    several_processes.train("adamw", tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(keeper.Keeper, "on_train_batch_end", stopped)
        with pytest.raises(Interrupted):
            several_processes.train("adamw", tmp_path / "run")
    several_processes.train("adamw", tmp_path / "run", resume=True)
    one, two = (RunFolder(tmp_path / run).checkpoints.newest()[1] for run in ("whole", "run"))
    assert one["global_step"] == two["global_step"] == 50
    assert all(torch.equal(one["state_dict"][name], value) for name, value in two["state_dict"].items())
