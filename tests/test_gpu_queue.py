"""The queue for a machine with a GPU, on the CPU at toy size: what it does when time is over, a job fails, a part is
lost."""

import dataclasses
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_train import interrupt_at

import nextpixel as npx
from benchmarks import gpu_jobs, gpu_queue, gpu_training
from benchmarks.gpu_jobs import JOBS, do, without_paths, work_through
from benchmarks.gpu_pieces import Torn, pack, stage, unpack
from benchmarks.gpu_recipes import RECIPES
from benchmarks.gpu_scaling import extrapolated, laws
from benchmarks.gpu_setting import FULL_MINUTES, Setting, Unfinished
from benchmarks.gpu_training import train
from nextpixel.errors import UserError

ROOT = Path(__file__).parents[1]
NAME = "cifar10-gated_pixelcnn"


@pytest.fixture
def setting(tmp_path):
    """A call of ten minutes, in which trainings have a thousandth of their time."""
    return Setting("", tmp_path / "runs", "cpu", time.time() + 600, FULL_MINUTES / 1000, toy=True)


def of(setting, name):
    return json.loads((setting.runs / "cards" / f"{name}.json").read_text())


def assert_no_paths(value):
    text = json.dumps(value)
    assert not re.search(r'[" ]/(?:\w+/)+', text), text
    assert str(ROOT) not in text


# Trainings


@pytest.mark.parametrize("name", ["cifar10-pixelcnnpp", "binarized_mnist-multiscale", "binarized_mnist-made"])
def test_a_training_leaves_a_card_and_weights_that_reach_its_figure(setting, name):
    assert do(name, setting) == "done"
    card = of(setting, name)
    assert card["exact"] is True
    assert card["training"]["flip"] == RECIPES[name].training.get("flip", 0.0)
    assert_no_paths(card)
    model = npx.load(setting.runs / "weights" / name)
    assert model.parameter_count == card["parameters"]
    digits = npx.dataset("digits", binarise="threshold" if model.levels == 2 else None)
    found = npx.evaluate(model, digits.test[:24])
    assert found.bits_per_dim == pytest.approx(card["test"]["bits_per_dim"], abs=1e-6)
    assert found.protocol == card["protocol"]


def test_a_training_that_is_stopped_goes_on_from_what_came_back(setting, tmp_path, monkeypatch):
    setting = dataclasses.replace(setting, training_minutes=FULL_MINUTES)
    monkeypatch.setattr(gpu_training, "_epochs", lambda *speed: 2)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        assert do(NAME, setting) == "stopped"
    stopped = of(setting, NAME)
    assert_no_paths(stopped)
    about = pack(setting.runs, tmp_path / "out", {})
    assert not about["left_behind"]
    elsewhere = dataclasses.replace(setting, runs=tmp_path / "elsewhere")
    unpack(tmp_path / "out", elsewhere.runs)
    (checkpoint,) = (elsewhere.runs / "jobs" / NAME / "run" / "checkpoints").glob("*.ckpt")
    assert checkpoint.name.startswith("step-00000004-")
    assert do(NAME, elsewhere) == "done"
    card = of(elsewhere, NAME)
    assert card["training_seconds"] > stopped["training_seconds"] > 0
    assert card["training"]["epochs"] == stopped["epochs"], "the plan is that of the first call"
    assert [point["step"] for point in card["curve"]] == [6, 12], "96 images in batches of 16"
    assert not card["cut_short"]


def test_a_training_ends_with_its_call_and_is_cut_when_it_is_over_its_share(setting):
    """A share of minutes, of which the call has less than a second left; then one of which nearly all is used up."""
    long = dataclasses.replace(setting, training_minutes=FULL_MINUTES, until=time.time() + 1.0)
    with pytest.raises(Unfinished):
        train(RECIPES[NAME], long, NAME)
    notes = setting.runs / "jobs" / NAME / "notes.json"
    found = json.loads(notes.read_text())
    assert found["epochs"] > 20
    notes.write_text(json.dumps({**found, "seconds": 1e6}))
    card = train(RECIPES[NAME], dataclasses.replace(long, until=time.time() + 600), NAME)
    assert card["cut_short"] is True
    assert math.isfinite(card["test"]["bits_per_dim"])


