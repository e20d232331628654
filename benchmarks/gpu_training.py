"""A job of the queue that trains one model for a share of the time, over several calls if need be, and tests it.

How many epochs fit into the share is found out before: steps are timed, as they are written and compiled, and the
faster way is taken if the compilation pays. The cosine schedule then ends when the time does. Stopped, the run goes on
in a later call from its checkpoint; over time by a quarter, it ends with the best weights so far, and its card says so.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import nextpixel as npx
from benchmarks.gpu_scaling import extrapolated
from benchmarks.gpu_setting import Setting, Unfinished
from benchmarks.gpu_steps import Speed, speeds
from nextpixel.images import Dataset
from nextpixel.model import Model
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.train import Interrupted, TrainOptions

OVER = 1.25  # of the share: then a run ends as it is
USED = 0.85  # of the share is planned for steps; the rest is for validation, checkpoints and starting
LEAST_SECONDS = 5.0  # of training in a call that are worth a start
RESERVE = 25.0  # seconds at the end of a call for the test figure and a checkpoint
TARGETS = {"cifar10": (3.14, 3.03, 3.00, 2.92), "binarized_mnist": ()}
TOY = {"layers": 2, "blocks": 1, "scales": 2, "features": 6, "hidden": 8, "first_kernel": 3, "heads": 1}


@functools.cache
def loaded(name: str, setting: Setting) -> Dataset:
    """The named set, in toys a few digits in its place. UserError if it is not there, or not all of it."""
    if setting.toy:
        digits = npx.dataset("digits", binarise="threshold" if name == "binarized_mnist" else None)
        return Dataset("digits", digits.train[:96], digits.valid[:24], digits.test[:24])
    return npx.dataset(name, data_dir=setting.data, download=False)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained. seconds: its share of 18 minutes; may_compile: networks of loops take minutes to compile."""

    data: str
    family: str
    options: dict[str, Any]
    seconds: float
    head: str | None = None
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    may_compile: bool = False
    head_options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, data: Dataset, toy: bool) -> Model:
        torch.manual_seed(0)
        options = dict(self.options)
        if toy:
            options |= {name: value for name, value in TOY.items() if name in options}
            options |= {"small_options": {"layers": 1, "features": 4}} if "small_options" in options else {}
        make = npx.build_multiscale if "scale" in options else npx.build
        head: dict[str, Any] = {"head": self.head} | ({"head_options": self.head_options} if self.head_options else {})
        return make(self.family, like=data, **head, **options)

    def training_options(self, toy: bool) -> TrainOptions:
        common = {"checkpoint_minutes": 1.0, "keep_checkpoints": 1, "sample_every": 0, **self.training}
        if toy:
            common |= {"batch_size": 16, "precision": "32", "valid_images": 0, "accumulate": 1}
        return TrainOptions(**common)


def train(recipe: Recipe, setting: Setting, name: str) -> dict[str, Any]:
    """The card's own part. Raises Unfinished if the call ends before the training."""
    folder = setting.runs / "jobs" / name
    folder.mkdir(parents=True, exist_ok=True)
    notes_file, run = folder / "notes.json", folder / "run"
    data = loaded(recipe.data, setting)
    model, share = recipe.build(data, setting.toy), recipe.seconds * setting.scale
    options = dataclasses.replace(recipe.training_options(setting.toy), device=setting.device)
    began_before = RunFolder(run).began()
    if notes_file.exists():
        notes = json.loads(notes_file.read_text())
    else:
        notes = _planned(recipe, setting, model, data, options, share)
        model = recipe.build(data, setting.toy)  # the weights that were there before steps were timed
    options = dataclasses.replace(options, epochs=notes["epochs"], compile=notes["compile"])
    notes_file.write_text(json.dumps(notes))
    left, over = setting.left() - setting.reserve(RESERVE), OVER * share - notes["seconds"]
    if left < setting.reserve(LEAST_SECONDS):
        raise Unfinished(_progress(notes))
    began, cut = time.monotonic(), False
    try:
        limit = max(min(left, over), 0.01) / 60
        npx.train(model, data, options, run=run, resume=began_before, progress=not setting.toy, max_minutes=limit)
    except Interrupted as stop:
        notes["seconds"] += time.monotonic() - began
        notes_file.write_text(json.dumps(notes))
        cut = stop.planned and left >= over
        if not cut:
            raise Unfinished(_progress(notes)) from stop
    else:
        notes["seconds"] += time.monotonic() - began
        notes_file.write_text(json.dumps(notes))
    return _card(recipe, setting, name, run, data, options, notes, cut)


