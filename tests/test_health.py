"""What a training run says about itself: numbers that are none, gradients that jump, leaks, memory, time."""

import json
import math
import resource
import subprocess
import sys

import mutants
import pytest
import torch
from test_train import checkpoint, fit, newest

import nextpixel as npx
from nextpixel.checking.leaks import leaks
from nextpixel.errors import UserError
from nextpixel.image_model import ImageModel
from nextpixel.images import Dataset, Split
from nextpixel.multiscale import build_multiscale
from nextpixel.tasks import training
from nextpixel.tasks.health import GradientNorms, gradient_norm, too_good
from nextpixel.tasks.memory import largest_that_runs, out_of_memory
from nextpixel.tasks.progress import TrainProgress


def lines(run, key):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if key in line]


def finite(state):
    return all(value.isfinite().all() for value in state["state_dict"].values())


# Numbers that are none


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_last_good_checkpoint_is_named_and_holds_numbers(
    digits, tiny, run, monkeypatch, where, value, assert_sentence
):
    original = training.TrainingModule._loss

    def loss(self, batch):
        found = original(self, batch)
        if self.global_step == 5:
            if where == "loss":
                return found * value
            found.register_hook(lambda gradient: gradient * value)
        return found

    monkeypatch.setattr(training.TrainingModule, "_loss", loss)
    with pytest.raises(UserError, match=f"{where} became .* at step 6") as caught:
        fit(tiny(like=digits), digits, run, epochs=3, checkpoint_minutes=1e-9)
    assert_sentence(caught)
    assert newest(run).name in str(caught.value)
    assert checkpoint(run)["global_step"] == 5
    assert finite(checkpoint(run))


def test_weights_that_are_no_numbers_are_never_written(digits, tiny, run, monkeypatch):
    """Whatever made them so, and wherever it was not looked at."""
    original = training.TrainingModule.optimizer_step

    def spoil(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if self.global_step == 5:  # not counted up yet
            with torch.no_grad():
                next(self.averaged.parameters()).view(-1)[0] = math.nan

    monkeypatch.setattr(training.TrainingModule, "optimizer_step", spoil)
    with pytest.raises(UserError, match="weights"):
        fit(tiny(like=digits), digits, run, epochs=3, checkpoint_minutes=1e-9)
    assert checkpoint(run)["global_step"] == 5
    assert finite(checkpoint(run))


# Gradients


def test_a_spike_is_ten_times_the_median():
    norms = GradientNorms()
    assert [norms.spike(x) for x in [500.0] * 5 + [1.0] * 15] == [None] * 20, "no verdict before 20 steps"
    assert norms.spike(9.9) is None
    assert norms.spike(10.1) == pytest.approx(10.1)
    for _ in range(8):
        assert norms.spike(1000.0) == 1000.0, "the spikes themselves do not count"
    for _ in range(100):
        norms.spike(0.1)
    assert norms.spike(2.0) == pytest.approx(20.0), "it follows"
    assert [GradientNorms().spike(0.0) for _ in range(30)] == [None] * 30


def test_the_norm_is_that_of_all_gradients_before_clipping(digits, tiny, run):
    model = tiny(like=digits)
    data = Dataset("eight", digits.train[:8], digits.valid[:4], digits.test[:4])
    loss = -model.log_prob(data.train.images).mean() / (math.log(2) * 64)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    expected = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients))
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    assert float(gradient_norm(model.parameters())) == pytest.approx(expected, rel=1e-5)
    model.zero_grad()
    fit(model, data, run, epochs=1, batch_size=8, gradient_clip=1e-3)
    assert lines(run, "gradient_norm")[0]["gradient_norm"] == pytest.approx(expected, rel=1e-4)


def test_spikes_are_logged_with_their_step(digits, tiny, run, monkeypatch, capsys):
    original = training.TrainingModule._loss

    def loss(self, batch):
        return original(self, batch) * (1000 if self.global_step in (24, 25) else 1)

    monkeypatch.setattr(training.TrainingModule, "_loss", loss)
    fit(tiny(like=digits), digits, run, epochs=7, progress=True)
    found = lines(run, "spike")
    assert [line["step"] for line in found] == [25, 26]
    assert all(100 < line["times_median"] < 10_000 for line in found)
    assert capsys.readouterr().err.count("times the median") == 1
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    assert [point.step for point in events.Scalars("gradient norm/spikes")] == [25, 26]


# Too good to be true