def test_the_recipes_are_worth_18_minutes_and_their_weights_fit(setting):
    assert sum(recipe.seconds for recipe in RECIPES.values()) == 60 * FULL_MINUTES
    for name, recipe in RECIPES.items():
        shape, levels = ((3, 32, 32), 256) if recipe.data == "cifar10" else ((1, 28, 28), 2)
        images = torch.zeros(1, *shape, dtype=torch.uint8)
        like = npx.Split(images, None, levels, name, "")
        model = recipe.build(like, toy=False)
        assert 4 * model.parameter_count < 15 * 2**20, name
        assert 16 * model.parameter_count < 4 * 15 * 2**20, f"{name}: a checkpoint has three more numbers a weight"
        recipe.training_options(toy=False)


# Jobs and calls


def test_a_job_that_fails_is_recorded_and_the_others_are_done(setting, monkeypatch):
    def broken(setting):
        raise RuntimeError("CUDA error: an illegal memory access in /opt/some/where/kernel.cu, of x/y")

    monkeypatch.setitem(JOBS, "tests", gpu_jobs.Job(broken, 0.0))
    assert work_through(setting, ["tests", "codec"]), "this process is not to be trusted any more"
    card = of(setting, "tests")
    assert card["status"] == "failed"
    assert card["error"] == "RuntimeError"
    assert card["said"] == "CUDA error: an illegal memory access in kernel.cu, of x/y"
    assert_no_paths(card)
    assert gpu_queue.pending(setting, ["tests", "codec"]) == ["codec"]
    assert not work_through(setting, ["codec"])
    assert of(setting, "codec")["all_the_same"] is True
    assert gpu_queue.pending(setting, ["tests", "codec"]) == []


def test_a_job_is_begun_only_if_there_is_time_and_data(setting, monkeypatch, capsys):
    def missing(name, setting):
        raise UserError("There are 5000 train images but 50000 labels: fetch it again.")

    short = dataclasses.replace(setting, toy=False, until=time.time() + 10)
    assert not work_through(short, list(JOBS))
    monkeypatch.setattr(gpu_jobs, "loaded", missing)
    assert not work_through(setting, [NAME])
    assert "waits for its data" in capsys.readouterr().err
    assert not (setting.runs / "cards").exists()
    assert gpu_queue.summary(setting)["jobs"][NAME] == "not begun"


def test_stopped_jobs_come_first(setting):
    gpu_jobs.write_card(setting, "binarized_mnist-made", "stopped", {})
    assert gpu_queue.pending(setting, list(JOBS))[0] == "binarized_mnist-made"


@pytest.mark.parametrize(
    ("said", "clean"),
    [
        ("/home/me/np/x.py", "x.py"),
        ("in /a/b/c.py, line 3", "in c.py, line 3"),
        ("a/b and 1/2 and /", "a/b and 1/2 and /"),
        ("nats/image", "nats/image"),
    ],
)
def test_paths_are_taken_out_of_what_is_said(said, clean):
    assert without_paths({"a": [said]}) == {"a": [clean]}


