"""The training loop: its arithmetic, its order, and that stopping and going on changes nothing."""

import dataclasses
import errno
import hashlib
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import nextpixel as npx
from nextpixel.errors import UserError
from nextpixel.images import Dataset, Split
from nextpixel.tasks.batches import Batches, InOrder, spaced
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.train import Interrupted, TrainOptions

TIMES = ("images_per_second", "waiting", "seconds_left")


def fit(model, data, run, **options):
    settings = {"epochs": 2, "batch_size": 32, "device": "cpu", "progress": False, **options}
    return npx.train(model, data, run=run, **settings)


def metrics(run):
    """The logged lines, without what a clock says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def newest(run):
    return max((run / "checkpoints").glob("step-*.ckpt"))


def checkpoint(run):
    return torch.load(newest(run), weights_only=True)


def visible(folder):
    """Names in a folder; a lock may lie beside them."""
    return sorted(name for name in os.listdir(folder) if name != ".lock")


@pytest.fixture
def steps_seen(monkeypatch):
    """Records learning rate and (after the step) the weights of every optimiser step."""
    seen = []
    for kind in (torch.optim.AdamW, torch.optim.RMSprop):

        def record(self, *args, original=kind.step, **kwargs):
            rate = self.param_groups[0]["lr"]
            result = original(self, *args, **kwargs)
            weights = [p.detach().clone() for group in self.param_groups for p in group["params"]]
            seen.append((rate, {id(p): p for g in self.param_groups for p in g["params"]}, weights))
            return result

        monkeypatch.setattr(kind, "step", record)
    return seen


# Steps, rates, averages


@pytest.mark.parametrize(("batch_size", "batches"), [(32, 4), (56, 2), (112, 1), (500, 1)])
def test_there_are_as_many_steps_as_epochs_times_batches(digits, tiny, run, steps_seen, batch_size, batches):
    assert len(digits.train) == 112
    fit(tiny(like=digits), digits, run, epochs=3, batch_size=batch_size)
    assert len(steps_seen) == 3 * batches
    assert checkpoint(run)["global_step"] == 3 * batches


def test_the_loss_falls(digits, tiny, run):
    model = tiny(like=digits, features=12)
    before = npx.evaluate(model, digits.valid).bits_per_dim
    # A fresh model is nearly uniform over 17 levels; digits cost about 3 bits from a histogram alone.
    assert before == pytest.approx(math.log2(17), abs=0.3)
    fit(model, digits, run, epochs=12, batch_size=16, learning_rate=1e-2, ema=0.9)
    assert npx.evaluate(model, digits.valid).bits_per_dim < 3.2
    valid = [line["valid"] for line in metrics(run) if "valid" in line]
    assert len(valid) == 12
    assert valid[-1] < valid[0] - 0.3


def test_a_training_step_is_gradient_descent_on_bits_per_dim(digits, tiny, run, steps_seen):
    """One AdamW step by hand: after the first step every weight has moved by the rate against the gradient's sign."""
    data = Dataset("eight", digits.train[:8], digits.valid[:4], digits.test[:4])
    model = tiny(like=data)
    weights = [p.detach().clone() for p in model.parameters()]
    loss = -model.log_prob(data.train.images).mean() / (math.log(2) * 64)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    fit(model, data, run, epochs=1, batch_size=8, learning_rate=1e-3, weight_decay=0.0, gradient_clip=0.0, ema=0.0)
    after = list(model.parameters())
    assert len(steps_seen) == 1
    for old, new, gradient in zip(weights, after, gradients, strict=True):
        # Adam's first step is rate · g / (|g| + 1e-8), bias corrections included.
        torch.testing.assert_close(new - old, -1e-3 * gradient / (gradient.abs() + 1e-8), atol=2e-5, rtol=0)
    logged = [line["train"] for line in metrics(run) if "train" in line]
    assert logged == [pytest.approx(loss.item(), abs=1e-5)]


def test_averaged_weights_follow_the_formula(digits, tiny, run, steps_seen):
    """average ← d·average + (1−d)·weights with d = min(ema, (1+t)/(10+t)), t = 0 at the first step."""
    model = tiny(like=digits)
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    named = dict(model.named_parameters())
    fit(model, digits, run, epochs=3, ema=0.3, learning_rate=1e-2)
    ids = {id(p): name for name, p in named.items()}
    for t, (_, parameters, weights) in enumerate(steps_seen):
        decay = min(0.3, (1 + t) / (10 + t))
        for key, now in zip(parameters, weights, strict=True):
            expected[ids[key]] = decay * expected[ids[key]] + (1 - decay) * now
    assert min((1 + t) / (10 + t) for t in range(12)) < 0.3 < max((1 + t) / (10 + t) for t in range(12))
    kept = checkpoint(run)["state_dict"]
    for name, value in expected.items():
        torch.testing.assert_close(kept[f"averaged.{name}"], value, atol=1e-6, rtol=1e-5)
        assert not torch.equal(kept[f"averaged.{name}"], kept[f"model.{name}"])


