"""What every network is, and the list of the families.

A network turns an embedded image into features: for every symbol, numbers from which a head makes its distribution.
It is written once, from the causal primitives, as row work and pixel work. A new family is one file: a frozen `Config`,
a `Network`, and `@register`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from nextpixel.causal import Layout, PixelConv, Run, Stream, WaveMemory, Whole
from nextpixel.errors import UserError, did_you_mean

Condition = Literal["class", "vector", "map"]


@dataclasses.dataclass(frozen=True)
class Family:
    """What a family can do. Tests, command-line choices and docs are made from these declarations."""

    name: str
    network: type[Network]
    summary: str
    channel_masks: bool  # can it order the channels of a pixel itself?
    conditions: tuple[Condition, ...]
    schedules: tuple[str, ...]
    freezable: bool
    full_context: bool  # does a symbol see all earlier ones, once the network is large enough?
    any_size: bool = True  # if not, the network is made with size=(H, W) and runs there only
    orders: Literal["flips", "any"] = "flips"  # of the pixels, in which the network can predict

    @property
    def options(self) -> dict[str, Any]:
        """The family's options with their defaults."""
        return {field.name: field.default for field in dataclasses.fields(self.network.Config)}


_families: dict[str, Family] = {}
N = TypeVar("N", bound="type[Network]")


def register(
    name: str,
    *,
    summary: str,
    channel_masks: bool,
    full_context: bool,
    conditions: tuple[Condition, ...] = (),
    schedules: tuple[str, ...] = ("raster",),
    freezable: bool = False,
    any_size: bool = True,
    orders: Literal["flips", "any"] = "flips",
) -> Callable[[N], N]:
    """Make a family known by name to `build`, the command line, the tests and the docs.

    schedules: "raster", and "wavefront" for a network of layers that do not need finished rows (`Network.slope`).
    any_size=False: the network is constructed with one more keyword, size=(H, W), the only size at which it runs (known
    first rows of such a picture included). orders="any": its weights belong to pixels, and it goes by `run.order`.
    """

    def add(network: N) -> N:
        if name in _families:
            raise ValueError(f"the family {name!r} is registered already")
        _families[name] = network.family = Family(
            name, network, summary, channel_masks, conditions, schedules, freezable, full_context, any_size, orders
        )
        return network

    return add


def families() -> dict[str, Family]:
    """All registered families by name, those of other installed packages included.

    A package adds families by an entry point of the group "nextpixel.families" that names a module which registers
    them when imported.
    """
    _load_plugins()
    return dict(_families)


@functools.cache
def _load_plugins() -> None:
    for entry in importlib.metadata.entry_points(group="nextpixel.families"):
        entry.load()


def family(name: str) -> Family:
    """The family of that name; UserError names the nearest one."""
    if name not in families():
        raise UserError(
            f"There is no model family {name!r}; the families are {', '.join(sorted(_families))}."
            + did_you_mean(str(name), list(_families))
        )
    return _families[name]


def unregister(name: str) -> None:
    """Forget a family (for tests that add one)."""
    del _families[name]


