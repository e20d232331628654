"""Flags made from options dataclasses, and a file that sets them."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import typer
import yaml

from nextpixel.errors import UserError, did_you_mean


@functools.cache
def field_help(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, inherited ones first."""
    found: dict[str, str] = {}
    for owner in reversed([base for base in kind.__mro__ if dataclasses.is_dataclass(base)]):
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        body = tree.body[0].body  # type: ignore[attr-defined]
        for statement, following in pairwise(body):
            documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if documented and isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                found[statement.target.id] = str(following.value.value)
    return found


def flags_of(**groups: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replace each named parameter (an options dataclass) of a command by one flag per field."""

    def expand(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(function, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(function).parameters.values():
            kind = groups.get(parameter.name)
            if kind is None:
                parameters.append(parameter.replace(annotation=hints[parameter.name]))
                continue
            types, texts = get_type_hints(kind), field_help(kind)
            for field in dataclasses.fields(kind):
                default = field.default if field.default is not dataclasses.MISSING else list[str]()
                option = typer.Option(default, help=texts[field.name], rich_help_panel=parameter.name.capitalize())
                parameters.append(
                    inspect.Parameter(
                        field.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=types[field.name]
                    )
                )

        @functools.wraps(function)
        def command(**values: Any) -> Any:
            built = {
                name: kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
                for name, kind in groups.items()
            }
            return function(**values, **built)

        # Typer looks at both; parameters without a default must come first.
        parameters.sort(key=lambda p: p.default is not inspect.Parameter.empty)
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        del command.__wrapped__
        return command

    return expand


def read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """--config FILE: defaults for this command's flags, as name: value; flags on the command line win."""
    if path is None:
        return None
    ctx.default_map = {**(ctx.default_map or {}), **defaults_in(path, ctx)}
    return path


def defaults_in(path: Path, ctx: typer.Context) -> dict[str, Any]:
    """What a YAML file says of the flags of a command. Raises UserError where it says something else."""
    values = {name: value for name, value in read_yaml(path).items() if name != "expected"}  # a recipe's figures
    known = [str(p.name) for p in ctx.command.params if p.name not in ("config", "preset", "resume")]
    for name in values:
        if str(name).replace("-", "_") not in known:
            raise UserError(f"{path}: there is no option {name!r} in this command." + did_you_mean(str(name), known))
    defaults = {str(name).replace("-", "_"): value for name, value in values.items() if value not in ("", "null", "~")}
    for name in ("option", "head_option", "small_option"):
        if isinstance(defaults.get(name), dict):
            defaults[name] = [f"{key}={value}" for key, value in defaults[name].items()]
        elif isinstance(defaults.get(name), str):
            defaults[name] = [defaults[name]]
    if isinstance(defaults.get("orders"), list):
        defaults["orders"] = ",".join(map(str, defaults["orders"]))
    return defaults


def read_yaml(path: Path) -> dict[str, Any]:
    """The lines of a YAML file, every value as it is written. Raises UserError if it is none."""
    try:
        # Every value as it is written: `binarise: no` is no truth value, and 1e-3 is a number to the flag's own type.
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"{path} cannot be read ({why}).") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = "" if where is None else f", line {where.line + 1}"
        raise UserError(f"{path} is not YAML{line}: {str(error).splitlines()[0]}.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold lines such as 'epochs: 10'.")
    return values


def pairs(texts: list[str], defaults: dict[str, Any], owner: str) -> dict[str, Any]:
    """["layers=8", ...] as values of the types of `defaults`."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise UserError(f"Write options as name=value, not {text!r}.")
        if name not in defaults:
            raise UserError(
                f"There is no option {name!r} in {owner}; it has: {', '.join(defaults) or 'none'}."
                + did_you_mean(name, defaults)
            )
        values[name] = _typed(value, type(defaults[name]), text)
    return values


def _typed(value: str, kind: type, text: str) -> Any:
    if kind is bool:
        lowered = value.lower()
        if lowered not in ("true", "false", "yes", "no", "1", "0", "on", "off"):
            raise UserError(f"{text!r}: the value must be true or false.")
        return lowered in ("true", "yes", "1", "on")
    try:
        return kind(value)
    except ValueError as error:
        wanted = {int: "a whole number", float: "a number"}.get(kind, f"of type {kind.__name__}")
        apart = " (give each option its own flag)" if "," in value else ""
        raise UserError(f"{text!r}: the value must be {wanted}{apart}.") from error