def test_the_averaged_weights_are_what_is_returned_and_saved(digits, tiny, run):
    model = fit(tiny(like=digits), digits, run, epochs=1, ema=0.5, learning_rate=1e-2)
    kept = checkpoint(run)["state_dict"]
    saved = load_file(run / "model" / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, kept[f"averaged.{name}"])
        assert torch.equal(value, saved[name])
    assert model.card["training"]["averaged"] is True
    valid = [line["valid"] for line in metrics(run) if "valid" in line]
    assert npx.evaluate(model, digits.valid).bits_per_dim == pytest.approx(valid[-1], abs=1e-5)


def test_without_averaging_the_last_weights_are_saved(digits, tiny, run):
    model = fit(tiny(like=digits), digits, run, epochs=1, ema=0.0)
    kept = checkpoint(run)["state_dict"]
    assert not any(name.startswith("averaged") for name in kept)
    for name, value in model.state_dict().items():
        assert torch.equal(value, kept[f"model.{name}"])
    assert model.card["training"]["averaged"] is False


def test_the_best_weights_are_kept_not_the_last(digits, tiny, run):
    """A rate that ruins the model: the saved one is that of the best epoch, and by value, not by reference."""
    model = tiny(like=digits)
    fit(model, digits, run, epochs=6, ema=0.0, learning_rate=0.5, schedule="constant", gradient_clip=0.0)
    valid = [line["valid"] for line in metrics(run) if "valid" in line]
    assert min(valid) < valid[-1], "the example must get worse"
    assert npx.evaluate(model, digits.valid).bits_per_dim == pytest.approx(min(valid), abs=1e-5)
    assert npx.evaluate(npx.load(run), digits.valid).bits_per_dim == pytest.approx(min(valid), abs=1e-5)


def test_warm_up_and_cosine(digits, tiny, run, steps_seen):
    fit(tiny(like=digits), digits, run, epochs=10, learning_rate=0.01, warmup_steps=4)  # 40 steps
    rates = [rate / 0.01 for rate, *_ in steps_seen]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4] == pytest.approx(1.0)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))
    assert rates[22] == pytest.approx((1 + 0.01) / 2)  # half of the way down
    assert rates[-1] == pytest.approx(0.01, abs=0.005)  # 1 % is reached when the last step is done
    assert rates[-1] > 0.01


def test_a_long_warm_up_is_cut_to_a_tenth_of_the_training(digits, tiny, run, steps_seen):
    fit(tiny(like=digits), digits, run, epochs=10, learning_rate=0.01, warmup_steps=1000)
    assert max(range(40), key=lambda i: steps_seen[i][0]) in (3, 4)


def test_the_exponential_schedule_decays_every_step(digits, tiny, run, steps_seen):
    fit(tiny(like=digits), digits, run, epochs=3, learning_rate=0.01, schedule="exponential", decay=0.9, warmup_steps=0)
    assert [rate for rate, *_ in steps_seen] == pytest.approx([0.01 * 0.9**step for step in range(12)])


def test_rmsprop_and_a_constant_rate(digits, tiny, run, steps_seen):
    model = tiny(like=digits)
    before = npx.evaluate(model, digits.valid).nats
    fit(model, digits, run, optimizer="rmsprop", schedule="constant", learning_rate=1e-3, warmup_steps=0, ema=0.0)
    assert [rate for rate, *_ in steps_seen] == pytest.approx([1e-3] * 8)
    assert npx.evaluate(model, digits.valid).nats < before


def test_the_logged_rate_is_the_one_the_step_was_made_with(digits, tiny, run):
    fit(tiny(like=digits), digits, run, schedule="exponential", decay=0.5, learning_rate=0.01, warmup_steps=0)
    assert next(line["rate"] for line in metrics(run) if line.get("step") == 1) == pytest.approx(0.01)


