"""Our figures beside those of papers and of other people's code, by data set.

python -m benchmarks.papers [--write docs/results.md]

Ours come from the cards of benchmarks.table and of benchmarks.codec, and from the models in the package. Theirs stand
here, and only those that were read in the paper, in a paper that quotes it, or in the repository's own text, with the
place where they were read. Their parameters and costs are given where they were found.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import nextpixel as npx
from benchmarks.codec_models import SHAPES
from benchmarks.documents import markdown, rewrite
from benchmarks.measure import RESULTS


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of a table: a test figure in nats (binarised MNIST) or bits/dim (CIFAR-10), and what it rests on."""

    model: str
    value: float
    protocol: str
    source: str
    kind: str = "exact"  # exact; mixture (of orders, exact too); bound (the true figure is lower); estimate
    parameters: str = ""
    cost: str = ""
    ours: bool = False
    digits: int = 2

    def cells(self) -> list[str]:
        sign = {"bound": "≤ ", "estimate": "≈ "}.get(self.kind, "")
        value, model = f"{sign}{self.value:.{self.digits}f}", self.model
        if self.ours:
            value, model = f"**{value}**", f"**{model}**"
        return [model, value, self.kind, self.parameters, self.cost, self.protocol, self.source]


PIXELRNN = "van den Oord et al. 2016a (arXiv 1601.06759)"
QUOTED = "table in the Variational Bi-LSTM paper"
PAPER = "its paper, or one that quotes it"
FIXED, DYNAMIC, BITS = "fixed binarisation", "binarised anew at every look", "8-bit"
GENERATIVE = "README of EugenHotaj/pytorch-generative"
SHIPPED = "shipped"  # the card of the models in the package
NEEDED = {"data", "label", "parameters", "test", "exact"}  # what a card says of a model that stands beside others
BINARISED = [
    Figure("Diagonal BiLSTM, 7 layers of 16", 79.20, FIXED, PIXELRNN),
    Figure("PixelRNN, 1 layer", 80.75, FIXED, QUOTED),
    Figure("EoNADE-5, 2 hidden layers", 84.68, FIXED, QUOTED),
    Figure("NADE", 88.33, FIXED, QUOTED),
    Figure("locally masked PixelCNN++, 8 orders", 77.56, DYNAMIC, "README of ajayjain/lmconv", "mixture"),
    *(
        Figure(model, value, f"{DYNAMIC}; test set used as validation set", GENERATIVE, kind)
        for model, value, kind in (
            *(("PixelSNAIL", 78.61, "exact"), ("ImageGPT", 79.17, "exact"), ("PixelCNN", 81.45, "exact")),
            *(("Gated PixelCNN", 81.50, "exact"), ("MADE", 84.87, "exact"), ("NADE", 85.65, "exact")),
            *(("FVSBN", 96.58, "exact"), ("VD-VAE", 80.72, "bound")),
        )
    ),
]
CIFAR10 = [
    Figure("PixelCNN, 15 layers of 128", 3.14, BITS, PIXELRNN),
    Figure("Row LSTM, 12 layers of 128", 3.07, BITS, PIXELRNN),
    Figure("Diagonal BiLSTM, 12 layers of 128", 3.00, BITS, PIXELRNN),
    Figure("Gated PixelCNN", 3.03, BITS, "quoted in the papers of DDPM, VD-VAE and Sparse Transformer"),
    Figure("PixelCNN++", 2.92, BITS, "Salimans et al. 2017 (arXiv 1701.05517)", cost="40 GPU-days (8 Titan X, 5 days)"),
    Figure("PixelCNN++, example of flax", 2.92, BITS, "README of google/flax", cost="12.7 GPU-days (8 V100)"),
    Figure("Image Transformer", 2.90, BITS, PAPER),
    Figure("locally masked PixelCNN++, one order", 2.909, BITS, "README of ajayjain/lmconv", digits=3),
    Figure("locally masked PixelCNN++, 8 orders", 2.887, BITS, "README of ajayjain/lmconv", "mixture", digits=3),
    Figure("PixelSNAIL", 2.85, BITS, "abstract of its paper"),
    Figure("Sparse Transformer", 2.80, BITS, PAPER, parameters="59 million"),
    Figure("NeLLoC, 7×7, no blocks", 3.383, BITS, "notebooks of its repository", digits=3),
    Figure("NeLLoC, 7×7, 3 blocks", 3.247, BITS, "notebooks of its repository", digits=3),
    Figure("VD-VAE", 2.86, BITS, PAPER, "bound"),
    Figure("VDM", 2.65, BITS, PAPER, "bound"),
    Figure("MuLAN", 2.55, BITS, PAPER, "bound"),
    Figure("W-PCDM", 2.35, BITS, PAPER, "bound"),
]


