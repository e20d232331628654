"""`freeze`: from a trained model to one that computes with integers only."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nextpixel.causal import PixelConv, RowConv, RowLSTM
from nextpixel.errors import UserError
from nextpixel.exact.heads import ExactAutoregressiveCategorical
from nextpixel.exact.model import ExactModel, check_freezable
from nextpixel.exact.numbers import FORMS, Formats, rounded, saturated
from nextpixel.exact.proof import precision
from nextpixel.exact.recurrence import IntegerStates
from nextpixel.heads import AutoregressiveCategorical
from nextpixel.image_model import ImageModel
from nextpixel.model import condition_of

TOLERATED = 0.1
"""per cent of the bits that the float32 form may cost before "auto" takes the float64 form"""


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
    if form not in ("auto", *FORMS):
        raise UserError(f"The form of a frozen model is auto, float32 or float64, not {form!r}.")
    if form != "float64":
        try:
            exact = _measured(frozen(model, FORMS["float32"]), model, data)
            if form == "float32" or exact.card.get("freezing", {}).get("cost_percent", 0.0) <= TOLERATED:
                return exact
        except UserError:
            if form == "float32":
                raise
    return _measured(frozen(model, FORMS["float64"]), model, data)


def _measured(exact: ExactModel, model: ImageModel, data: Any) -> ExactModel:
    """With the cost of freezing on the data, if there are any, in its card."""
    if data is not None:
        bits = [
            sum(
                float(one.log_prob(data[start : start + 64].images, labels).double().sum())
                for start in range(0, len(data), 64)
                for labels in [None if model.classes is None else condition_of(one, data.labels[start : start + 64])]
            )
            for one in (model, exact)
        ]
        cost = 100 * (bits[1] / bits[0] - 1)
        exact.card["freezing"] = {"form": exact.formats.form, "cost_percent": cost, "images": len(data)}
    return exact


def frozen(model: ImageModel, formats: Formats) -> ExactModel:
    """The model in these formats; UserError if a layer cannot be proved in them."""
    source = {name: value for name, value in model.made_with().items() if value is not None}
    exact = ExactModel(source, formats.to_dict(), model.order.name)
    drops: dict[str, int] = {}

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
        whole = source.kernel() if isinstance(source, PixelConv | RowConv) else source.get_parameter("weight")
        found = precision(
            whole.flatten(2) if whole.dim() > 2 else whole[..., None],
            bias,
            [int(bound) for bound in bounds.flatten(0, -2).amax(0)],
            formats,
            may_drop=not (isinstance(source, PixelConv) and source.mask == "A"),
        )
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
    exact.formats = dataclasses.replace(formats, drops=drops)
    made: Any = exact._hub_mixin_config
    made["formats"] = exact.formats.to_dict()
    exact.card = dict(getattr(model, "card", {}))
    return exact.to(model.like().device)


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
