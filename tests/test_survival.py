"""Training runs that are killed, and end as if nothing had happened: bit for bit."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lives import data, model
from test_train import assert_same_state, checkpoint, metrics

import nextpixel as npx

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
LIVES = 20


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """life(run, resume, kind, event): a life of a training run in a process of its own; (exit status, what it said)."""
    errors = tmp_path_factory.mktemp("lives") / "stderr"
    with open(errors, "w") as log:
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("lives.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            text=True,
        )

        def one(run, resume=False, kind=None, event=0, **options):
            asked = {"run": str(run), "resume": resume, "kind": kind, "event": event, **options}
            server.stdin.write(json.dumps(asked) + "\n")
            server.stdin.flush()
            answer = json.loads(server.stdout.readline())
            if kind is None:
                assert answer["status"] == 0, errors.read_text()[-3000:]
            return answer["status"], answer["said"]

        yield one
        server.stdin.close()
        assert server.wait(60) == 0
        server.stdout.close()


@pytest.fixture(scope="module")
def whole(life, tmp_path_factory):
    """A run that nothing happened to, and the number of its events."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return run, int(life(run)[1])


def assert_same_run(run, other):
    assert_same_state(checkpoint(run), checkpoint(other))
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (run / "model" / name).read_bytes() == (other / "model" / name).read_bytes(), name
    assert metrics(run) == metrics(other)
    assert sorted(p.name for p in (run / "samples").iterdir()) == sorted(p.name for p in (other / "samples").iterdir())
    for picture in (run / "samples").iterdir():
        assert picture.read_bytes() == (other / "samples" / picture.name).read_bytes()
    assert not [name for name in os.listdir(run) if name.startswith(".model")]


def intact(run):
    files = sorted((run / "checkpoints").glob("step-*.ckpt"))
    return [path for path in files if path.stem.endswith(hashlib.sha256(path.read_bytes()).hexdigest()[:16])]


def truncate(path, chance):
    os.truncate(path, chance.randrange(path.stat().st_size))


def flip_a_bit(path, chance):
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def assert_something_whole(run):
    """Whatever the moment: no file that has its name is torn."""
    assert not (run / "model").exists() or npx.load(run)
    assert len(intact(run)) == len(list((run / "checkpoints").glob("step-*.ckpt")))


