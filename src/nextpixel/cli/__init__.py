"""The command line: one verb a task. `nextpixel --help` lists them."""

from __future__ import annotations

import os
import sys

import typer

from nextpixel.errors import UserError


def main() -> None:
    """Entry point: mistakes of the user's end with one sentence and exit status 2, no traceback unless --debug."""
    debug = "--debug" in sys.argv or bool(os.environ.get("NEXTPIXEL_DEBUG"))
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    from nextpixel.cli.app import app
    from nextpixel.tasks.train import Interrupted

    try:
        app()
    except KeyboardInterrupt:
        _say("Stopped.")
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Interrupted as stopped:
        _say(str(stopped))
        raise SystemExit(130) from None
    except UserError as error:
        if debug:
            raise
        _say(f"Error: {error}")
        raise SystemExit(2) from None
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _say(f"Error: {where}{error.strerror or error}")
        raise SystemExit(2) from None


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)
