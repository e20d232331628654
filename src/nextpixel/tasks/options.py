"""Options of tasks given as keywords: known names, and numbers where numbers belong."""

from __future__ import annotations

import dataclasses
from numbers import Integral, Real
from typing import Any

from nextpixel.errors import UserError, did_you_mean


def with_overrides(options: Any, overrides: dict[str, Any]) -> Any:
    """An options dataclass with some fields replaced; UserError for a name it has not, or a value that is no number
    where one belongs."""
    known = [field.name for field in dataclasses.fields(options)]
    for name in overrides:
        if name not in known:
            raise UserError(f"There is no option {name!r}; there are: {', '.join(known)}." + did_you_mean(name, known))
    check_numbers(options, overrides)
    return dataclasses.replace(options, **overrides)


def check_numbers(options: Any, values: dict[str, Any]) -> None:
    """UserError unless the values of fields that are numbers by default are numbers, whole ones where those are."""
    for name, value in values.items():
        default = getattr(options, name)
        if isinstance(default, bool) or not isinstance(default, int | float):
            continue
        whole = isinstance(default, int)
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
            raise UserError(f"{name} must be a {'whole ' if whole else ''}number, not {value!r}.")
