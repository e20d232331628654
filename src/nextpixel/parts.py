"""What a model is made of, as a user or a config.json says it: checked, and refused with a reason."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

from nextpixel.embedding import EmbeddingKind
from nextpixel.errors import UserError, did_you_mean
from nextpixel.heads import heads
from nextpixel.images.levels import check_levels
from nextpixel.networks import Family
from nextpixel.orders import EIGHT, order_names

MANY_LEVELS = 1024  # beyond, all logits of a batch of code grids take more memory than the network


def shape_and_levels(
    like: Any, shape: tuple[int, int, int] | None, levels: int | None
) -> tuple[tuple[int, int, int], int]:
    """Of the images that a model is for: as given, else those of `like`; UserError where neither says it."""
    if like is not None:
        if not (hasattr(like, "shape") and hasattr(like, "levels")):
            kind = type(like).__name__
            raise UserError(f"like must be a data set or a part of one, not a {kind}: npx.dataset loads one.")
        shape, levels = shape or tuple(like.shape), levels or like.levels
    if shape is None or levels is None:
        raise UserError("Say what the images look like: like=DATA, or shape=(C, H, W) and levels=K.")
    return shape, levels


def default_head(levels: int) -> str:
    """The head of models that no other is named for."""
    if levels > MANY_LEVELS:
        return "autoregressive_categorical"
    return "bernoulli" if levels == 2 else "categorical"


def config_of(kind: type, options: dict[str, Any], owner: str) -> Any:
    known = [field.name for field in dataclasses.fields(kind)]
    for name in options:
        if name not in known:
            raise UserError(
                f"There is no option {name!r} in {owner}; it has: {', '.join(known)}." + did_you_mean(name, known)
            )
    return kind(**options)


def recorded(options: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    """The options but for added ones that do nothing: a model without them is what it was, its identity included."""
    return {name: value for name, value in options.items() if name not in added or value != added[name]}


def orders_of(names: object, declared: Family, size: tuple[int, int]) -> list[str]:
    """The orders that a model is to have; UserError if the family cannot have them."""
    if names is not None and not isinstance(names, list):
        raise UserError(f"The orders of a model must be a list of names, not {names!r}.")
    checked = order_names(names, declared.orders, declared.name)
    if declared.orders == "flips" and len(checked) > 1 and "class" not in declared.conditions:
        raise UserError(
            f"The family {declared.name} takes no condition, so it cannot be told in which of several orders it "
            "predicts: give it one order."
        )
    turned = [name for name in checked if declared.orders == "flips" and EIGHT[name].grid(*size) != size]
    if turned and not declared.any_size:
        raise UserError(
            f"The family {declared.name} runs at one size only: for the order {turned[0]} it must be square."
        )
    return checked


def check_made_for(
    shape: object,
    levels: object,
    classes: object,
    vector: object,
    map_shape: object,
    embedding: object,
    map_levels: object = None,
) -> None:
    """What a model is made for, as a user or a config.json says it: UserError for what cannot be."""

    def sizes(value: object, count: int) -> bool:
        return isinstance(value, list) and len(value) == count and all(type(v) is int and v > 0 for v in value)

    if not sizes(shape, 3):
        raise UserError(f"The shape must be (C, H, W), positive integers, not {shape!r}.")
    if type(levels) is not int:
        raise UserError(f"The number of levels must be an integer, not {levels!r}.")
    check_levels(levels)
    for name, value in (("classes", classes), ("vector", vector), ("map_levels", map_levels)):
        if value is not None and not (type(value) is int and value > 0):
            raise UserError(f"The number for {name} must be a positive integer, not {value!r}.")
    if map_shape is not None and not sizes(map_shape, 3):
        raise UserError(f"The map_shape must be (D, h, w), positive integers, not {map_shape!r}.")
    if map_levels is not None and map_shape is None:
        raise UserError("map_levels says what a map holds: give its map_shape=(D, h, w) as well.")
    if embedding not in get_args(EmbeddingKind):
        raise UserError(f"The embedding must be one of {', '.join(get_args(EmbeddingKind))}, not {embedding!r}.")


def head_of(name: str, channels: int, levels: int, options: dict[str, Any]) -> Any:
    known = heads()
    if name not in known:
        raise UserError(
            f"There is no head {name!r}; the heads are {', '.join(sorted(known))}." + did_you_mean(name, known)
        )
    refusal = known[name].refusal(levels)
    if refusal:
        raise UserError(refusal)
    wanted = known[name].options()
    for option, value in options.items():
        if option not in wanted:
            has = ", ".join(wanted) or "none"
            raise UserError(
                f"There is no option {option!r} in the head {name}; it has: {has}." + did_you_mean(option, wanted)
            )
        if type(value) is not int or value < 1:
            raise UserError(f"The option {option} of the head {name} must be a positive integer, not {value!r}.")
    return known[name](channels, levels, **options)


def who_orders(family: str, network_can: bool, head_does: bool, channels: int) -> str:
    """ "network", "head", or "nobody" (one channel): exactly one must order the channels."""
    if head_does:
        return "head"
    if channels == 1:
        return "nobody"
    if not network_can:
        raise UserError(
            f"The family {family} cannot order the {channels} channels of a pixel and neither can this head; "
            "use a head that does, such as head='autoregressive_categorical'."
        )
    return "network"
