"""The command line: one verb a task. `nextpixel --help` lists them."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from typing import Any

import typer

from nextpixel.errors import UserError


def main() -> None:
    """Entry point: mistakes of the user's end with one sentence and exit status 2, no traceback unless --debug."""
    debug = "--debug" in sys.argv or bool(os.environ.get("NEXTPIXEL_DEBUG"))
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            # A terminal that cannot show a character gets a question mark, not an error.
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    if not debug:
        warnings.showwarning = _say_warning
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
    try:
        from nextpixel.cli.app import app
        from nextpixel.tasks.processes import first_process
        from nextpixel.tasks.train import Interrupted
    except KeyboardInterrupt:  # the imports take a second or two
        _say("Stopped.")
        raise SystemExit(130) from None

    try:
        status = app(standalone_mode=False)
    except Interrupted as stopped:
        if not first_process():  # what the first one says and returns counts for all
            raise SystemExit(0) from None
        _say(str(stopped))
        raise SystemExit(0 if stopped.planned else 130) from None
    except Exception as error:
        if debug:
            raise
        sentence, status = _explain(error)
        if sentence:
            _say(f"{'Error' if first_process() else 'Error in another process'}: {sentence}")
    if status == 130:  # what typer makes of Ctrl-C
        _say("Stopped.")
    raise SystemExit(status if isinstance(status, int) else 0)


def _explain(error: Exception) -> tuple[str, int]:
    """One sentence and the exit status: 2 for the user's mistakes, 1 for ours."""
    if isinstance(error, UserError):
        return str(error), 2
    if isinstance(error, OSError):
        return (f"{error.filename}: " if error.filename else "") + f"{error.strerror or error}.", 2
    if hasattr(error, "format_message"):  # typer's mistakes on the command line; their class moves between releases
        return _usage(error), 2
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "allocate memory" in str(error):
        return "There is not enough memory: try a smaller --batch-size, or a smaller model.", 2
    first = (str(error).strip().splitlines() or [""])[0]
    return (
        f"Something unforeseen went wrong ({type(error).__name__}: {first}). "
        "Run the command again with --debug to see where, and please report it."
    ), 1


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return ""
    message = error.format_message().rstrip(".").replace("Value error, ", "").replace("Input should", "it should")
    end = "" if message.endswith("?") else "."
    return message + end + (f" See {context.command_path} --help." if context is not None else "")


def _say_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    if issubclass(category, UserWarning):
        _say(f"Warning: {message}")


def _say(sentence: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        typer.echo(sentence, err=True)
