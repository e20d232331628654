"""Memory of a training step of the Gated PixelCNN, with and without recomputation.

python -m benchmarks.training_memory [--layers 20] [--features 96] [--batch 16] [--side 32]

Each step runs in a process of its own; what is reported is how far its resident memory grew beyond what weights,
libraries and a step on one picture had taken.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
from multiprocessing.connection import Connection

import torch

import nextpixel as npx
from benchmarks.measure import machine, save
from nextpixel.tasks.acceleration import recomputing


def peak() -> float:
    """The most memory the process has had so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_step(layers: int, features: int, batch: int, side: int, recompute: bool, answer: Connection) -> None:
    model = npx.build("gated_pixelcnn", shape=(1, side, side), levels=2, layers=layers, features=features)
    x = torch.randint(0, 2, (batch, 1, side, side))
    with recomputing(model, recompute):
        (-model.log_prob(x[:1]).mean()).backward()  # loads what is loaded once
        before = peak()
        (-model.log_prob(x).mean()).backward()
    answer.send(peak() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("layers", 20), ("features", 96), ("batch", 16), ("side", 32)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    start, grown = multiprocessing.get_context("spawn"), {}
    for recompute in (False, True):
        here, there = start.Pipe()
        process = start.Process(target=one_step, args=(*vars(args).values(), recompute, there))
        process.start()
        grown["recompute" if recompute else "usual"] = here.recv()
        process.join()
    for name, megabytes in grown.items():
        print(f"{name:10}{megabytes:8.0f} MB")
    print(f"{'ratio':10}{grown['usual'] / grown['recompute']:8.1f}")
    save("training_memory", {**machine(), **vars(args), "megabytes": grown})


if __name__ == "__main__":
    main()
