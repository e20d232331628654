"""The command score: anomalies, and class posteriors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from nextpixel.cli.arguments import Device, Json, ModelPath, check_work, open_data, open_model, split_of
from nextpixel.cli.heat_maps import save_heat_maps
from nextpixel.cli.options import flags_of
from nextpixel.cli.output import table, writable, write_json
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.model import Model
from nextpixel.tasks import posterior as classifying
from nextpixel.tasks import score as scoring
from nextpixel.tasks import threshold as calibrating
from nextpixel.tasks.data import DataOptions
from nextpixel.tasks.image_source import load_images
from nextpixel.tasks.processes import first_process
from nextpixel.tasks.score_files import check_table, columns, save_maps, save_table
from nextpixel.tasks.scores import SCORES, Scores, check_score

Data = Annotated[
    str | None,
    typer.Argument(help="name, folder or array; default: what the model was trained on", show_default=False),
]
WhichSplit = Annotated[str, typer.Option(help="train, valid or test, of data that has splits")]
Against = Annotated[str, typer.Option(help="another model of such images, for the ratio: family local, for example")]
Limit = Annotated[int, typer.Option(min=0, help="this many images only, evenly spaced; 0 means all")]


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: nextpixel score digits --by typicality --out scores.csv --maps heat.png")(score)


def _table_file(out: Path | None) -> Path | None:
    if out is not None:
        check_table(out)
    return writable(out)


def _map_files(paths: list[Path]) -> list[Path]:
    for path in paths:
        if path.suffix.lower() not in (".png", ".npz", ""):
            raise UserError(f"The name {path.name} must end in .png or .npz, or have no ending for a folder.")
        writable(path if path.suffix else path / "0.png")
    return paths


@flags_of(options=scoring.ScoreOptions, images=DataOptions)
def score(
    model: ModelPath,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(callback=_table_file, help="all scores, a row an image: .csv or .parquet")
    ] = None,
    maps: Annotated[
        list[Path],
        typer.Option(
            callback=_map_files,
            help="a .png page of the highest scores, a folder of heat maps, or a .npz of numbers; may be repeated",
        ),
    ] = [],  # noqa: B006 - how typer spells a flag that may be repeated
    against: Against = "",
    by: Annotated[str, typer.Option(help=f"the score that decides: {', '.join(SCORES)}")] = "",
    calibrate: Annotated[
        str,
        typer.Option(metavar="NORMAL", help="held-out normal images: set the threshold, save it beside the model"),
    ] = "",
    normal_split: Annotated[str, typer.Option(help="the split of NORMAL that calibrates")] = "valid",
    false_alarms: Annotated[float, typer.Option(help="share of normal images that may be called anomalies")] = 0.01,
    posterior: Annotated[bool, typer.Option("--posterior", help="also p(class | image), by Bayes' rule")] = False,
    split: WhichSplit = "test",
    limit: Limit = 0,
    device: Device = "cpu",
    json_file: Json = None,
    *,
    options: scoring.ScoreOptions,
    images: DataOptions,
) -> None:
    """Score images for anomalies: one by one and pixel by pixel; and say which are called so, if calibrated."""
    check_work(options.work)
    opened = open_model(model, device)
    other = open_model(against, device) if against else None
    if by:
        check_score(by, bool(against))
    if posterior and opened.classes is None:
        raise UserError("The model is not class-conditional: there is no p(class | image), so leave --posterior out.")
    chosen, names = _images(model, opened, data, images, split)
    if limit and limit < len(chosen):
        kept = torch.arange(limit) * len(chosen) // limit
        chosen, names = chosen[kept], names and [names[i] for i in kept.tolist()]
    scoring.check(opened, chosen)
    threshold: calibrating.Threshold | None
    if calibrate:
        folder = _folder(model)
        normal = load_images(calibrate, images, normal_split, opened.levels).split
        threshold = calibrating.calibrated_on(
            opened, normal, by or "distance", false_alarms, options, against=other, progress=True
        )
        if first_process():
            typer.echo(f"The threshold was saved: {threshold.save(folder)}", err=True)
    else:
        threshold = saved_threshold(model, opened, other, by, options)
    if by == "distance" and threshold is None:
        raise UserError("The score 'distance' needs normal images to compare with: name them (--calibrate NORMAL).")
    found = scoring.score(
        opened,
        chosen,
        options,
        against=other,
        maps=bool(maps),
        names=names,
        normality=None if threshold is None else threshold.normality,
        progress=True,
    )
    if not first_process():
        return
    verdicts = None if threshold is None else calibrating.verdicts(threshold, found)
    classes = classifying.posterior(opened, chosen, progress=True) if posterior else None
    deciding = by or ("typicality" if threshold is None else threshold.score)
    written = [] if out is None else [_written(out, columns(found, verdicts, classes), len(found))]
    for path in maps:
        if path.suffix.lower() == ".npz":
            save_maps(path, found)
            written.append(f"bits, expected bits, variance and z of every pixel in {path}")
        else:
            written.append(save_heat_maps(path, chosen.images, found, opened.levels, deciding))
    _show(chosen, found, threshold, verdicts, classes, deciding, written)
    write_json(json_file, _facts(chosen, found, threshold, verdicts, classes))


def _images(
    where: str, model: Model, source: str | None, options: DataOptions, split: str
) -> tuple[Split, list[str] | None]:
    if source is not None:
        return load_images(source, options, split, model.levels)[:2]
    return split_of(open_data(where, model, None, options), split), None


def _folder(where: str) -> Path:
    """Where the model of a run or model folder lies; UserError for a model that is not in a folder here."""
    for path in (Path(where) / "model", Path(where)):
        if (path / "config.json").is_file():
            return path
    raise UserError(
        f"{where} is no folder here, so no threshold can be saved in it: save the model in one first, in Python "
        f"npx.load({where!r}).save_pretrained('FOLDER')."
    )


def saved_threshold(
    where: str, model: Model, other: Model | None, by: str, options: scoring.ScoreOptions
) -> calibrating.Threshold | None:
    """The threshold that was saved with the model, if it applies; says why not."""
    saved = calibrating.Threshold.load(_folder(where)) if Path(where).is_dir() else None
    if saved is None:
        return None
    try:
        calibrating.check_applies(saved, model, other, by, options)
    except UserError as reason:
        typer.echo(f"No verdicts are given. {reason}", err=True)
        return None
    return saved


def _written(out: Path, rows: dict[str, list[Any]], count: int) -> str:
    save_table(out, rows)
    return f"{count:,} rows in {out}"


def _show(
    data: Split,
    found: Scores,
    threshold: calibrating.Threshold | None,
    verdicts: tuple[torch.Tensor, torch.Tensor] | None,
    classes: classifying.Posterior | None,
    by: str,
    written: list[str],
) -> None:
    values = found.anomaly(by)
    first = values.argsort(descending=True)[:5].tolist()
    rows: list[tuple[str, object]] = [
        ("images", f"{len(found):,} ({data.name})"),
        ("bits/dim", f"{found.bits_per_dim.mean():.4f}"),
        ("bits/dim that the model expected", f"{found.model.entropy.mean() / found.dims:.4f}"),
        (
            "typicality z, mean and sd",
            f"{found.typicality.mean():.2f}, {_sd(found.typicality):.2f} (a right model: 0, 1)",
        ),
        (f"highest {by}", ", ".join(f"{found.names[i]} ({float(values[i]):.3g})" for i in first)),
    ]
    if threshold is not None and verdicts is not None:
        rows += [
            ("threshold", f"{threshold.score} above {threshold.value:.4g}"),
            ("false alarms", f"at most {100 * threshold.false_alarms:g} % of normal images"),
            ("calibrated on", f"{threshold.n:,} normal images ({threshold.data})"),
            ("called anomalies", f"{int(verdicts[0].sum()):,} of {len(found):,}"),
        ]
    if classes is not None and classes.calibration is not None:
        figures = classes.calibration
        low, high = (100 * bound for bound in figures.accuracy_interval)
        rows += [
            ("class, accuracy", f"{100 * figures.accuracy:.2f} % [{low:.2f}, {high:.2f}]"),
            ("class, log loss", f"{figures.log_loss:.4f} nats"),
            ("class, calibration error (ECE)", f"{figures.ece:.4f}"),
        ]
    rows += [("written", line) for line in written]
    table("Scores", rows)
    if classes is not None and classes.calibration is not None:
        bins = [
            (f"{row.low:.1f} to {row.high:.1f}", row.images, f"{row.confidence:.4f}", f"{row.accuracy:.4f}")
            for row in classes.calibration.reliability
        ]
        table("How sure, how right", bins, ("p(class | image)", "images", "mean p", "right"))


def _sd(values: torch.Tensor) -> float:
    return float(values.std()) if len(values) > 1 else math.nan


def _facts(
    data: Split,
    found: Scores,
    threshold: calibrating.Threshold | None,
    verdicts: tuple[torch.Tensor, torch.Tensor] | None,
    classes: classifying.Posterior | None,
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "data": data.name,
        "data_sha256": data.sha256,
        "protocol": data.protocol,
        "images": len(found),
        "bits_per_dim": float(found.bits_per_dim.mean()),
        "means": {name: float(found.anomaly(name).mean()) for name in found.available},
    }
    if threshold is not None and verdicts is not None:
        about = {key: value for key, value in vars(threshold).items() if key not in ("calibration", "statistics")}
        facts["threshold"] = {**about, "n": threshold.n}
        facts["anomalies"] = [name for name, called in zip(found.names, verdicts[0].tolist(), strict=True) if called]
    if classes is not None:
        facts["posterior"] = classifying.to_dict(classes)
    return facts