def test_class_prior_is_the_smoothed_class_frequency_and_survives(digits, tiny, run):
    model = fit(tiny(like=digits, classes=10), digits, run, epochs=1)
    counts = torch.tensor([int((digits.train.labels == c).sum()) for c in range(10)], dtype=torch.float64)
    expected = torch.log((counts + 1) / (len(digits.train) + 10))
    torch.testing.assert_close(model.log_class_prior(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(npx.load(run).log_class_prior(), expected, atol=1e-6, rtol=0)


def test_sample_grids_come_as_often_as_asked(digits, tiny, run):
    fit(tiny(like=digits), digits, run, epochs=4, batch_size=112, sample_every=2)
    assert sorted(p.name for p in (run / "samples").iterdir()) == ["epoch-0002.png", "epoch-0004.png"]


def test_looking_at_samples_on_the_way_changes_nothing(digits, tiny, tmp_path):
    for name, every in (("without", 0), ("with", 1)):
        model = tiny(like=digits, dropout=0.3)
        fit(model, digits, tmp_path / name, sample_every=every)
    with_, without = (checkpoint(tmp_path / name)["state_dict"] for name in ("with", "without"))
    assert all(torch.equal(with_[name], without[name]) for name in without)


# The order of the images


def numbered(n):
    """n images, each recognisable by its pixels."""
    images = torch.arange(n).view(n, 1, 1, 1) // torch.tensor([1, 16]) % 16
    return Split(images.view(n, 1, 1, 2), torch.arange(n) % 3, 16, "numbered", "test", 3)


def numbers(images):
    return (images[:, 0, 0, 0].long() + 16 * images[:, 0, 0, 1].long()).tolist()


def epoch_of(batches):
    return [(numbers(images), told["class"].tolist()) for images, told, _ in batches]


def test_every_epoch_is_a_permutation_of_its_own():
    trained = 0
    batches = Batches(numbered(50), 8, seed=3, trained=lambda: trained)
    epochs = []
    for _ in range(3):
        epochs.append(epoch_of(batches))
        trained += len(batches)
    orders = []
    for epoch in epochs:
        assert [len(images) for images, _ in epoch] == [8] * 6 + [2]
        order = [i for images, _ in epoch for i in images]
        assert sorted(order) == list(range(50))
        assert [label for _, labels in epoch for label in labels] == [i % 3 for i in order]  # labels stay with images
        orders.append(tuple(order))
    assert len({*orders, tuple(range(50))}) == 4
    assert epoch_of(Batches(numbered(50), 8, seed=3)) == epochs[0]
    assert epoch_of(Batches(numbered(50), 8, seed=4)) != epochs[0]
    assert len(epoch_of(Batches(numbered(50), 8, seed=2**32 - 1))) == len(epochs[0]), "the largest seed is one too"


@pytest.mark.parametrize("taken", range(1, 8))
def test_batches_go_on_where_they_were_left(taken):
    """Also when more had been fetched than trained on."""
    trained = 0
    batches = Batches(numbered(50), 8, seed=0, trained=lambda: trained)
    expected = epoch_of(batches)
    trained = len(batches)
    expected += epoch_of(batches)
    trained = 0
    iterator = iter(batches)
    found = [epoch_of([next(iterator)])[0] for _ in range(taken)]
    next(iterator, None)  # fetched ahead, and lost when the run is interrupted
    while len(found) < len(expected):
        trained = len(found)
        found += epoch_of(batches)
    assert found == expected


def test_dynamic_binarisation_is_drawn_anew_each_epoch_and_repeatably():
    grey = torch.full((40, 1, 4, 4), 128)
    split = Split(torch.zeros_like(grey), None, 2, "grey", "dynamic", grey=grey, grey_levels=256)

    def two_epochs():
        epochs = [Batches(split, 40, seed=0, trained=lambda done=done: done) for done in range(2)]
        return [torch.cat([images for images, _, _ in batches]) for batches in epochs]

    first, second = two_epochs()
    assert not torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip((first, second), two_epochs(), strict=True))
    assert 0.3 < first.double().mean() < 0.7


def test_in_order_gives_every_image_once_in_order():
    found = [numbers(images) for images, _, _ in InOrder(numbered(50), 16)]
    assert [len(part) for part in found] == [16, 16, 16, 2]
    assert list(itertools.chain(*found)) == list(range(50))
    assert len(InOrder(numbered(50), 16)) == 4


def test_spaced_takes_images_from_everywhere():
    assert numbers(spaced(numbered(50), 5).images) == [0, 10, 20, 30, 40]
    assert numbers(spaced(numbered(50), 7).images)[0] == 0
    assert len(spaced(numbered(50), 7)) == 7
    assert len(spaced(numbered(50), 0)) == len(spaced(numbered(50), 99)) == 50


# Stopping and going on


def interrupt_at(monkeypatch, step, number=signal.SIGINT):
    """A real signal to this process during the given step."""
    from nextpixel.tasks import training

    original = training.Keeper.on_train_batch_end

    def send(self, trainer, *args):
        if trainer.global_step == step:
            signal.raise_signal(number)
        return original(self, trainer, *args)

    monkeypatch.setattr(training.Keeper, "on_train_batch_end", send)


def dynamic(digits):
    """The digits as grey values under dynamic binarisation."""

    def part(split, grey):
        bits = (split.images > 8).to(torch.uint8)
        values = split.images if grey else None
        return Split(bits, None, 2, split.name, "dynamic", grey=values, grey_levels=17)

    return Dataset("digits", part(digits.train, True), part(digits.valid, False), part(digits.test, False))


def assert_same_state(one, other):
    """Weights, averaged weights, optimiser and schedule, bit for bit."""
    assert one["global_step"] == other["global_step"]
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name
    for mine, theirs in zip(one["optimizer_states"], other["optimizer_states"], strict=True):
        for key, state in mine["state"].items():
            for name, value in state.items():
                assert torch.equal(value, theirs["state"][key][name]), (key, name)
    assert one["lr_schedulers"][0]["last_epoch"] == other["lr_schedulers"][0]["last_epoch"]


# 4 batches an epoch, 3 epochs: at the first step, in the middle of an epoch, at the last step of an epoch.
@pytest.mark.parametrize("step", [1, 6, 8])
@pytest.mark.parametrize("kind", ["plain", "dropout", "dynamic", "classes"])
def test_interrupted_and_resumed_is_bit_identical(digits, tiny, tmp_path, monkeypatch, kind, step):
    data = dynamic(digits) if kind == "dynamic" else digits
    options = {"dropout": {"dropout": 0.4}, "classes": {"classes": 10}}.get(kind, {})

    def new():
        return tiny(like=data, **options)

    settings = {"epochs": 3, "learning_rate": 1e-2, "ema": 0.9}
    whole = fit(new(), data, tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(Interrupted):
            fit(new(), data, tmp_path / "parts", **settings)
    assert checkpoint(tmp_path / "parts")["global_step"] == step
    resumed = fit(tiny(like=data, seed=99, **options), data, tmp_path / "parts", resume=True, **settings)
    assert_same_state(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_a_stop_at_the_very_last_step_has_nothing_to_stop(digits, tiny, tmp_path, monkeypatch):
    settings = {"epochs": 3, "learning_rate": 1e-2, "ema": 0.9}
    fit(tiny(like=digits), digits, tmp_path / "whole", **settings)
    interrupt_at(monkeypatch, 12)
    fit(tiny(like=digits), digits, tmp_path / "stopped", **settings)
    assert_same_state(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "stopped"))
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "whole")


def test_interrupted_twice_in_one_epoch(digits, tiny, tmp_path, monkeypatch):
    settings = {"epochs": 2, "learning_rate": 1e-2, "ema": 0.9}
    fit(tiny(like=digits, dropout=0.4), digits, tmp_path / "whole", **settings)
    for step in (2, 3):
        with monkeypatch.context() as patch:
            interrupt_at(patch, step, signal.SIGTERM)
            with pytest.raises(Interrupted):
                fit(tiny(like=digits, dropout=0.4), digits, tmp_path / "parts", resume=step > 2, **settings)
    fit(tiny(like=digits, dropout=0.4), digits, tmp_path / "parts", resume=True, **settings)
    assert_same_state(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_resuming_a_finished_run_trains_no_further(digits, tiny, run, steps_seen):
    first = fit(tiny(like=digits), digits, run)
    before, lines, steps = checkpoint(run), metrics(run), len(steps_seen)
    again = fit(tiny(like=digits, seed=9), digits, run, resume=True)
    assert len(steps_seen) == steps
    assert_same_state(before, checkpoint(run))
    assert metrics(run) == lines
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())


def test_the_interruption_says_how_to_go_on(digits, tiny, run, monkeypatch, assert_sentence):
    interrupt_at(monkeypatch, 3)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        fit(tiny(like=digits), digits, run)
    assert f"--resume {run}" in str(caught.value)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_time_limit_stops_with_a_checkpoint(digits, tiny, run):
    with pytest.raises(Interrupted, match="minutes"):
        fit(tiny(like=digits), digits, run, max_minutes=1e-9)
    assert checkpoint(run)["global_step"] == 1


def test_lines_logged_after_the_checkpoint_are_forgotten(digits, tiny, tmp_path, monkeypatch):
    """A crash (no checkpoint at the end) leaves lines in metrics.jsonl that the resumed run logs again."""
    settings = {"epochs": 3}
    fit(tiny(like=digits), digits, tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(Interrupted):
            fit(tiny(like=digits), digits, tmp_path / "parts", **settings)
    with open(tmp_path / "parts" / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "train": 1.0}\n{"step": 8, "tra')  # the power went
    fit(tiny(like=digits), digits, tmp_path / "parts", resume=True, **settings)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_resuming_needs_a_run_with_a_checkpoint(digits, tiny, run, tmp_path, assert_sentence):
    with pytest.raises(UserError, match="which run") as caught:
        npx.train(tiny(like=digits), digits, resume=True)
    assert_sentence(caught)
    with pytest.raises(UserError, match="no checkpoint") as caught:
        fit(tiny(like=digits), digits, run, resume=True)
    assert_sentence(caught)


def test_resuming_with_another_model_is_refused(digits, tiny, run, assert_sentence):
    fit(tiny(like=digits), digits, run, epochs=1)
    with pytest.raises(UserError) as caught:
        fit(tiny(like=digits, features=7), digits, run, epochs=2, resume=True)
    assert_sentence(caught)


def test_without_a_whole_checkpoint_the_run_is_damaged(digits, tiny, run, assert_sentence):
    fit(tiny(like=digits), digits, run, epochs=1)
    for path in (run / "checkpoints").glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=newest(run).name) as caught:
        fit(tiny(like=digits), digits, run, epochs=1, resume=True)
    assert_sentence(caught)


def test_a_run_of_one_checkpoint_without_a_sum_goes_on(digits, tiny, tmp_path, monkeypatch):
    """As runs had them before; the generators' states were those of torch alone."""
    fit(tiny(like=digits, dropout=0.4), digits, tmp_path / "whole")
    run = tmp_path / "parts"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(Interrupted):
            fit(tiny(like=digits, dropout=0.4), digits, run)
    state = checkpoint(run)
    kept = state["callbacks"]["Keeper"]
    state["callbacks"]["Keeper"] = {"best": kept["best"], "random": kept["random"][0]["torch"]}
    for path in (run / "checkpoints").glob("*.ckpt"):
        path.unlink()
    torch.save(state, run / "checkpoints" / "last.ckpt")
    fit(tiny(like=digits, dropout=0.4), digits, run, resume=True)
    assert_same_state(checkpoint(tmp_path / "whole"), checkpoint(run))
    assert len(visible(run / "checkpoints")) == 2


@pytest.mark.parametrize("wrong", [{"batch_size": 16}, {"seed": 1}, {"epochs": 3}, {"schedule": "constant"}])
def test_options_that_decide_the_result_cannot_change(digits, tiny, run, monkeypatch, wrong, assert_sentence):
    interrupt_at(monkeypatch, 3)
    with pytest.raises(Interrupted):
        fit(tiny(like=digits), digits, run)
    before = newest(run).read_bytes()
    with pytest.raises(UserError, match=next(iter(wrong))) as caught:
        npx.train(tiny(like=digits), digits, run=run, resume=True, progress=False, **wrong)
    assert_sentence(caught)
    other = Dataset("digits", digits.train[1:], digits.valid, digits.test)
    with pytest.raises(UserError, match="training images") as caught:
        npx.train(tiny(like=digits), other, run=run, resume=True, progress=False)
    assert_sentence(caught)
    assert newest(run).read_bytes() == before


def test_a_resumed_run_has_the_options_it_was_started_with(digits, tiny, tmp_path, monkeypatch):
    settings = {"batch_size": 16, "seed": 3, "learning_rate": 1e-2, "ema": 0.9, "optimizer": "rmsprop"}
    fit(tiny(like=digits), digits, tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interrupted):
            fit(tiny(like=digits), digits, tmp_path / "parts", max_minutes=9, **settings)
    npx.train(tiny(like=digits), digits, run=tmp_path / "parts", resume=True, progress=False)
    assert_same_state(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))


def test_more_epochs_where_the_schedule_does_not_depend_on_them(digits, tiny, tmp_path):
    settings = {"schedule": "constant", "warmup_steps": 0}
    fit(tiny(like=digits), digits, tmp_path / "whole", epochs=3, **settings)
    fit(tiny(like=digits), digits, tmp_path / "parts", epochs=1, **settings)
    fit(tiny(like=digits), digits, tmp_path / "parts", epochs=3, resume=True, **settings)
    assert_same_state(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")


def test_a_run_that_was_given_more_epochs_keeps_them(digits, tiny, tmp_path, monkeypatch, assert_sentence):
    settings = {"schedule": "constant", "warmup_steps": 0}
    fit(tiny(like=digits), digits, tmp_path / "whole", epochs=3, **settings)
    parts = tmp_path / "parts"
    fit(tiny(like=digits), digits, parts, epochs=1, **settings)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(Interrupted):
            fit(tiny(like=digits), digits, parts, epochs=3, resume=True, **settings)
    with pytest.raises(UserError, match="epochs was 3, not 2") as caught:
        fit(tiny(like=digits), digits, parts, epochs=2, resume=True, **settings)
    assert_sentence(caught)
    npx.train(tiny(like=digits), digits, run=parts, resume=True, progress=False)  # as the interruption says
    assert_same_state(checkpoint(tmp_path / "whole"), checkpoint(parts))
    assert metrics(tmp_path / "whole") == metrics(parts)


def test_more_epochs_do_not_lengthen_the_warm_up(digits, tiny, run, steps_seen):
    settings = {"schedule": "constant", "learning_rate": 0.01, "batch_size": 8, "warmup_steps": 9}
    for epochs in (2, 8, 9):  # one step each; two epochs have 28, and a tenth of that is 2
        with pytest.raises(Interrupted):
            fit(tiny(like=digits), digits, run, epochs=epochs, resume=epochs > 2, max_minutes=1e-9, **settings)
    rates = [rate for rate, *_ in steps_seen]
    assert rates == pytest.approx([0.005, 0.01, 0.01])


# The run folder


def test_what_a_run_leaves(digits, tiny, run):
    fit(tiny(like=digits), digits, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["name"] == "digits"
    assert config["data"]["protocol"] == digits.protocol
    assert config["model"]["family"] == "gated_pixelcnn"
    assert config["train"]["epochs"] == 2
    assert set(config["train"]) == {field.name for field in dataclasses.fields(TrainOptions)}
    assert {"nextpixel", "torch", "python", "format_version"} <= config.keys()
    assert {line["step"] for line in metrics(run) if "valid" in line} == {4, 8}
    assert all(math.isfinite(value) for line in metrics(run) for value in line.values())
    assert any(name.startswith("events.out.tfevents") for name in os.listdir(run))
    assert [path.name[:14] for path in sorted((run / "checkpoints").iterdir())][1:] == [
        "step-00000004-",
        "step-00000008-",
    ]
    name, content = newest(run).stem, newest(run).read_bytes()
    assert name == f"step-00000008-{hashlib.sha256(content).hexdigest()[:16]}"
    assert {"config.json", "model.safetensors", "README.md"} <= set(os.listdir(run / "model"))
    rebuilt = npx.build(config["model"]["family"], like=digits, **config["model"]["options"])
    rebuilt.load_state_dict(npx.load(run).state_dict())


def test_tensorboard_can_read_the_curve(digits, tiny, run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tiny(like=digits), digits, run)
    events = EventAccumulator(str(run))
    events.Reload()
    curve = [(point.step, point.value) for point in events.Scalars("bits per dim/valid")]
    assert curve == [(line["step"], pytest.approx(line["valid"], abs=1e-5)) for line in metrics(run) if "valid" in line]


def test_a_second_run_in_the_same_folder_is_refused(digits, tiny, run, assert_sentence):
    fit(tiny(like=digits), digits, run, epochs=1)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="already holds a run") as caught:
        fit(tiny(like=digits), digits, run, epochs=1)
    assert_sentence(caught)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_unnamed_runs_get_folders_of_their_own(digits, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        fit(tiny(like=digits), digits, None, epochs=1, batch_size=112)
    assert sorted(os.listdir("runs")) == [f"gated_pixelcnn-digits{end}" for end in ("", "-2", "-3")]


def test_a_run_folder_that_cannot_be_made(digits, tiny, tmp_path, assert_sentence):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written") as caught:
        fit(tiny(like=digits), digits, tmp_path / "file" / "run")
    assert_sentence(caught)


def test_metrics_with_lines_that_are_torn_or_nonsense_can_be_read(run):
    run.mkdir()
    unreadable = ["[" * 100_000, '{"step": ' + "1" * 5000 + "}", '{"step": 2, "va']
    (run / "metrics.jsonl").write_text("\n".join(['{"step": 1}', *unreadable]))
    assert RunFolder(run).read_metrics() == [{"step": 1}]


BAD = ["", "- 1", "a: [", "format_version: 99\n", "\x00", "a: 2001-13-45", "a: !!timestamp x", "[" * 5000]


@pytest.mark.parametrize("text", [*BAD, "a: " + "1" * 5000], ids=lambda text: text[:20])
def test_a_bad_config_yaml_is_a_user_error(run, text, assert_sentence):
    run.mkdir()
    (run / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml") as caught:
        RunFolder(run).read_config()
    assert_sentence(caught)


# When things go wrong


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_previous_checkpoint(digits, tiny, run, monkeypatch, assert_sentence):
    """Half of the file is written, then the disk is full: at the end of the second epoch."""
    import pytorch_lightning as pl

    original = pl.Trainer.save_checkpoint

    def save(self, path, *args, **kwargs):
        if self.global_step < 8:
            return original(self, path, *args, **kwargs)
        with open(path, "wb") as file:
            file.write(b"half")
        return full_disk()

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", save)
    with pytest.raises(UserError, match="checkpoint") as caught:
        fit(tiny(like=digits), digits, run, epochs=3)
    assert_sentence(caught)
    assert "--resume" in str(caught.value)
    assert checkpoint(run)["global_step"] == 4
    assert len(visible(run / "checkpoints")) == 2, "the half-written file must be gone"
    monkeypatch.undo()
    fit(tiny(like=digits), digits, run, epochs=3, resume=True)
    assert checkpoint(run)["global_step"] == 12


def test_a_full_disk_while_the_model_is_saved(digits, tiny, run, monkeypatch, assert_sentence):
    original, calls = Path.write_bytes, []

    def save(self, data):
        calls.append(self)
        if len(calls) == 1:
            return original(self, data)
        return full_disk()

    monkeypatch.setattr(Path, "write_bytes", save)
    with pytest.raises(UserError) as caught:
        fit(tiny(like=digits), digits, run, epochs=3, learning_rate=1e-2, ema=0.0)
    assert len(calls) == 2
    assert_sentence(caught)
    assert npx.load(run).card["training"]["epochs"] == 1


def test_a_full_disk_while_the_curve_is_written(digits, tiny, run, monkeypatch, assert_sentence):
    import builtins

    original = builtins.open

    def opened(file, mode="r", *args, **kwargs):
        if str(file).endswith("metrics.jsonl") and "a" in mode:
            full_disk()
        return original(file, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", opened)
    with pytest.raises((UserError, OSError), match=r"space|written"):
        fit(tiny(like=digits), digits, run)


def test_a_training_asks_its_device_for_no_float64(digits, tiny, run, monkeypatch):
    """mps has none. Here all tensors are on the CPU, so those that were brought to it are marked."""
    cpu, double = torch.Tensor.cpu, torch.Tensor.double

    def marked(self, *args):
        result = cpu(self, *args)
        result.brought = True
        return result

    def checked(self):
        assert hasattr(self, "brought"), "float64 on the device"
        return double(self)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "cpu", marked)
        patch.setattr(torch.Tensor, "double", checked)
        fit(tiny(like=digits), digits, run)


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_loss_that_is_not_a_number_stops_with_a_sentence(digits, tiny, run, monkeypatch, step, assert_sentence):
    """Whenever it happens, also in a run that is over before the next line would be logged."""
    from nextpixel.image_model import ImageModel

    original, calls = ImageModel.log_prob, []

    def log_prob(self, x, condition=None):
        result = original(self, x, condition)
        if self.training:
            calls.append(1)
            if len(calls) >= step:
                return result * math.nan
        return result

    monkeypatch.setattr(ImageModel, "log_prob", log_prob)
    with pytest.raises(UserError, match=r"learning.rate") as caught:
        fit(tiny(like=digits), digits, run)
    assert_sentence(caught)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": -1}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"optimizer": "sdg"}, "optimizer"),
        ({"schedule": "linear"}, "schedule"),
        ({"ema": 1.0}, "ema"),
        ({"ema": -0.1}, "ema"),
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"epochs": "3"}, "epochs must be a whole number, not '3'"),
        ({"batch_size": 2.5}, "batch_size must be a whole number, not 2.5"),
        ({"ema": None}, "ema must be a number, not None"),
    ],
)
def test_wrong_options_are_refused(digits, tiny, run, wrong, word, assert_sentence):
    with pytest.raises(UserError, match=word) as caught:
        fit(tiny(like=digits), digits, run, **wrong)
    assert_sentence(caught)
    assert not run.exists()


