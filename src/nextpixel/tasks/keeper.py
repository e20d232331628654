"""What a training run keeps while it goes: checkpoints, the saved model, the curve and the sample grids."""

from __future__ import annotations

import math
import os
import shlex
import signal
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images import Dataset, names
from nextpixel.model import Model
from nextpixel.tasks.progress import TrainProgress
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.train import Interrupted, TrainOptions
from nextpixel.tasks.training_pictures import TrainingPictures

LOG_EVERY = 20  # steps


class Keeper(pl.Callback):
    """Writes into the run folder, and stops the training, with a checkpoint, when `stop` says why."""

    def __init__(self, folder: RunFolder, data: Dataset, options: TrainOptions, progress: TrainProgress):
        self.folder, self.data, self.options, self.progress = folder, data, options, progress
        self.pictures = TrainingPictures(folder, data, progress.say)
        recorded = folder.read_config()["data"]
        # A card may be published: it names a data set, never a path on this machine.
        self.data_options = recorded if recorded.get("source") in names() else None
        self.best = math.inf
        self.random: Tensor | None = None  # the generator's state in the checkpoint that we go on from
        self.stop: str | None = None
        self.planned = False  # was the stop asked for beforehand?
        self.listen = False  # to signals
        self.started = self.saved = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        step = trainer.global_step
        logging = step % LOG_EVERY == 0 or step == 1
        # Off the CPU every look at a number waits for the device.
        if (logging or module.last_loss.device.type == "cpu") and not torch.isfinite(module.last_loss):
            self._not_a_number(float(module.last_loss), step)
        if logging:
            bits = float(module.last_loss)
            self.folder.log({"step": step, "epoch": trainer.current_epoch + 1, "train": bits, "rate": module.rate})
            module.logger.experiment.add_scalar("bits per dim/train", bits, step)
            module.logger.experiment.add_scalar("learning rate", module.rate, step)
        self.progress.step(step, module.last_loss)
        now = time.monotonic()
        if self.options.max_minutes and now - self.started > 60 * self.options.max_minutes:
            self.stop, self.planned = f"after {self.options.max_minutes:g} minutes, as asked", True
        if trainer.is_last_batch:
            return  # validation comes first; on_train_epoch_end saves and stops
        if self.stop or now - self.saved > 60 * self.options.checkpoint_minutes:
            self.save(trainer)
            if math.isinf(self.best):  # nothing validated yet: better this model than none to look at
                self._save_model(module.evaluated, trainer.current_epoch, step, None)
        if self.stop:
            self._interrupt()

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        bits, step, epoch = float(trainer.callback_metrics["valid"]), trainer.global_step, trainer.current_epoch + 1
        if not math.isfinite(bits):
            self._not_a_number(bits, step)
        self.folder.log({"step": step, "epoch": epoch, "valid": bits})
        module.logger.experiment.add_scalar("bits per dim/valid", bits, step)
        self.progress.valid(epoch, bits)
        if bits <= self.best:
            self.best = bits
            self._save_model(module.evaluated, epoch, step, bits)
        if self.options.sample_every and epoch % self.options.sample_every == 0:
            self.pictures.draw(module.evaluated, epoch, step, module.logger.experiment)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.save(trainer)
        if self.stop and trainer.current_epoch + 1 < self.options.epochs:
            self._interrupt()

    def _save_model(self, model: Model, epoch: int, step: int, valid: float | None) -> None:
        model.card = {
            "data": self.data.name,
            "data_options": self.data_options,
            "protocol": self.data.protocol,
            "training": {
                "epochs": epoch,
                "of_epochs": self.options.epochs,
                "steps": step,
                "valid_bits_per_dim": valid,
                "averaged": bool(self.options.ema),
                "seed": self.options.seed,
            },
        }
        model.save_pretrained(self.folder.model)

    def save(self, trainer: pl.Trainer) -> None:
        """Write aside, then rename: a full disk or a power cut leaves the previous checkpoint whole."""
        aside = self.folder.last.with_suffix(".tmp")
        try:
            trainer.save_checkpoint(aside, weights_only=False)  # False: with everything to go on
            os.replace(aside, self.folder.last)
        except (OSError, RuntimeError) as error:
            aside.unlink(missing_ok=True)
            raise UserError(
                f"The checkpoint could not be written ({str(error).splitlines()[0]}); the one before is whole: "
                f"free some space, then go on with {self._resume()}."
            ) from error
        self.saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "random": torch.get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.random = state["best"], state["random"]

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        if self.random is not None:
            torch.set_rng_state(self.random)
        if self.listen:  # only now: the Trainer sets handlers of its own before
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: object) -> None:
        if self.stop and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once, without a checkpoint
        self.stop = "by Ctrl-C" if number == signal.SIGINT else "by a signal"

    def _not_a_number(self, bits: float, step: int) -> None:
        raise UserError(f"The loss became {bits} at step {step}: try a lower learning rate (--learning-rate).")

    def _interrupt(self) -> None:
        sentence = f"Training was stopped {self.stop}; nothing is lost: go on with {self._resume()}"
        raise Interrupted(sentence, planned=self.planned)

    def _resume(self) -> str:
        return f"nextpixel train --resume {shlex.quote(str(self.folder.path))}"
