"""reproduce: a recipe from its data to its card, in one command that goes on where it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer

from nextpixel.cli.arguments import Json
from nextpixel.cli.make import ModelOptions, build_from, check_training_device, draw_pictures
from nextpixel.cli.output import console, table, with_error, writable, write_json
from nextpixel.cli.presets import Preset, recipe_for
from nextpixel.errors import UserError
from nextpixel.images import Dataset
from nextpixel.model import Model
from nextpixel.saving import load
from nextpixel.tasks.data import DataOptions, describe_data, load_data
from nextpixel.tasks.expected import UNKNOWN
from nextpixel.tasks.looked_once import scored_once
from nextpixel.tasks.nearest import compare
from nextpixel.tasks.recipe_card import CARDS, append, cost, last_card, make_card, sitting
from nextpixel.tasks.report import report
from nextpixel.tasks.run_folder import RunFolder, read_lines
from nextpixel.tasks.train import Interrupted, TrainOptions
from nextpixel.tasks.train import train as run_training

NEAREST = "nearest.png"

T = TypeVar("T", ModelOptions, TrainOptions, DataOptions)


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: nextpixel reproduce digits/cpu-5-minutes-made")(reproduce)


def reproduce(
    ctx: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="name (nextpixel config presets), or a .yaml file of your own", show_default=False)
    ],
    run: Annotated[Path | None, typer.Option(help="run folder; default: one under runs/, named after it")] = None,
    cards: Annotated[
        Path | None, typer.Option(callback=writable, help="add the card to this file of JSON lines as well")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps; default: as the recipe says")] = "",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as the recipe says")] = 0,
    max_minutes: Annotated[float, typer.Option(min=0, help="stop this sitting after that many minutes; 0: never")] = 0,
    data_dir: Annotated[str, typer.Option(help="folder that already holds the named sets")] = "",
    score_again: Annotated[bool, typer.Option("--score-again", help="score the test part once more")] = False,
    json_file: Json = None,
) -> None:
    """Train a recipe, score its test part once, and say whether the figure is the expected one; again, it goes on."""
    chosen = recipe_for(recipe)
    folder = RunFolder(run or Path("runs") / f"{chosen.data}-{chosen.name}".replace("/", "-"))
    _check_same(folder, chosen)
    card = last_card(folder)
    if card is None or score_again:
        options, training, images = _options(ctx, chosen)
        training = dataclasses.replace(training, device=device or training.device, threads=threads or training.threads)
        check_training_device(training.device)
        images = dataclasses.replace(images, data_dir=data_dir or images.data_dir)
        data = load_data(chosen.data, images)
        if card is None:
            _train(folder, chosen, max_minutes, options, training, images, data)
        if not folder.writes:  # the first of several processes does the rest
            return
        card = _finish(folder, training.device, data, score_again)
        append(folder.path / CARDS, card)
    if cards is not None and card not in read_lines(cards):
        append(cards, card)
    _show(card, folder)
    write_json(json_file, card)


def _check_same(folder: RunFolder, chosen: Preset) -> None:
    """UserError if the folder holds a run of something else."""
    if not folder.began():
        return
    before = folder.read_config().get("recipe")
    if not isinstance(before, dict) or (before.get("data"), before.get("settings")) != (chosen.data, chosen.settings):
        name = before.get("name") if isinstance(before, dict) else None
        what = "a run that follows no recipe" if name is None else f"a run of {name} with other settings or data"
        raise UserError(f"{folder.path} holds {what}: name another folder with --run.")


def _options(ctx: typer.Context, chosen: Preset) -> tuple[ModelOptions, TrainOptions, DataOptions]:
    """What `train DATA --config RECIPE` makes of the file."""
    command: Any = ctx.find_root().command
    values = command.commands["train"].make_context("train", [chosen.data, "--config", str(chosen.path)]).params

    def made(kind: type[T]) -> T:
        return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)})

    return made(ModelOptions), made(TrainOptions), made(DataOptions)


def _train(
    folder: RunFolder,
    chosen: Preset,
    max_minutes: float,
    options: ModelOptions,
    training: TrainOptions,
    images: DataOptions,
    data: Dataset,
) -> None:
    """To the end of the training, which may be that of the time that the recipe gives it, all sittings together."""
    given = training.max_minutes
    left = given - cost(folder)["seconds"] / 60
    if given and left <= 0:
        return
    limits = [minutes for minutes in (left if given else 0, max_minutes) if minutes]
    training = dataclasses.replace(training, max_minutes=min(limits, default=0.0))
    torch.manual_seed(training.seed)
    model = build_from(options, data)
    resume = folder.began()
    if folder.writes:
        took = "" if chosen.took == UNKNOWN else f"; took {chosen.took} when it was measured"
        typer.echo(
            f"{'Going on with' if resume else 'Training'} {chosen.title} ({model.family}, "
            f"{model.parameter_count:,} parameters, {len(data.train):,} images{took}). Ctrl-C saves; the same command "
            f"goes on. Run folder: {folder.path}",
            err=True,
        )
    describe = {
        "data": {**describe_data(chosen.data, images), "protocol": data.protocol},
        "recipe": {"name": chosen.title, "data": chosen.data, "settings": chosen.settings},
        "expected": None if chosen.expected is None else chosen.expected.to_dict(),
    }
    try:
        with sitting(folder):
            run_training(model, data, training, run=folder.path, resume=resume, describe=describe)
    except Interrupted as stopped:
        if not (stopped.planned and given and cost(folder)["seconds"] >= 60 * given):
            raise


def _finish(folder: RunFolder, device: str, data: Dataset, again: bool) -> dict[str, Any]:
    """Everything after the training; returns the card."""
    folder.hold()  # two processes must not score at once
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    best: Model = load(folder.path).to(device)
    test = scored_once(folder, best, data.test, again=again, progress=True)
    near = compare(draw_pictures(folder, best, data), data, folder.path / NEAREST, progress=True)
    report(folder.path, data=data)
    return make_card(folder, best, test, near)


def _show(card: dict[str, Any], folder: RunFolder) -> None:
    test, spent, chosen, looks = card["test"], card["cost"], card["chosen"], card["test_scored"]
    near = card["nearest"]
    minutes = f"{spent['cpu_seconds'] / 60:.1f} CPU minutes, {spent['seconds'] / 60:.1f} minutes by the clock"
    sittings = f"{spent['sittings']} sitting{'s' if spent['sittings'] != 1 else ''}"
    if spent["ended"] < spent["sittings"]:
        sittings += f", not counting what {spent['sittings'] - spent['ended']} that were killed took"
    valid = chosen["valid_bits_per_dim"]
    rows = [
        ("test bits/dim", with_error(test["bits_per_dim"], test["stderr"], 4)),
        ("test nats per image", with_error(test["nats"], test["nats_stderr"], 2)),
        ("exact or bound", "exact" if test["exact"] else "bound"),
        ("chosen by validation", f"epoch {chosen['epochs']}, {valid:.4f} bits/dim" if valid else "nothing yet"),
        ("test part scored", f"{looks[0]}" + (f", {len(looks) - 1} more since" if looks[1:] else ", once")),
        ("parameters", f"{card['parameters']:,}"),
        ("training", f"{minutes}, {sittings}"),
        (
            "nearest training image",
            f"samples are {near['samples']:.2f} levels from it in the median, test images {near['test_images']:.2f}",
        ),
        ("run", f"{folder.path}: report.html, samples.png, {NEAREST}, curve.png, {CARDS}"),
    ]
    table(card["recipe"], rows)
    for sentence in (card["agreement"], card["curve_agreement"]):
        if sentence:
            console().print(sentence, highlight=False, soft_wrap=True)
