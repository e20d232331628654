"""A frozen model: the same integers on every machine, so that what one encodes another decodes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextpixel.coding.frequencies import MOST_VALUES, TOTAL, log_probabilities, placed
from nextpixel.embedding import ConditionEmbedding
from nextpixel.errors import UserError
from nextpixel.exact.conversion import exact_head, exact_network
from nextpixel.exact.decoder import Decoder
from nextpixel.exact.embedding import ExactEmbedding
from nextpixel.exact.numbers import Formats, rounded
from nextpixel.exact.proof import Before, bounded
from nextpixel.exact.selftest import SelfTest
from nextpixel.exact.tables import Tables
from nextpixel.image_model import CONDITION_FEATURES, ImageModel
from nextpixel.model import check_model
from nextpixel.networks import families
from nextpixel.ordering import OrderedModel

ARITHMETIC = {"float32": 1, "float64": 2}
"""the number under which files name the arithmetic that made them: formats and formulas as they are today"""
HOLDERS = (torch.float32, torch.float64, torch.int64)
"""types of tensor that can hold the integers, the faster ones first"""
POSITIONS = 4096  # evaluated at a time: their activations stay in the cache
MASSES = 1 << 22  # held at a time, when pictures are encoded


class ExactModel(OrderedModel):
    """A frozen ImageModel of one order of prediction, made by `nextpixel.freeze`.

    `masses` gives the masses of all symbols in one parallel pass, `decoder` the same integers step by step.
    `log_prob` is the cost of coding with them: −log of (frequency + 1) / 2^24, symbol by symbol.

    The arguments are what a saved model's config.json holds: those of the ImageModel, the number formats, and the order
    of prediction that was chosen.
    """

    kind = "exact"

    def __init__(self, source: dict[str, Any], formats: dict[str, Any], order: str = "raster"):
        super().__init__()
        try:
            self.formats = Formats(**formats)
        except TypeError as error:
            raise UserError(f"The number formats of this frozen model cannot be read ({error}).") from error
        model = ImageModel(**source)
        check_freezable(model.in_order(order))
        self.shape, self.levels, self.classes = model.shape, model.levels, model.classes
        self.channels_by = model.channels_by
        self.set_orders([order], model.order_kind, CONDITION_FEATURES)
        self.tables = Tables(self.formats)
        self.embedding = ExactEmbedding(model.embedding, self.formats)
        self.network = exact_network(model.network, self.formats, self.tables)
        self.head = exact_head(model.head, self.formats, self.tables)
        self.condition: ConditionEmbedding | None = model.condition
        if model.condition is not None:
            model.condition.requires_grad_(False)
            self.register_buffer("class_prior", torch.zeros(self.classes or 0))
        self.told: nn.Parameter | None = None  # a condition that is the same for all pictures
        if model.condition is None and model.network.condition is not None:
            self.told = nn.Parameter(torch.zeros(CONDITION_FEATURES), requires_grad=False)
        self.to(getattr(torch, self.formats.form))
        self._self_test = SelfTest()
        self.eval()

    @property
    def family(self) -> str:
        return self.network.family.name

    @property
    def arithmetic(self) -> int:
        """The number of the arithmetic, for files."""
        return ARITHMETIC[self.formats.form]

    @property
    def identity(self) -> str:
        """SHA-256 of all that decides an integer, hexadecimal: the same for every type of tensor that holds them."""
        made: Any = self._hub_mixin_config
        parts = {key: made[key] for key in ("source", "formats")} | {"order": self.order_names[0]}
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode())
        for name, tensor in sorted(self.state_dict().items()):
            if name != "class_prior":
                digest.update(f"\n{name} {list(tensor.shape)}\n".encode())
                digest.update(tensor.cpu().long().numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def facts(self) -> dict[str, object]:
        formats = self.formats
        return {
            **super().facts(),
            "head": self.head.name,
            "channels ordered by": self.channels_by,
            "frozen": f"integers, {formats.form} form, {formats.activation} bits after the point",
            "identity": self.identity,
        }

    def like(self) -> Tensor:
        return self.embedding.tables[0].new_empty(0)

    def prove(self, before: Before | None = None) -> None:
        """Prove that every sum is exact, and that what is held are integers; UserError if not. `before` is called for
        every layer with the bounds of its inputs (`freeze` rounds it there)."""
        for name, tensor in self.state_dict().items():
            if not bool((tensor == tensor.double().floor()).all()) or bool((tensor.double().abs() >= 2**52).any()):
                raise UserError(f"The tensor {name} of this frozen model holds what is no integer.")
        self.tables.prove()
        told: Tensor | None = None if self.told is None else self.told.abs()
        if self.condition is not None:
            told = self.condition.table.weight.abs().amax(0)
        features = bounded(self.network, self.embedding.bounds(), told, before)
        self.head.prove(features, before)
        self._self_test = SelfTest()

    def hold(self, dtype: torch.dtype) -> ExactModel:
        """Hold the same integers in tensors of a wider type, in place: of float32, float64, int64."""
        if dtype not in HOLDERS or HOLDERS.index(dtype) < HOLDERS.index(self.like().dtype):
            raise UserError(f"A frozen model of {self.like().dtype} cannot be held in {dtype}: only in a wider type.")
        for module in self.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(parameter.to(dtype), requires_grad=False)
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_floating_point():
                    module._buffers[name] = buffer.to(dtype)
        return self

    def ready(self) -> None:
        """Make sure that this device, as it is set now, computes the integers: a few milliseconds. Where products of
        the model's type are not exact (TF32, products by bfloat16), a wider type takes over; UserError if none is."""
        if self.training:
            raise UserError("A frozen model cannot be trained: call model.eval() first.")
        while not self._self_test.passes(self):
            wider = HOLDERS[HOLDERS.index(self.like().dtype) + 1 :]
            if not wider or (self.like().device.type != "cpu" and wider[0] == torch.int64):
                raise UserError(
                    f"Products of matrices on {self.like().device} are not exact, so a frozen model cannot be used "
                    "there: use the device cpu."
                )
            self.hold(wider[0])

    def embed_condition(self, condition: object, n: int, size: tuple[int, int]) -> Tensor | None:
        """The condition of n pictures in integers, [n, 1, 1, E], or None."""
        parts = self.condition_parts(condition, n)
        if parts is None or self.condition is None:
            return None if self.told is None else self.told.expand(n, 1, 1, -1)
        return self.condition(parts, size)

    def masses(self, images: Tensor, labels: object = None) -> Tensor:
        """Masses of all values of all symbols, given those before, int64 [N, T, K] with T = C·H·W in the order of
        `in_sequence`: one parallel pass. labels: for a class-conditional model, an int or one a picture, [N]."""

        def of(features: Tensor, channel: int, values: Tensor) -> Tensor:
            return self.head.masses(features, channel, values[:, :channel])

        return torch.cat(list(self._stretches(images, labels, of, MASSES // self.levels)), 1)

    def spans(self, images: Tensor, labels: object = None) -> Iterator[Tensor]:
        """What the intervals of all symbols follow from, without the masses of all values: `frequencies.spans`, int64
        [N, t, 3] with Σt = T, in parts none of which takes much memory."""

        def of(features: Tensor, channel: int, values: Tensor) -> Tensor:
            return self.head.spans(features, channel, values[:, :channel], values[:, channel])

        return self._stretches(images, labels, of, MASSES // self.levels)

    @torch.no_grad()
    def _stretches(
        self, images: Tensor, labels: object, of: Callable[[Tensor, int, Tensor], Tensor], symbols: int
    ) -> Iterator[Tensor]:
        """What `of` makes of features [n, ·], a channel and values [n, C], for about `symbols` symbols at a time."""
        x = self.placement.forth(self.check_images(images))
        self.ready()
        n, channels, rows, columns = x.shape
        told = self.embed_condition(labels, n, (images.shape[2], images.shape[3]))
        at_once = max(1, POSITIONS // (rows * columns))
        found = []
        for start in range(0, n, at_once):
            part = slice(start, start + at_once)
            features = self.network(self.embedding(x[part], self.like()), None if told is None else told[part])
            found.append(features.flatten(1, 2))
        features = torch.cat(found) if found else self.like().new_zeros(0, rows * columns, sum(self.head.sizes))
        values = x.permute(0, 2, 3, 1).flatten(1, 2).long()
        pixels = max(1, symbols // max(1, n * channels))
        for start in range(0, rows * columns, pixels):
            part = slice(start, start + pixels)
            groups = features[:, part].flatten(0, 1).split(list(self.head.sizes), -1)
            here = values[:, part].flatten(0, 1)
            each = [of(groups[0 if self.head.orders_channels else c], c, here) for c in range(channels)]
            yield torch.stack(each, 1).unflatten(0, (n, -1)).flatten(1, 2)

    def decoder(self, n: int = 1, labels: object = None, size: tuple[int, int] | None = None) -> Decoder:
        """n pictures to be made symbol by symbol from the same integers: `.masses()`, then `.push(values)`."""
        return Decoder(self, n, labels, size)

    def stepper(self, n: int = 1, condition: object = None, size: tuple[int, int] | None = None) -> Any:
        return self.decoder(n, condition, size)

    def set_class_prior(self, shares: Tensor) -> None:
        self.get_buffer("class_prior").copy_(rounded(shares / shares.sum(), 24))

    def log_prob_given(self, x: Tensor, condition: object) -> Tensor:
        values = self.in_sequence(x)
        _, size = placed(torch.cat(list(self.spans(x, condition)), 1), values, self.levels)
        return self.from_sequence(torch.log(size.double() / TOTAL), (x.shape[2], x.shape[3]))

    def log_pmf(self, x: Tensor, condition: object = None) -> Tensor:
        given = log_probabilities(self.masses(x, condition)).movedim(-1, 1)
        return self.from_sequence(given, (x.shape[2], x.shape[3])).movedim(1, -1)

    def initialise_from_data(self, x: Tensor, condition: object = None) -> int:
        raise UserError("A frozen model cannot be trained: train the model that it was made from.")

    @property
    def saved_dtype(self) -> str:
        return self.formats.form

    def stored(self) -> dict[str, Tensor]:
        """All integers, each tensor in the shortest type that holds it."""
        return {name: _shortest(tensor) for name, tensor in self.state_dict().items()}

    @classmethod
    def _opened(cls, files: tuple[Path, Path], config: dict[str, Any]) -> ExactModel:
        model = super()._opened(files, config)
        try:
            model.prove()
        except UserError as error:
            raise UserError(f"{files[1]} is damaged: {error}") from error
        return model


def check_freezable(model: Any) -> None:
    """UserError, saying why, for a model that cannot be frozen."""
    check_model(model)
    if not isinstance(model, ImageModel):
        raise UserError(f"A model of the kind {model.family} cannot be frozen yet: only image models of one part can.")
    if not model.network.family.freezable:
        able = ", ".join(name for name, family in families().items() if family.freezable)
        raise UserError(f"Models of the family {model.family} cannot be frozen yet; those that can: {able}.")
    if model.condition is not None and not model.condition.only_classes:
        raise UserError("A model that is conditioned on a vector or a map cannot be frozen yet: only on a class.")
    if model.classes is not None and model.classes > MOST_VALUES:
        raise UserError(f"A model of {model.classes} classes cannot be frozen: {MOST_VALUES} are the most.")
    _ = model.order  # of a model of several, one must have been chosen


def _shortest(tensor: Tensor) -> Tensor:
    largest = int(tensor.abs().max()) if tensor.numel() else 0
    for dtype in (torch.int8, torch.int16, torch.int32):
        if largest <= torch.iinfo(dtype).max:
            return tensor.to(dtype)
    return tensor.long()
