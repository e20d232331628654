"""What every head is: the distribution of a symbol, made from the network's features.

Everything is computed in the log domain: no probability is ever exponentiated, clamped and logged again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import ClassVar, TypeVar

from torch import Tensor, nn


class Head(nn.Module):
    """Distribution of the symbols of a pixel, K = `levels` values each, C = `channels` symbols a pixel.

    A head with `orders_channels` makes p(channel c | channels before c, features) itself; it takes one group of
    features a pixel. Any other head treats the channels apart: a network with channel masks must order them, and gives
    one group of features a channel.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    orders_channels: ClassVar[bool] = False
    added: ClassVar[dict[str, int]] = {}
    """options that were added to the head later, with the values that leave it as it was"""

    def __init__(self, channels: int, levels: int):
        super().__init__()
        self.channels, self.levels = channels, levels

    @property
    def sizes(self) -> tuple[int, ...]:
        """Features wanted from the network: one number per channel group."""
        raise NotImplementedError

    def of_prediction(self) -> tuple[Tensor, Tensor] | None:
        """Features that say "near the prediction p", if the head has them: gain · p + bias, for a prediction p [C] of
        the channels' values on [-1, 1]; gain [sum(sizes), C], bias [sum(sizes)]."""
        return None

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        """Log-probability of every symbol, nats: features [N, H, W, sum(sizes)], x [N, C, H, W] → [N, C, H, W]."""
        raise NotImplementedError

    def log_pmf(self, features: Tensor, channel: int, earlier: Tensor) -> Tensor:
        """Log-probabilities of all values of one symbol, nats, [n, K].

        features: [n, sizes[channel]], or [n, sizes[0]] if the head orders the channels; earlier: [n, channel] the
        values of this pixel's earlier channels.
        """
        raise NotImplementedError

    @classmethod
    def options(cls) -> dict[str, int]:
        """Options of the head beside channels and levels, with their defaults: all positive integers."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    @classmethod
    def refusal(cls, levels: int) -> str | None:
        """Why this head cannot model `levels` values, or None."""
        return None


_heads: dict[str, type[Head]] = {}
H = TypeVar("H", bound="type[Head]")


def register(name: str, summary: str) -> Callable[[H], H]:
    """Make a head known by name."""

    def add(head: H) -> H:
        head.name, head.summary = name, summary
        _heads[name] = head
        return head

    return add


def heads() -> dict[str, type[Head]]:
    """All registered heads by name."""
    return dict(_heads)
