"""`freeze`: from a trained model to one that computes with integers only."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nextpixel.causal import DiagonalBiLSTM, PixelConv, RowConv, RowLSTM
from nextpixel.errors import UserError
from nextpixel.exact.halves import ExactHalves, one_position, precision_of_halves
from nextpixel.exact.heads import ExactAutoregressiveCategorical
from nextpixel.exact.model import ExactModel, check_freezable
from nextpixel.exact.numbers import FORMS, Form, Formats, rounded, saturated
from nextpixel.exact.proof import precision
from nextpixel.exact.recurrence import IntegerStates
from nextpixel.heads import AutoregressiveCategorical
from nextpixel.image_model import ImageModel
from nextpixel.model import condition_of

TOLERATED = 0.1
"""per cent of the bits that the float32 form may cost before "auto" takes the float64 form"""
MOST_LEFT_OFF = 3
"""bits of its inputs that a layer of one position may leave off before it multiplies them in two halves"""


@torch.no_grad()
def freeze(model: Any, data: Any = None, form: Literal["auto", "float32", "float64"] = "auto") -> ExactModel:
    """A model that gives the same integers on every machine, batch size, thread count and schedule.

    model: a trained ImageModel of one order of prediction (or a view of one: `model.in_order(...)`), unconditional or
    class-conditional. It is not changed. data: a Split on which the cost of freezing is measured, in per cent of the
    bits; it is kept in the card. form: "float32" has shorter numbers and is faster; "float64" is next to lossless;
    "auto" is float32 where it can be proved and costs at most 0.1 % on the data, if there are any.

    UserError for what cannot be frozen or proved, saying why.
    """
    if isinstance(model, ExactModel):
        raise UserError("This model is frozen already.")
    check_freezable(model)
    if data is not None and not (hasattr(data, "images") and len(data)):
        raise UserError("The cost of freezing is measured on a Split with images, such as data.valid.")
    if form != "auto":
        check_form(form)
    given = None
    if form != "float64":
        try:
            exact = frozen(model, "float32")
            given = None if data is None else cost_percent(model, exact, data)
            if form == "float32" or given is None or given <= TOLERATED:
                return _noted(exact, given, data)
        except UserError:
            if form == "float32":
                raise
    exact = frozen(model, "float64")
    return _noted(exact, None if data is None else cost_percent(model, exact, data), data, given)


def check_form(form: object) -> None:
    """UserError if there is no such form."""
    if form not in FORMS:
        raise UserError(f"The form of a frozen model is auto, float32 or float64, not {form!r}.")


def _noted(exact: ExactModel, cost: float | None, data: Any, refused: float | None = None) -> ExactModel:
    """With the cost of freezing on the data in its card, if there are any, and that of the float32 form if it was too
    much."""
    if cost is not None:
        exact.card["freezing"] = {"form": exact.formats.form, "cost_percent": cost, "images": len(data)}
        if refused is not None:
            exact.card["freezing"]["float32_percent"] = refused
    return exact


def cost_percent(model: ImageModel, exact: ExactModel, data: Any) -> float:
    """What freezing costs on a Split, in per cent of the bits."""
    return 100 * (nats(exact, data) / nats(model, data) - 1)


@torch.no_grad()
def nats(model: Any, data: Any) -> float:
    """−log p of all images of a Split."""
    total = 0.0
    for start in range(0, len(data), 64):
        part = data[start : start + 64]  # a split may be larger than the memory
        labels = None if model.classes is None else condition_of(model, part.labels)
        total -= float(model.log_prob(part.images, labels).double().sum())
    return total


@torch.no_grad()
def frozen(model: ImageModel, formats: Formats | Form) -> ExactModel:
    """The model in these formats, or in those of a form; UserError if a layer cannot be proved in them."""
    formats = FORMS[formats] if isinstance(formats, str) else formats
    source = {name: value for name, value in model.made_with().items() if value is not None}
    exact = ExactModel(source, formats.to_dict(), model.order.name)
    drops: dict[str, int] = {}
    long: list[str] = []  # layers whose inputs turn out to be too long in one product

    def take(name: str, layer: Any, bounds: Tensor) -> None:
        source = model.get_submodule(name)
        if isinstance(layer, IntegerStates):
            states = _states(source).flatten(2)  # of the trained layer, in the same places
            found = precision(states, None, [formats.one] * states.shape[1], formats, may_drop=False)
            if found is None:
                raise too_large(name, formats)
            layer.take_states(source, int(found[1].min()))
            return
        parts, bias = _weights(source)
        if isinstance(layer, ExactHalves):
            weight = parts["weight" if "weight" in parts else "centre"]
            bits_of_all = precision_of_halves(weight, bias, bounds.flatten(0, -2).amax(0), formats)
            if bits_of_all is None:
                raise too_large(name, formats)
            layer.take(parts, bias, bits_of_all)
            return
        whole = source.kernel() if isinstance(source, PixelConv | RowConv) else source.get_parameter("weight")
        found = precision(
            whole.flatten(2) if whole.dim() > 2 else whole[..., None],
            bias,
            [int(bound) for bound in bounds.flatten(0, -2).amax(0)],
            formats,
            may_drop=not (isinstance(source, PixelConv) and source.mask == "A"),
        )
        if (found is None or found[0] > MOST_LEFT_OFF) and one_position(source) and not _is_recurrent(model, name):
            long.append(name)
            return
        if found is None:
            raise too_large(name, formats)
        layer.drop, bits = found
        if layer.drop:
            drops[name] = layer.drop
        layer.take(parts, bias, bits)

    exact.embedding.take(model.embedding)
    if isinstance(exact.head, ExactAutoregressiveCategorical) and isinstance(model.head, AutoregressiveCategorical):
        exact.head.take(model.head)
    _take_condition(exact, model)
    exact.prove(before=take)
    if long:
        return frozen(model, dataclasses.replace(formats, halves=sorted([*formats.halves, *long])))
    exact.formats = dataclasses.replace(formats, drops=drops)
    made: Any = exact._hub_mixin_config
    made["formats"] = exact.formats.to_dict()
    exact.card = dict(getattr(model, "card", {}))
    return exact.to(model.like().device)


def _is_recurrent(model: ImageModel, name: str) -> bool:
    """Whether the layer of that name is a part of a recurrent one."""
    return isinstance(model.get_submodule(name.rpartition(".")[0]), DiagonalBiLSTM)


def _states(layer: nn.Module) -> Tensor:
    """A recurrent layer's weights of the states, [outputs, inputs, ...]."""
    weight = layer.get_parameter("state_to_state")
    return weight if isinstance(layer, RowLSTM) else weight.transpose(1, 2).flatten(0, 1)[..., None]


