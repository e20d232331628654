"""What a training run keeps while it goes: checkpoints, the saved model, the curve and the sample grids; and when it
must stop."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from torch import Tensor

from nextpixel.errors import UserError, warn
from nextpixel.images import Dataset, names
from nextpixel.model import Model
from nextpixel.tasks.health import GradientNorms, all_finite, gradient_norm, leak_warning
from nextpixel.tasks.profiling import StepProfiler
from nextpixel.tasks.progress import TrainProgress
from nextpixel.tasks.random_states import random_states, restore_random_states
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.together import another_ended
from nextpixel.tasks.train import Interrupted, TrainOptions
from nextpixel.tasks.training_pictures import TrainingPictures

LOG_EVERY = 20  # steps
STOPS = ("", "after {:g} minutes, as asked", "by a signal", "by Ctrl-C")
MINUTES = 1
AT_ONCE = 1.0  # seconds in which a second Ctrl-C is the same one, which a launcher has passed on as well


class Keeper(pl.Callback):
    """Writes into the run folder, and stops the training, with a checkpoint, when `stop` says why.

    Of several processes the first one writes; all call what they must call together."""

    def __init__(self, folder: RunFolder, data: Dataset, options: TrainOptions, progress: TrainProgress):
        self.folder, self.data, self.options, self.progress = folder, data, options, progress
        self.pictures = TrainingPictures(folder, data, progress.say)
        recorded = folder.read_config()["data"] if folder.writes else {}
        # A card may be published: it names a data set, never a path on this machine.
        self.data_options = recorded if recorded.get("source") in names() else None
        self.expected = folder.expected_curve() if folder.writes else {}
        self.best = math.inf
        self.random: Any = None  # the generators' states in the checkpoint that we go on from
        self.good: Path | None = None  # the newest checkpoint, which holds numbers only
        self.stop = 0  # which of STOPS this process has heard
        self.heard = 0.0  # when
        self.listen = False  # to signals
        self.looked_for_leaks = False
        self.norms = GradientNorms()
        self.pending: list[tuple[int, Tensor]] = []  # norms of gradients by step, not looked at yet
        self.stepped = 0
        self.profiler = StepProfiler(folder.profile, progress.say) if options.profile else None
        self.started = self.saved = time.monotonic()

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        norm, step = gradient_norm(module.parameters()), trainer.global_step + 1
        self.pending.append((step, norm))
        if norm.device.type == "cpu":  # here, before the weights are spoilt
            self._numbers_only(module, step)

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        step = trainer.global_step
        if step == self.stepped:
            return  # gradients are being added up
        self.stepped, logging = step, step % LOG_EVERY == 0 or step == 1
        # Off the CPU every look at a number waits for the device.
        if logging or module.last_loss.device.type == "cpu":
            self._numbers_only(module, step)
            norm = self._watch_gradients(trainer, module)
            if logging and trainer.is_global_zero:
                self._log_step(trainer, module, step, norm)
        self.progress.step(step, module.last_loss)
        if self.profiler is not None:
            self.profiler.step()
        now = time.monotonic()
        if trainer.is_last_batch:
            return  # validation comes first; on_train_epoch_end saves and stops
        stop, save = self._agreed(module, now - self.saved > 60 * self.options.checkpoint_minutes)
        if stop or save:
            self.save(trainer, module)
            if math.isinf(self.best) and trainer.is_global_zero:
                # Nothing validated yet: better this model than none to look at.
                self._save_model(module.evaluated, trainer.current_epoch, step, None)
            self._look_for_leaks(trainer, module, None)
        if stop:
            self._interrupt(stop)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        bits, step, epoch = module.valid_bits(), trainer.global_step, trainer.current_epoch + 1
        if not math.isfinite(bits):
            self._not_a_number("validation loss", bits, step)
        better, self.best = bits <= self.best, min(bits, self.best)
        if not trainer.is_global_zero:
            return
        self.folder.log({"step": step, "epoch": epoch, "valid": bits})
        module.logger.experiment.add_scalar("bits per dim/valid", bits, step)
        self.progress.valid(epoch, bits, self.expected.get(step))
        if better:
            self._save_model(module.evaluated, epoch, step, bits)
        if self.options.sample_every and epoch % self.options.sample_every == 0:
            self.pictures.draw(module.evaluated, epoch, step, module.logger.experiment)
        self._look_for_leaks(trainer, module, bits)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.save(trainer, module)
        stop, _ = self._agreed(module, False)
        if stop and trainer.current_epoch + 1 < self.options.epochs:
            self._interrupt(stop)

    def _log_step(self, trainer: pl.Trainer, module: Any, step: int, norm: float) -> None:
        bits, speed = float(module.last_loss), self.progress.speed(step)
        line = {"step": step, "epoch": trainer.current_epoch + 1, "train": bits, "rate": module.rate}
        self.folder.log({**line, "gradient_norm": norm, **speed})
        board = module.logger.experiment
        board.add_scalar("bits per dim/train", bits, step)
        board.add_scalar("learning rate", module.rate, step)
        board.add_scalar("gradient norm/norm", norm, step)
        board.add_scalar("speed/images per second", speed["images_per_second"], step)
        board.add_scalar("speed/share of time waiting for data", speed["waiting"], step)

    def _watch_gradients(self, trainer: pl.Trainer, module: Any) -> float:
        """Look for spikes among the norms that are new; the last one of them."""
        norm = 0.0
        for step, new in self.pending:
            norm = float(new)
            times = self.norms.spike(norm)
            if times is None or not trainer.is_global_zero:
                continue
            line = {"step": step, "epoch": trainer.current_epoch + 1, "spike": norm, "times_median": times}
            self.folder.log(line)
            module.logger.experiment.add_scalar("gradient norm/spikes", norm, step)
            self.progress.now_and_then(f"step {step}: the gradient's norm is {norm:.3g}, {times:.0f} times the median")
        self.pending = []
        return norm

    def _look_for_leaks(self, trainer: pl.Trainer, module: Any, valid: float | None) -> None:
        """Once a run: the answer does not change."""
        if self.looked_for_leaks or not trainer.is_global_zero:
            return
        said = leak_warning(module.model, self.data, float(module.last_loss), valid)
        if said is not None:
            self.looked_for_leaks = True
            warn(said)

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
                "flipped_share": self.options.flip or None,
                "seed": self.options.seed,
            },
        }
        model.save_pretrained(self.folder.model)

    def save(self, trainer: pl.Trainer, module: Any) -> None:
        """A checkpoint, and everything that was logged up to it, brought to the disk."""
        step = trainer.global_step
        self._watch_gradients(trainer, module)
        if not all_finite(module.parameters()):
            self._not_a_number("weights", math.nan, step)
        try:
            if trainer.is_global_zero:
                self.folder.flush_metrics()
                module.logger.experiment.flush()
                self.good = self.folder.checkpoints.save(
                    step, self.options.keep_checkpoints, lambda path: self._write(trainer, path)
                )
            else:
                self._write(trainer, self.folder.checkpoints.folder)
        except (OSError, RuntimeError) as error:
            if another_ended(error):
                raise
            raise UserError(
                f"The checkpoint could not be written ({str(error).splitlines()[0]}); the one before is whole: "
                f"free some space, then go on with {self.folder.how_to_go_on()}."
            ) from error
        self.saved = time.monotonic()
        self.progress.restart_clock()

    def _write(self, trainer: pl.Trainer, path: Path) -> None:
        trainer.save_checkpoint(path, weights_only=False)  # False: with everything to go on

    def state_dict(self) -> dict[str, Any]:
        norms = {"norms": list(self.norms.last), "looked_for_leaks": self.looked_for_leaks}
        return {"best": self.best, "random": random_states(), **norms}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.random = state["best"], state["random"]
        self.norms.last.extend(state.get("norms", []))
        self.looked_for_leaks = state.get("looked_for_leaks", False)

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        if isinstance(self.random, Tensor):  # an older run's: of the CPU alone
            torch.set_rng_state(self.random)
        elif self.random is not None:
            restore_random_states(self.random)
        if self.listen:  # only now: the Trainer sets handlers of its own before
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._hear)
        if self.random is None:  # from here on there is something to go on from
            self.save(trainer, module)
        self.stepped = trainer.global_step
        if self.profiler is not None:
            self.profiler.start()
        self.progress.restart_clock()

    def close(self) -> None:
        if self.profiler is not None:
            self.profiler.stop()
            self.profiler = None

    def _hear(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self.stop and number == signal.SIGINT and now - self.heard > AT_ONCE:
            raise KeyboardInterrupt  # asked twice: at once, without a checkpoint
        self.stop, self.heard = STOPS.index("by Ctrl-C" if number == signal.SIGINT else "by a signal"), now

    def _agreed(self, module: Any, save: bool) -> tuple[int, bool]:
        """Which of STOPS is a reason to stop, in any process, and whether any wants a checkpoint."""
        late = self.options.max_minutes and time.monotonic() - self.started > 60 * self.options.max_minutes
        stop, save_now = module.together.largest(self.stop or int(late), int(save))
        return stop, bool(save_now)

    def _numbers_only(self, module: Any, step: int) -> None:
        for what, value in (("loss", module.last_loss), *(("gradient", norm) for _, norm in self.pending)):
            if not torch.isfinite(value):
                self._not_a_number(what, float(value), step)

    def _not_a_number(self, what: str, value: float, step: int) -> NoReturn:
        good = "" if self.good is None else f" The last good checkpoint is {self.good}."
        verb = "hold" if what == "weights" else "became"
        raise UserError(
            f"The {what} {verb} {value} at step {step}.{good} Try a lower learning rate (--learning-rate) in a new run."
        )

    def _interrupt(self, stop: int) -> None:
        why = STOPS[stop].format(self.options.max_minutes)
        sentence = f"Training was stopped {why}; nothing is lost: go on with {self.folder.how_to_go_on()}"
        raise Interrupted(sentence, planned=stop == MINUTES)
