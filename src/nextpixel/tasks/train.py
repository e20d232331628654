"""Train a model. The trainer library is imported only when `train` is called."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

import torch

from nextpixel.errors import UserError, did_you_mean
from nextpixel.images import Dataset
from nextpixel.model import Model, check_model
from nextpixel.tasks.acceleration import check_bfloat16
from nextpixel.tasks.options import check_numbers
from nextpixel.tasks.processes import machines_and_devices
from nextpixel.tasks.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """How to train. Figures in comments at the fields are the defaults' reasons."""

    epochs: int = 10
    """passes over the training images"""
    batch_size: int = 32
    """images per step, of all processes and passes together"""
    accumulate: int = 1
    """passes, one after another, that a step's images are dealt out to: less memory, the same step"""
    optimizer: Literal["adamw", "rmsprop", "sgd"] = "adamw"
    """adamw, the PixelRNN paper's rmsprop, or sgd with momentum 0.9"""
    learning_rate: float = 2e-3
    """the highest learning rate, reached after the warm-up"""
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    """cosine: down to 1 % at the last step; exponential: times `decay` each step (PixelCNN++)"""
    warmup_steps: int = 100
    """steps of linear warm-up"""
    decay: float = 0.999995
    """factor per step of the exponential schedule"""
    weight_decay: float = 0.01
    """weight decay of weights that are matrices or kernels (decoupled with adamw)"""
    gradient_clip: float = 1.0
    """largest norm of the gradient; 0 means no clipping"""
    ema: float = 0.999
    """decay of the averaged weights, which are what is evaluated and saved; 0 means none"""
    seed: int = 0
    """seed of the data order, the dropout and, on the command line, the initial weights"""
    flip: float = 0.0
    """share of the training images that are mirrored left to right, drawn anew in each step: 0.5 for photographs"""
    fresh_orders: bool = False
    """predict in a new random order of the pixels at each step (MADE and NADE), not in one of the model's"""
    valid_images: int = 2000
    """validation images looked at after each epoch, evenly spaced; 0 means all"""
    sample_every: int = 5
    """epochs between sample grids; 0 means none"""
    checkpoint_minutes: float = 5.0
    """minutes between checkpoints, beside the one at the end of every epoch"""
    keep_checkpoints: int = 2
    """checkpoints kept, the newest ones; with one alone there is nothing to fall back to if it is damaged"""
    max_minutes: float = 0.0
    """stop (as if interrupted) after this many minutes; 0 means no limit"""
    precision: Literal["32", "bf16"] = "32"
    """32, or bf16: the network's products in bfloat16, on GPUs and CPUs made for it; probabilities stay in 32 bits"""
    compile: bool = False
    """torch.compile the network: a minute's wait; no faster on the CPU we measured on, not measured on GPUs"""
    recompute: bool = False
    """keep only what blocks hand on and compute the rest again for the gradient: less memory for more time"""
    device: str = "auto"
    """auto (a CUDA GPU if there is one, else the CPU), cpu, cuda, mps"""
    devices: int = 1
    """processes on each machine, each with a device (or share of the CPU) of its own; torchrun says it by itself"""
    nodes: int = 1
    """machines, each started with NODE_RANK, MASTER_ADDR and MASTER_PORT set; torchrun says it by itself"""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """how processes share a model: ddp (auto: with several), a whole copy in each; fsdp is not supported yet"""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice"""
    workers: int = -1
    """threads that read and decode images ahead; -1: 2 for data that are not in memory, else none"""
    profile: bool = False
    """write a trace of a few steps, and the ten operations that take most of them, into the run folder"""

    def __post_init__(self) -> None:
        names = ("epochs", "batch_size", "learning_rate", "keep_checkpoints")
        positive = {name: getattr(self, name) for name in names}
        for name, value in positive.items():
            if not 0 < value < math.inf:  # refuses NaN too
                raise UserError(f"{name} must be positive and finite, not {value}.")
        named = (("optimizer", ("adamw", "rmsprop", "sgd")), ("schedule", ("cosine", "exponential", "constant")))
        for name, choices in (*named, ("precision", ("32", "bf16")), ("strategy", ("auto", "ddp", "fsdp"))):
            if getattr(self, name) not in choices:
                raise UserError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}.")
        at_least_zero = ("warmup_steps", "weight_decay", "gradient_clip", "valid_images", "sample_every")
        for name in (*at_least_zero, "checkpoint_minutes", "max_minutes"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} must not be negative, not {getattr(self, name)}.")
        for name in ("accumulate", "devices", "nodes"):
            if not 1 <= getattr(self, name) <= 2**16:
                raise UserError(f"{name} must be between 1 and {2**16}, not {getattr(self, name)}.")
        if self.strategy == "fsdp":
            raise UserError(
                "Training with fsdp is not supported: with ddp every process holds the whole model. For a model that "
                "does not fit use accumulate, recompute, or precision bf16."
            )
        if not 0 <= self.flip <= 1:
            raise UserError(f"flip must be a share between 0 and 1, not {self.flip}: 0.5 mirrors half of the images.")
        if not 0 < self.decay <= 1:
            raise UserError(f"decay must be above 0 and at most 1, not {self.decay}.")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed must be between 0 and {2**32 - 1}, not {self.seed}.")
        if not 0 <= self.threads <= 1024:
            raise UserError(f"threads must be between 0 and 1024, not {self.threads}.")
        if not -1 <= self.workers <= 256:
            raise UserError(f"workers must be between -1 and 256, not {self.workers}.")
        if not 0 <= self.ema < 1:
            raise UserError(f"ema must be at least 0 and below 1, not {self.ema}.")


MAY_CHANGE_ON_RESUME = {
    "checkpoint_minutes",
    "compile",
    "device",
    "devices",
    "keep_checkpoints",
    "max_minutes",
    "nodes",
    "precision",
    "profile",
    "recompute",
    "strategy",
    "threads",
    "workers",
}
"""The training options that do not decide what is learnt (up to rounding, as on another machine)."""


class Interrupted(UserError):  # noqa: N818 - it is no error
    """Training was stopped by the user; everything needed to go on was saved. `planned`: by max_minutes."""

    def __init__(self, sentence: str, planned: bool = False):
        super().__init__(sentence)
        self.planned = planned


def train(
    model: Model,
    data: Dataset,
    options: TrainOptions | None = None,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    describe: dict[str, Any] | None = None,
    progress: bool = True,
    **overrides: Any,
) -> Model:
    """Train `model` on data.train, watching data.valid; returns it in eval mode, with the averaged weights that were
    best on the validation images.

    options or overrides: fields of TrainOptions, such as epochs=10. run: the run folder (default: a new one under
    runs/). resume: go on from the run folder's newest whole checkpoint, with the options that it was started with (one
    that says otherwise is refused, see `resumed_options`); a run that was stopped before its first step begins again,
    with the model as it is given. describe: what else to write into its config.yaml. Of a
    model of several orders of prediction each step trains one, drawn at random; validation image i is scored in order
    i mod O, so that the figure is the mean over orders, not the mixture that `evaluate` reports.
    Raises Interrupted after Ctrl-C or when max_minutes are over, with a checkpoint saved.
    """
    known = [field.name for field in dataclasses.fields(TrainOptions)]
    for name in overrides:
        if name not in known:
            raise UserError(f"There is no training option {name!r}." + did_you_mean(name, known))
    check_numbers(TrainOptions(), overrides)
    if resume:
        if run is None:
            raise UserError("Say which run to resume: run=FOLDER.")
        folder = RunFolder(run)
        if not folder.config.is_file():
            raise UserError(f"{run} holds no checkpoint to resume from: it is no run.")
        asked = overrides if options is None else {**dataclasses.asdict(options), **overrides}
        recorded = folder.read_config()
        options = resumed_options(recorded["train"], asked)
    else:
        options = dataclasses.replace(options or TrainOptions(), **overrides)
    check_fit(model, data)
    if options.fresh_orders and not model.free_orders:
        raise UserError(
            f"A model of the family {model.family} cannot be trained with fresh_orders: its network takes the orders "
            "of a rectangle only, so give it several of these (orders=8)."
        )
    if options.precision == "bf16":
        check_bfloat16(options.device)
    check_processes(options)
    if resume:
        folder.hold()
        folder.tidy()
        if recorded.get("train_sha256", data.train.fingerprint) != data.train.fingerprint:
            raise UserError(f"The training images of {data.name} are not those that {run} began with: start a new run.")
        if options.epochs != recorded["train"]["epochs"]:
            folder.lengthen(options.epochs)
    else:
        folder = RunFolder.fresh(run, f"{model.family}-{data.name}")
        folder.create(
            {
                "data": {"name": data.name, "protocol": data.protocol},
                "model": model.made_with(),
                "train": dataclasses.asdict(options),
                "train_sha256": data.train.fingerprint,
                **(describe or {}),
            }
        )
    if model.classes is not None and data.train.labels is not None:
        counts = torch.bincount(data.train.labels, minlength=model.classes).double()
        # One more image a class than there are: no class may have probability zero.
        model.set_class_prior((counts + 1) / (counts + 1).sum())

    from nextpixel.tasks.training import fit

    return fit(model, data, options, folder, resume=resume, progress=progress)


def resumed_options(recorded: dict[str, Any], asked: dict[str, Any]) -> TrainOptions:
    """The options of a run that goes on: those recorded, but for what was asked for and may change: what does not
    decide the result (MAY_CHANGE_ON_RESUME), and more epochs under a schedule that does not depend on their number (its
    warm-up stays as long as it was). UserError for any other difference, or damaged records."""
    try:
        # A time limit, and a profile, were meant for one sitting.
        before = TrainOptions(**{**recorded, "max_minutes": 0.0, "profile": False})
    except TypeError as error:
        raise UserError(f"The run's config.yaml is damaged ({error}).") from error
    for name, value in asked.items():
        was = getattr(before, name)
        longer = name == "epochs" and before.schedule != "cosine" and value >= was
        if value != was and name not in MAY_CHANGE_ON_RESUME and not longer:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(
                f"A resumed run keeps its options, and {name} was {was!r}, not {value!r}: leave {flag} out, or start a "
                "new run."
            )
    return dataclasses.replace(before, **asked)


def check_processes(options: TrainOptions) -> None:
    """UserError unless the processes can be had, and every one gets images."""
    machines, devices = machines_and_devices(options.nodes, options.devices)
    parts = machines * devices * options.accumulate
    if options.batch_size < parts:
        raise UserError(
            f"batch_size {options.batch_size} are fewer images than the {parts} parts of a step ({machines * devices} "
            f"processes, {options.accumulate} passes each): make batch_size {parts} or more."
        )
    if options.device in ("auto", "cuda") and torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise UserError(
            f"There are {torch.cuda.device_count()} GPUs here, not {devices}: say devices=... or device=cpu."
        )
    if options.device == "mps" and devices > 1:
        raise UserError("There is one mps device: leave devices at 1, or say device=cpu.")


def check_fit(model: Model, data: Dataset) -> None:
    """UserError unless the data can be what the model is for."""
    check_model(model)
    if not isinstance(data, Dataset):
        raise UserError(f"Training needs a whole data set (npx.dataset), not a {type(data).__name__}.")
    if model.shape[0] != data.shape[0] or model.levels != data.levels:
        raise UserError(
            f"The model is for {model.shape[0]} channels and {model.levels} levels, {data.name} has {data.shape[0]} "
            f"and {data.levels}."
        )
    if model.shape != data.shape:
        raise UserError(f"The model is for pictures of {model.shape}, {data.name} has {data.shape}.")
    if model.condition is not None:
        for kind, shape in (("vector", model.condition.vector_width), ("map", model.condition.map_shape)):
            wanted = (shape,) if isinstance(shape, int) else shape
            for split in (data.train, data.valid):
                if shape is not None and (kind not in split.told or tuple(split.told[kind].shape[1:]) != wanted):
                    raise UserError(
                        f"The model is conditioned on a {kind} of {'x'.join(map(str, wanted or ()))}, which the images "
                        f"of {split.name} do not have (Split.told)."
                    )
    if model.classes is not None:
        for split in (data.train, data.valid):
            if split.labels is None:
                raise UserError(f"The model is class-conditional, but {split.name} has no labels.")
        if (data.classes or 0) > model.classes:
            raise UserError(f"{data.name} has {data.classes} classes, the model {model.classes}.")
