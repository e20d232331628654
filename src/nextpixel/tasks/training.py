"""The training loop on pytorch-lightning's Trainer: imported only by `train`, so that nothing else pays for it."""

from __future__ import annotations

import copy
import logging
import math
import os
import signal
import time
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.image_model import ImageModel, condition_of
from nextpixel.images import Dataset, names
from nextpixel.images.pictures import grid
from nextpixel.saving import load
from nextpixel.tasks.batches import Batches, InOrder, spaced
from nextpixel.tasks.progress import TrainProgress
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.sample import sample
from nextpixel.tasks.train import Interrupted, TrainOptions

FIRST_LOOK = 64  # images from which weight-normalised layers are initialised

logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)


class TrainingModule(pl.LightningModule):
    """The loss is the negative log-likelihood in bits/dim; `averaged` holds the moving average of the weights."""

    def __init__(self, model: ImageModel, options: TrainOptions, total_steps: int):
        super().__init__()
        self.model, self.options, self.total_steps = model, options, total_steps
        self.averaged: ImageModel | None = copy.deepcopy(model).requires_grad_(False) if options.ema else None

    @property
    def evaluated(self) -> ImageModel:
        return self.model if self.averaged is None else self.averaged

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = self._bits_per_dim(self.model, batch)
        self.last_loss = loss.detach()
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:  # here, so that a checkpoint at the end of the step has it
            # Early steps count more, or the average would remember the random initial weights for 1/(1-decay) steps.
            decay = min(self.options.ema, (1 + self.global_step) / (10 + self.global_step))
            with torch.no_grad():
                averaged: list[Tensor] = list(self.averaged.parameters())
                torch._foreach_lerp_(averaged, list[Tensor](self.model.parameters()), 1 - decay)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        bits = self._bits_per_dim(self.evaluated.eval(), batch)
        self.log("valid", bits, on_epoch=True, batch_size=len(batch[0]), sync_dist=True)

    def _bits_per_dim(self, model: ImageModel, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        nats = -model.log_prob(images, condition_of(model, labels))
        return nats.mean() / (math.log(2) * model.dims)

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
        else:
            optimizer = torch.optim.RMSprop(groups, lr=options.learning_rate, alpha=0.95)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        """The learning rate at a step, as a share of the highest."""
        options = self.options
        warmup = min(options.warmup_steps, self.total_steps // 10)
        if step < warmup:
            return (step + 1) / warmup
        if options.schedule == "cosine":
            done = (step - warmup) / max(self.total_steps - warmup, 1)
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return options.decay ** (step - warmup) if options.schedule == "exponential" else 1.0


class Keeper(pl.Callback):
    """Checkpoints, the saved model, the curve and the sample grids in the run folder; stops when told to."""

    def __init__(self, folder: RunFolder, data: Dataset, options: TrainOptions, progress: TrainProgress):
        self.folder, self.data, self.options, self.progress = folder, data, options, progress
        recorded = folder.read_config()["data"]
        # A card may be published: it names a data set, never a path on this machine.
        self.data_options = recorded if recorded.get("source") in names() else None
        self.best = math.inf
        self.random: Tensor | None = None  # the generator's state in the checkpoint that we go on from
        self.stop: str | None = None
        self.started = self.saved = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        step = trainer.global_step
        if step % 20 == 0 or step == 1:
            bits = float(module.last_loss)
            if not math.isfinite(bits):
                raise UserError(f"The loss became {bits} at step {step}: try a lower learning rate (--learning-rate).")
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self.folder.log({"step": step, "epoch": trainer.current_epoch + 1, "train": bits, "rate": rate})
            module.logger.experiment.add_scalar("bits per dim/train", bits, step)
            module.logger.experiment.add_scalar("learning rate", rate, step)
        self.progress.step(step, module.last_loss)
        now = time.monotonic()
        if self.options.max_minutes and now - self.started > 60 * self.options.max_minutes:
            self.stop = f"after {self.options.max_minutes:g} minutes, as asked"
        if self.stop or now - self.saved > 60 * self.options.checkpoint_minutes:
            self.save(trainer)
        if self.stop:
            raise Interrupted(
                f"Training was stopped {self.stop}; nothing is lost: "
                f"go on with nextpixel train --resume {self.folder.path}"
            )

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        if trainer.sanity_checking:
            return
        bits, step, epoch = float(trainer.callback_metrics["valid"]), trainer.global_step, trainer.current_epoch + 1
        self.folder.log({"step": step, "epoch": epoch, "valid": bits})
        module.logger.experiment.add_scalar("bits per dim/valid", bits, step)
        self.progress.valid(epoch, bits)
        if bits <= self.best:
            self.best = bits
            model: ImageModel = module.evaluated
            model.card = {
                "data": self.data.name,
                "data_options": self.data_options,
                "protocol": self.data.protocol,
                "training": {
                    "epochs": epoch,
                    "of_epochs": self.options.epochs,
                    "steps": step,
                    "valid_bits_per_dim": bits,
                    "averaged": bool(self.options.ema),
                    "seed": self.options.seed,
                },
            }
            model.save_pretrained(self.folder.model)
        if self.options.sample_every and epoch % self.options.sample_every == 0:
            pictures = sample(module.evaluated.eval(), n=36, seed=0, condition="each")
            picture = grid(pictures, self.data.levels)
            picture.save(self.folder.samples / f"epoch-{epoch:04d}.png")
            pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
            module.logger.experiment.add_image(
                "samples", pixels.view(picture.height, picture.width, 3), step, dataformats="HWC"
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write aside, then rename: a full disk or a power cut leaves the previous checkpoint whole."""
        aside = self.folder.last.with_suffix(".tmp")
        try:
            trainer.save_checkpoint(aside, weights_only=False)  # False: with everything to go on
            os.replace(aside, self.folder.last)
        except (OSError, RuntimeError) as error:
            aside.unlink(missing_ok=True)
            raise UserError(
                f"The checkpoint could not be written ({error}); the one before is whole: free some space, then go on "
                f"with nextpixel train --resume {self.folder.path}"
            ) from error
        self.saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "random": torch.get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.random = state["best"], state["random"]

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        if self.random is not None:
            torch.set_rng_state(self.random)


def fit(
    model: ImageModel, data: Dataset, options: TrainOptions, folder: RunFolder, *, resume: bool, progress: bool
) -> ImageModel:
    """Run the Trainer; see `nextpixel.train`."""
    if options.threads:
        torch.set_num_threads(options.threads)
    pl.seed_everything(options.seed, verbose=False)
    batches = Batches(data.train, options.batch_size, options.seed)
    total = len(batches) * options.epochs
    if not resume:
        images, labels = next(iter(InOrder(spaced(data.train, FIRST_LOOK), FIRST_LOOK)))
        model.eval().initialise_from_data(images, condition_of(model, labels))
    module = TrainingModule(model.train(), options, total)
    bar = TrainProgress(total, options.batch_size, model.dims, show=progress)
    keeper = Keeper(folder, data, options, bar)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about workers, devices and loggers that does not apply here
        trainer = pl.Trainer(
            max_epochs=options.epochs,
            accelerator=options.device,
            devices=1,
            gradient_clip_val=options.gradient_clip or None,
            logger=TensorBoardLogger(folder.path, name="", version=""),
            callbacks=[keeper],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=10**9,  # our own curve is logged by Keeper
        )
        checkpoint = folder.last if resume else None
        valid = InOrder(spaced(data.valid, options.valid_images), options.batch_size * 4)
        previous = signal.signal(signal.SIGINT, lambda *_: setattr(keeper, "stop", "by Ctrl-C"))
        terminated = signal.signal(signal.SIGTERM, lambda *_: setattr(keeper, "stop", "by a signal"))
        try:
            with bar:
                if resume:
                    state = torch.load(folder.last, map_location="cpu", weights_only=True)
                    folder.forget_after(state["global_step"])
                    bar.start_at(state["global_step"])
                trainer.fit(module, batches, valid, ckpt_path=checkpoint, weights_only=True)
        finally:
            signal.signal(signal.SIGINT, previous)
            signal.signal(signal.SIGTERM, terminated)
    best: ImageModel = load(folder.path)
    model.load_state_dict(best.state_dict())
    model.card = best.card
    model.run_folder = folder.path
    return model.to("cpu").eval().requires_grad_(True)
