"""Settings for a budget of time: files such as `--config` takes, which come with the package.

They lie in ``presets/DATA/BUDGET.yaml``. The first two lines say what to expect and how many parameters there are;
``pictures`` is for folders and files of one's own.
"""

from __future__ import annotations

import dataclasses
from importlib.resources import files
from pathlib import Path
from typing import Any

import typer
import yaml

from nextpixel.cli.options import defaults_in
from nextpixel.errors import UserError, did_you_mean
from nextpixel.images import names

OWN = "pictures"  # what presets for a path are called
_META = "nextpixel.preset"  # under which the two arguments wait for each other


@dataclasses.dataclass(frozen=True)
class Preset:
    """One file. about: what to expect; parameters: for the data it is named after."""

    data: str
    budget: str
    about: str
    parameters: int
    family: str
    path: Path

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "path": str(self.path)}


def known_presets() -> list[Preset]:
    """All of them, by data and by budget, the cheapest first."""
    order = ("cpu-5-minutes", "cpu-2-hours", "gpu-30-minutes", "gpu-1-day")
    root = Path(str(files("nextpixel"))) / "presets"
    found = [_read(path) for path in root.glob("*/*.yaml")]
    return sorted(found, key=lambda one: (one.data == OWN, one.data, order.index(one.budget)))


def _read(path: Path) -> Preset:
    text = path.read_text(encoding="utf-8")
    about, parameters = (line.removeprefix("# ") for line in text.splitlines()[:2])
    count = int(parameters.split()[0].replace(",", ""))
    return Preset(path.parent.name, path.stem, about, count, str(yaml.safe_load(text)["family"]), path)


def preset_for(data: str, wanted: str) -> Preset:
    """The preset of a budget for the data, or that of other data, as in mnist/cpu-5-minutes.

    data: a name, or a path, for which there are general ones. Raises UserError if there is none.
    """
    known = known_presets()
    group, slash, budget = wanted.rpartition("/")
    group = group if slash else data if data in names() else OWN
    for one in known:
        if (one.data, one.budget) == (group, budget):
            return one
    groups, budgets = sorted({one.data for one in known}), list(dict.fromkeys(one.budget for one in known))
    if group not in groups:
        raise UserError(
            f"There are no presets for {group}, but for {', '.join(groups)}: take one of these, such as "
            f"--preset {groups[0]}/{budgets[0]}."
        )
    raise UserError(f"There is no preset {budget!r}, but {', '.join(budgets)}.{did_you_mean(budget, budgets)}")


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
