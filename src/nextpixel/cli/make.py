"""Commands that make models: demo, train."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from nextpixel import figures
from nextpixel.cli.arguments import Json, recorded_data
from nextpixel.cli.options import flags_of, pairs, read_config
from nextpixel.cli.output import console, table, write_json
from nextpixel.errors import UserError
from nextpixel.heads import heads
from nextpixel.image_model import ImageModel, build
from nextpixel.images.pictures import grid
from nextpixel.networks import family
from nextpixel.saving import load
from nextpixel.tasks.data import DataOptions, describe_data, load_data
from nextpixel.tasks.evaluate import evaluate
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.sample import sample
from nextpixel.tasks.train import TrainOptions
from nextpixel.tasks.train import train as run_training

MAY_CHANGE_ON_RESUME = {
    "data_dir",
    "device",
    "threads",
    "max_minutes",
    "checkpoint_minutes",
    "resume",
    "json_file",
    "data",
}


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """Which model to build."""

    family: str = "gated_pixelcnn"
    """model family (nextpixel families)"""
    head: str = ""
    """distribution of a symbol; default: bernoulli for 2 levels, else categorical"""
    class_conditional: bool = False
    """condition on the labels of the data"""
    embedding: str = "scaled"
    """scaled for ordered levels, learned for codes"""
    option: list[str] = dataclasses.field(default_factory=list)
    """option of the family as name=value, such as layers=8; may be repeated"""
    head_option: list[str] = dataclasses.field(default_factory=list)
    """option of the head as name=value; may be repeated"""


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: nextpixel demo --out my-first-run")(demo)
    app.command(epilog="Example: nextpixel train mnist --binarise dynamic --epochs 5 --option layers=8")(train)


def demo(
    out: Annotated[Path, typer.Option(help="folder for the pictures and the run")] = Path("nextpixel-demo"),
    epochs: Annotated[int, typer.Option(help="passes over the 1,350 training images")] = 0,
    json_file: Json = None,
) -> None:
    """Train a class-conditional Gated PixelCNN on small digits, and show what it can do (about 3 minutes)."""
    from nextpixel.cli.demo import run_demo

    write_json(json_file, run_demo(out, epochs))


@flags_of(model=ModelOptions, training=TrainOptions, images=DataOptions)
def train(
    ctx: typer.Context,
    data: Annotated[str | None, typer.Argument(help="name or path of the data", show_default=False)] = None,
    run: Annotated[Path | None, typer.Option(help="run folder; default: a new one under runs/")] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with this run; needs nothing else")] = None,
    config: Annotated[
        Path | None,
        typer.Option(callback=read_config, is_eager=True, help="YAML file with defaults for these flags"),
    ] = None,
    json_file: Json = None,
    *,
    model: ModelOptions,
    training: TrainOptions,
    images: DataOptions,
) -> None:
    """Train a model; Ctrl-C saves, and --resume goes on."""
    if resume is not None:
        _refuse_changes(ctx)
        folder = RunFolder(resume)
        asked = folder.read_config()
        source, images = recorded_data(asked["data"], images.data_dir)
        training = _same_but(asked["train"], training, ctx)
        built = ImageModel(**asked["model"])
    else:
        if data is None:
            raise UserError("Say which data to train on: a name (nextpixel data list) or a path.")
        source = data
        torch.manual_seed(training.seed)
    loaded = load_data(source, images)
    if resume is None:
        built = _build(model, loaded)
    trained = run_training(
        built,
        loaded,
        training,
        run=resume or run,
        resume=resume is not None,
        describe={"data": {**describe_data(source, images), "protocol": loaded.protocol}},
    )
    _finish(trained, loaded, json_file)


def _build(options: ModelOptions, data: Any) -> ImageModel:
    declared = family(options.family)
    head_name = options.head or None
    head_defaults = {}
    if head_name in heads():
        head_defaults = _init_defaults(heads()[str(head_name)])
    if options.class_conditional and data.classes is None:
        raise UserError(f"{data.name} has no labels to condition on.")
    return build(
        options.family,
        like=data,
        head=head_name,
        classes=data.classes if options.class_conditional else None,
        embedding=options.embedding,  # type: ignore[arg-type]
        head_options=pairs(options.head_option, head_defaults, f"the head {head_name}"),
        **pairs(options.option, declared.options, f"the family {options.family}"),
    )


def _init_defaults(kind: type) -> dict[str, Any]:
    import inspect

    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _finish(model: ImageModel, data: Any, json_file: Path | None) -> None:
    assert model.run_folder is not None
    folder = RunFolder(model.run_folder)
    best: ImageModel = load(folder.path)
    result = evaluate(best, data.valid, progress=True)
    grid(sample(best, n=64, condition="each"), data.levels, columns=best.classes).save(folder.path / "samples.png")
    figures.curve(folder.read_metrics()).savefig(folder.path / "curve.png")
    table(
        f"{best.family} on {data.name}",
        [
            ("valid bits/dim", f"{result.bits_per_dim:.4f} ± {result.stderr:.4f}"),
            ("valid nats per image", f"{result.nats:.2f}"),
            ("parameters", f"{best.parameter_count:,}"),
            ("run", folder.path),
        ],
    )
    console().print(f"Next: nextpixel evaluate {folder.path}   (the test split)")
    write_json(json_file, {"run": str(folder.path), "valid": result.to_dict()})


def _refuse_changes(ctx: typer.Context) -> None:
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in MAY_CHANGE_ON_RESUME:
            raise UserError(
                f"A resumed run keeps its options: leave --{str(parameter.name).replace('_', '-')} out, "
                "or start a new run."
            )
    if ctx.params.get("data"):
        raise UserError("A resumed run keeps its data: give nothing but --resume and the folder.")


def _same_but(recorded: dict[str, Any], now: TrainOptions, ctx: typer.Context) -> TrainOptions:
    changed = {
        name: getattr(now, name)
        for name in MAY_CHANGE_ON_RESUME & recorded.keys()
        if (source := ctx.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    }
    # A time limit was meant for one sitting.
    return TrainOptions(**{**recorded, "max_minutes": 0.0, **changed})
