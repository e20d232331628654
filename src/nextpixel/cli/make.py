"""Commands that make models: demo, train."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from torch import Tensor

from nextpixel import figures
from nextpixel.cli.arguments import Json, check_device, recorded_data
from nextpixel.cli.options import flags_of, pairs, read_config
from nextpixel.cli.output import console, table, with_error, write_json
from nextpixel.cli.presets import preset_of_budget, preset_of_data
from nextpixel.errors import UserError
from nextpixel.heads import heads
from nextpixel.image_model import build
from nextpixel.images.pictures import grid
from nextpixel.model import Model
from nextpixel.multiscale import build_multiscale
from nextpixel.networks import family
from nextpixel.saving import load, make
from nextpixel.tasks.data import DataOptions, describe_data, load_data
from nextpixel.tasks.evaluate import evaluate
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.sample import sample, shown_condition
from nextpixel.tasks.train import MAY_CHANGE_ON_RESUME, Interrupted, TrainOptions, resumed_options
from nextpixel.tasks.train import train as run_training

NO_OPTIONS_OF_THE_RUN = {"data_dir", "resume", "json_file"}


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """Which model to build."""

    family: str = "gated_pixelcnn"
    """model family (nextpixel families)"""
    head: str = ""
    """distribution of a symbol; default: bernoulli for 2 levels, else categorical"""
    class_conditional: bool = False
    """condition on the labels of the data"""
    map_conditional: bool = False
    """condition on the maps of the data, such as the codes of a coarser level"""
    map_levels: int = 0
    """how many values the codes of the maps can have; default: as many as the data have"""
    vector_conditional: bool = False
    """condition on the vectors of the data"""
    embedding: Literal["scaled", "learned"] = "scaled"
    """scaled for ordered levels, learned for codes"""
    option: list[str] = dataclasses.field(default_factory=list)
    """option of the family as name=value, such as layers=8; may be repeated"""
    head_option: list[str] = dataclasses.field(default_factory=list)
    """option of the head as name=value; may be repeated"""
    orders: str = ""
    """orders of prediction: how many, all, or names with commas, such as raster,flip-x; default: raster"""
    multiscale: int = 0
    """predict a small picture of every k-th pixel first, k = 2, 4, 8, ...; 0: one picture"""
    small_family: str = ""
    """family of the model of the small picture; default: the same"""
    small_option: list[str] = dataclasses.field(default_factory=list)
    """option of the small picture's family as name=value; default: as --option; may be repeated"""


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: nextpixel demo --out my-first-run")(demo)
    app.command(epilog="Example: nextpixel train digits --epochs 5 --option layers=4 --option features=32")(train)


def demo(
    out: Annotated[Path, typer.Option(help="folder for the pictures and the run")] = Path("nextpixel-demo"),
    epochs: Annotated[
        int, typer.Option(min=0, help="passes over the 1,350 training images; 0: as many as it needs")
    ] = 0,
    json_file: Json = None,
) -> None:
    """Train a class-conditional Gated PixelCNN on small digits, and show what it can do (2 to 3 minutes)."""
    from nextpixel.cli.demo import run_demo

    write_json(json_file, run_demo(out, epochs))


@flags_of(model=ModelOptions, training=TrainOptions, images=DataOptions)
def train(
    ctx: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(callback=preset_of_data, is_eager=True, help="name or path of the data", show_default=False),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="run folder; default: a new one under runs/")] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with this run; needs nothing else")] = None,
    config: Annotated[
        Path | None,
        typer.Option(callback=read_config, is_eager=True, help="YAML file with defaults for these flags"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(callback=preset_of_budget, is_eager=True, help="settings for a budget (nextpixel config presets)"),
    ] = None,
    json_file: Json = None,
    *,
    model: ModelOptions,
    training: TrainOptions,
    images: DataOptions,
) -> None:
    """Train a model; Ctrl-C saves, and --resume goes on."""
    if resume is not None:
        folder = RunFolder(resume)
        source, images, training, built = _reopen(folder, training, images, ctx)
        loaded = load_data(source, images)
    elif data is None:
        raise UserError("Say which data to train on: a name (nextpixel data list) or a path.")
    else:
        check_training_device(training.device)
        if run is not None and run.exists() and not run.is_dir():
            raise UserError(f"The run folder {run} cannot be written: it is a file.")
        source, loaded = data, load_data(data, images)
        torch.manual_seed(training.seed)
        built = build_from(model, loaded)
        folder = RunFolder.fresh(run, f"{built.family}-{loaded.name}")
    about = f"{built.family} ({built.parameter_count:,} parameters) on {len(loaded.train):,} images of "
    about += f"{'x'.join(map(str, loaded.shape))}, {loaded.levels} levels"
    if folder.writes:
        typer.echo(f"Training {about}; Ctrl-C saves. Run folder: {folder.path}", err=True)
    trained = run_training(
        built,
        loaded,
        training,
        run=folder.path,
        resume=resume is not None,
        describe={"data": {**describe_data(source, images), "protocol": loaded.protocol}},
    )
    if not folder.writes:  # the first of several processes speaks for all
        return
    try:
        _finish(trained, loaded, json_file)
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped after the training: the model is whole. Next: nextpixel evaluate {shlex.quote(str(folder.path))}"
        ) from None


