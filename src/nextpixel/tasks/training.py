"""The training loop on pytorch-lightning's Trainer: imported only by `train`, so that nothing else pays for it."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import signal
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images import Dataset
from nextpixel.model import Model, condition_of
from nextpixel.saving import load
from nextpixel.tasks.acceleration import accelerator, compiled, keep_freed_memory, recomputing, try_compiled
from nextpixel.tasks.batches import Batches, InOrder, Item, Told, in_order_of_step, log_prob_among_orders, spaced
from nextpixel.tasks.keeper import Keeper
from nextpixel.tasks.loading import name_damaged, workers_for
from nextpixel.tasks.memory import UNCLEAR, advice, largest_that_runs, out_of_memory
from nextpixel.tasks.processes import machines_and_devices
from nextpixel.tasks.progress import TrainProgress
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.together import Together, seed_of_pass, strategy
from nextpixel.tasks.train import TrainOptions

FIRST_LOOK = 64  # images from which weight-normalised layers are initialised
VALID_BATCHES = 4  # training batches' images in one of validation

for talker in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.distributed"):
    logging.getLogger(talker).setLevel(logging.WARNING)


class TrainingModule(pl.LightningModule):
    """The loss is the negative log-likelihood in bits/dim, of a model of several orders in one order a step; `averaged`
    holds the moving average of the weights."""

    def __init__(self, model: Model, options: TrainOptions, total_steps: int, warmup: int, together: Together):
        super().__init__()
        self.model, self.options, self.total_steps, self.warmup = model, options, total_steps, warmup
        self.tried = False  # to compile
        self.together = together
        self.losses: list[Tensor] = []  # of the passes of this step
        self.averaged: Model | None = copy.deepcopy(model).requires_grad_(False) if options.ema else None

    @property
    def evaluated(self) -> Model:
        return self.model if self.averaged is None else self.averaged

    def on_train_batch_start(self, batch: Item, index: int) -> None:
        if self.together.world > 1:
            seed_of_pass(self.options.seed, self.global_step, len(self.losses), self.global_rank)
        if self.options.compile and not self.tried:  # here, where model and images are on their device
            self.tried = True
            with self.trainer.precision_plugin.train_step_context():
                try_compiled(self.model, lambda: self._loss(batch))

    def training_step(self, batch: Item, index: int) -> Tensor:
        # The last batch of an epoch may be short; it is not worth a compilation of its own.
        short = self.options.compile and len(batch[0]) < self.images_a_pass
        with torch.compiler.set_stance("force_eager") if short else contextlib.nullcontext():
            loss = self._loss(batch)
        self.losses.append(loss.detach())
        if len(self.losses) == self.options.accumulate:
            self.last_loss = self.together.sum(torch.stack(self.losses).mean()) / self.together.world
            self.losses = []
        return loss

    @property
    def images_a_pass(self) -> int:
        """Of one process, in a step of the full size; where they cannot be dealt out evenly some have one more."""
        return self.options.batch_size // (self.together.world * self.options.accumulate)

    def _loss(self, batch: Item) -> Tensor:
        """What, averaged over processes and passes, is the mean over the images of the step."""
        images, told, weight = batch
        model = in_order_of_step(self.model, self.options.seed, self.global_step, self.options.fresh_orders)
        return weight * self._bits_per_dim(model.log_prob(images, condition_of(model, told)).mean())

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:  # here, so that a checkpoint at the end of the step has it
            # Early steps count more, or the average would remember the random initial weights for 1/(1-decay) steps.
            decay = min(self.options.ema, (1 + self.global_step) / (10 + self.global_step))
            with torch.no_grad():
                averaged: list[Tensor] = list(self.averaged.parameters())
                torch._foreach_lerp_(averaged, list[Tensor](self.model.parameters()), 1 - decay)

    def on_validation_epoch_start(self) -> None:
        self.valid_sums = torch.zeros(2, dtype=torch.float64)  # bits/dim, images

    def validation_step(self, batch: tuple[Tensor, Told, int], index: int) -> None:
        (images, told, first), model = batch, self.evaluated.eval()
        if len(images) == 0:
            return
        with torch.autocast(images.device.type, enabled=False):  # as it will be evaluated
            log_prob = log_prob_among_orders(model, images, condition_of(model, told), first)
        # First to the CPU: mps has no float64.
        sums = [self._bits_per_dim(log_prob.cpu().double().sum()), torch.tensor(float(len(images)))]
        self.valid_sums += torch.stack(sums)

    def valid_bits(self) -> float:
        """Bits/dim of the validation images, every one counted once, over all processes."""
        bits, images = self.together.sum(self.valid_sums).tolist()
        return bits / images

    def _bits_per_dim(self, log_prob: Tensor) -> Tensor:
        return -log_prob / (math.log(2) * self.model.dims)

    def configure_optimizers(self) -> Any:
        options = self.options
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizer: torch.optim.Optimizer
        if options.optimizer == "adamw":
            optimizer = torch.optim.AdamW(groups, lr=options.learning_rate)
        elif options.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=options.learning_rate, momentum=0.9)
        else:
            optimizer = torch.optim.RMSprop(groups, lr=options.learning_rate, alpha=0.95)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        """The learning rate at a step, as a share of the highest."""
        options, warmup = self.options, self.warmup
        if step < warmup:
            return (step + 1) / warmup
        if options.schedule == "cosine":
            done = (step - warmup) / max(self.total_steps - warmup, 1)
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return options.decay ** (step - warmup) if options.schedule == "exponential" else 1.0


def fit(
    model: Model, data: Dataset, options: TrainOptions, folder: RunFolder, *, resume: bool, progress: bool
) -> Model:
    """Run the Trainer; see `nextpixel.train`."""
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()
    pl.seed_everything(options.seed, verbose=False)
    machines, devices = machines_and_devices(options.nodes, options.devices)
    together = Together(machines * devices)
    batches = Batches(
        data.train,
        options.batch_size,
        options.seed,
        world=together.world,
        passes=options.accumulate,
        workers=workers_for(data.train, options.workers),
        flip=options.flip,
    )
    if folder.writes:
        name_damaged(data.train, folder.path)
    total = batches.steps * options.epochs
    found = folder.to_go_on() if resume else None
    if found is None:
        first_look = spaced(data.train, FIRST_LOOK)[:FIRST_LOOK]
        images, used = first_look.drawn(torch.arange(len(first_look)), torch.Generator().manual_seed(options.seed))
        model.eval().initialise_from_data(images, condition_of(model, first_look.condition(used)))
    # Of a run that was given more epochs the warm-up stays as it was, or the learning rate would go back into it.
    first = batches.steps * (folder.first_epochs() if resume else options.epochs)
    module = TrainingModule(model.train(), options, total, min(options.warmup_steps, first // 10), together)
    bar = TrainProgress(total, options.batch_size, model.dims, show=progress and folder.writes)
    keeper = Keeper(folder, data, options, bar)
    done = 0
    if found is not None:
        keeper.good, done = found[0], _check_checkpoint(*found, module)
        found[1].clear()  # the trainer reads it again
        folder.forget_after(done)
        bar.start_at(done)
        if done >= total:
            bar.say(f"{folder.path} is finished: {options.epochs} of {options.epochs} epochs are done.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about workers, devices and loggers that does not apply here
        trainer = pl.Trainer(
            max_epochs=options.epochs,
            accelerator=accelerator(options.device),
            devices=devices,
            num_nodes=machines,
            strategy=strategy(together.world),
            accumulate_grad_batches=options.accumulate,
            use_distributed_sampler=False,  # the batches know of the processes themselves
            precision="bf16-mixed" if options.precision == "bf16" else "32-true",
            gradient_clip_val=options.gradient_clip or None,
            # What a killed process had drawn beyond the checkpoint is hidden.
            logger=TensorBoardLogger(folder.path, name="", version="", purge_step=done + 1 if resume else None),
            callbacks=[keeper],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=10**9,  # our own curve is logged by Keeper
        )
        batches.trained, batches.rank = lambda: module.global_step, trainer.global_rank
        if trainer.strategy.root_device.type == "cuda":
            batches.keep_on(trainer.strategy.root_device)
        valid = InOrder(
            spaced(data.valid, options.valid_images),
            VALID_BATCHES * module.images_a_pass,
            rank=trainer.global_rank,
            world=together.world,
        )
        with (
            bar,
            contextlib.closing(keeper),
            _stopping(keeper),
            _enough_memory(module, batches),
            recomputing(model, options.recompute),
            compiled(model, options.compile),
            together.ending_all(trainer),
        ):
            trainer.fit(
                module,
                bar.waiting_for(batches),
                valid,
                ckpt_path=None if found is None else found[0],
                weights_only=True,
            )
    model.to("cpu")
    if folder.writes:
        (folder.path / "hparams.yaml").unlink(missing_ok=True)  # the TensorBoard logger leaves it, empty
        best: Model = load(folder.path)
        model.load_state_dict(best.state_dict())
        model.card = best.card
    together.share(model)
    model.run_folder = folder.path
    return model.eval().requires_grad_(True)


@contextlib.contextmanager
def _stopping(keeper: Keeper) -> Iterator[None]:
    """Let the keeper hear Ctrl-C and SIGTERM; only the main thread may say what signals do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    keeper.listen = True
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _enough_memory(module: TrainingModule, batches: Batches) -> Iterator[None]:
    """Where memory runs out, say which batch would fit, after trying."""
    try:
        yield
        return
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        said = str(error)
        traceback.clear_frames(error.__traceback__)  # they hold what the failed step had made
    asked, trainer = module.options.batch_size, module.trainer
    if trainer.world_size > 1:
        raise UserError("There is not enough memory for a step: start a new run with a smaller --batch-size.")
    images, told, _ = next(iter(batches))
    device = trainer.strategy.root_device
    module.zero_grad(set_to_none=True)
    module.to(device)
    images, told = images.to(device), {kind: values.to(device) for kind, values in told.items()}

    def attempt(size: int) -> None:
        state = [torch.empty_like(p) for p in module.model.parameters() for _ in range(2)]  # as optimisers keep
        with trainer.precision_plugin.train_step_context():
            some = {kind: values[:size] for kind, values in told.items()}
            module.train()._loss((images[:size], some, 1.0)).backward()
        module.zero_grad(set_to_none=True)
        del state

    fits = largest_that_runs(attempt, len(images)) * module.options.accumulate
    if not fits and UNCLEAR in said:  # no lack of memory, then
        raise RuntimeError(said)
    raise UserError(advice(asked, fits))


def _check_checkpoint(path: Path, state: dict[str, Any], module: TrainingModule) -> int:
    """The step of a run's checkpoint; UserError if it is another model's."""
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items()}
    if {name: tensor.shape for name, tensor in state["state_dict"].items()} != wanted:
        raise UserError(f"{path} belongs to another model: resume with the one the run was started with.")
    return int(state["global_step"])