def of_cards(data: str, metric: str, protocol: str) -> list[Figure]:
    """Of all cards of models on this data: those of benchmarks.table, and of whatever else writes such cards."""
    return [
        Figure(
            f"`{card['label']}`",
            card["test"][metric],
            protocol,
            f"`benchmarks/results/{path.parent.name}/`",
            "exact" if card["exact"] else "bound",
            f"{card['parameters']:,}",
            card.get("cost") or f"{card['cpu_seconds'] / 60:.0f} minutes of one core",
            ours=True,
        )
        for path in sorted(RESULTS.glob("*/*.json"))
        if (card := json.loads(path.read_text())).keys() >= NEEDED and card["data"] == data and card.get("seed", 0) == 0
    ]


def shipped() -> dict[str, dict[str, Any]]:
    """By name, what benchmarks.pictures has written down of the models in the package."""
    path = RESULTS / f"{SHIPPED}.json"
    found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    return found


def in_the_package(known: list[Figure]) -> list[Figure]:
    """Of the models of binarised MNIST that come with the package, but for those that have a card of their own."""
    values = {round(figure.value, 2) for figure in known}
    return [
        Figure(
            f"`{name}` ({card['family']})",
            card["figures"]["test_nats"],
            FIXED,
            "the model's card, in the package",
            "exact" if card["figures"]["exact"] else "bound",
            f"{card['parameters']:,}",
            f"{card['epochs']} epochs",
            ours=True,
        )
        for name, card in shipped().items()
        if card["data"] == "binarized_mnist" and round(card["figures"]["test_nats"], 2) not in values
    ]


def in_the_codec() -> list[Figure]:
    """The float model whose archive of CIFAR-10 the codec was measured on."""
    path = RESULTS / "codec-cifar10.json"
    if not path.exists():
        return []
    card = json.loads(path.read_text())
    options, training = SHAPES["cifar10"]
    head: dict[str, Any] = {"head": "logistic_mixture", "head_options": {"mixtures": 5}}
    parameters = npx.build("local", shape=(3, 32, 32), levels=256, **head, **options).parameter_count
    return [
        Figure(
            f"`local`: layers {options['layers']}, features {options['features']}",
            card["float_bits_per_dim"],
            f"{BITS}, the first {card['images']:,} test images",
            "[below](#the-codec)",
            parameters=f"{parameters:,}",
            cost=f"{training['epochs']} epoch on one core",
            ours=True,
        )
    ]


def parts() -> dict[str, str]:
    """The parts of docs/results.md that are made from the figures, by name: the lowest first, bounds last."""
    found, binarised = {}, of_cards("binarized_mnist", "nats", FIXED)
    for name, unit, figures in (
        ("papers binarized_mnist", "test nats", [*binarised, *in_the_package(binarised), *BINARISED]),
        ("papers cifar10", "test bits/dim", [*of_cards("cifar10", "bits_per_dim", BITS), *in_the_codec(), *CIFAR10]),
    ):
        head = ["model", unit, "exact or bound", "parameters", "training", "protocol", "source"]
        ordered = sorted(figures, key=lambda one: (one.kind == "bound", one.protocol.startswith(DYNAMIC), one.value))
        found[name] = markdown(head, [figure.cells() for figure in ordered])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="rewrite the tables in this document")
    args = parser.parse_args()
    if args.write:
        rewrite(args.write, parts())
    else:
        print("\n\n".join(parts().values()))


if __name__ == "__main__":
    main()
