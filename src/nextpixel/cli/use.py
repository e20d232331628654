"""Commands that use a trained model: evaluate, sample, push."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from nextpixel import figures
from nextpixel.cli.arguments import (
    Class,
    Data,
    Device,
    Gif,
    Json,
    ModelPath,
    PicturesFile,
    WhichSplit,
    check_work,
    class_condition,
    ending_in,
    open_data,
    open_model,
    split_of,
    told_condition,
)
from nextpixel.cli.options import flags_of
from nextpixel.cli.output import console, table, with_error, write_json
from nextpixel.errors import UserError
from nextpixel.images import Dataset
from nextpixel.tasks import evaluate as evaluating
from nextpixel.tasks import sample as sampling
from nextpixel.tasks.data import DataOptions
from nextpixel.tasks.drawing import SampleOptions
from nextpixel.tasks.export import save_pictures
from nextpixel.tasks.nearest import check as check_nearest
from nextpixel.tasks.nearest import compare
from nextpixel.tasks.processes import first_process


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: nextpixel evaluate digits --json card.json")(evaluate)
    app.command(epilog="Example: nextpixel sample digits -n 100 --class each --out samples.png")(sample)
    app.command(epilog="Example: nextpixel push digits my-name/my-model")(push)


@flags_of(options=evaluating.EvaluateOptions, images=DataOptions)
def evaluate(
    model: ModelPath,
    data: Data = None,
    split: WhichSplit = "test",
    device: Device = "cpu",
    json_file: Json = None,
    *,
    options: evaluating.EvaluateOptions,
    images: DataOptions,
) -> None:
    """Exact likelihood of a split: nats per image and bits/dim, with standard errors."""
    check_work(options.work)
    opened = open_model(model, device)
    chosen = split_of(open_data(model, opened, data, images), split)
    result = evaluating.evaluate(opened, chosen, options, progress=True)
    if not first_process():
        return
    rows = [
        ("bits/dim", with_error(result.bits_per_dim, result.stderr, 4)),
        ("nats per image", with_error(result.nats, result.nats_stderr, 3)),
        ("exact or bound", f"{'exact' if result.exact else 'bound'}: {result.why}"),
    ]
    if result.given_class is not None and result.class_accuracy is not None:
        rows[0] = (f"bits/dim, marginal over classes{' and orders' if result.by_order else ''}", rows[0][1])
        rows += [
            ("bits/dim given the class", f"{result.given_class:.4f}"),
            ("class from p(class | x), accuracy", f"{100 * result.class_accuracy:.1f} %"),
        ]
    elif result.by_order:
        rows[0] = ("bits/dim, orders mixed", rows[0][1])
    rows += _order_rows(result)
    rows += [
        ("images", f"{result.images:,} ({result.data})"),
        ("SHA-256 of the data", result.data_sha256[:16]),
        ("protocol", result.protocol),
        ("weights", {True: "averaged (EMA)", False: "last", None: "unknown"}[result.averaged_weights]),
        ("seconds", f"{result.seconds:.1f}"),
    ]
    table(f"{result.family}, {result.parameters:,} parameters", rows)
    write_json(json_file, result.to_dict())


def _order_rows(result: evaluating.Evaluation) -> list[tuple[str, str]]:
    """What is said of a model of several orders beside the figure of their mixture."""
    if result.by_order is None or result.mean_over_orders is None:
        return []
    each = sorted(result.by_order.items(), key=lambda pair: pair[1])
    shown = each if len(each) <= 8 else [each[0], each[-1]]
    mean = "what an image costs in an order drawn at random; the figure above is that of all orders mixed, never more"
    return [
        (f"bits/dim, mean over {len(each)} orders", f"{result.mean_over_orders:.4f}: {mean}"),
        *(
            (f"bits/dim in {name} order", f"{bits:.4f}{' (the best)' if name == each[0][0] else ''}")
            for name, bits in shown
        ),
    ]


@flags_of(options=SampleOptions, images=DataOptions)
def sample(
    model: ModelPath,
    out: PicturesFile = Path("samples.png"),
    gif: Gif = None,
    n: Annotated[
        int | None,
        typer.Option("-n", "--number", min=1, help="how many pictures; default: 64, or as many as --condition is for"),
    ] = None,
    klass: Class = "",
    condition: Annotated[
        Path | None,
        typer.Option(
            help="for models of maps or vectors: a .npy file with one for each picture, such as the codes of a coarser "
            "level that sample has drawn; or an .npz file with map, vector, labels"
        ),
    ] = None,
    nearest: Annotated[
        Path | None,
        typer.Option(
            callback=ending_in(".png"),
            help="also a .png sheet of the training images nearest to the pictures: did the model learn any by heart?",
        ),
    ] = None,
    among: Annotated[
        str, typer.Option(metavar="DATA", help="the data of --nearest; default: what the model was trained on")
    ] = "",
    blur: Annotated[int, typer.Option(min=0, help="blur both before --nearest compares them: 2 is about a pixel")] = 0,
    device: Device = "cpu",
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="say how the pictures are drawn, why so, and what it took")
    ] = False,
    *,
    options: SampleOptions,
    images: DataOptions,
) -> None:
    """Draw pictures. The same seed gives the same pictures."""
    opened = open_model(model, device)
    ordered = opened.in_order(options.order) if options.order else opened
    if gif is not None and len(ordered.order_names) > 1:
        raise UserError("Of a model of several orders each picture is drawn in its own: for --gif say --order NAME.")
    if condition is None:
        count, told = n or 64, class_condition(opened, klass, n or 64)
        if opened.condition is not None and not opened.condition.only_classes:
            raise UserError("The model is told a map or a vector of each picture: name a file of them (--condition).")
    else:
        count, told = told_condition(opened, condition, klass, n)
    data = None
    if nearest is not None:  # opened first: what is wrong with it is to be said before anything is drawn
        data = open_data(model, opened, among or None, images)
        evaluating.check_split(opened, data.test)
        check_nearest(torch.zeros(1, *opened.shape, dtype=torch.uint8), data.train, 1, blur)
    elif among or blur or dataclasses.replace(images, data_dir="") != DataOptions():
        raise UserError("The data of sample are those of --nearest: name its sheet, such as --nearest near.png.")
    tell = functools.partial(typer.echo, err=True) if verbose else None
    pictures = sampling.sample(opened, count, options, condition=told, progress=True, tell=tell)
    columns = opened.classes if klass == "each" else None
    if gif is not None:
        gif.write_bytes(figures.filling(ordered, pictures))
    console().print(f"{count} pictures: {save_pictures(out, pictures, opened.levels, columns)}")
    if nearest is not None and data is not None:
        _compare(pictures, data, blur, nearest)


def _compare(pictures: Tensor, data: Dataset, blur: int, path: Path) -> None:
    """Say how near the pictures are to training images, and draw those that are nearest."""
    found = compare(pictures, data, path, blur=blur, progress=True)
    tests = len(found.test.indices)
    table(
        "distance to the nearest training image, levels",
        [
            ("training images", f"{len(data.train):,} ({data.train.name})"),
            (f"{len(pictures)} pictures, median", f"{found.median:.2f}"),
            (f"{tests:,} test images, median", f"{found.test_median:.2f}"),
            ("pictures equal to a training image", f"{found.copies} of {len(pictures)}"),
            ("test images equal to one", f"{found.test_copies} of {tests:,}"),
        ],
    )
    console().print(f"Pictures from the nearest to the farthest, and the training images nearest to them: {path}")


def push(
    model: ModelPath,
    repo: Annotated[str, typer.Argument(help="hub id, such as my-name/my-model", show_default=False)],
    private: Annotated[bool, typer.Option(help="make a new repository private")] = False,
) -> None:
    """Upload a model to the Hugging Face hub (log in first: hf auth login)."""
    opened = open_model(model)
    try:
        console().print(opened.push_to_hub(repo, private=private))
    except Exception as error:  # the hub client has many kinds; each says in its first line what is wrong
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"The model could not be pushed to {repo!r} ({first}): check the id, the network, and that you are logged "
            "in (hf auth login)."
        ) from error