def too_large(name: str, formats: Formats) -> UserError:
    return UserError(
        f"The layer {name} cannot be frozen in the {formats.form} form: its weights are too large for sums to be exact."
    )


def _weights(layer: nn.Module) -> tuple[dict[str, Tensor], Tensor | None]:
    """Weights by the name of their parameter, without normalisation, and the bias."""
    if isinstance(layer, PixelConv):
        parts = {name: layer._scaled(getattr(layer, name)) for name in ("above", "before") if hasattr(layer, name)}
        centre = layer.centre_weight()
        return parts if centre is None else {**parts, "centre": centre}, layer.bias
    if isinstance(layer, RowConv):
        return {"weight": layer.kernel()}, layer.bias
    return {"weight": layer.get_parameter("weight")}, getattr(layer, "bias", None)


def _take_condition(exact: ExactModel, model: ImageModel) -> None:
    """Round the vectors of the classes, and of the order of prediction, which is one of them all."""
    vector = model.with_order(None, 1)
    added = 0 if vector is None else vector.flatten().double()
    bits, limit = exact.formats.activation, exact.formats.limit
    if exact.condition is not None and model.condition is not None:
        exact.condition.table.weight.copy_(saturated(rounded(model.condition.table.weight + added, bits), limit))
        exact.set_class_prior(model.get_buffer("class_prior").double())
    elif exact.told is not None and vector is not None:
        exact.told.copy_(saturated(rounded(vector.flatten(), bits), limit))
