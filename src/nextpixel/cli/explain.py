"""Commands that explain: explain (how models work), report (how a run went)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from nextpixel.cli.arguments import open_data, open_model, recorded_data
from nextpixel.cli.options import pairs
from nextpixel.cli.output import console, writable
from nextpixel.errors import UserError, did_you_mean
from nextpixel.image_model import ImageModel
from nextpixel.images import Dataset, Split
from nextpixel.images.levels import dequantise
from nextpixel.images.pictures import read_picture
from nextpixel.multiscale import MultiScaleModel
from nextpixel.networks import families
from nextpixel.shipped import shipped
from nextpixel.tasks.data import DataOptions, load_data
from nextpixel.tasks.explain import explain as draw
from nextpixel.tasks.explanations import EXPLANATIONS
from nextpixel.tasks.report import report as write_report
from nextpixel.tasks.run_folder import RunFolder

NAMES = ", ".join(EXPLANATIONS)


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: nextpixel explain blind-spot masks --format svg --out lecture")(explain)
    app.command(epilog="Example: nextpixel report nextpixel-demo/run --out demo.html, after nextpixel demo")(report)


def explain(
    what: Annotated[
        list[str] | None, typer.Argument(help=f"which figures; default: all of {NAMES}", show_default=False)
    ] = None,
    model: Annotated[
        str, typer.Option(help="run folder, saved model, shipped name, hub id, or family; default: what suits each")
    ] = "",
    out: Annotated[Path, typer.Option(help="folder for the figures")] = Path("explained"),
    kind: Annotated[str, typer.Option("--format", help="png or svg; animations are GIFs")] = "png",
    option: Annotated[
        list[str] | None, typer.Option(help="option of the family as name=value; may be repeated", show_default=False)
    ] = None,
    layer: Annotated[str, typer.Option(help="the layer whose mask is drawn; default: one of every kind")] = "",
    data: Annotated[
        str, typer.Option(help="picture file, name or path of data: what to show on; default: a drawn scene")
    ] = "",
    data_dir: Annotated[str, typer.Option(help="folder that holds the named data sets already")] = "",
) -> None:
    """Draw how the models work: masks, receptive fields, schedules, distributions; with captions."""
    known = families()
    options = DataOptions(data_dir=data_dir)
    if model in known:
        of_family = pairs(option or [], known[model].options, f"the family {model}")
        opened: ImageModel | MultiScaleModel | str | None = model
    elif option:
        raise UserError("Options are for a family that is built here: name it, such as --model pixelcnn.")
    else:
        of_family, opened = {}, _opened(model) if model else None
    images = None
    if opened is not None and not isinstance(opened, str):
        images = _images(model, opened, data or None, options)
    picture = _picture(data, options) if data else None
    written = draw(
        what or (),
        opened,
        out,
        kind=kind,
        options=of_family,
        picture=picture,
        images=images,
        layer=layer,
        tell=lambda line: typer.echo(line, err=True),
    )
    console().print(f"{len(written) - 1} figures and their captions: {written[-1]}")


def report(
    run: Annotated[Path, typer.Argument(help="run folder, finished or still in training", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(callback=writable, help="file to write; default: report.html in the run folder")
    ] = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="score the whole test split")] = False,
    check: Annotated[bool, typer.Option("--check", help="prove the model causal, as nextpixel check does")] = False,
    data_dir: Annotated[str, typer.Option(help="folder that holds the named data sets already")] = "",
) -> None:
    """One HTML file about a run: figures, curve, samples, completions, surprise, and how to make it again."""
    if out is None and run.is_dir():
        writable(run / "report.html")
    data: Dataset | None = None
    why = ""
    try:
        data = load_data(*recorded_data(RunFolder(run).read_config()["data"], data_dir))
    except UserError as error:
        if not (run / "config.yaml").is_file():
            raise
        why = str(error)
    path = write_report(
        run,
        out,
        data=data,
        why_no_data=why,
        evaluate=evaluate,
        check=check,
        tell=lambda name: typer.echo(f"{name} …", err=True),
    )
    console().print(f"Written: {path}")


def _opened(model: str) -> ImageModel | MultiScaleModel:
    if "/" not in model and not Path(model).exists() and model not in shipped():
        raise UserError(
            f"{model!r} is no run or model folder, no shipped model ({', '.join(shipped())}), and no family; the "
            f"families are {', '.join(families())}.{did_you_mean(model, [*families(), *shipped()])}"
        )
    opened = open_model(model)
    if not isinstance(opened, ImageModel | MultiScaleModel):
        raise UserError("A frozen model is explained by the one it was frozen from: give that one.")
    return opened


def _images(where: str, model: ImageModel | MultiScaleModel, source: str | None, options: DataOptions) -> Split | None:
    """A picture of the model's test data, where it can be had and fits."""
    if source is not None and Path(source).is_file() and not source.endswith((".npz", ".npy")):
        return None
    try:
        split = open_data(where, model, source, options).test[:1]
    except UserError:
        if source is not None:
            raise
        return None
    return split if split.shape == model.shape and split.levels == model.levels else None


def _picture(source: str, options: DataOptions) -> Tensor:
    """The first test picture of the data, or the picture in the file, as uint8 [C, H, W] of 256 levels."""
    if Path(source).is_file() and not source.endswith((".npz", ".npy")):
        return read_picture(source)[0]
    test = load_data(source, options).test
    if test.levels > 256:
        raise UserError(f"{test.name} has {test.levels} levels: give a picture of 256 or fewer.")
    return dequantise(test.images[0], test.levels)
