"""The pictures of docs/results.md that are drawn from cards and trained runs, and the tables there, all made again.

python -m benchmarks.pictures [--runs runs] [--only compute families ladder shipped] [--data-dir FOLDER]

compute:  bits/dim against training compute, of every card of benchmarks.table
families: samples of every run of benchmarks.table that has a card
ladder:   bits/dim and samples by number of grey levels, of benchmarks.ladder
shipped:  samples of the models in the package beside the nearest training images; writes results/shipped.json

A run that is not there yet is left out; call it again when more has been trained. The parts of docs/results.md that are
made from cards are rewritten at the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import nextpixel as npx
from benchmarks import ladder, papers, table_text
from benchmarks.documents import RESULTS_PAGE, cards_in, markdown, rewrite
from benchmarks.figures import Row, by_levels, compute, sample_rows
from benchmarks.measure import save
from benchmarks.protocols import PROTOCOLS, name_of
from nextpixel import figures
from nextpixel.cli.arguments import recorded_data
from nextpixel.tasks.data import load_data
from nextpixel.tasks.nearest import closeness, neighbour_page

PICTURES = RESULTS_PAGE.parent / "pictures"
DRAWN = 16  # samples of a model on a sheet of many models
UNITS = {"digits": ("bits_per_dim", "bits/dim", 4), "binarized_mnist": ("nats", "nats", 2)}


def draw_compute(args: argparse.Namespace) -> None:
    cards = [card for card in cards_in(table_text.CARDS) if card["data"] in PROTOCOLS]
    save_as("compute", compute(cards), "Validation bits/dim against training compute, by family")


def draw_families(args: argparse.Namespace) -> None:
    """Of each family the run of seed 0."""
    cards = cards_in(table_text.CARDS)
    for protocol in PROTOCOLS.values():
        metric, unit, digits = UNITS[protocol.data]
        rows = []
        for label in protocol.models:
            run = args.runs / "table" / name_of(protocol, label, 0)
            mine = [card for card in table_text.of_model(cards, protocol, label) if card["seed"] == 0]
            if mine and run.exists():
                figure = mine[0]["test"][metric]
                rows.append(Row(label, f"{figure:.{digits}f} {unit}", figure, *drawn(run)))
        if rows:
            rows.sort(key=lambda row: row.order)
            save_as(f"families-{protocol.data.removeprefix('binarized_')}", sample_rows(rows), "Samples by family")


def draw_ladder(args: argparse.Namespace) -> None:
    cards = ladder.cards()
    if cards:
        curves = by_levels(cards, ladder.simple_figures(), ladder.SHOWN)
        save_as("ladder", curves, "Bits/dim against the number of grey levels")
    rows = []
    for card in cards:
        run = args.runs / "ladder" / ladder.name_of(card["levels"], card["head"])
        if run.exists():
            name = f"{card['levels']} levels" + (", mixture" if card["head"] == ladder.MIXTURE else "")
            rows.append(Row(name, f"{card['test']['bits_per_dim']:.4f} bits/dim", card["levels"], *drawn(run)))
    if rows:
        save_as("ladder-samples", sample_rows(rows), "Samples by number of grey levels")


def draw_shipped(args: argparse.Namespace) -> None:
    found = {}
    for name in npx.shipped():
        model = npx.load(name)
        data = load_data(*recorded_data(model.card["data_options"], args.data_dir or ""))
        pictures = npx.sample(model, n=256, seed=0)
        near = closeness(pictures, data.train, data.test, n=3, progress=True)
        page = neighbour_page(pictures, data.train, near)
        save_as(f"nearest-{name}", page, "Pictures drawn and the training images nearest to them")
        found[name] = {
            "data": data.name,
            "family": model.family,
            "parameters": model.parameter_count,
            "epochs": model.card["training"]["epochs"],
            "figures": model.card["figures"],
            "pictures": len(pictures),
            "median": near.median,
            "copies": near.copies,
            "test_images": len(near.test.indices),
            "test_median": near.test_median,
            "test_copies": near.test_copies,
        }
    save(papers.SHIPPED, found)


def drawn(run: Path) -> tuple[torch.Tensor, int]:
    model = npx.load(run)
    return npx.sample(model, n=DRAWN, seed=0), model.levels


def save_as(name: str, figure: Any, title: str) -> None:
    path = PICTURES / f"{name}.png"
    figures.save_figure(figure, path, title, "made by python -m benchmarks.pictures")
    print(path, flush=True)


def nearest_parts() -> dict[str, str]:
    found = papers.shipped()
    head = ["model", "data", "samples: median", "equal to one", "test images: median", "equal to one"]
    rows = [
        [
            f"`{name}`",
            card["data"],
            f"{card['median']:.3f}",
            f"{card['copies']} of {card['pictures']}",
            f"{card['test_median']:.3f}",
            f"{card['test_copies']} of {card['test_images']:,}",
        ]
        for name, card in found.items()
    ]
    pages = [
        f"![Samples of {name} and the training images nearest to them](pictures/nearest-{name}.png)" for name in found
    ]
    return {"nearest": "\n\n".join([markdown(head, rows), *pages])}


def all_parts() -> dict[str, str]:
    """Every part of docs/results.md that is made from cards, by name."""
    return {**table_text.parts(), **ladder.parts(), **papers.parts(), **nearest_parts()}


DRAWERS = {"compute": draw_compute, "families": draw_families, "ladder": draw_ladder, "shipped": draw_shipped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="holds the folders table and ladder")
    parser.add_argument("--only", nargs="*", choices=list(DRAWERS), default=list(DRAWERS))
    parser.add_argument("--data-dir")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.only:
        DRAWERS[name](args)
    rewrite(RESULTS_PAGE, all_parts())


if __name__ == "__main__":
    main()
