"""The command that completes pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from nextpixel import figures
from nextpixel.cli.arguments import (
    Data,
    Device,
    Gif,
    Json,
    ModelPath,
    PicturesFile,
    WhichSplit,
    open_data,
    open_model,
    split_of,
)
from nextpixel.cli.options import flags_of
from nextpixel.cli.output import console, table, write_json
from nextpixel.errors import UserError
from nextpixel.model import condition_of
from nextpixel.tasks import complete as completing
from nextpixel.tasks import masks
from nextpixel.tasks.batches import spaced
from nextpixel.tasks.data import DataOptions
from nextpixel.tasks.evaluate import check_split
from nextpixel.tasks.export import save_pictures


def add_to(app: typer.Typer) -> None:
    example = "nextpixel complete digits --box 2,2,4,4 --fills 3 --out completions.png --gif filling.gif"
    app.command(epilog=f"Example: {example}")(complete)


@flags_of(options=completing.CompleteOptions, images=DataOptions)
def complete(
    model: ModelPath,
    data: Data = None,
    out: PicturesFile = Path("completions.png"),
    gif: Gif = None,
    rows: Annotated[int | None, typer.Option(help="the first rows are known; default: the upper half")] = None,
    known: Annotated[str, typer.Option(help="this half is known: left, right, top, bottom")] = "",
    box: Annotated[str, typer.Option(help="TOP,LEFT,HEIGHT,WIDTH: all but this box is known")] = "",
    mask: Annotated[Path | None, typer.Option(help="a black and white picture: white is unknown")] = None,
    random_hole: Annotated[
        float | None, typer.Option(help="this share of the pixels, drawn for each picture, is unknown")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="how many pictures of the split")] = 8,
    fills: Annotated[int, typer.Option(min=1, help="completions per picture")] = 3,
    split: WhichSplit = "test",
    device: Device = "cpu",
    json_file: Json = None,
    *,
    options: completing.CompleteOptions,
    images: DataOptions,
) -> None:
    """Complete pictures of which only a part is known; models of classes, vectors or maps are told the true ones.

    Exactly, if what is known comes first in one of its orders; else approximately, by particles: it says which."""
    opened = open_model(model, device)
    whole = open_data(model, opened, data, images)
    part = spaced(split_of(whole, split), n)
    check_split(opened, part)
    size = (part.shape[1], part.shape[2])
    wanted = {"--rows": rows, "--known": known, "--box": box, "--mask": mask, "--random-hole": random_hole}
    given = [flag for flag, value in wanted.items() if value not in (None, "")]
    if len(given) > 1:
        raise UserError(f"Say what is known in one way, not by {' and '.join(given)}.")
    if known:
        part_known: int | Tensor = masks.side_known(known, size)
    elif box:
        part_known = masks.box_unknown(*_box(box), size)
    elif mask is not None:
        part_known = masks.read_mask(mask)
    elif random_hole is not None:
        part_known = masks.random_unknown(random_hole, len(part), size, options.seed)
    else:
        part_known = size[0] // 2 if rows is None else rows
    seen = masks.known_pixels(part_known, len(part), size)
    condition = condition_of(opened, part.condition())
    examples = spaced(whole.train, options.draws).images if options.draws else None
    done = completing.complete(
        opened, part.images, seen, fills, options, condition=condition, examples=examples, progress=True
    )
    if out.suffix.lower() == ".png":
        figures.completion_page(part.images, done.images, seen, part.levels).savefig(out)
    else:
        save_pictures(out, done.images.flatten(0, 1), part.levels)
    if gif is not None:
        ordered = opened.in_order(done.order) if len(opened.order_names) > 1 else opened
        gif.write_bytes(figures.filling(ordered, done.images[:, 0], seen))
    _tell(done, len(part), fills)
    console().print(f"written: {out}" + (f", {gif}" if gif is not None else ""))
    write_json(json_file, done.to_dict())


def _tell(done: completing.Completions, n: int, fills: int) -> None:
    rows = []
    for index in range(n):
        row = [str(index), ", ".join(f"{nats:.2f}" for nats in done.nats[index].tolist())]
        if not done.exact:
            row += [f"{done.ess[index].mean():.1f}", f"{done.smallest_ess[index].min():.1f}"]
        rows.append((*row, f"{done.log_evidence[index]:.2f}", f"{done.distinct[index]} of {fills}"))
    particles = () if done.exact else ("particles left (ESS), mean", "smallest")
    columns = ("picture", "nats of the fills given the rest", *particles, "log p(known)", "distinct")
    console().print(done.method)
    table(f"{n} pictures, {fills} fills each", rows, columns)


def _box(text: str) -> tuple[int, int, int, int]:
    if re.fullmatch(r"\d{1,9}(,\d{1,9}){3}", text.replace(" ", "")) is None:
        raise UserError(f"--box takes four numbers, TOP,LEFT,HEIGHT,WIDTH, such as 8,8,12,12, not {text!r}.")
    top, left, height, width = map(int, text.split(","))
    return top, left, height, width
