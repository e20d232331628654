"""The test part is looked at once: its figures are kept in the run folder, with the weights they are of and the time,
and are not made again unless somebody says so."""

from __future__ import annotations

import datetime
import json
from typing import Any

from nextpixel import durable
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.model import Model
from nextpixel.tasks.evaluate import evaluate
from nextpixel.tasks.pieces import fingerprint
from nextpixel.tasks.run_folder import RunFolder

NAME = "test.json"


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def scored_once(
    folder: RunFolder, model: Model, test: Split, *, again: bool = False, progress: bool = False
) -> dict[str, Any]:
    """What `evaluate` says of the whole test part, as a dictionary, with "looks" (when it was scored, one time for each
    look) and "weights" (the model's fingerprint).

    The first call scores and writes test.json; a later one reads it. With other weights than those that were scored,
    UserError: whoever has seen a test figure and trains on is choosing by the test part. again: score once more, and
    say so in "looks".
    """
    path, weights = folder.path / NAME, fingerprint(model)
    before = looked_at(folder)
    if before is not None and not again:
        if before["weights"] != weights:
            raise UserError(
                f"The test part was scored at {before['looks'][-1]} with other weights than {folder.path} has now: "
                "say --score-again to look at it once more, which the card will tell."
            )
        return before
    result = evaluate(model, test, progress=progress)
    looks = [*(before["looks"] if before else []), now()]
    found = {**result.to_dict(), "weights": weights, "looks": looks}
    try:
        durable.write_text(path, json.dumps(found, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error
    return found


def looked_at(folder: RunFolder) -> dict[str, Any] | None:
    """The figures of a test part that has been scored; None if it has not. UserError if their file is damaged."""
    path = folder.path / NAME
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        figures = [found[name] for name in ("bits_per_dim", "nats")]
        whole = all(isinstance(one, float) for one in figures) and found["looks"] and isinstance(found["weights"], str)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise UserError(f"{path}, which holds the figures of the test part, is damaged: start a new run.")
    return dict(found)
