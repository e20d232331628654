"""The command that freezes a trained model to integers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from nextpixel.cli.arguments import Json, ModelPath, open_data, open_model, split_of
from nextpixel.cli.options import flags_of
from nextpixel.cli.output import console, table, write_json
from nextpixel.exact import freeze as run_freeze
from nextpixel.tasks.batches import spaced
from nextpixel.tasks.data import DataOptions


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: nextpixel freeze nextpixel-demo/run --out frozen")(freeze)


@flags_of(images=DataOptions)
def freeze(
    model: ModelPath,
    data: Annotated[
        str | None, typer.Argument(help="on which the cost is measured; default: none", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write")] = Path("frozen"),
    form: Annotated[str, typer.Option(help="auto, float32 (faster) or float64 (next to lossless)")] = "auto",
    limit: Annotated[int, typer.Option(min=1, help="images of the validation split to measure on")] = 256,
    json_file: Json = None,
    *,
    images: DataOptions,
) -> None:
    """Freeze a trained model to integers: what one machine encodes with it, every other decodes."""
    opened: Any = open_model(model)
    measured = None if data is None else spaced(split_of(open_data(model, opened, data, images), "valid"), limit)
    exact = run_freeze(opened, measured, form)  # type: ignore[arg-type] # checked there, with a sentence
    exact.save_pretrained(out)
    freezing = exact.card.get("freezing", {})
    rows: list[tuple[str, object]] = [("form", exact.formats.form), ("identity", exact.identity)]
    if freezing:
        rows.append(("cost", f"{freezing['cost_percent']:+.4f} % of the bits ({freezing['images']} images)"))
    table(f"{exact.family}, frozen", rows)
    console().print(f"Next: nextpixel evaluate {shlex.quote(str(out))}", markup=False, highlight=False, soft_wrap=True)
    write_json(json_file, {"form": exact.formats.form, "identity": exact.identity, **freezing})
