"""nextpixel data: which sets there are, getting them, proving that they are the published ones; the codes they use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nextpixel import images
from nextpixel.cli.arguments import Json
from nextpixel.cli.options import flags_of
from nextpixel.cli.output import console, table, write_json
from nextpixel.tasks.codes import code_usage
from nextpixel.tasks.data import DataOptions, load_data

app = typer.Typer(help="List, fetch and verify the named data sets; look at the codes of any.", no_args_is_help=True)

DataDir = Annotated[
    str, typer.Option("--data-dir", help="folder that already holds the named sets (also $NEXTPIXEL_DATA)")
]


@app.command("list", epilog="Example: nextpixel data list")
def list_sets() -> None:
    """The data sets that are known by name."""
    rows = []
    for name in images.names():
        entry = images.info(name)
        channels, height, width = entry.shape
        rows.append(
            (name, f"{channels}x{height}x{width}", entry.levels, entry.classes or "", entry.licence, entry.about)
        )
    table("Data sets", rows, ("name", "shape", "levels", "classes", "licence", "what"))


@app.command(epilog="Example: nextpixel data fetch mnist")
def fetch(names: Annotated[list[str], typer.Argument(help="data sets to download")]) -> None:
    """Download data sets into the cache; what is there already is kept."""
    for name in names:
        console().print(f"{name}: {images.fetch(name)}")


@app.command(epilog="Example: nextpixel data verify digits")
def verify(
    names: Annotated[list[str], typer.Argument(help="data sets to check")],
    data_dir: DataDir = "",
) -> None:
    """Compare the pixels of data sets with the published ones by checksum."""
    for name in names:
        found = images.verify(name, Path(data_dir) if data_dir else None)
        table(f"{name}: as published", list(found.items()), ("part", "SHA-256 of the pixels"))


@app.command(epilog="Example: nextpixel data codes digits")
@flags_of(images=DataOptions)
def codes(
    data: Annotated[str, typer.Argument(help="name or path", show_default=False)],
    json_file: Json = None,
    *,
    images: DataOptions,
) -> None:
    """How many of the values are used, and which images are copies."""
    found = code_usage(load_data(data, images))
    copies, of_train = found["copies"], found["of_train"]
    rows = [
        ("values used in train", f"{found['used']} of {found['levels']} ({found['usage']:.1%})"),
        ("perplexity", f"{found['perplexity']:.1f}"),
        ("bits a code without context", f"{found['bits_per_code']:.4f}"),
        *((f"images of {name}", f"{count:,}, {copies[name]} copies") for name, count in found["images"].items()),
        *((f"of {name} also in train", count) for name, count in of_train.items()),
    ]
    table(data, rows)
    write_json(json_file, found)
