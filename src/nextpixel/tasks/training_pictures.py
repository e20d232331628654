"""Pictures of a model while it is trained: samples, surprise maps of a few validation pictures, and the curve.

Drawing is never worth a training: what fails is left out with one warning (`say`), and surprise maps and curve are left
out for as long as they would take more than a small share of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from nextpixel import figures
from nextpixel.images import Dataset
from nextpixel.images.pictures import grid
from nextpixel.model import Model, condition_of
from nextpixel.tasks.batches import spaced
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.sample import sample, shown_condition

SHARE = 0.02  # of the time since the start, for surprise maps and curve together
SHOWN = 8  # validation pictures


class TrainingPictures:
    """`draw` at the moments that the training chooses; the random state stays as it is."""

    def __init__(self, folder: RunFolder, data: Dataset, say: Callable[[str], None]):
        self.folder, self.data, self.say = folder, data, say
        self.began, self.spent, self.last = time.monotonic(), 0.0, 0.5  # a first figure takes about as long as that
        self.failed = False

    def draw(self, model: Model, epoch: int, step: int, board: Any = None) -> None:
        """samples/epoch-….png, and as time allows samples/surprise-….png and curve.png; also to TensorBoard (`board`
        is its writer)."""
        try:
            self._samples(model.eval(), epoch, step, board)
            elapsed = time.monotonic() - self.began
            if self.spent + self.last <= SHARE * elapsed:
                began = time.monotonic()
                self._surprise(model, epoch, step, board)
                drawn = figures.curve(self.folder.read_metrics(), expected=self.folder.expected_curve())
                drawn.savefig(self.folder.path / "curve.png")
                self.last = time.monotonic() - began
                self.spent += self.last
        except Exception as error:  # whatever it is, the training goes on
            if not self.failed:
                self.failed = True
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                self.say(f"Warning: pictures of the training could not be drawn ({first}); the training goes on.")

    def _samples(self, model: Model, epoch: int, step: int, board: Any) -> None:
        count, given = shown_condition(model, self.data.valid, 36)
        picture = grid(sample(model, n=count, seed=0, condition=given), self.data.levels)
        self._keep(picture, f"epoch-{epoch:04d}.png", "samples", step, board)

    def _surprise(self, model: Model, epoch: int, step: int, board: Any) -> None:
        some = spaced(self.data.valid, SHOWN)
        one, like = model.each_order()[0], model.like()
        condition = condition_of(model, some.condition())
        bits = figures.surprise(one, some.images.to(like.device), condition).cpu()
        self._keep(
            figures.surprise_sheet(some.images, bits, some.levels), f"surprise-{epoch:04d}.png", "surprise", step, board
        )

    def _keep(self, picture: Image.Image, name: str, what: str, step: int, board: Any) -> None:
        path: Path = self.folder.samples / name
        picture.save(path)
        if board is not None:
            pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
            board.add_image(what, pixels.view(picture.height, picture.width, 3), step, dataformats="HWC")