def test_wrong_arguments_are_refused(tmp_path, capsys):
    assert gpu_queue.main(["--runs", str(tmp_path)]) == 2
    assert gpu_queue.main(["--runs", str(tmp_path), "--out", str(tmp_path), "--stage", str(tmp_path)]) == 2
    assert gpu_queue.main(["--runs", str(tmp_path), "--unpack", str(tmp_path / "nowhere")]) == 2
    if not torch.cuda.is_available():
        assert gpu_queue.main(["--runs", str(tmp_path), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("Error: ") >= 3
    assert "Traceback" not in said


# What travels


def test_pieces_that_are_carried_one_after_another_make_up_the_data(tmp_path):
    for number, names in enumerate((("cifar10/a.webp", "mnist/x.gz"), ("cifar10/b.webp", "cifar10/a.webp"))):
        for name in names:
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    data = tmp_path / "data"
    assert stage(tmp_path / "0", data) == ["cifar10/a.webp", "mnist/x.gz"]
    (data / "cifar10/a.webp").write_text("torn")
    assert stage(tmp_path / "1", data) == ["cifar10/a.webp", "cifar10/b.webp"]
    assert sorted(str(p.relative_to(data)) for p in data.rglob("*") if p.is_file()) == [
        "cifar10/a.webp",
        "cifar10/b.webp",
        "mnist/x.gz",
    ]
    assert all(path.read_text() == str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())


def files(runs, sizes):
    """A folder of runs with a done and a stopped job; sizes of weights and of checkpoint."""
    for name, status, size in (("one", "done", sizes[0]), ("two", "stopped", sizes[1])):
        (runs / "cards").mkdir(parents=True, exist_ok=True)
        (runs / "cards" / f"{name}.json").write_text(json.dumps({"job": name, "status": status}))
        file = runs / ("weights" if status == "done" else "jobs") / name / "deep" / "numbers"
        file.parent.mkdir(parents=True)
        file.write_bytes(torch.randint(256, (size,), dtype=torch.uint8).numpy().tobytes())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 300_000), st.integers(0, 300_000))
def test_what_is_packed_is_unpacked_and_stays_within_the_limits(tmp_path_factory, weights, checkpoint):
    folder = tmp_path_factory.mktemp("pack")
    files(folder / "runs", (weights, checkpoint))
    about = pack(folder / "runs", folder / "out", {"jobs": {}}, part_mib=0.125, parts=4)
    written = sorted(path.name for path in (folder / "out").iterdir())
    assert len(written) <= 5
    assert all(path.stat().st_size <= 0.125 * 2**20 for path in (folder / "out").glob("part-*"))
    assert all(re.fullmatch(r"[\w.-]+", name) for name in written)
    unpack(folder / "out", folder / "again")
    for name in ("weights/one", "jobs/two"):
        here, there = (folder / where / name / "deep" / "numbers" for where in ("runs", "again"))
        assert there.exists() == (name not in about["left_behind"])
        assert not there.exists() or there.read_bytes() == here.read_bytes()
    assert (folder / "again/cards/one.json").exists(), "cards always find room"
    fits = weights + checkpoint < 4 * 0.125 * 2**20 - 80_000
    assert not (fits and about["left_behind"])


