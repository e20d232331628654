"""Every family at about equal numbers of parameters, on the digits and on fixed binarised MNIST.

python -m benchmarks.table train [--data digits] [--family NAME ...] [--seeds 3] [--runs FOLDER] [--data-dir FOLDER]
python -m benchmarks.table cost              # seconds per epoch and to sample 64, of all families in one run
python -m benchmarks.table show              # the table of what has been trained so far

`train` does one job after another on one thread, each up to its budget of CPU time, and writes a card for each into
results/table/. It may be stopped at any time and goes on where it was; several at once share the jobs.
Digits: until the budget is spent or the validation figure has not improved for a fifth of it. Binarised MNIST: a fixed
number of epochs. One recipe for all families, nothing tuned for one of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from benchmarks.families import training_step
from benchmarks.measure import RESULTS, interleaved, machine, save
from nextpixel.images import Dataset
from nextpixel.model import Model
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.train import Interrupted, TrainOptions

CARDS = RESULTS / "table"
EARLY = 860  # steps at which validation figures are shown too: 20 epochs of the digits


@dataclasses.dataclass(frozen=True)
class Protocol:
    data: str
    models: dict[str, tuple[str, dict[str, Any]]]  # label: family, options
    training: TrainOptions
    equal_steps: int  # epochs after which the families are compared at equal steps
    cpu_minutes: float = 0.0  # 0: as many epochs as `training` says


DROPOUT = {"dropout": 0.3}
DIGITS = Protocol(
    "digits",
    {
        "pixelcnn": ("pixelcnn", {"blocks": 8, "features": 60, **DROPOUT}),
        "gated_pixelcnn": ("gated_pixelcnn", {"layers": 8, "features": 43, **DROPOUT}),
        "row_lstm": ("row_lstm", {"layers": 5, "features": 43, **DROPOUT}),
        "diagonal_bilstm": ("diagonal_bilstm", {"layers": 5, "features": 40, **DROPOUT}),
        "pixelcnnpp": ("pixelcnnpp", {"scales": 2, "blocks": 1, "features": 29, **DROPOUT}),
        "pixelsnail": ("pixelsnail", {"blocks": 2, "layers": 2, "features": 49, **DROPOUT}),
        "multiscale": (
            "gated_pixelcnn",
            {"scale": 2, "layers": 7, "features": 36, "small_options": {"layers": 4, "features": 24}, **DROPOUT},
        ),
        "made": ("made", {"hidden": 132, **DROPOUT}),
        "nade": ("nade", {"hidden": 246}),
    },
    TrainOptions(learning_rate=2e-3, schedule="constant", weight_decay=0.05, valid_images=0, sample_every=0, threads=1),
    equal_steps=50,
    cpu_minutes=20.0,
)
BINARIZED_MNIST = Protocol(
    "binarized_mnist",
    {
        "pixelcnn": ("pixelcnn", {"blocks": 6, "features": 34}),
        "pixelcnn, 5 layers of 20": ("pixelcnn", {"blocks": 5, "features": 20}),
        "gated_pixelcnn": ("gated_pixelcnn", {"layers": 6, "features": 25}),
        "row_lstm": ("row_lstm", {"layers": 5, "features": 21}),
        "pixelcnnpp": ("pixelcnnpp", {"scales": 2, "blocks": 1, "features": 14, "dropout": 0.0}),
        "diagonal_bilstm": ("diagonal_bilstm", {"layers": 5, "features": 20}),
        "pixelsnail": ("pixelsnail", {"blocks": 2, "layers": 2, "features": 23}),
        "multiscale": (
            "gated_pixelcnn",
            {"scale": 2, "layers": 5, "features": 18, "small_options": {"layers": 4, "features": 12}},
        ),
        "nade": ("nade", {"hidden": 32}),
        "nade, 500 hidden": ("nade", {"hidden": 500}),
        "made, 500 hidden": ("made", {"hidden": 500, "direct": False}),
    },
    TrainOptions(epochs=8, learning_rate=2e-3, sample_every=0, threads=1),
    equal_steps=8,
)
PROTOCOLS = {protocol.data: protocol for protocol in (DIGITS, BINARIZED_MNIST)}


def made(protocol: Protocol, label: str, data: Dataset, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    family, options = protocol.models[label]
    build = npx.build_multiscale if "scale" in options else npx.build
    return build(family, like=data, **options)


class Job:
    """One model under one protocol, from one seed."""

    def __init__(self, protocol: Protocol, label: str, seed: int, runs: Path):
        self.protocol, self.label, self.seed = protocol, label, seed
        self.name = f"{protocol.data}-{label.replace(', ', '-').replace(' ', '-')}-{seed}"
        self.run, self.card = runs / self.name, CARDS / f"{self.name}.json"
        self.notes = runs / f"{self.name}.json"  # CPU time spent so far, and the figure at equal steps
        self.lock = runs / f"{self.name}.lock"

    def train(self, data: Dataset) -> None:
        model = made(self.protocol, self.label, data, self.seed)
        notes = json.loads(self.notes.read_text()) if self.notes.exists() else {"cpu_seconds": 0.0, "epochs": 0}
        training = dataclasses.replace(self.protocol.training, seed=self.seed)
        budget = 60 * self.protocol.cpu_minutes
        while True:
            epochs = self._next_epochs(notes)
            began = time.process_time()
            options = dataclasses.replace(training, epochs=epochs) if budget else training
            try:
                npx.train(model, data, options, run=self.run, resume=self._began(), progress=False)
            except Interrupted:
                notes["cpu_seconds"] += time.process_time() - began
                self.notes.write_text(json.dumps(notes))
                raise
            notes["cpu_seconds"] += time.process_time() - began
            curve = self._curve()
            notes["epochs"] = curve[-1]["epoch"]
            if epochs == self.protocol.equal_steps:
                notes["equal_steps"] = self._test(data)
            best = min(curve, key=lambda line: line["valid"])
            self.notes.write_text(json.dumps(notes))
            per_epoch = notes["cpu_seconds"] / epochs
            stale = (curve[-1]["epoch"] - best["epoch"]) * per_epoch
            if not budget or notes["cpu_seconds"] > budget - per_epoch or stale > budget / 5:
                break
        self._write(data, notes, model.parameter_count)

    def _began(self) -> bool:
        return RunFolder(self.run).began()

    def _next_epochs(self, notes: dict[str, Any]) -> int:
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

    def _write(self, data: Dataset, notes: dict[str, Any], parameters: int) -> None:
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
            **notes,
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
                if job.card.exists():
                    continue
                with open(job.lock, "w") as lock:
                    try:
                        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except OSError:
                        continue  # another process is at it
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
    """The cards so far as markdown."""
    costs = {}
    if (RESULTS / "table-cost.json").exists():
        rows = json.loads((RESULTS / "table-cost.json").read_text())["rows"]
        costs = {(row["data"], row["label"]): row for row in rows}
    cards = [json.loads(path.read_text()) for path in sorted(CARDS.glob("*.json"))]
    for protocol in PROTOCOLS.values():
        print(f"\n{protocol.data}, equal steps: {protocol.equal_steps} epochs\n")
        early = f"valid at {EARLY} steps"
        head = ("model", "parameters", "seeds", "test nats", "bits/dim", "bits/dim at equal steps", early, "epochs")
        print("| " + " | ".join((*head, "CPU-minutes", "s/epoch", "s to sample 64")) + " |")
        print("|---" * (len(head) + 3) + "|")
        for label, (_, options) in protocol.models.items():
            mine = [card for card in cards if card["data"] == protocol.data and card["label"] == label]
            if not mine:
                continue
            spent = costs.get((protocol.data, label), {})
            early_on = [line["valid"] for card in mine for line in card["valid"] if line["step"] == EARLY]
            cells = [
                f"`{label}`: {described(options)}",
                f"{mine[0]['parameters']:,}",
                str(len(mine)),
                spread([card["test"]["nats"] for card in mine], mine[0]["test"]["nats_stderr"], 2),
                spread([card["test"]["bits_per_dim"] for card in mine], mine[0]["test"]["stderr"], 4),
                spread([card["equal_steps"]["bits_per_dim"] for card in mine], mine[0]["equal_steps"]["stderr"], 4),
                f"{statistics.mean(early_on):.4f}" if early_on else "",
                f"{statistics.mean(card['epochs'] for card in mine):.0f}",
                f"{statistics.mean(card['cpu_seconds'] for card in mine) / 60:.1f}",
                f"{spent['seconds_per_epoch']:.1f}" if spent else "",
                f"{spent['seconds_to_sample_64']:.2f}" if spent else "",
            ]
            print("| " + " | ".join(cells) + " |")


def described(options: dict[str, Any]) -> str:
    parts = [f"{name} {value}" for name, value in options.items() if name not in ("dropout", "small_options")]
    return ", ".join(parts) + (f" (small: {described(options['small_options'])})" if "small_options" in options else "")


def spread(values: list[float], stderr: float, digits: int) -> str:
    """The mean and the standard deviation over seeds; for one seed the standard error over the test images."""
    deviation = statistics.stdev(values) if len(values) > 1 else stderr
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "cost", "show"])
    parser.add_argument("--data", nargs="*", choices=list(PROTOCOLS))
    parser.add_argument("--family", nargs="*", help="labels of the table; default: all")
    parser.add_argument("--seeds", type=int, default=3, help="of the digits")
    parser.add_argument("--runs", type=Path, default=Path("runs/table"))
    parser.add_argument("--data-dir")
    args = parser.parse_args()
    try:
        {"train": train_all, "cost": cost, "show": show}[args.what](args)
    except Interrupted as stopped:
        print(stopped)


if __name__ == "__main__":
    main()