@pytest.mark.parametrize("data", ["digits", "split"])
def test_what_is_no_data_set_is_refused(digits, tiny, run, data, assert_sentence):
    with pytest.raises(UserError, match="needs a whole data set") as caught:
        npx.train(tiny(like=digits), digits.train if data == "split" else data, run=run)
    assert_sentence(caught)
    assert not run.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (1, 8, 8), "levels": 16},
        {"shape": (3, 8, 8), "levels": 17},
        {"shape": (1, 8, 9), "levels": 17},
        {"shape": (1, 8, 8), "levels": 17, "classes": 9},
        {"shape": (1, 8, 8), "levels": 17, "vector": 3},
        {"shape": (1, 8, 8), "levels": 17, "map_shape": (2, 8, 8)},
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused(digits, tiny, run, options, assert_sentence):
    with pytest.raises(UserError) as caught:
        fit(tiny(**options), digits, run)
    assert_sentence(caught)
    assert not run.exists()


@pytest.mark.parametrize("without", [("train", "valid", "test"), ("valid",)])
def test_a_class_conditional_model_needs_labels(digits, tiny, run, without, assert_sentence):
    parts = {name: dataclasses.replace(getattr(digits, name), labels=None) for name in without}
    with pytest.raises(UserError, match=rf"{getattr(digits, without[0]).name} has no labels") as caught:
        fit(tiny(like=digits, classes=10), dataclasses.replace(digits, **parts), run)
    assert_sentence(caught)
    assert not run.exists()