def test_killed_twenty_times_at_random_moments(life, whole, tmp_path):
    run, chance = tmp_path / "run", random.Random(6)
    for number in range(LIVES):
        status, said = life(run, number > 0, "kill", chance.randint(1, 2 * whole[1] // LIVES))
        assert status == -signal.SIGKILL, said
        assert_something_whole(run)
    life(run, True)
    assert_same_run(run, whole[0])
    assert curve(run) == curve(whole[0]) == [line["step"] for line in metrics(run) if "train" in line]


def curve(run):
    """The steps of the training curve that TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    return [point.step for point in events.Scalars("bits per dim/train")]


@pytest.mark.parametrize("lives", [6, pytest.param(LIVES, marks=pytest.mark.full)])
def test_killed_and_the_newest_checkpoint_damaged(life, whole, tmp_path, lives):
    run, chance, damaged = tmp_path / "run", random.Random(8), 0
    for number in range(lives):
        status, said = life(run, number > 0, "kill", chance.randint(1, 2 * whole[1] // lives))
        assert status == -signal.SIGKILL, said
        if len(intact(run)) > 1:
            (truncate, flip_a_bit)[damaged % 2](intact(run)[-1], chance)
            damaged += 1
    assert damaged > lives // 2
    life(run, True)
    assert_same_run(run, whole[0])


@pytest.mark.parametrize("lives", [4, pytest.param(LIVES, marks=pytest.mark.full)])
def test_stopped_by_signals(life, whole, tmp_path, lives):
    run, chance, statuses = tmp_path / "run", random.Random(9), []
    for number in range(lives):
        kind = ("SIGTERM", "SIGINT")[number % 2]
        statuses.append(life(run, number > 0, kind, chance.randint(20, whole[1] // lives))[0])
        assert_something_whole(run)
    assert set(statuses[: lives // 2]) == {130}, "each was heard, and the run stopped in its own way"
    life(run, True)
    assert_same_run(run, whole[0])


@pytest.mark.parametrize("lives", [4, pytest.param(LIVES, marks=pytest.mark.full)])
def test_the_disk_is_full_at_random_moments(life, whole, tmp_path, lives):
    """By a limit on the size of files: each write fails half-way."""
    run, chance = tmp_path / "run", random.Random(10)
    failed = 0
    for number in range(lives):
        status, said = life(run, number > 0, "full", chance.randint(1, 2 * whole[1] // lives))
        failed += status == 2
        assert status in (0, 2), said
        assert_something_whole(run)
    assert failed > lives // 2
    life(run, True)
    assert_same_run(run, whole[0])


def test_killed_before_the_first_checkpoint(life, whole, tmp_path):
    run = tmp_path / "run"
    event = 1
    while life(run, (run / "config.yaml").exists(), "kill", event)[0] == -signal.SIGKILL and not intact(run):
        event += 1
    assert event > 3
    assert intact(run)[0].name.startswith("step-00000000-"), "there is one before the first step"
    life(run, True)
    assert_same_run(run, whole[0])


def test_the_warning_names_both_checkpoints(life, tmp_path):
    run = tmp_path / "run"
    life(run, epochs=1)
    before, last = intact(run)
    truncate(last, random.Random(0))
    images = data()
    with pytest.warns(UserWarning, match="damaged") as caught:
        npx.train(model(images), images, run=run, resume=True, progress=False)
    said = str(caught.list[0].message)
    assert last.name in said
    assert before.name in said
    assert [path.name[:14] for path in intact(run)] == [before.name[:14], last.name[:14]]


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_the_command_killed_twenty_times(tmp_path):
    """Whole processes, killed by the clock."""
    arguments = ["--epochs", "6", "--batch-size", "16", "--device", "cpu", "--seed", "3", "--sample-every", "0"]
    options = [f"--option={pair}" for pair in ("layers=2", "features=6", "first-kernel=3", "dropout=0.3")]
    chance = random.Random(4)

    def start(*what):
        line = [sys.executable, "-m", "nextpixel", "train", *what]
        return subprocess.Popen(line, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)

    def new(name):
        return start("digits", "--run", name, "--checkpoint-minutes", "0.002", *arguments, *options)

    one = new("whole")
    assert one.communicate()[1] is not None
    assert one.returncode == 0
    kills = 0
    while kills < LIVES:
        began = (tmp_path / "parts" / "config.yaml").exists()
        one = start("--resume", "parts") if began else new("parts")
        # Until it has written a checkpoint, and then a little longer; a start takes several seconds.
        before = {path.name for path in (tmp_path / "parts").glob("checkpoints/*.ckpt")}
        deadline = time.monotonic() + 60
        while one.poll() is None and time.monotonic() < deadline:
            if {path.name for path in (tmp_path / "parts").glob("checkpoints/*.ckpt")} != before:
                break
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.3))
        one.kill()
        one.communicate()
        if one.returncode == 0:
            break
        kills += 1
    assert kills == LIVES, "it must not be over before"
    one = start("--resume", "parts")
    one.communicate()
    assert one.returncode == 0
    assert_same_state(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")
    for name in ("config.json", "model.safetensors"):
        ours, theirs = (tmp_path / run / "model" / name for run in ("parts", "whole"))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.full
def test_a_disk_of_its_own_is_full(life, whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = int(2.8 * intact(whole[0])[-1].stat().st_size)  # of three checkpoints the last does not fit
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        status, said = life(disk / "run", False, "none")
        assert status == 2
        assert "space" in said, said
        shutil.copytree(disk / "run", tmp_path / "run")
    finally:
        subprocess.run(["umount", disk], check=True)
    assert_something_whole(tmp_path / "run")
    life(tmp_path / "run", True)
    assert_same_run(tmp_path / "run", whole[0])
