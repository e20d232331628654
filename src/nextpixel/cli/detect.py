"""The command detect: how well scores tell anomalies from normal images."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Annotated, Any

import typer

from nextpixel.cli.arguments import Device, Json, check_work, open_model
from nextpixel.cli.options import flags_of
from nextpixel.cli.output import table, write_json
from nextpixel.cli.score import Limit, WhichSplit
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.model import Model
from nextpixel.tasks.batches import spaced
from nextpixel.tasks.data import DataOptions
from nextpixel.tasks.detect import detect as run_detect
from nextpixel.tasks.image_source import load_images
from nextpixel.tasks.processes import first_process
from nextpixel.tasks.score import ScoreOptions

FIGURES = {"auroc": "AUROC", "aupr": "AUPR", "fpr95": "FPR@95TPR"}


def add_to(app: typer.Typer) -> None:
    example = "nextpixel detect fashion-mnist --normal fashion_mnist --anomalies mnist --limit 500"
    app.command(epilog=f"Example: {example}")(detect)


@flags_of(options=ScoreOptions, images=DataOptions)
def detect(
    models: Annotated[
        list[str], typer.Argument(help="trained models: several are taken for seeds of one", show_default=False)
    ],
    normal: Annotated[str, typer.Option(help="images of the kind that the models know: name or path")],
    anomalies: Annotated[str, typer.Option(help="images of another kind: name or path")],
    against: Annotated[list[str], typer.Option(help="the other model, for the ratio: once, or once a model")] = [],  # noqa: B006
    split: WhichSplit = "test",
    reference_split: Annotated[
        str, typer.Option(help="split of the normal data with which the score distance compares; '' for none")
    ] = "valid",
    limit: Limit = 0,
    device: Device = "cpu",
    json_file: Json = None,
    *,
    options: ScoreOptions,
    images: DataOptions,
) -> None:
    """How well each score tells anomalies from normal images: AUROC, AUPR, FPR@95TPR, with bootstrap intervals."""
    check_work(options.work)
    if len(against) not in (0, 1, len(models)):
        raise UserError(f"There are {len(models)} models and {len(against)} to compare with: give one, or one each.")
    results = []
    for number, path in enumerate(models):
        opened = open_model(path, device)
        other = open_model(against[number % len(against)], device) if against else None
        good, bad = (
            spaced(load_images(source, images, split, opened.levels).split, limit) for source in (normal, anomalies)
        )
        reference = _reference(opened, normal, images, split, reference_split, limit)
        results.append(run_detect(opened, good, bad, options, reference=reference, against=other, progress=True))
    if not first_process():
        return
    first = next(iter(results[0].values()))
    title = f"{first.normal:,} normal images ({normal}), {first.anomalies:,} anomalies ({anomalies})"
    several = f", mean ± sd of {len(models)} models; the interval is the first one's" if len(models) > 1 else ""
    rows = [(name, *(_figure([found[name] for found in results], kind) for kind in FIGURES)) for name in results[0]]
    table(f"{title}{several}", rows, ("score", *FIGURES.values()))
    cards = [{name: dataclasses.asdict(found) for name, found in result.items()} for result in results]
    listed = [{"path": path, "scores": card} for path, card in zip(models, cards, strict=True)]
    write_json(json_file, {"models": listed, "normal": normal, "anomalies": anomalies})


def _reference(
    model: Model, normal: str, images: DataOptions, split: str, reference_split: str, limit: int
) -> Split | None:
    """Normal images to compare with: another split of the same data; none where it has no splits."""
    if not reference_split:
        return None
    if reference_split == split:
        raise UserError("The split and the reference split must not be the same: the figures would be too good.")
    found = load_images(normal, images, reference_split, model.levels)
    if not found.divided:
        typer.echo("The normal data has no splits, so there is no reference: the score distance is left out.", err=True)
        return None
    return spaced(found.split, limit)


def _figure(found: list[Any], kind: str) -> str:
    values, first = [getattr(one, kind).value for one in found], getattr(found[0], kind)
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread} [{first.low:.3f}, {first.high:.3f}]"
