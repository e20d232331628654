"""Every family at about equal numbers of parameters, on the digits and on fixed binarised MNIST.

python -m benchmarks.table train [--data digits] [--family NAME ...] [--seeds 3] [--runs FOLDER] [--data-dir FOLDER]
python -m benchmarks.table cost              # seconds per epoch and to sample 64, of all families in one run
python -m benchmarks.table show [--write docs/results.md]    # the table of what has been trained so far

`train` does one job after another on one thread, each up to its budget of CPU time, and writes a card for each into
results/table/. It may be stopped at any time and goes on where it was; several at once share the jobs.
Digits: until the budget is spent or the validation figure has not improved for a fifth of it. Binarised MNIST: a fixed
number of epochs. One recipe for all families, nothing tuned for one of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from benchmarks.documents import rewrite
from benchmarks.families import training_step
from benchmarks.measure import interleaved, machine, save
from benchmarks.protocols import DIGITS, PROTOCOLS, Protocol, made, name_of
from benchmarks.sittings import Notes, held
from benchmarks.table_text import CARDS, SEEDS, parts
from nextpixel.images import Dataset
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.train import Interrupted


class Job:
    """One model under one protocol, from one seed."""

    def __init__(self, protocol: Protocol, label: str, seed: int, runs: Path):
        self.protocol, self.label, self.seed = protocol, label, seed
        self.name = name_of(protocol, label, seed)
        self.run, self.card = runs / self.name, CARDS / f"{self.name}.json"
        self.notes = runs / f"{self.name}.json"  # CPU time spent so far, and the figure at equal steps
        self.lock = runs / f"{self.name}.lock"

    def train(self, data: Dataset) -> None:
        model = made(self.protocol, self.label, data, self.seed)
        notes = Notes(self.notes)
        training = dataclasses.replace(self.protocol.training, seed=self.seed)
        budget = 60 * self.protocol.cpu_minutes
        while True:
            epochs = self._next_epochs(notes)
            options = dataclasses.replace(training, epochs=epochs) if budget else training
            with notes.counting():
                npx.train(model, data, options, run=self.run, resume=self._began(), progress=False)
            curve = self._curve()
            notes["epochs"] = curve[-1]["epoch"]
            if epochs == self.protocol.equal_steps:
                notes["equal_steps"] = self._test(data)
            best = min(curve, key=lambda line: line["valid"])
            notes.save()
            per_epoch = notes["cpu_seconds"] / epochs
            stale = (curve[-1]["epoch"] - best["epoch"]) * per_epoch
            if not budget or notes["cpu_seconds"] > budget - per_epoch or stale > budget / 5:
                break
        self._write(data, notes, model.parameter_count)

    def _began(self) -> bool:
        return RunFolder(self.run).began()

    def _next_epochs(self, notes: Notes) -> int:
        """First up to the equal steps, then as many as fit into a tenth of the budget or into what is left of it."""
        if notes["epochs"] == 0:
            return self.protocol.equal_steps
        done, spent = self._curve()[-1]["epoch"], notes["cpu_seconds"]
        each, budget = spent / done, 60 * self.protocol.cpu_minutes
        return int(done + max(1, min(budget / 10, budget - spent) / each))

    def _test(self, data: Dataset) -> dict[str, float | None]:
        result = npx.evaluate(npx.load(self.run), data.test)
        return {
            "nats": result.nats,
            "nats_stderr": result.nats_stderr,
            "bits_per_dim": result.bits_per_dim,
            "stderr": result.stderr,
        }

    def _curve(self) -> list[dict[str, Any]]:
        return [line for line in RunFolder(self.run).read_metrics() if "valid" in line]

    def _write(self, data: Dataset, notes: Notes, parameters: int) -> None:
        CARDS.mkdir(parents=True, exist_ok=True)
        family, options = self.protocol.models[self.label]
        curve = [{k: line[k] for k in ("step", "valid")} for line in self._curve()]
        card = {
            "data": self.protocol.data,
            "label": self.label,
            "family": family,
            "options": options,
            "parameters": parameters,
            "seed": self.seed,
            "training": dataclasses.asdict(self.protocol.training),
            "test": self._test(data),
            "exact": True,
            "valid": curve,
            **notes.values,
            **machine(),
        }
        self.card.write_text(json.dumps(card, indent=1) + "\n")
        test = card["test"]
        print(
            f"{self.name}: test {test['nats']:.3f} nats, {test['bits_per_dim']:.4f} bits/dim, "
            f"{notes['epochs']} epochs, {notes['cpu_seconds'] / 60:.1f} CPU-minutes",
            flush=True,
        )


def train_all(args: argparse.Namespace) -> None:
    args.runs.mkdir(parents=True, exist_ok=True)
    for name in args.data or list(PROTOCOLS):
        protocol, data = PROTOCOLS[name], npx.dataset(name, **({"data_dir": args.data_dir} if args.data_dir else {}))
        labels = args.family or list(protocol.models)
        for seed in range(args.seeds if protocol is DIGITS else 1):
            for label in labels:
                job = Job(protocol, label, seed, args.runs)
                with held(job.lock) as mine:
                    if mine and not job.card.exists():  # else another process is at it, or has been
                        job.train(data)


def cost(args: argparse.Namespace) -> None:
    """A training step and a sampled picture of every model, in turn on one thread."""
    torch.set_num_threads(1)
    rows = []
    for protocol in PROTOCOLS.values():
        data = npx.dataset(protocol.data, **({"data_dir": args.data_dir} if args.data_dir else {}))
        batch = protocol.training.batch_size
        models = {label: made(protocol, label, data) for label in protocol.models}
        x = data.train[:batch].images
        steps = interleaved({label: training_step(model, x) for label, model in models.items()}, 5)
        drawn = interleaved(
            {label: lambda model=model: npx.sample(model, n=64, method="cursor") for label, model in models.items()},  # type: ignore[misc]
            2,
        )
        for label, model in models.items():
            row = {
                "data": protocol.data,
                "label": label,
                "parameters": model.parameter_count,
                "seconds_per_epoch": steps[label] * len(data.train) / batch,
                "seconds_to_sample_64": drawn[label],
            }
            rows.append(row)
            print(row, flush=True)
    save("table-cost", {**machine(), "rows": rows})


def show(args: argparse.Namespace) -> None:
    """The cards so far as markdown, or into a document."""
    if args.write:
        rewrite(args.write, parts())
        return
    for text in parts().values():
        print(f"\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "cost", "show"])
    parser.add_argument("--data", nargs="*", choices=list(PROTOCOLS))
    parser.add_argument("--family", nargs="*", help="labels of the table; default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS[DIGITS.data], help="of the digits")
    parser.add_argument("--runs", type=Path, default=Path("runs/table"))
    parser.add_argument("--data-dir")
    parser.add_argument("--write", type=Path, help="of show: rewrite the tables in this document")
    args = parser.parse_args()
    try:
        {"train": train_all, "cost": cost, "show": show}[args.what](args)
    except Interrupted as stopped:
        print(stopped)


if __name__ == "__main__":
    main()
