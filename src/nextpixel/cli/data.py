"""nextpixel data: which sets there are, getting them, proving that they are the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nextpixel import images
from nextpixel.cli.output import console, table

app = typer.Typer(help="List, fetch and verify the named data sets.", no_args_is_help=True)

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


@app.command(epilog="Example: nextpixel data verify mnist --data-dir ~/data")
def verify(
    names: Annotated[list[str], typer.Argument(help="data sets to check")],
    data_dir: DataDir = "",
) -> None:
    """Compare the pixels of data sets with the published ones by checksum."""
    for name in names:
        found = images.verify(name, Path(data_dir) if data_dir else None)
        table(f"{name}: as published", list(found.items()), ("part", "SHA-256 of the pixels"))
