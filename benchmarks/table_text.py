"""The table of the families in words: what the cards of benchmarks.table say, as markdown."""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks.documents import cards_in, markdown
from benchmarks.measure import RESULTS
from benchmarks.protocols import DIGITS, PROTOCOLS, Protocol

CARDS = RESULTS / "table"
EARLY = 860  # steps at which validation figures are shown too: 20 epochs of the digits
SEEDS = {DIGITS.data: 3}  # wanted of each model; of other data one
TITLES = {"digits": "Digits, 8×8, 17 levels", "binarized_mnist": "Fixed binarised MNIST"}
HEAD = [
    *("model", "parameters", "seeds", "test nats", "bits/dim", "bits/dim at equal steps"),
    *(f"valid at {EARLY} steps", "epochs", "CPU-minutes", "s/epoch", "s to sample 64"),
]


def parts() -> dict[str, str]:
    """The parts of docs/results.md that are made from the cards, by name."""
    cards = cards_in(CARDS)
    tables = {f"table {name}": _table(protocol, cards) for name, protocol in PROTOCOLS.items()}
    return {**tables, "table missing": _missing(cards)}


def of_model(cards: list[dict[str, Any]], protocol: Protocol, label: str) -> list[dict[str, Any]]:
    """The cards of a model, one a seed."""
    return [card for card in cards if card["data"] == protocol.data and card["label"] == label]


def _table(protocol: Protocol, cards: list[dict[str, Any]]) -> str:
    costs = {}
    if (RESULTS / "table-cost.json").exists():
        rows = json.loads((RESULTS / "table-cost.json").read_text())["rows"]
        costs = {(row["data"], row["label"]): row for row in rows}
    rows = []
    for label, (_, options) in protocol.models.items():
        mine = of_model(cards, protocol, label)
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
        rows.append(cells)
    title = f"{TITLES[protocol.data]}; equal steps: {protocol.equal_steps} epochs"
    return f"{title}\n\n{markdown(HEAD, rows)}"


def _missing(cards: list[dict[str, Any]]) -> str:
    """Which trainings of the table have not ended."""
    lines = []
    for protocol in PROTOCOLS.values():
        wanted = SEEDS.get(protocol.data, 1)
        counts = {label: len(of_model(cards, protocol, label)) for label in protocol.models}
        lacking = [
            f"`{label}`" + (f" ({count} of {wanted} seeds)" if count else "")
            for label, count in counts.items()
            if count < wanted
        ]
        if lacking:
            lines.append(f"- {TITLES[protocol.data]}, not trained to the end yet: {', '.join(lacking)}.")
    return "\n".join([*lines, "- `local` is not in the table."])


def described(options: dict[str, Any]) -> str:
    parts = [f"{name} {value}" for name, value in options.items() if name not in ("dropout", "small_options")]
    return ", ".join(parts) + (f" (small: {described(options['small_options'])})" if "small_options" in options else "")


def spread(values: list[float], stderr: float, digits: int) -> str:
    """The mean and the standard deviation over seeds; for one seed the standard error over the test images."""
    deviation = statistics.stdev(values) if len(values) > 1 else stderr
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"
