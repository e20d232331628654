"""Arguments that several commands share."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from nextpixel.cli.output import json_file, writable
from nextpixel.errors import UserError
from nextpixel.images import Dataset, Split
from nextpixel.images.arrays import read_told
from nextpixel.model import Model, condition_of
from nextpixel.saving import load
from nextpixel.tasks.data import DataOptions, load_data
from nextpixel.tasks.evaluate import check_split
from nextpixel.tasks.export import check_kind
from nextpixel.tasks.processes import torchrun
from nextpixel.tasks.run_folder import RunFolder

ModelPath = Annotated[
    str,
    typer.Argument(
        help="run folder, saved model's folder, shipped name (nextpixel models), or hub id", show_default=False
    ),
]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json", callback=json_file, help="also write the result to this file; -: to standard output, and nothing else"
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps")]
Class = Annotated[str, typer.Option("--class", help="class of all pictures, or 'each' for all classes in turn")]

Data = Annotated[
    str | None, typer.Argument(help="name or path; default: what the model was trained on", show_default=False)
]
WhichSplit = Annotated[str, typer.Option(help="train, valid or test")]


def _pictures_file(out: Path) -> Path:
    check_kind(out)
    writable(out if out.suffix else out / "0.png")
    return out


def ending_in(suffix: str) -> Callable[[Path | None], Path | None]:
    """For typer: a file that can be written, whose name has this ending."""

    def checked(path: Path | None) -> Path | None:
        if path is not None and path.suffix.lower() != suffix:
            raise UserError(f"The name {path.name} must end in {suffix}.")
        return writable(path)

    return checked


PicturesFile = Annotated[
    Path, typer.Option(callback=_pictures_file, help="a .png page, a .npy or .npz array, or a folder of the pictures")
]
Gif = Annotated[
    Path | None,
    typer.Option(
        "--gif", callback=ending_in(".gif"), help="also an animated GIF of the first pictures, pixel by pixel"
    ),
]


def open_model(where: str, device: str = "cpu") -> Model:
    check_device(device)
    if not Path(where).exists() and where.count("/") == 1:
        typer.echo(f"There is no folder {where} here: looking for a model of that id on the hub.", err=True)
    model: Model = load(where)
    return model.to(device)


def check_device(device: str) -> None:
    """UserError unless tensors can be put on the device."""
    if device.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise UserError(f"The device must be cpu, cuda or mps, not {device!r}.")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"The device {device!r} cannot be used here ({str(error).splitlines()[0]}): use --device cpu."
        ) from error


def open_data(where: str, model: Model, source: str | None, options: DataOptions) -> Dataset:
    """The data that was named, or what the model was trained on."""
    if source is not None:
        return load_data(source, options)
    recorded = _recorded(where, model)
    if recorded is None:
        raise UserError(f"Say which data: a name or a path after the model, such as {shlex.quote(where)} FOLDER.")
    check_no_options(options)
    return load_data(*recorded_data(recorded, options.data_dir))


def check_no_options(options: DataOptions) -> None:
    """UserError where it was said how images are to be read, but not which: those of the run stay as they were."""
    if dataclasses.replace(options, data_dir="", lazy="auto") != DataOptions():
        raise UserError(
            "--levels, --binarise, --channels, --size and --fit are for data that are named: write DATA after the "
            "model, or leave them out."
        )


def recorded_data(recorded: dict[str, Any], data_dir: str) -> tuple[str, DataOptions]:
    """What describe_data wrote, read again."""
    if not isinstance(recorded, dict) or "source" not in recorded:
        raise UserError("This run was made in Python from data in memory: its data cannot be found by itself.")
    names = [field.name for field in dataclasses.fields(DataOptions) if field.name in recorded]
    for name in names:
        if not isinstance(recorded[name], type(getattr(DataOptions(), name))):
            raise UserError(f"The record of the run's data is damaged: {name} is {recorded[name]!r}.")
    return str(recorded["source"]), DataOptions(**{**{name: recorded[name] for name in names}, "data_dir": data_dir})


def _recorded(where: str, model: Model) -> dict[str, Any] | None:
    folder = RunFolder(where)
    recorded = folder.read_config().get("data") if folder.config.is_file() else model.card.get("data_options")
    return recorded if isinstance(recorded, dict) and "source" in recorded else None


def check_work(work: str) -> None:
    """UserError if torchrun started several processes that have no folder to share the work in."""
    place = torchrun()
    if place is not None and place.world > 1 and not work:
        raise UserError("Several processes share the work in a folder: name one with --work.")


def recorded_test(where: str, model: Model) -> Split | None:
    """The test split of the data that a model was trained on, where they are on this machine already; else None."""
    recorded = _recorded(where, model)
    try:
        if recorded is None:
            return None
        source, options = recorded_data(recorded, "")
        test = load_data(source, options, download=False).test
        check_split(model, test)
        return test
    except UserError:
        return None


def split_of(data: Dataset, name: str) -> Split:
    if name not in ("train", "valid", "test"):
        raise UserError(f"The split must be train, valid or test, not {name!r}.")
    chosen: Split = getattr(data, name)
    return chosen


def class_condition(model: Model, text: str, n: int) -> Any:
    """--class as a condition of n pictures."""
    if not text:
        return None
    if model.classes is None:
        raise UserError("This model is not class-conditional: leave --class out.")
    if text == "each":
        return torch.arange(n) % model.classes
    if not (text.isascii() and text.isdigit()) or int(text) >= model.classes:
        raise UserError(f"--class must be 0..{model.classes - 1} or 'each', not {text!r}.")
    return int(text)


def told_condition(model: Model, path: Path, text: str, most: int | None) -> tuple[int, Any]:
    """How many pictures the file of --condition is for (at most `most`), and their condition; --class may say the class
    where the file does not."""
    if model.condition is None:
        raise UserError("This model is not conditional: leave --condition out.")
    read = read_told(path, "vector" if model.condition.map_shape is None else "map")
    told = {"class" if kind == "labels" else kind: torch.from_numpy(values)[:most] for kind, values in read.items()}
    count = min(map(len, told.values()))
    if most is not None and count < most:
        raise UserError(f"{path} is for {count} pictures: ask for no more than as many, or leave -n out.")
    shape = model.condition.map_shape
    if shape is not None and "map" in told and tuple(told["map"].shape[1:]) != tuple(shape):
        sizes = " and ".join("x".join(map(str, each)) for each in (shape, told["map"].shape[1:]))
        raise UserError(f"The model's maps and those of {path} are of different sizes, {sizes} (D x h x w).")
    if text:
        told["class"] = torch.as_tensor(class_condition(model, text, count)).expand(count)
    return count, condition_of(model, told)