def _reopen(
    folder: RunFolder, training: TrainOptions, images: DataOptions, ctx: typer.Context
) -> tuple[str, DataOptions, TrainOptions, Model]:
    """What a run recorded, after a look at whether it can go on."""
    given = _given(ctx)
    asked = folder.read_config()
    source, images = recorded_data(asked["data"], images.data_dir)
    names = [field.name for field in dataclasses.fields(TrainOptions) if field.name in given]
    training = resumed_options(asked["train"], {name: getattr(training, name) for name in names})
    torch.manual_seed(training.seed)  # for a run that has no checkpoint yet
    try:
        built = make(asked["model"], str(folder.config))
    except TypeError as error:
        raise UserError(f"{folder.config} is damaged ({error}).") from error
    check_training_device(training.device)
    folder.hold()
    return source, images, training, built


def check_training_device(device: str) -> None:
    """UserError unless it can be trained on."""
    if device != "auto":
        check_device(device)


def build_from(options: ModelOptions, data: Any) -> Model:
    """A new model for the data. Raises UserError for what does not go together."""
    declared = family(options.family)
    if options.head_option and not options.head:
        raise UserError("Name the head as well (--head) to give it options with --head-option.")
    if options.class_conditional and data.classes is None:
        raise UserError(f"{data.name} has no labels to condition on.")
    if (options.small_family or options.small_option) and not options.multiscale:
        raise UserError("There is no small picture without --multiscale: say --multiscale 2, or leave --small-... out.")
    head_defaults = heads()[options.head].options() if options.head in heads() else {}
    for kind, wanted in (("map", options.map_conditional), ("vector", options.vector_conditional)):
        if wanted and kind not in data.train.told:
            raise UserError(
                f"{data.name} has no {kind}s to condition on: an .npz file holds them as {kind}, or as train_{kind} "
                "and so on."
            )
    if options.map_levels and not options.map_conditional:
        raise UserError("There are no maps without --map-conditional: leave --map-levels out.")
    common: dict[str, Any] = {
        "like": data,
        "head": options.head or None,
        "classes": data.classes if options.class_conditional else None,
        "embedding": options.embedding,
        "head_options": pairs(options.head_option, head_defaults, f"the head {options.head}"),
        **pairs(options.option, declared.options, f"the family {options.family}"),
    }
    if not options.multiscale:
        shape, levels = _map_of(data, options.map_levels) if options.map_conditional else (None, None)
        width = data.train.told["vector"].shape[1] if options.vector_conditional else None
        return build(
            options.family, orders=options.orders or None, map_shape=shape, map_levels=levels, vector=width, **common
        )
    if options.map_conditional or options.vector_conditional:
        raise UserError(
            "A multi-scale model takes its small picture as the map, and no vector: leave --map-conditional and "
            "--vector-conditional out."
        )
    if options.orders:
        raise UserError(
            "A multi-scale model has an order of prediction of its own: leave --orders or --multiscale out."
        )
    small = family(options.small_family or options.family)
    return build_multiscale(
        options.family,
        scale=options.multiscale,
        small_family=options.small_family or None,
        small_options=pairs(options.small_option, small.options, f"the family {small.name}"),
        **common,
    )


def _map_of(data: Any, levels: int) -> tuple[tuple[int, int, int], int | None]:
    """The shape of the data's maps, and of how many values they are codes: `levels`, or where that is 0 as many as
    there are."""
    maps = [split.told["map"] for split in (data.train, data.valid, data.test)]
    shape = tuple(maps[0].shape[1:])
    if maps[0].is_floating_point():
        if levels:
            raise UserError(f"The maps of {data.name} are floats, not codes: leave --map-levels out.")
        return shape, None
    found = 1 + max(int(each.max()) for each in maps)
    if levels and found > levels:
        raise UserError(f"The maps of {data.name} hold the code {found - 1}: pass --map-levels {found} or more.")
    return shape, levels or found


def _finish(model: Model, data: Any, json_file: Path | None) -> None:
    assert model.run_folder is not None
    folder = RunFolder(model.run_folder)
    best: Model = load(folder.path)
    result = evaluate(best, data.valid, progress=True)
    draw_pictures(folder, best, data)
    table(
        f"{best.family} on {data.name}",
        [
            ("valid bits/dim", with_error(result.bits_per_dim, result.stderr, 4)),
            ("valid nats per image", f"{result.nats:.2f}"),
            ("parameters", f"{best.parameter_count:,}"),
            ("run", folder.path),
        ],
    )
    next_command = f"Next: nextpixel evaluate {shlex.quote(str(folder.path))}   (the test split)"
    console().print(next_command, markup=False, highlight=False, soft_wrap=True)
    write_json(json_file, {"run": str(folder.path), "valid": result.to_dict()})


def draw_pictures(folder: RunFolder, model: Model, data: Any) -> Tensor:
    """samples.png, a sheet of 64 or so, and curve.png in a run's folder; returns the pictures of the sheet."""
    count, given = shown_condition(model, data.valid, 64)
    pictures = sample(model, n=count, condition=given)
    grid(pictures, data.levels, columns=model.classes).save(folder.path / "samples.png")
    if metrics := folder.read_metrics():
        figures.curve(metrics, expected=folder.expected_curve()).savefig(folder.path / "curve.png")
    return pictures


def _given(ctx: typer.Context) -> set[str]:
    """The names of what the command line of a resumed run gives; UserError for what cannot change."""
    names = {str(p.name) for p in ctx.command.params}
    given = {name for name in names if (at := ctx.get_parameter_source(name)) is not None and at.name == "COMMANDLINE"}
    if "data" in given:
        raise UserError("A resumed run keeps its data: give nothing but --resume and the folder.")
    for name in sorted(given - MAY_CHANGE_ON_RESUME - NO_OPTIONS_OF_THE_RUN - {"epochs"}):
        raise UserError(f"A resumed run keeps its options: leave --{name.replace('_', '-')} out, or start a new run.")
    return given