@pytest.fixture
def noise():
    """Pictures that no honest model predicts: coins."""
    images = torch.randint(2, (160, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    parts = [Split(part, None, 2, "coins", "test") for part in images.split([96, 32, 32])]
    return Dataset("coins", *parts)


LEARN = {"batch_size": 16, "learning_rate": 2e-2, "schedule": "constant", "warmup_steps": 0, "ema": 0.0}


def test_a_model_that_leaks_is_told_of(noise, run, monkeypatch):
    """Coins cost a bit each; only a model that sees them can do with less than a quarter."""
    torch.manual_seed(0)
    model = mutants.residual_around_the_masked_first_layer()
    monkeypatch.setattr(training, "load", lambda path: model)  # no honest model has such weights
    with pytest.warns(UserWarning, match="leaks") as caught:
        fit(model, noise, run, epochs=15, sample_every=0, **LEARN)
    said = [str(w.message) for w in caught if "leaks" in str(w.message)]
    assert len(said) == 1, "once a run"
    assert "sees itself" in said[0]
    assert lines(run, "valid")[-1]["valid"] < 0.25


def test_images_that_are_simple_are_no_leak(tiny, run):
    """All pictures the same: nothing to predict, and nothing to find."""
    images = torch.randint(2, (1, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = Split(images.repeat(96, 1, 1, 1), None, 2, "one", "test")
    data = Dataset("one", split, split[:8], split[:8])
    with pytest.warns(UserWarning, match="no leak was found") as caught:
        fit(tiny(like=data, features=12, first_kernel=5), data, run, epochs=10, sample_every=0, **LEARN)
    assert sum("no leak" in str(w.message) for w in caught) == 1


def test_what_is_too_good(digits, noise):
    assert too_good(0.97, noise) is None
    assert too_good(0.2, noise) > 0.9
    # Good models of digits need about 2 bits/dim.
    assert too_good(1.5, digits) is None


@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_leaks_are_found_and_nothing_else(name):
    mutant = mutants.MUTANTS[name]
    leaky = ("future leak", "sees itself", "channel leak", "train-mode leak", "batch leak")
    found = {finding.fault for finding in leaks(mutant.build())}
    if mutant.fault in leaky:
        assert found & set(leaky)
    elif mutant.fault in ("blind spot", "too little context", "first symbol lost", "not normalised"):
        assert not found


def test_right_models_of_every_kind_have_no_leak(digits):
    several = npx.build("pixelcnn", shape=(3, 4, 5), levels=4, blocks=1, features=6, first_kernel=3, orders=3)
    options = {"layers": 1, "features": 4, "first_kernel": 3}
    scales = build_multiscale("gated_pixelcnn", like=digits.train, scale=2, small_options=options, **options)
    before = torch.get_rng_state()
    for model in (several, scales):
        mode = model.training
        assert leaks(model) == []
        assert model.training == mode
    assert torch.equal(torch.get_rng_state(), before)


# Memory


@pytest.mark.parametrize("kind", ["cuda", "cpu", "python"])
def test_the_batch_that_fits_is_found_by_trying(digits, tiny, run, monkeypatch, kind, assert_sentence):
    errors = {
        "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        "python": MemoryError(),
    }
    original, tried = ImageModel.log_prob, []

    def log_prob(self, x, condition=None):
        if self.training:
            tried.append(len(x))
            if len(x) > 9:
                raise errors[kind]
        return original(self, x, condition)

    monkeypatch.setattr(ImageModel, "log_prob", log_prob)
    with pytest.raises(UserError, match="--batch-size 8") as caught:
        fit(tiny(like=digits), digits, run, batch_size=48)
    assert_sentence(caught)
    assert tried == [48, 32, 16, 8]


def test_not_even_one_image_fits():
    def attempt(size):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    assert largest_that_runs(attempt, 100) == 0
    assert largest_that_runs(lambda size: None, 1) == 0
    assert largest_that_runs(lambda size: None, 64) == 32


def test_other_errors_are_not_mistaken_for_it(digits, tiny, run, monkeypatch):
    assert not out_of_memory(RuntimeError("size mismatch"))
    assert not out_of_memory(ValueError("out of memory"))

    def log_prob(self, x, condition=None):
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(ImageModel, "log_prob", log_prob)
    with pytest.raises(RuntimeError, match="size mismatch"):
        fit(tiny(like=digits), digits, run)


@pytest.mark.full
def test_a_real_lack_of_memory(tmp_path):
    """A process that may have 3 GiB of addresses, and a batch that needs more."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))  # noqa: E731
    line = [sys.executable, "-m", "nextpixel", "train", "digits", "--run", "run", "--batch-size", "1350"]
    done = subprocess.run(
        [*line, "--option", "features=256", "--option", "layers=10", "--device", "cpu"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
        timeout=250,
    )
    assert done.returncode == 2, done.stderr
    assert "was tried and fits" in done.stderr
    assert "Traceback" not in done.stderr


# Time


def test_the_share_of_waiting_is_counted(digits, tiny, run, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("nextpixel.tasks.progress.time.monotonic", lambda: clock[0])
    progress = TrainProgress(100, 8, 64, show=False)

    def batches():
        for _ in range(4):
            clock[0] += 1.0  # fetching takes a second, training three
            yield torch.zeros(8), torch.zeros(0)

    progress.restart_clock()
    for number, _ in enumerate(progress.waiting_for(list_of(batches)), 1):
        clock[0] += 3.0
        progress.step(number, torch.tensor(1.0))
    assert progress.speed(4) == {"images_per_second": 2.0, "waiting": 0.25, "seconds_left": 4.0 * 96}


class list_of:  # noqa: N801
    """An iterable that is made anew each time."""

    def __init__(self, make):
        self.make = make

    def __iter__(self):
        return self.make()


def test_speed_and_waiting_are_in_the_curve(digits, tiny, run):
    fit(tiny(like=digits), digits, run, epochs=6)
    found = lines(run, "train")
    assert [line["step"] for line in found] == [1, 20]
    for line in found:
        assert line["images_per_second"] > 0
        assert 0 <= line["waiting"] <= 1
        assert line["seconds_left"] > 0


def test_a_profile_is_written_and_changes_nothing(digits, tiny, tmp_path):
    for name in ("with", "without"):
        fit(tiny(like=digits, dropout=0.3), digits, tmp_path / name, profile=name == "with")
    with_, without = (checkpoint(tmp_path / name)["state_dict"] for name in ("with", "without"))
    assert all(torch.equal(with_[name], without[name]) for name in without)
    trace = json.loads((tmp_path / "with" / "profile" / "trace.json").read_text())
    assert any("conv" in str(event.get("name")) for event in trace["traceEvents"])
    table = (tmp_path / "with" / "profile" / "operations.txt").read_text()
    assert 3 <= sum("aten::" in line or "Backward" in line for line in table.splitlines()) <= 10
    assert not (tmp_path / "without" / "profile").exists()
