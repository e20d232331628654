"""Recipes: settings for a data set and a budget of time, which come with the package, and what they gave.

They lie in ``presets/DATA/BUDGET.yaml``, or ``BUDGET-FAMILY.yaml`` for other families: files such as `--config` takes.
The first two lines say what the recipe is and how many parameters there are; ``pictures`` is for folders and files of
one's own. A part `expected` says what was measured (`nextpixel.tasks.expected`); without it nobody has.
"""

from __future__ import annotations

import dataclasses
from importlib.resources import files
from pathlib import Path
from typing import Any

import typer
import yaml

from nextpixel.cli.options import defaults_in, read_yaml
from nextpixel.errors import UserError, did_you_mean
from nextpixel.images import names
from nextpixel.tasks.expected import UNKNOWN, Expected, expected_from

OWN = "pictures"  # what presets for a path are called
BUDGETS = ("cpu-5-minutes", "cpu-30-minutes", "cpu-2-hours", "gpu-30-minutes", "gpu-1-day")
COLUMNS = ("recipe", "family", "parameters", "test bits/dim", "took", "what it is")
_META = "nextpixel.preset"  # under which the two arguments wait for each other


@dataclasses.dataclass(frozen=True)
class Preset:
    """One file. title: what `reproduce` takes, and `--preset`; name: the budget, or budget and family; about: what it
    is; parameters: for the data it is named after, 0 where a file does not say; settings: the options of `train` that
    it gives, as they are written."""

    title: str
    data: str
    name: str
    about: str
    parameters: int
    settings: dict[str, Any]
    expected: Expected | None
    path: Path

    @property
    def budget(self) -> str:
        return next((budget for budget in BUDGETS if f"{self.name}-".startswith(f"{budget}-")), "")

    @property
    def family(self) -> str:
        return str(self.settings.get("family", "gated_pixelcnn"))

    @property
    def figure(self) -> str:
        """The measured test figure, bits/dim with its standard error."""
        test = {} if self.expected is None else self.expected.test
        return f"{test['bits_per_dim']:.4f} ± {test['stderr']:.4f}" if test else UNKNOWN

    @property
    def took(self) -> str:
        """The measured time of the training."""
        return UNKNOWN if self.expected is None else self.expected.cost

    def to_dict(self) -> dict[str, Any]:
        found = {**vars(self), "budget": self.budget, "family": self.family, "path": str(self.path)}
        return {**found, "expected": None if self.expected is None else self.expected.to_dict()}


def known_presets() -> list[Preset]:
    """All of them, by data and by budget, the cheapest first."""
    found = [_read(path) for path in _paths().values()]
    return sorted(found, key=lambda one: (one.data == OWN, one.data, BUDGETS.index(one.budget), one.name))


def _paths() -> dict[str, Path]:
    """The files by title; reading all of them takes a while."""
    root = Path(str(files("nextpixel"))) / "presets"
    return {f"{path.parent.name}/{path.stem}": path for path in sorted(root.glob("*/*.yaml"))}


def _read(path: Path) -> Preset:
    about, parameters = (line.removeprefix("# ") for line in path.read_text(encoding="utf-8").splitlines()[:2])
    count = int(parameters.split()[0].replace(",", ""))
    title = f"{path.parent.name}/{path.stem}"
    return Preset(title, path.parent.name, path.stem, about, count, *_content(path), path)


def _content(path: Path) -> tuple[dict[str, Any], Expected | None]:
    """Options as they are written, and what is expected."""
    values = read_yaml(path)
    if "expected" not in values:
        return values, None
    del values["expected"]
    return values, expected_from(yaml.safe_load(path.read_text(encoding="utf-8"))["expected"], str(path))


def preset_for(data: str, wanted: str) -> Preset:
    """The preset of a budget for the data, or that of other data, as in mnist/cpu-5-minutes.

    data: a name, or a path, for which there are general ones. Raises UserError if there is none.
    """
    known = _paths()
    group, slash, name = wanted.rpartition("/")
    group = group if slash else data if data in names() else OWN
    if f"{group}/{name}" in known:
        return _read(known[f"{group}/{name}"])
    groups = sorted({path.parent.name for path in known.values()})
    if group not in groups:
        raise UserError(
            f"There are no presets for {group}, but for {', '.join(groups)}: take one of these, such as "
            f"--preset {next(iter(known))}."
        )
    there = [one.name for one in known_presets() if one.data == group]
    raise UserError(f"There is no preset {name!r} for {group}, but {', '.join(there)}.{did_you_mean(name, there)}")


def recipe_for(wanted: str) -> Preset:
    """A recipe that `reproduce` can train: DATA/NAME of one that comes with the package, or the path of a file like
    them, which names its data in a line `data:`. Raises UserError if there is none."""
    path = Path(wanted)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        settings, expected = _content(path)
        data = settings.pop("data", "")
        if not isinstance(data, str) or not data:
            raise UserError(f"{path} does not say its data: add a line such as 'data: digits'.")
        return Preset(wanted, data, path.stem, "", 0, settings, expected, path)
    known = {title: found for title, found in _paths().items() if found.parent.name != OWN}
    if wanted not in known:
        there = [title for title in known if wanted and title.startswith(f"{wanted.rstrip('/')}/")]
        more = f" Of {wanted} there are {', '.join(there)}." if there else did_you_mean(wanted, known)
        if wanted.partition("/")[0] == OWN:
            more = " Those for pictures of your own are for nextpixel train FOLDER --preset."
        raise UserError(
            f"There is no recipe {wanted!r}: nextpixel config presets lists them; a file of your own ends in .yaml."
            f"{more}"
        )
    return _read(known[wanted])


def rows_of(presets: list[Preset]) -> list[tuple[str, ...]]:
    """Of each what COLUMNS say."""
    return [(one.title, one.family, f"{one.parameters:,}", one.figure, one.took, one.about) for one in presets]


def markdown(presets: list[Preset]) -> str:
    """The same as a table of docs/recipes.md."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *((f"`{title}`", *rest) for title, *rest in rows_of(presets))]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def preset_of_data(ctx: typer.Context, data: str | None) -> str | None:
    """Callback of the argument DATA."""
    return _one_of_two(ctx, "data", data)


def preset_of_budget(ctx: typer.Context, preset: str | None) -> str | None:
    """Callback of --preset: its settings become defaults; flags win, and so does what --config says."""
    return _one_of_two(ctx, "preset", preset)


def _one_of_two(ctx: typer.Context, which: str, value: str | None) -> str | None:
    """The data and the preset come in either order; with the second of them the file is known."""
    given = ctx.meta.setdefault(_META, {})
    if value is not None:
        given[which] = value
        if len(given) == 2:
            found = preset_for(given["data"], given["preset"])
            ctx.default_map = {**defaults_in(found.path, ctx), **(ctx.default_map or {})}
    return value
