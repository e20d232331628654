"""A model of images: network + head (+ condition). It knows p(x) exactly: log_prob, and the next symbol's pmf."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nextpixel.causal import Whole, initialise_from_data
from nextpixel.embedding import ConditionEmbedding, EmbeddingKind, SymbolEmbedding
from nextpixel.errors import UserError
from nextpixel.networks import family as family_named
from nextpixel.ordering import OrderedModel
from nextpixel.orders import RASTER, Wanted, order_names
from nextpixel.parts import (
    check_made_for,
    config_of,
    default_head,
    head_of,
    orders_of,
    recorded,
    shape_and_levels,
    who_orders,
)

CONDITION_FEATURES = 64


class ImageModel(OrderedModel):
    """p(x) or p(x | condition) over integer images [N, C, H, W] with `levels` values 0..K-1.

    Pixels are predicted in raster order or in those that `orders` names, the channels of a pixel in order. Use
    `nextpixel.build`, which chooses the parts and refuses combinations that cannot work; the arguments here are what a
    saved model's config.json holds.

    family, options: the network and its Config; head, head_options: the distribution; shape: (C, H, W) the model was
    made for (convolutional families also score other sizes); classes, vector, map_shape, map_levels: what it is
    conditioned on; orders: names, None for raster (see `nextpixel.orders`).
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
        orders: list[str] | None = None,
        map_levels: int | None = None,
    ):
        super().__init__()
        check_made_for(shape, levels, classes, vector, map_shape, embedding, map_levels)
        declared = family_named(family)
        config = config_of(declared.network.Config, options or {}, f"the family {family}")
        channels, height, width = (int(size) for size in shape)
        self.shape, self.levels, self.classes = (channels, height, width), levels, classes
        self.head = head_of(head, channels, levels, head_options or {})
        self.channels_by = who_orders(declared.name, declared.channel_masks, self.head.orders_channels, channels)
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
            self.condition = ConditionEmbedding(
                CONDITION_FEATURES, classes, vector, map_size, (height, width), map_levels
            )
        if classes is not None:
            self.register_buffer("class_prior", torch.full((classes,), 1 / classes))
        self.set_orders(orders_of(orders, declared, (height, width)), declared.orders, CONDITION_FEATURES)
        told = wanted or self.order_table is not None
        made = self._hub_mixin_config  # the arguments, as config.json will hold them
        if isinstance(made, dict):  # in full, so that a default may change without changing what old files mean
            made["options"] = recorded(dataclasses.asdict(config), declared.network.added)
            head_made = {name: getattr(self.head, name) for name in self.head.options()}
            made["head_options"] = recorded(head_made, self.head.added)
            if orders is None or self.order_names == (RASTER.name,):
                made.pop("orders", None)  # what readers that know no orders take for granted
            if map_levels is None:
                made.pop("map_levels", None)
        sizes = self.head.sizes if self.channels_by == "network" else (sum(self.head.sizes),)
        outputs, told_features = type(self.embedding.layout)(sizes), CONDITION_FEATURES if told else None
        own_size: dict[str, Any] = {} if declared.any_size else {"size": (height, width)}
        self.network = declared.network(config, self.embedding.layout, outputs, told_features, **own_size)
        start = self.head.of_prediction()
        if start is not None and self.embedding.kind == "scaled":
            self.network.begin(*start)

    @property
    def family(self) -> str:
        return self.network.family.name

    def facts(self) -> dict[str, object]:
        options = {f"option {name}": value for name, value in vars(self.network.config).items()}
        return {**super().facts(), "head": self.head.name, "channels ordered by": self.channels_by, **options}

    def embed_condition(self, condition: object, n: int, size: tuple[int, int]) -> Tensor | None:
        """The condition of n pictures of the given size as the network takes it, in the order's own grid:
        [n, 1 or rows, 1 or columns, E], or None; UserError if the condition does not fit the model."""
        parts = self.condition_parts(condition, n)
        if parts is None or self.condition is None:
            return self.with_order(None, n)
        picture = self.order.grid(*self.placement.grid(*size))  # of a view in the order's own grid: turned back
        return self.with_order(self.condition(parts, picture), n)

    def features(self, x: Tensor, condition: object = None, rows: int | None = None) -> Tensor:
        """Network features of all symbols, [N, rows, columns, ·], in the grid of the model's order (raster: H, W).

        rows: of the first rows of that grid only; what comes later in x plays no part.
        """
        size = (x.shape[2], x.shape[3])
        own = self.placement.forth(x)
        told = self.embed_condition(condition, len(x), size)
        if told is not None and told.shape[1] > 1:
            told = told[:, :rows]
        run = Whole(order=self.pixel_order(size), height=own.shape[2], recompute=self.recompute)
        return self.network(self.embedding(own[:, :, :rows], self.like()), told, run)

    def log_prob_given(self, x: Tensor, condition: object) -> Tensor:
        order, features = self.placement, self.features(x, condition)
        return order.back(self._by_head(lambda made: self.head.log_prob(made, order.forth(x)), features))

    def log_pmf(self, x: Tensor, condition: object = None) -> Tensor:
        order, x = self.placement, self.check_images(x)
        values = order.forth(x).permute(0, 2, 3, 1)
        log_pmf = self.head_log_pmf(self.features(x, condition), values).permute(0, 3, 1, 2, 4)
        return log_pmf if order.is_raster else order.back(log_pmf.movedim(-1, 0)).movedim(0, -1)

    def head_log_pmf(self, features: Tensor, values: Tensor) -> Tensor:
        """Log-probabilities of all values of the symbols of some pixels, nats, [..., C, K], from the network's features
        [..., ·] there and the pixels' own values [..., C], of which each channel sees the earlier ones."""
        earlier = values.flatten(0, -2)

        def pmfs(made: Tensor) -> Tensor:
            parts = made.flatten(0, -2).split(list(self.head.sizes), -1)
            each = [
                self.head.log_pmf(parts[0 if self.head.orders_channels else c], c, earlier[:, :c])
                for c in range(values.shape[-1])
            ]
            return torch.stack(each, 1).view(*values.shape, self.levels)

        return self._by_head(pmfs, features)

    def _by_head(self, ask: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
        """What the head makes of features: probabilities are never computed in half precision, even under autocast."""
        if not torch.is_autocast_enabled(features.device.type):
            return ask(features)
        with torch.autocast(features.device.type, enabled=False):
            return ask(features.to(self.like()))

    def initialise_from_data(self, x: Tensor, condition: object = None) -> int:
        one = self if len(self.orders) == 1 else self.in_order(0)  # the first one stands for all
        return initialise_from_data(self.network, lambda: one.features(self.check_images(x), condition))

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
    map_levels: int | None = None,
    embedding: EmbeddingKind | None = None,
    head_options: dict[str, Any] | None = None,
    orders: Wanted = None,
    **options: Any,
) -> ImageModel:
    """A new model with random weights.

    family: a name from `nextpixel.families()`. like: a Split or Dataset from which shape and levels are taken (or give
    shape=(C, H, W) and levels=K). head: a name from `nextpixel.heads()`; the default is bernoulli for two levels, else
    categorical; above 1024 levels autoregressive_categorical, which need not hold all logits at once. classes, vector,
    map_shape=(D, h, w): conditions; never taken from `like` unasked. map_levels: the map holds integers below that
    (codes), not numbers. embedding: "scaled" for ordered levels (the default), "learned" for codes. orders: of
    prediction; None is raster, a number n the first n of the family's, "all" the eight of a rectangle, or a list of
    names (see `nextpixel.orders`); a model of several is their even mixture. options: fields of the family's Config.

    Raises UserError for unknown names and for combinations that cannot work, saying why.
    """
    shape, levels = shape_and_levels(like, shape, levels)
    return ImageModel(
        family,
        list(shape),
        levels,
        head or default_head(levels),
        options,
        head_options,
        classes,
        vector,
        list(map_shape) if map_shape else None,
        embedding or "scaled",
        orders=None if orders is None else order_names(orders, family_named(family).orders, family),
        map_levels=map_levels,
    )
