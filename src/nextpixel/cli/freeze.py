"""The command that freezes a trained model to integers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from nextpixel.cli.arguments import Json, ModelPath, open_data, open_model, split_of
from nextpixel.cli.options import flags_of
from nextpixel.cli.output import console, table, writable, write_json
from nextpixel.exact import TOLERATED, ExactModel
from nextpixel.exact import freeze as run_freeze
from nextpixel.tasks.batches import spaced
from nextpixel.tasks.data import DataOptions
from nextpixel.tasks.pictures import check_new
from nextpixel.tasks.tune import TuneOptions
from nextpixel.tasks.tune import tune as run_tuning

FOLDER = Path("frozen")


def _new_folder(out: Path) -> Path:
    """Without a frozen model its archives cannot be read, nor a trained one be trained: neither is overwritten."""
    check_new(out)
    writable(out / "config.json" if out.is_dir() else out)
    return out


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: nextpixel freeze digits --out frozen")(freeze)


@flags_of(images=DataOptions)
def freeze(
    model: ModelPath,
    data: Annotated[
        str | None,
        typer.Argument(
            help="on which the cost is measured; default: none, with --tune the data of the training",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", callback=_new_folder, help="a new folder to write")] = FOLDER,
    form: Annotated[str, typer.Option(help="auto, float32 (faster) or float64 (next to lossless)")] = "auto",
    limit: Annotated[int, typer.Option(min=1, help="images of the validation split to measure on")] = 256,
    tune: Annotated[
        int, typer.Option(min=0, help="train for so many steps with the roundings of the form (float32, unless named)")
    ] = 0,
    json_file: Json = None,
    *,
    images: DataOptions,
) -> None:
    """Freeze a trained model to integers: what one machine encodes with it, every other decodes."""
    opened: Any = open_model(model)
    exact: ExactModel
    if tune:
        wanted: Any = "float32" if form == "auto" else form
        whole = open_data(model, opened, data, images)
        exact = run_tuning(opened, whole, form=wanted, steps=tune, images=limit, progress=True)
    else:
        measured = None if data is None else spaced(split_of(open_data(model, opened, data, images), "valid"), limit)
        exact = run_freeze(opened, measured, form)  # type: ignore[arg-type] # checked there, with a sentence
    exact.save_pretrained(out)
    freezing = exact.card.get("freezing", {})
    rows: list[tuple[str, object]] = [("form", exact.formats.form), ("identity", exact.identity)]
    if freezing:
        cost = f"{freezing['cost_percent']:+.4f} % of the bits"
        before = f", {freezing['untuned_percent']:+.4f} % without tuning" if tune else ""
        rows.append(("cost", f"{cost}{before} ({freezing['images']} images)"))
    table(f"{exact.family}, frozen", rows)
    if not tune and (offer := _offer(freezing)):
        console().print(offer, highlight=False, soft_wrap=True)
    console().print(f"Next: nextpixel evaluate {shlex.quote(str(out))}", markup=False, highlight=False, soft_wrap=True)
    write_json(json_file, {"form": exact.formats.form, "identity": exact.identity, **freezing})


def _offer(freezing: dict[str, Any]) -> str:
    """What to do about a form that costs too much."""
    try_tuning = f"try --tune {TuneOptions().steps}, which trains for so many steps with its roundings."
    if "float32_percent" in freezing:
        return f"The float32 form is faster but costs {freezing['float32_percent']:+.4f} %: {try_tuning}"
    if freezing.get("cost_percent", 0.0) > TOLERATED:
        return f"That is more than {TOLERATED} %: {try_tuning}"
    return ""