class Network(nn.Module):
    """Features from context. `inputs` and `outputs` are sorted by channel group; one group means that the head orders
    the channels. `condition` is the width of the condition's features, None without one."""

    family: ClassVar[Family]
    added: ClassVar[dict[str, Any]] = {}
    """options that were added to the family later, with the values that leave it as it was"""

    @dataclasses.dataclass(frozen=True)
    class Config:
        pass

    def __init__(self, config: Any, inputs: Layout, outputs: Layout, condition: int | None = None):
        super().__init__()
        self.config, self.inputs, self.outputs, self.condition = config, inputs, outputs, condition

    def rows(self, x: Tensor | None, condition: Tensor | None, run: Run) -> list[Tensor]:
        """Row work: what depends on finished rows only. Whole [N, H, W, ·], Cursor [N, 1, W, ·], once a row.

        `condition` is [N, 1 or H, 1 or W, E]. In a Cursor x is None: the first layers read the input from memory.
        """
        return []

    def pixels(self, x: Tensor | None, contexts: list[Tensor], run: Run) -> Tensor:
        """Pixel work: [N, H, W, outputs] in Whole, [N, outputs of the current group] in a Cursor."""
        raise NotImplementedError

    def begin(self, gain: Tensor, bias: Tensor) -> None:
        """Let the outputs begin as gain [outputs, C] times a prediction of each channel's value on [-1, 1], plus bias
        [outputs], if the network has one to give (see `Head.of_prediction`). The inputs are one group, scaled."""

    def forward(self, x: Tensor, condition: Tensor | None = None, run: Whole | None = None) -> Tensor:
        """x: embedded image [N, H, W, inputs] → features [N, H, W, outputs], all positions in parallel."""
        run = run or Whole()
        return self.pixels(x, self.rows(x, condition, run), run)

    def receptive_field(self, height: int, width: int, row: int, column: int) -> Tensor:
        """The pixels that the features at (row, column) can depend on, by construction: bool [height, width]."""
        raise NotImplementedError

    @property
    def slope(self) -> int | None:
        """By how many columns a row must be ahead of the one below, so that all pixels of a diagonal can be made at
        once; None for a family that does not declare the wavefront schedule. Follows from what the layers see."""
        if "wavefront" not in self.family.schedules:
            return None
        slopes = [getattr(module, "slope", 1) for module in self.modules() if module is not self]
        if None in slopes:
            raise ValueError(f"the family {self.family.name} declares a wavefront, but a layer needs finished rows")
        return max(slopes)

    def input_stream(self, memory: WaveMemory) -> Stream:
        """What a wavefront remembers of the network's input: as many diagonals as the first layers look back."""
        first = [module for module in self.modules() if isinstance(module, PixelConv) and module.mask == "A"]
        times, above = max(layer.times(memory.slope) for layer in first), max(layer.rows for layer in first)
        return memory.stream("input", times, self.inputs.width, above)

    def input_reach(self) -> tuple[int, int, int]:
        """Rows above, columns left and right of the input that the first layers read."""
        reaches = [m.input_reach for m in self.modules() if getattr(m, "input_reach", None) and m is not self]
        above, left, right = zip(*reaches, strict=True)
        return max(above), max(left), max(right)


def mask_a_row(seen: Tensor, half: int, groups: int, pixel: tuple[int, int]) -> Tensor:
    """What a mask A layer sees of its own row from the pixels `seen`: bool [H, W].

    With channel groups it also sees earlier channels at these pixels themselves; those of the pixel that is asked
    about are not context but channel order, and are left out.
    """
    reached = spread(seen, range(1), range(-half, 1 if groups > 1 else 0))
    reached[pixel] = False
    return reached


def check_options(config: Any, *, counts: str = "", kernels: str = "", shares: str = "") -> None:
    """UserError for option values that make no network. Names are separated by spaces; `counts` must be positive,
    `kernels` positive and odd, `shares` from 0 to below 1. The types of all fields are checked too."""
    for field in dataclasses.fields(config):
        value, kind = getattr(config, field.name), type(field.default)
        fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits:
            raise UserError(f"The option {field.name} must be of type {kind.__name__}, not {value!r}.")
    for name in counts.split():
        if getattr(config, name) < 1:
            raise UserError(f"The option {name} must be at least 1, not {getattr(config, name)}.")
    if getattr(config, "out_features", 0) < 0:
        raise UserError(f"The option out_features must not be negative, not {config.out_features}.")
    for name in kernels.split():
        if getattr(config, name) < 1 or getattr(config, name) % 2 == 0:
            raise UserError(f"The option {name} must be odd and positive, not {getattr(config, name)}.")
    for name in shares.split():
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"The option {name} must be at least 0 and below 1, not {getattr(config, name)}.")


def check_first_kernel(size: int) -> None:
    """A first layer without the current pixel sees nothing through a 1×1."""
    if size < 3:
        raise UserError(f"The option first_kernel must be at least 3, not {size}.")


def spread(seen: Tensor, rows: range, columns: range) -> Tensor:
    """All pixels that a kernel reaches from the pixels `seen`: offsets rows × columns, bool [H, W]."""
    reached = torch.zeros_like(seen)
    height, width = seen.shape
    for i, j in torch.nonzero(seen).tolist():
        top, bottom = max(i + rows.start, 0), max(min(i + rows.stop, height), 0)
        first, last = max(j + columns.start, 0), max(min(j + columns.stop, width), 0)
        reached[top:bottom, first:last] = True
    return reached
