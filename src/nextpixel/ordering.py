"""Models that predict the pixels in an order that can be chosen, or in several: p(x) is then their even mixture.

The network always goes over its grid in raster order. The order stands outside: the picture is brought into the order's
own grid before the network and the answer is brought back. What a model of several orders must still be told is which
order it is in: a network of shifted kernels is told by a learned vector, added to its condition (ours); a network whose
weights belong to pixels is told, by the run, which pixel stands where (Uria, Murray and Larochelle 2014, "A deep and
tractable density estimator"; Germain et al. 2015, MADE, section 4).
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from nextpixel.errors import UserError, did_you_mean
from nextpixel.model import Model
from nextpixel.orders import EIGHT, RASTER, Order, as_permutation, shortened


class OrderedModel(Model):
    """A model of one or several orders of prediction.

    Without a choice, `log_prob` is log (1/O · Σ_o p(x | o)), exactly; whatever goes symbol by symbol needs a choice:
    `model.in_order("flip-x")` is a view, the same model (weights, buffers and parts are shared, nothing is copied) that
    answers in that order alone.
    """

    _order_names: tuple[str, ...] = (RASTER.name,)
    order_kind: Literal["flips", "any"] = "flips"
    """as the network's family declares: see `nextpixel.networks.Family`"""
    order_table: nn.Embedding | None
    """by order, what is added to the condition; only where a network of shifted kernels has several orders"""
    _mode: dict[str, bool]
    _chosen: tuple[int, Order] | None = None  # in views: its number (-1: none of the listed ones) and what it is
    _own_grid: bool = False  # in views: pictures come in the order's own grid already

    @property
    def free_orders(self) -> bool:
        return self.order_kind == "any"

    def set_orders(self, names: list[str], kind: Literal["flips", "any"], features: int) -> None:
        """Say, once, in which orders the model predicts. `names` are checked; features: of the vector that tells a
        network of shifted kernels its order."""
        self._order_names, self.order_kind = tuple(names), kind
        told = kind == "flips" and len(names) > 1
        self.order_table = nn.Embedding(len(names), features) if told else None
        if kind == "any" and names != [RASTER.name]:
            # Kept with the weights, so that a saved model never depends on how a permutation was drawn.
            self.register_buffer("order_pixels", torch.stack([as_permutation(n, *self.shape[1:]) for n in names]))

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module; UserError if the orders that are loaded are no permutations."""
        loaded = super().load_state_dict(*args, **kwargs)
        _ = self.orders
        return loaded

    @property
    def orders(self) -> tuple[Order, ...]:
        return tuple(self._numbered(number) for number in range(len(self.order_names)))

    @property
    def order_names(self) -> tuple[str, ...]:
        if self._own_grid:
            return (RASTER.name,)
        return self._order_names if self._chosen is None else (self._chosen[1].name,)

    def _numbered(self, number: int) -> Order:
        name = self.order_names[number]
        if self._chosen is not None:
            return RASTER if self._own_grid else self._chosen[1]
        if name == RASTER.name or "order_pixels" not in self._buffers:
            return EIGHT[name]
        return Order(name, permutation=tuple(self.get_buffer("order_pixels")[number].tolist()))

    @property
    def order(self) -> Order:
        """The order that predictions follow; UserError for a model of several of which none was chosen."""
        if self._chosen is not None:
            return self._chosen[1]
        if len(self.order_names) > 1:
            raise UserError(
                f"This model predicts in {len(self.order_names)} orders ({self._listed()}), and symbol by symbol it "
                f"must be told in which: choose one, such as model.in_order({self.order_names[0]!r})."
            )
        return self._numbered(0)

    @property
    def order_in_words(self) -> str:
        several = len(self.order_names) > 1
        return f"one of the model's orders ({self._listed()})" if several else self._numbered(0).in_words

    @property
    def placement(self) -> Order:
        """How the pictures that are given stand to the network's grid: the order, or raster for `own_grid` views."""
        return RASTER if self._own_grid else self.order

    @property
    def training(self) -> bool:  # one flag for a model and its views, like all that they share
        return bool(self._mode["training"])

    @training.setter
    def training(self, mode: bool) -> None:
        self.__dict__.setdefault("_mode", {})["training"] = mode

    def in_order(self, which: str | int | Tensor) -> Self:
        """The same model, answering in one order only: a view, made anew in no time; it shares everything with the
        model.

        which: a name or a number from `orders`; for a family whose weights belong to pixels also any permutation of
        the pixels, long [H·W], row-major indices, the first predicted pixel first. UserError for any other.
        """
        if self._own_grid:
            raise ValueError("a view in an order's own grid has no other order")
        if isinstance(which, Tensor):
            return self._view(-1, self._given(which))
        names = self.order_names
        if isinstance(which, str) and which not in names:
            raise UserError(f"The model has no order {which!r}; it has: {self._listed()}." + did_you_mean(which, names))
        number = names.index(which) if isinstance(which, str) else which
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(names):
            raise UserError(f"There is no order {which!r}: the orders of the model are numbered 0..{len(names) - 1}.")
        return self if self._chosen is not None else self._view(number, self._numbered(number))

    def own_grid(self) -> Self:
        """A view of a model of one (chosen) order that takes and gives pictures in that order's own grid, in which
        raster is its order: for checks. Map conditions stay in the coordinates of the picture."""
        order = self.order
        view = self._view(*(self._chosen or (0, order)))
        view.shape, view._own_grid = (self.shape[0], *order.grid(*self.shape[1:])), True
        return view

    def in_view_of(self, other: Self) -> Self:
        """This model as the view `other`, of a model made with the same orders, is one of its model."""
        if other._chosen is None:
            return self
        one = self.in_order(other._chosen[0])
        return one.own_grid() if other._own_grid else one

    def _view(self, number: int, order: Order) -> Self:
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._chosen = (number, order)
        return view

    def _given(self, pixels: Tensor) -> Order:
        count = self.shape[1] * self.shape[2]
        if self.order_kind != "any":
            raise UserError(
                f"A model of the family {self.family} predicts in the orders it was built with ({self._listed()}); "
                "it cannot take another permutation of the pixels."
            )
        if pixels.is_floating_point() or pixels.dtype == torch.bool or pixels.shape != (count,):
            raise UserError(
                f"A permutation of the pixels is a tensor of {count} integers, not {list(pixels.shape)} of "
                f"{pixels.dtype}."
            )
        return Order("as given", permutation=tuple(pixels.tolist()))

    def _listed(self) -> str:
        return shortened(list(self.order_names))

    def pixel_order(self, size: tuple[int, int]) -> Tensor | None:
        """What a run must tell a network whose weights belong to pixels: which pixel stands at each position of the
        grid, long [H·W]; None where that is raster order, and for networks of shifted kernels."""
        if self.order_kind == "flips" or self.order.is_raster:
            return None
        return self.order.pixels(*size).to(self.like().device)

    def with_order(self, condition: Tensor | None, n: int) -> Tensor | None:
        """The embedded condition of n pictures, [n, 1 or H, 1 or W, E] or None, as the network takes it: brought into
        the order's own grid, with the order's vector added where there is one."""
        order = self.order
        if condition is not None and self.condition is not None and self.condition.map_shape is not None:
            condition = order.forth(condition.movedim(-1, -3)).movedim(-3, -1)
        if self.order_table is None or self._chosen is None:
            return condition
        vector = self.order_table.weight[self._chosen[0]].expand(n, 1, 1, -1)
        return vector if condition is None else condition + vector

    def in_sequence(self, symbols: Tensor) -> Tensor:
        return super().in_sequence(self.placement.forth(symbols))

    def from_sequence(self, symbols: Tensor, size: tuple[int, int]) -> Tensor:
        return self.placement.back(super().from_sequence(symbols, self.placement.grid(*size)))

    def log_prob(self, x: Tensor, condition: object = None) -> Tensor:
        """log p(x | condition), nats per image, [N]; differentiable.

        Of a model of several orders the exact mixture log (1/O · Σ_o p(x | condition, o)), in O passes. A
        class-conditional model without a class gives the exact marginal log Σ_y p(y) p(x|y), with the class frequencies
        of its training data as p(y).
        """
        if len(self.order_names) == 1:
            return super().log_prob(x, condition)
        given = self.log_prob_given_orders(x, condition)
        return torch.logsumexp(given, 1) - math.log(given.shape[1])

    def log_prob_given_orders(self, x: Tensor, condition: object = None) -> Tensor:
        """log p(x | condition, o) for every order o of `orders`, nats, [N, orders]; differentiable. Without a class,
        where there are classes, each is the marginal over classes."""
        return torch.stack([one.log_prob(x, condition) for one in self.each_order()], 1)

    @property
    def why(self) -> str:
        count = len(self.order_names)
        return super().why if count == 1 else f"{super().why}; p(x) is the mean of its values in {count} orders"

    def facts(self) -> dict[str, object]:
        return {**super().facts(), "order of prediction": self._listed()}
