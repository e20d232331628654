"""Figures for docs and lectures, each drawn from the code that it explains."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from nextpixel import figures
from nextpixel.errors import UserError, did_you_mean
from nextpixel.images import Split
from nextpixel.model import Model
from nextpixel.tasks.explained import Subject
from nextpixel.tasks.explanations import EXPLANATIONS, Drawn, NoSuchFigureError


def explain(
    what: str | Sequence[str] = (),
    model: Model | str | None = None,
    out: str | Path = "explained",
    *,
    kind: str = "png",
    options: dict[str, Any] | None = None,
    picture: Tensor | None = None,
    images: Split | None = None,
    layer: str = "",
    tell: Callable[[str], None] | None = None,
) -> list[Path]:
    """Draw figures into the folder `out`, with captions.md; returns the files.

    what: a name or names from `EXPLANATIONS`; none: all that exist for the model. model: one to be explained, or the
    name of a family of which a small one is built with `options`; None: each figure chooses. kind: "png" or "svg"
    (animations are GIFs). picture: uint8 [C, H, W] for what is shown on a picture; images: of the model's data; layer:
    whose mask to show (default: one of every kind). tell: is called with a line on each figure. Raises UserError for
    unknown names, for a figure that does not exist for the model, and for a folder that cannot be written.
    """
    if kind not in ("png", "svg"):
        raise UserError(f"Figures are written as png or svg, not {kind!r}.")
    what = [what] if isinstance(what, str) else what
    for name in what:
        if name not in EXPLANATIONS:
            raise UserError(
                f"There is no figure {name!r}; there are: {', '.join(EXPLANATIONS)}." + did_you_mean(name, EXPLANATIONS)
            )
    given = model if isinstance(model, Model) else None
    family = model if isinstance(model, str) else ""
    subject = Subject(given, family, options or {}, picture, images, layer)
    chosen = [EXPLANATIONS[name] for name in dict.fromkeys(what)] or list(EXPLANATIONS.values())
    refusals = {entry.name: entry.refusal(subject) for entry in chosen}
    if what and (why := next(filter(None, refusals.values()), None)):
        raise UserError(why)
    folder = _folder(out)
    written: list[Path] = []
    captions = ["# What the figures show", ""]
    for entry in chosen:
        if refusals[entry.name]:
            continue
        try:
            every = entry.draw(subject)
        except NoSuchFigureError:
            if what:
                raise
            continue
        for drawn in every:
            path = folder / f"{drawn.stem}.{'gif' if isinstance(drawn.content, bytes) else kind}"
            _write(path, entry.title, drawn)
            written.append(path)
            captions += [f"## {entry.title}", "", f"![{drawn.alt}]({path.name})", "", drawn.caption, ""]
            if tell is not None:
                tell(f"{path}: {entry.title}")
    _writing(folder / "captions.md", lambda path: path.write_text("\n".join(captions), encoding="utf-8"))
    return [*written, folder / "captions.md"]


def _folder(out: str | Path) -> Path:
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "it is a file" if error.errno == errno.EEXIST else error.strerror or error
        raise UserError(f"The folder {out} cannot be written ({why}): name another one.") from error
    return Path(out)


def _write(path: Path, title: str, drawn: Drawn) -> None:
    content = drawn.content
    if isinstance(content, bytes):
        _writing(path, lambda path: path.write_bytes(content))
    else:
        _writing(path, lambda path: figures.save_figure(content, path, title, drawn.alt))


def _writing(path: Path, write: Callable[[Path], object]) -> None:
    try:
        write(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error
