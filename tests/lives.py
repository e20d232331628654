"""A process that imports everything once and then forks one child for each life of a training run, which dies at a
chosen moment: for tests. Reads one JSON object a line: arguments of `live`. Answers with one: status, events.

A moment is counted in events: a training step, and before and after whatever changes the disk.
"""

import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

import torch

import nextpixel as npx
from nextpixel import durable
from nextpixel.images import Dataset
from nextpixel.tasks import training
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.train import Interrupted

SETTINGS = {
    "epochs": 4,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "ema": 0.9,
    "flip": 0.5,
    "device": "cpu",
    "checkpoint_minutes": 1e-9,  # after every step
    "sample_every": 2,
    "valid_images": 16,
}


def data():
    whole = npx.dataset("digits")
    return Dataset("digits", whole.train[:112], whole.valid[:16], whole.test[:16])


def model(images):
    torch.manual_seed(1)
    return npx.build("gated_pixelcnn", like=images, layers=2, features=6, first_kernel=3, dropout=0.3)


class Fate:
    def __init__(self, kind, event):
        self.kind, self.event, self.count = kind, event, 0

    def __call__(self, torn=None):
        """One event; torn: a file that is being written, of which half is there if the process dies now."""
        self.count += 1
        if self.count != self.event:
            return
        if self.kind == "kill":
            if torn is not None:
                os.truncate(torn, torn.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.kind in ("SIGTERM", "SIGINT"):
            signal.raise_signal(getattr(signal, self.kind))
        elif self.kind == "full":
            # No file may grow beyond this any more: the next checkpoint, or line of the curve, fails half-way.
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))

    def watch(self, owner, name):
        original = getattr(owner, name)

        def watched(*args, **kwargs):
            self()
            result = original(*args, **kwargs)
            self(args[-1] if name == "_write" else None)
            return result

        setattr(owner, name, watched)


def live(run, resume, kind=None, event=0, **options):
    """Train, in this process; returns how often the fate could have struck."""
    fate = Fate(kind, event)
    for name in ("fsync", "replace", "rename", "unlink"):
        fate.watch(os, name)
    fate.watch(durable, "exchange")
    fate.watch(Path, "write_bytes")
    fate.watch(RunFolder, "log")
    fate.watch(training.Keeper, "_write")
    fate.watch(training.Keeper, "on_train_batch_end")
    images = data()
    npx.train(model(images), images, run=run, resume=resume, progress=False, **{**SETTINGS, **options})
    return fate.count


def main():
    torch.set_num_threads(1)
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            # The parent's handlers are those of a program that was started in the background.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            status = 0
            try:
                os.write(writing, str(live(**json.loads(line))).encode())
            except Interrupted:
                status = 130
            except BaseException as error:
                status = 2
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                traceback.print_exc()
                os.write(writing, f"! {error}".encode())
            sys.stderr.flush()
            os._exit(status)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        print(json.dumps({"status": os.waitstatus_to_exitcode(status), "said": said}), flush=True)


if __name__ == "__main__":
    main()