def _planned(
    recipe: Recipe, setting: Setting, model: Model, data: Dataset, options: TrainOptions, share: float
) -> dict[str, Any]:
    """How many epochs, and whether compiled, from the speed of steps on this machine."""
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model.eval().log_prob(data.train[:1].images)
    began = time.monotonic()
    measured = speeds(model, data, options, compiled=recipe.may_compile and not setting.toy)
    took = time.monotonic() - began
    per_epoch = -(-len(data.train) // options.batch_size)
    ways = {way: _epochs(speed, USED * share, per_epoch) for way, speed in measured.items()}
    way = max(ways, key=lambda name: ways[name])
    return {
        "seconds": 0.0,
        "epochs": max(1, ways[way]),
        "compile": way == "compiled",
        "share_seconds": share,
        "forward_flops_per_image": counted.get_total_flops(),
        "speeds": {name: dataclasses.asdict(speed) for name, speed in measured.items()},
        "timing_seconds": took,
    }


def _epochs(speed: Speed, seconds: float, steps_per_epoch: int) -> int:
    return int(max(seconds - speed.start_seconds, 0) / (speed.step_seconds * steps_per_epoch))


def _progress(notes: dict[str, Any]) -> dict[str, Any]:
    return {"training_seconds": notes["seconds"], "epochs": notes["epochs"], "speeds": notes["speeds"]}


def _card(
    recipe: Recipe,
    setting: Setting,
    name: str,
    run: Path,
    data: Dataset,
    options: TrainOptions,
    notes: dict[str, Any],
    cut: bool,
) -> dict[str, Any]:
    """The test figure of the best weights on validation, exactly as `evaluate` computes it, without TF32; and the
    weights beside the cards."""
    lines = RunFolder(run).read_metrics()
    best: Model = npx.load(run).to(setting.device)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        test = npx.evaluate(best, data.test, batch_size=options.batch_size)
    finally:
        torch.backends.cudnn.allow_tf32 = before
    best = best.to("cpu")
    best.save_pretrained(setting.runs / "weights" / name)
    flops = 3 * notes["forward_flops_per_image"] * options.batch_size  # of a step: backward costs two forward passes
    done = max((line["step"] for line in lines), default=0)
    steps = [line for line in lines if "images_per_second" in line]
    rate = sorted(line["images_per_second"] for line in steps)[len(steps) // 2] if steps else None
    curve = [
        {
            "step": line["step"],
            "images": line["step"] * options.batch_size,
            "seconds": line["step"] * options.batch_size / rate if rate else None,  # of training steps alone
            "flops": line["step"] * flops,
            "valid_bits_per_dim": line["valid"],
        }
        for line in lines
        if "valid" in line
    ]
    # The first tenth is the forgetting of the random weights, and the last points fall with the learning rate.
    fitted = [point for point in curve if point["step"] > 0.1 * curve[-1]["step"]]
    figures = [point["valid_bits_per_dim"] for point in fitted]
    return {
        "data": data.name,
        "protocol": test.protocol,
        "data_sha256": test.data_sha256,
        "family": recipe.family,
        "head": best.made_with().get("head"),
        "head_options": recipe.head_options,
        "options": best.made_with().get("options"),
        "parameters": best.parameter_count,
        "training": {k: v for k, v in dataclasses.asdict(options).items() if k not in ("max_minutes", "device")},
        "training_seconds": notes["seconds"],
        "timing_seconds": notes["timing_seconds"],
        "speeds": notes["speeds"],
        "images_per_second": rate,
        "steps_done": done,
        "training_flops": done * flops,
        "cut_short": cut,
        "test": {
            "bits_per_dim": test.bits_per_dim,
            "stderr": test.stderr,
            "nats": test.nats,
            "nats_stderr": test.nats_stderr,
            "images": test.images,
        },
        "exact": test.exact,
        "why": test.why,
        "augmentation": f"a share of {options.flip:g} of the training images mirrored" if options.flip else "none",
        "curve": curve,
        "extrapolation_of_valid_by_flops": extrapolated(
            [point["flops"] for point in fitted], figures, TARGETS.get(recipe.data, ())
        ),
    }
