"""Results that say in one line what they hold."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

LONG = 4  # entries; of longer lists only their number is said


class Brief:
    """For a dataclass with repr=False: the type and shape of tensors, the number of entries of long lists."""

    def __repr__(self) -> str:
        parts = [f"{field.name}={_brief(getattr(self, field.name))}" for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(parts)})"


def _brief(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {_brief(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"{len(value)} entries" if len(value) > LONG else "[" + ", ".join(map(_brief, value)) + "]"
    return repr(value)
