"""A model of images: network + head (+ condition). It knows p(x) exactly: log_prob, and the next symbol's pmf."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import torch
from torch import Tensor

from nextpixel.causal import Whole, initialise_from_data
from nextpixel.embedding import ConditionEmbedding, EmbeddingKind, SymbolEmbedding
from nextpixel.errors import UserError, did_you_mean
from nextpixel.heads import heads
from nextpixel.images.levels import check_levels
from nextpixel.model import Model
from nextpixel.networks import family as family_named

CONDITION_FEATURES = 64


class ImageModel(Model):
    """p(x) or p(x | condition) over integer images [N, C, H, W] with `levels` values 0..K-1.

    Symbols are predicted in raster order, the channels of a pixel in order. Use `nextpixel.build`, which chooses the
    parts and refuses combinations that cannot work; the arguments here are what a saved model's config.json holds.

    family, options: the network and its Config; head, head_options: the distribution; shape: (C, H, W) the model was
    made for (convolutional families also score other sizes); classes, vector, map_shape: what it is conditioned on.
    """

    def __init__(
        self,
        family: str,
        shape: list[int],
        levels: int,
        head: str,
        options: dict[str, Any] | None = None,
        head_options: dict[str, Any] | None = None,
        classes: int | None = None,
        vector: int | None = None,
        map_shape: list[int] | None = None,
        embedding: EmbeddingKind = "scaled",
        embedding_features: int = 16,
    ):
        super().__init__()
        _check_made_for(shape, levels, classes, vector, map_shape, embedding)
        declared = family_named(family)
        config = _config(declared.network.Config, options or {}, f"the family {family}")
        channels, height, width = (int(size) for size in shape)
        self.shape, self.levels, self.classes = (channels, height, width), levels, classes
        self.head = _head(head, channels, levels, head_options or {})
        self.channels_by = _who_orders(declared.name, declared.channel_masks, self.head.orders_channels, channels)
        self.embedding = SymbolEmbedding(
            channels, levels, embedding, embedding_features, ordered=self.channels_by == "network"
        )
        self.condition: ConditionEmbedding | None = None
        wanted = [k for k, v in (("class", classes), ("vector", vector), ("map", map_shape)) if v is not None]
        for kind in wanted:
            if kind not in declared.conditions:
                legal = ", ".join(declared.conditions) or "none"
                raise UserError(f"The family {family} cannot be conditioned on a {kind}; it takes: {legal}.")
        if wanted:
            map_size = (map_shape[0], map_shape[1], map_shape[2]) if map_shape else None
            self.condition = ConditionEmbedding(CONDITION_FEATURES, classes, vector, map_size, (height, width))
        if classes is not None:
            self.register_buffer("class_prior", torch.full((classes,), 1 / classes))
        made = self._hub_mixin_config  # the arguments, as config.json will hold them
        if isinstance(made, dict):  # in full, so that a default may change without changing what old files mean
            made["options"] = dataclasses.asdict(config)
            made["head_options"] = {name: getattr(self.head, name) for name in self.head.options()}
        sizes = self.head.sizes if self.channels_by == "network" else (sum(self.head.sizes),)
        self.network = declared.network(
            config, self.embedding.layout, type(self.embedding.layout)(sizes), CONDITION_FEATURES if wanted else None
        )

    @property
    def family(self) -> str:
        return self.network.family.name

    def facts(self) -> dict[str, object]:
        options = {f"option {name}": value for name, value in vars(self.network.config).items()}
        return {**super().facts(), "head": self.head.name, "channels ordered by": self.channels_by, **options}

    def embed_condition(self, condition: object, n: int, size: tuple[int, int]) -> Tensor | None:
        """[n, 1 or H, 1 or W, E], or None; UserError if the condition does not fit the model."""
        parts = self.condition_parts(condition, n)
        return None if parts is None or self.condition is None else self.condition(parts, size)

    def features(self, x: Tensor, condition: object = None, run: Whole | None = None) -> Tensor:
        """Network features of all symbols, [N, H, W, ·]."""
        embedded = self.embedding(x, self.like())
        return self.network(embedded, self.embed_condition(condition, len(x), (x.shape[2], x.shape[3])), run)

    def log_prob_given(self, x: Tensor, condition: object) -> Tensor:
        return self.head.log_prob(self.features(x, condition), x)

    def log_pmf(self, x: Tensor, condition: object = None) -> Tensor:
        x = self.check_images(x)
        n, channels, height, width = x.shape
        features = self.features(x, condition).flatten(0, 2)
        values = x.permute(0, 2, 3, 1).flatten(0, 2)
        parts = features.split(list(self.head.sizes), -1)
        pmfs = [
            self.head.log_pmf(parts[0 if self.head.orders_channels else c], c, values[:, :c]) for c in range(channels)
        ]
        return torch.stack(pmfs, 1).view(n, height, width, channels, self.levels).permute(0, 3, 1, 2, 4)

    def initialise_from_data(self, x: Tensor, condition: object = None) -> int:
        return initialise_from_data(self.network, lambda: self.features(self.check_images(x), condition))

    def stepper(self, n: int = 1, condition: object = None, size: tuple[int, int] | None = None) -> Any:
        from nextpixel.stepping import Stepper

        return Stepper(self, n, condition, size)


def build(
    family: str,
    *,
    like: Any = None,
    shape: tuple[int, int, int] | None = None,
    levels: int | None = None,
    head: str | None = None,
    classes: int | None = None,
    vector: int | None = None,
    map_shape: tuple[int, int, int] | None = None,
    embedding: EmbeddingKind | None = None,
    head_options: dict[str, Any] | None = None,
    **options: Any,
) -> ImageModel:
    """A new model with random weights.

    family: a name from `nextpixel.families()`. like: a Split or Dataset from which shape and levels are taken (or give
    shape=(C, H, W) and levels=K). head: a name from `nextpixel.heads()`; the default is bernoulli for two levels, else
    categorical. classes, vector, map_shape=(D, h, w): conditions; never taken from `like` unasked. embedding:
    "scaled" for ordered levels (the default), "learned" for codes. options: fields of the family's Config.

    Raises UserError for unknown names and for combinations that cannot work, saying why.
    """
    if like is not None:
        shape, levels = shape or tuple(like.shape), levels or like.levels
    if shape is None or levels is None:
        raise UserError("Say what the images look like: like=DATA, or shape=(C, H, W) and levels=K.")
    return ImageModel(
        family,
        list(shape),
        levels,
        head or ("bernoulli" if levels == 2 else "categorical"),
        options,
        head_options,
        classes,
        vector,
        list(map_shape) if map_shape else None,
        embedding or "scaled",
    )


def _config(kind: type, options: dict[str, Any], owner: str) -> Any:
    known = [field.name for field in dataclasses.fields(kind)]
    for name in options:
        if name not in known:
            raise UserError(
                f"There is no option {name!r} in {owner}; it has: {', '.join(known)}." + did_you_mean(name, known)
            )
    return kind(**options)


def _check_made_for(
    shape: object, levels: object, classes: object, vector: object, map_shape: object, embedding: object
) -> None:
    """What a model is made for, as a user or a config.json says it: UserError for what cannot be."""

    def sizes(value: object, count: int) -> bool:
        return isinstance(value, list) and len(value) == count and all(type(v) is int and v > 0 for v in value)

    if not sizes(shape, 3):
        raise UserError(f"The shape must be (C, H, W), positive integers, not {shape!r}.")
    if type(levels) is not int:
        raise UserError(f"The number of levels must be an integer, not {levels!r}.")
    check_levels(levels)
    for name, value in (("classes", classes), ("vector", vector)):
        if value is not None and not (type(value) is int and value > 0):
            raise UserError(f"The number for {name} must be a positive integer, not {value!r}.")
    if map_shape is not None and not sizes(map_shape, 3):
        raise UserError(f"The map_shape must be (D, h, w), positive integers, not {map_shape!r}.")
    if embedding not in get_args(EmbeddingKind):
        raise UserError(f"The embedding must be one of {', '.join(get_args(EmbeddingKind))}, not {embedding!r}.")


def _head(name: str, channels: int, levels: int, options: dict[str, Any]) -> Any:
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


def _who_orders(family: str, network_can: bool, head_does: bool, channels: int) -> str:
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
