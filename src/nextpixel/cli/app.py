"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from nextpixel.cli import archive, complete, data, detect, explain, freeze, inspect, make, reproduce, score, serve, use
from nextpixel.version import __version__

app = typer.Typer(
    help="Exact-likelihood image models that predict the next pixel. Start with: nextpixel demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="A mistake ends with one sentence; --debug, anywhere, shows where it came from.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nextpixel {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for _module in (make, reproduce, use, complete, score, detect, freeze, archive, inspect, explain, serve):
    _module.add_to(app)
app.add_typer(data.app, name="data")
app.add_typer(inspect.config_app, name="config")