def test_weights_come_back_once_and_torn_parts_are_noticed(tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "out"
    files(runs, (200_000, 100_000))
    pack(runs, out, {}, part_mib=0.125)
    assert len(list(out.glob("part-*"))) > 2
    (out / "part-1.bin").rename(tmp_path / "lost")
    with pytest.raises(Torn, match="missing"):
        unpack(out, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    pack(runs, out, {})
    assert sorted(name.split("/")[0] for name in unpack(out, tmp_path / "again")) == ["cards", "cards", "jobs"]
    gpu_queue.main(["--runs", str(runs), "--out", str(out), "--toy", "--minutes", "0", "--all"])
    assert [name.split("/")[0] for name in unpack(out, tmp_path / "again")] == ["weights"]


def test_a_later_call_replaces_a_card_at_home_but_not_where_the_work_goes_on(tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "out"
    files(runs, (10, 10))
    pack(runs, out, {})
    gpu_queue.main(["--runs", str(tmp_path / "home"), "--unpack", str(out)])
    (runs / "cards" / "two.json").write_text(json.dumps({"job": "two", "status": "done"}))
    assert unpack(out, runs) == [], "all of it is there, and newer"
    assert json.loads((runs / "cards" / "two.json").read_text())["status"] == "done"
    pack(runs, out, {})
    gpu_queue.main(["--runs", str(tmp_path / "home"), "--unpack", str(out)])
    assert json.loads((tmp_path / "home" / "cards" / "two.json").read_text())["status"] == "done"
    assert (tmp_path / "home" / "weights" / "one" / "deep" / "numbers").exists(), "of the first call"


# The power law


def test_a_law_is_found_again_and_its_cost_is_within_the_limits():
    compute = [10.0**power for power in (15, 15.4, 15.8, 16.2, 16.6, 17)]
    noise = [0.002, -0.002, 0.001, -0.001, 0.002, -0.002]
    bits = [2.7 + 1e3 * c**-0.2 + e for c, e in zip(compute, noise, strict=True)]
    found = extrapolated(compute, bits, (3.0, 2.6))
    true = (1e3 / 0.3) ** 5
    assert found["costs"]["3"]["least"] <= true <= found["costs"]["3"]["most"]
    assert found["costs"]["3"]["least"] <= found["costs"]["3"]["best"] <= found["costs"]["3"]["most"]
    assert found["floors_allowed"][0] <= 2.7 <= found["floors_allowed"][1]
    assert found["costs"]["2.6"]["most"] is None, "some law that the points allow never gets there"
    exact = laws(compute, [2.7 + 1e3 * c**-0.2 for c in compute])[0]
    assert exact.floor == pytest.approx(2.7, abs=0.02)
    assert exact.cost(2.0) == math.inf


def test_no_law_through_too_few_points_or_rising_ones():
    assert extrapolated([1.0, 2.0, 3.0], [3.0, 2.9, 2.8], ()) is None
    assert extrapolated([1.0, 2.0, 3.0, 4.0], [2.0, 2.1, 2.2, 2.3], ()) is None
    assert extrapolated([1.0, 1.0, 2.0, 3.0], [3.0, 2.9, 2.8, 2.7], ()) is None


# All of it, as it is run


@pytest.mark.full
@pytest.mark.timeout(900)
def test_the_whole_queue_at_toy_size_in_two_calls(tmp_path):
    def call(*more):
        command = [sys.executable, "-m", "benchmarks.gpu_queue", "--toy", "--runs", tmp_path / "runs", "--out"]
        ended = subprocess.run([*command, tmp_path / "out", *more], cwd=ROOT, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr[-3000:]
        return json.loads((tmp_path / "out" / "summary.json").read_text())["jobs"]

    first = call("--minutes", "0.5", "--jobs", NAME, "--training-minutes", "18")
    assert first[NAME] == "stopped"
    (tmp_path / "runs").rename(tmp_path / "lost")
    (tmp_path / "out").rename(tmp_path / "back")
    second = call("--back", tmp_path / "back", "--minutes", "8", "--training-minutes", "0.5")
    assert set(second.values()) == {"done"}, second
    for path in (tmp_path / "runs" / "cards").glob("*.json"):
        assert_no_paths(json.loads(path.read_text()))


@pytest.mark.full
@pytest.mark.timeout(300)
def test_a_process_that_is_killed_is_recorded_and_the_next_one_goes_on(tmp_path, monkeypatch):
    """The first job ends its process."""
    setting = Setting("", tmp_path, "cpu", time.time() + 200, 0.05, toy=True)
    breaking = tmp_path / "sitecustomize.py"
    breaking.write_text(
        "import os, sys\n"
        "if 'benchmarks.gpu_jobs' in sys.orig_argv and 'codec' in sys.orig_argv:\n"
        "    from benchmarks import gpu_checks\n"
        "    gpu_checks.codec = lambda setting: os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    gpu_queue.work(setting, ["codec", NAME])
    assert of(setting, "codec")["status"] == "failed"
    assert "-9" in of(setting, "codec")["said"]
    assert of(setting, NAME)["status"] == "done"