def test_the_model_comes_back_ready_for_use(digits, tiny, run):
    model = tiny(like=digits)
    trained = fit(model, digits, run, epochs=1)
    assert trained is model
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.run_folder == run
    assert not hasattr(model, "trainer")


# The command line, in a process of its own


def command(*arguments, cwd, **options):
    return [sys.executable, "-m", "nextpixel", *map(str, arguments)], {
        "cwd": cwd,
        "env": {**os.environ, "OMP_NUM_THREADS": "1"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        **options,
    }


def test_ctrl_c_and_resume_on_the_command_line(tmp_path):
    arguments = [
        "train",
        "digits",
        "--run",
        "here",
        "--device",
        "cpu",
        "--option",
        "layers=1",
        "--option",
        "features=4",
    ]
    arguments += ["--option", "first-kernel=3", "--epochs", "2", "--batch-size", "16", "--valid-images", "32"]
    line, options = command(*arguments, cwd=tmp_path)
    # In a new session the shell's way of ignoring Ctrl-C for background jobs does not reach the child.
    child = subprocess.Popen(
        line,
        **options,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        curve = tmp_path / "here" / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while child.poll() is None and time.monotonic() < deadline and not (curve.exists() and curve.read_text()):
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=120)
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    assert child.returncode == 130, err
    assert "Traceback" not in err
    said = re.search(r"nextpixel train (--resume \S+)", err)
    assert said, err
    stopped = checkpoint(tmp_path / "here")["global_step"]
    total = 2 * -(-len(npx.dataset("digits").train) // 16)
    assert 0 < stopped < total

    line, options = command("train", *said[1].split(), cwd=tmp_path)
    done = subprocess.run(line, **options, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert checkpoint(tmp_path / "here")["global_step"] == total
    assert npx.load(tmp_path / "here").card["training"]["of_epochs"] == 2
    assert [line["epoch"] for line in metrics(tmp_path / "here") if "valid" in line] == [1, 2]


HEAVY = ("pytorch_lightning", "lightning", "matplotlib", "tensorboard", "tensorflow")


def test_only_training_pays_for_the_trainer(tmp_path):
    """After the import and after each of the other tasks, in one new process."""
    program = f"""
import sys
import nextpixel as npx

def look(task):
    print(task, [name for name in {HEAVY} if name in sys.modules])

look("import")
model = npx.build("pixelcnn", shape=(1, 3, 3), levels=4, blocks=1, features=2, first_kernel=3)
drawn = npx.sample(model, n=2)
look("sample")
npx.evaluate(model, npx.Split(drawn, None, 4, "drawn", "drawn"))
look("evaluate")
npx.complete(model, drawn, known=1)
look("complete")
model.save_pretrained("saved")
npx.load("saved").log_prob(drawn)
look("load")
"""
    _, options = command(cwd=tmp_path)
    done = subprocess.run([sys.executable, "-c", program], **options, timeout=120, check=True)
    assert done.stdout.splitlines() == [f"{task} []" for task in ("import", "sample", "evaluate", "complete", "load")]
