"""Trainings, an evaluation and an archive that tests do once in one process and once in several, run as a script there.

python several_processes.py FOLDER CASE...
"""

import os
import sys
from pathlib import Path

import torch

import nextpixel as npx
from nextpixel.images import Dataset, Split
from nextpixel.tasks import keeper

# 53 images in batches of 13: 5 steps an epoch, the last one with a single image, so that one process has none.
COMMON = {
    "epochs": 10,
    "batch_size": 13,
    "device": "cpu",
    "sample_every": 0,
    "progress": False,
    "checkpoint_minutes": 60,
}
CASES = {
    "adamw": {"accumulate": 2, "learning_rate": 1e-2},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1, "flip": 0.5},
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 5e-3, "accumulate": 3},
    "recompute": {"recompute": True, "learning_rate": 1e-2},
    "no-average": {"ema": 0.0, "learning_rate": 1e-2, "gradient_clip": 0.0},
}


def grey():
    """Binary images that are drawn anew in every step, dark at the left, of two classes."""
    values = torch.randint(64, (101, 1, 5, 4), generator=torch.Generator().manual_seed(1)) + torch.arange(4) * 64
    labels = torch.arange(101) % 2
    whole = Split((values > 127).long(), labels, 2, "grey", "dynamic", 2, grey=values)
    return Dataset("grey", whole[:53], whole[53:84], whole[84:])


def tiny(data, **options):
    torch.manual_seed(3)
    sizes = {"layers": 2, "features": 4, "first_kernel": 3}
    return npx.build("gated_pixelcnn", like=data.train, classes=2, **sizes, **options).double()


def train(case, run, **more):
    """50 steps."""
    data = grey()
    return npx.train(tiny(data, orders=2), data, run=run, **COMMON, **CASES[case], **more)


def pictures():
    """17 images, which divide neither by processes nor by pieces."""
    return grey().test


def evaluate(**options):
    data = grey()
    return npx.evaluate(tiny(data, orders=2), pictures(), batch_size=2, piece=5, **options)


def compress(**options):
    data = grey()
    model = npx.freeze(tiny(data).float())
    return npx.compress(model, pictures(), batch_size=2, chunk_bytes=8, piece=3, **options)


def main(folder, cases):
    keeper.LOG_EVERY = 1
    for case in cases:
        if case == "evaluate":
            (folder / "evaluated").write_text(repr(evaluate(work=folder / "evaluate").nats))
        elif case == "compress":
            (folder / "archive.npx").write_bytes(compress(work=folder / "compress"))
        else:
            model = train(case, folder / case)
            torch.save(model.state_dict(), folder / f"{case}-{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
