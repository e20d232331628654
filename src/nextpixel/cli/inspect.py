"""Commands that look into things: check, info, families, models, config."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml

from nextpixel.cli import make
from nextpixel.cli.archive import show_archive
from nextpixel.cli.arguments import Json, open_model
from nextpixel.cli.options import field_help
from nextpixel.cli.output import console, table, writable, write_json
from nextpixel.cli.presets import COLUMNS, known_presets, markdown, rows_of
from nextpixel.errors import UserError, did_you_mean
from nextpixel.heads import heads
from nextpixel.image_model import build
from nextpixel.networks import families as known_families
from nextpixel.saving import load
from nextpixel.shipped import shipped
from nextpixel.tasks.data import DataOptions
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.train import TrainOptions

config_app = typer.Typer(help="Show a run's options, or start a file of them.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: nextpixel check digits")(check)
    app.command(epilog="Example: nextpixel info digits")(info)
    app.command(epilog="Example: nextpixel families --verbose")(families)
    app.command(epilog="Example: nextpixel models")(models)


def check(
    model: Annotated[
        str, typer.Argument(help="run folder, saved model, shipped name, hub id, or the name of a family")
    ],
    channels: Annotated[int, typer.Option(min=1, max=16, help="channels, when a family is checked")] = 1,
    levels: Annotated[int, typer.Option(min=2, max=1024, help="levels, when a family is checked")] = 2,
    orders: Annotated[str, typer.Option(help="orders of prediction, as for train, when a family is checked")] = "",
    json_file: Json = None,
) -> None:
    """Prove that a model is causal, sees what it should, keeps the channel order, is normalised, steps exactly."""
    from nextpixel.checks import check as run_check

    if model in known_families():
        torch.manual_seed(0)
        small = {"layers": 2, "blocks": 2, "features": 8, "hidden": 24}
        options: dict[str, Any] = {k: v for k, v in small.items() if k in known_families()[model].options}
        opened: Any = build(model, shape=(channels, 9, 7), levels=levels, orders=orders or None, **options)
    elif "/" not in model and not Path(model).exists() and model not in shipped():
        names = [*known_families(), *shipped()]
        raise UserError(
            f"{model!r} is no run or model folder, no shipped model ({', '.join(shipped())}), and no family; the "
            f"families are {', '.join(known_families())}.{did_you_mean(model, names)}"
        )
    else:
        opened = open_model(model)
    report = run_check(opened)
    rows = [("pass" if f.passed else "FAIL", f.name, f.detail) for f in report.findings]
    table(
        f"{opened.family}: {'all checks passed' if report.passed else 'faulty'}", rows, ("", "check", "what was seen")
    )
    write_json(json_file, report.to_dict())
    if not report.passed:
        faults = ", ".join(sorted(report.faults))
        raise UserError(f"This model is faulty ({faults}): its likelihoods and samples cannot be trusted.")


def info(
    model: Annotated[str, typer.Argument(help="run folder, saved model's folder, shipped name, hub id, or an archive")],
    json_file: Json = None,
) -> None:
    """What a saved model is: family, sizes, what it was trained on, its figures; or what an archive holds."""
    if Path(model).is_file():
        show_archive(Path(model), json_file)
        return
    opened = open_model(model)
    facts = {**opened.facts(), **_flat(opened.card if isinstance(opened.card, dict) else {})}
    table(str(model), list(facts.items()))
    write_json(json_file, {key: str(value) for key, value in facts.items()})


def models(json_file: Json = None) -> None:
    """The trained models that come with the package; every command takes their names."""
    rows, found = [], {}
    for name in shipped():
        opened = load(name)
        figures = opened.card.get("figures", {})
        found[name] = {**opened.facts(), "data": opened.card.get("data"), **figures}
        figure = f"{figures['test_bits_per_dim']:.4f} bits/dim, {figures['test_nats']:.2f} nats"
        rows.append((name, opened.family, str(opened.facts()["images"]), str(opened.facts()["parameters"]), figure))
    table("Models in the package", rows, ("name", "family", "images", "parameters", "test"))
    write_json(json_file, {name: {key: str(value) for key, value in each.items()} for name, each in found.items()})


def families(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="with the options of every family")] = False,
    json_file: Json = None,
) -> None:
    """The model families and heads, and what each can do."""
    declared = known_families()
    rows = [
        (
            f.name,
            f.summary,
            "network" if f.channel_masks else "head",
            ", ".join(f.conditions) or "none",
            "full" if f.full_context else "partial",
        )
        for f in declared.values()
    ]
    table("Families", rows, ("family", "what", "channels ordered by", "conditions", "context"))
    table("Heads", [(name, head.summary) for name, head in heads().items()], ("head", "what"))
    if verbose:
        for entry in declared.values():
            texts = field_help(entry.network.Config)
            options = [(name, value, texts.get(name, "")) for name, value in entry.options.items()]
            table(f"Options of {entry.name} (--option name=value)", options, ("option", "default", "what"))
    write_json(
        json_file,
        {
            f.name: {
                "summary": f.summary,
                "conditions": f.conditions,
                "options": f.options,
                "freezable": f.freezable,
                "schedules": f.schedules,
                "orders": f.orders,
                "channel_masks": f.channel_masks,
                "full_context": f.full_context,
                "any_size": f.any_size,
            }
            for f in declared.values()
        },
    )


@config_app.command(epilog="Example: nextpixel config show nextpixel-demo/run, after nextpixel demo")
def show(run: Annotated[Path, typer.Argument(help="run folder", show_default=False)]) -> None:
    """Print the options with which a run was made."""
    console().print(
        yaml.safe_dump(RunFolder(run).read_config(), sort_keys=False, width=1000), markup=False, highlight=False
    )


@config_app.command(epilog="Example: nextpixel config init train.yaml, then nextpixel train digits --config train.yaml")
def init(path: Annotated[Path, typer.Argument(help="file to write", show_default=False)]) -> None:
    """Write a file with every option of `train` at its default, ready to be edited."""
    if path.exists():
        raise UserError(f"{path} exists already: name another file.")
    lines = ["# Options of `nextpixel train DATA --config FILE`; flags on the command line win."]
    for kind in (make.ModelOptions, TrainOptions, DataOptions):
        defaults, texts = kind(), field_help(kind)
        lines.append("")
        for name, text in texts.items():
            value = yaml.safe_dump({name: getattr(defaults, name)}, default_flow_style=True).strip()[1:-1]
            lines.append(f"{value}  # {text}")
    writable(path)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    console().print(
        f"Edit {path}, then: nextpixel train DATA --config {shlex.quote(str(path))}", markup=False, soft_wrap=True
    )


@config_app.command(epilog="Example: nextpixel config presets, then nextpixel reproduce digits/cpu-5-minutes-made")
def presets(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="the table of docs/recipes.md")] = False,
    json_file: Json = None,
) -> None:
    """List the recipes that come with the package: settings for data and a budget of time, and what they gave."""
    known = known_presets()
    if as_markdown:
        typer.echo(markdown(known), nl=False)
    else:
        table("Recipes (nextpixel reproduce RECIPE, or train DATA --preset RECIPE)", rows_of(known), COLUMNS)
    write_json(json_file, {"presets": [one.to_dict() for one in known]})


def _flat(card: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in card.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key} ".replace("_", " "))
        else:
            flat[f"{prefix}{key}".replace("_", " ")] = value
    return flat
