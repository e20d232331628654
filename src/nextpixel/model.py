"""What every model of images is, whatever it is made of: p(x), symbol by symbol in the model's own order."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from nextpixel.embedding import ConditionEmbedding
from nextpixel.errors import UserError
from nextpixel.orders import Order
from nextpixel.saving import HubModel


class Model(HubModel):
    """p(x) or p(x | condition) over integer images [N, C, H, W] with `levels` values 0..K-1."""

    shape: tuple[int, int, int]
    levels: int
    classes: int | None
    condition: ConditionEmbedding | None
    run_folder: Path | None = None
    """where `train` has just left its run"""
    recompute: bool = False
    """whether backward passes keep only the inputs of the network's blocks: less memory for about a third more time"""
    exact: bool = True
    """whether log_prob is log p(x) itself, and not a bound"""

    @property
    def family(self) -> str:
        """The name under which the model's kind is known."""
        raise NotImplementedError

    @property
    def dims(self) -> int:
        """Symbols per picture: the denominator of bits/dim."""
        return math.prod(self.shape)

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def why(self) -> str:
        """Why log_prob is exact, or what it is a bound of, in a few words."""
        summed = "" if self.classes is None else "; summed over all classes where none is given"
        return f"every symbol is counted once, given those before it{summed}"

    @property
    def order_in_words(self) -> str:
        """In which order the pixels are predicted."""
        return "raster order (rows from the top, then from the left)"

    @property
    def orders(self) -> tuple[Order, ...]:
        """The orders of prediction that the model can be asked to follow; with several, p(x) is their even mixture.
        Empty for a model with one order of its own that has no name."""
        return ()

    @property
    def order_names(self) -> tuple[str, ...]:
        """The names of `orders`."""
        return tuple(order.name for order in self.orders)

    @property
    def free_orders(self) -> bool:
        """Whether `in_order` also takes permutations of the pixels that are not among `orders`."""
        return False

    def in_order(self, which: str | int | Tensor) -> Self:
        """The same model, answering in one of its `orders` only; UserError for any other."""
        raise UserError(f"A model of the kind {self.family} predicts in an order of its own: name no other.")

    def each_order(self) -> list[Self]:
        """The model in each of its `orders`; the model itself where it has no several."""
        count = len(self.order_names)
        return [self.in_order(number) for number in range(count)] if count > 1 else [self]

    def like(self) -> Tensor:
        """An empty tensor of the model's dtype and device."""
        return next(self.parameters()).new_empty(0)

    def facts(self) -> dict[str, object]:
        """What the model is, in words, for its card and for `nextpixel info`."""
        channels, height, width = self.shape
        return {
            "family": self.family,
            "images": f"{channels} channel{'s' * (channels > 1)}, {height}x{width}, {self.levels} levels",
            "classes": self.classes or "not class-conditional",
            "parameters": f"{self.parameter_count:,}",
        }

    def forward(self, x: Tensor, condition: object = None) -> Tensor:
        """`model(x)` is `model.log_prob(x)`."""
        return self.log_prob(x, condition)

    def log_prob_given(self, x: Tensor, condition: object) -> Tensor:
        """log p of every symbol given all earlier ones and the whole condition, nats, [N, C, H, W]; x is checked."""
        raise NotImplementedError

    def log_pmf(self, x: Tensor, condition: object = None) -> Tensor:
        """Log-probabilities of all values of every symbol given the earlier symbols of x, nats, [N, C, H, W, K]."""
        raise NotImplementedError

    def stepper(self, n: int = 1, condition: object = None, size: tuple[int, int] | None = None) -> Any:
        """n pictures to be made symbol by symbol: a `nextpixel.Stepper`, or what answers like one."""
        raise NotImplementedError

    def initialise_from_data(self, x: Tensor, condition: object = None) -> int:
        """Set the gains and biases of weight-normalised layers from a batch of images, as training does at its start;
        returns how many layers there are. Nothing happens to networks without such layers."""
        raise NotImplementedError

    def in_sequence(self, symbols: Tensor) -> Tensor:
        """[..., C, H, W] → [..., symbols in the order in which the model predicts them]."""
        return symbols.movedim(-3, -1).flatten(-3)

    def from_sequence(self, symbols: Tensor, size: tuple[int, int]) -> Tensor:
        """The inverse of `in_sequence`, for pictures of H, W = size."""
        return symbols.unflatten(-1, (*size, self.shape[0])).movedim(-1, -3)

    def condition_parts(self, condition: object, n: int) -> dict[str, Tensor] | None:
        """The condition of n pictures as tensors by kind, one entry a picture; None for an unconditional model."""
        if self.condition is None:
            if condition is not None:
                raise UserError("This model is not conditional: leave the condition out.")
            return None
        return self.condition.parts(condition, n, self.like())

    def check_images(self, x: Tensor) -> Tensor:
        """x as an integer tensor on the model's device; UserError if it cannot be an image of this model."""
        if not isinstance(x, Tensor):
            raise UserError(
                f"Images must be in a tensor [N, C, H, W], not a {type(x).__name__}: the part of a data set has one in "
                "`.images`, torch.from_numpy makes one of an array."
            )
        if x.dim() != 4 or x.shape[1] != self.shape[0] or 0 in x.shape[2:]:
            raise UserError(f"Images must have shape [N, {self.shape[0]}, H, W] with H, W > 0, not {list(x.shape)}.")
        if x.is_floating_point() or x.dtype == torch.bool:
            raise UserError(f"Images must be integers 0..{self.levels - 1}, not {x.dtype}.")
        x = x.to(self.like().device, torch.long)  # which holds every level, whatever the type that they came in
        if x.numel() and (int(x.max()) >= self.levels or int(x.min()) < 0):
            worst = int(x.max()) if int(x.max()) >= self.levels else int(x.min())
            raise UserError(f"The value {worst} is not one of the model's levels 0..{self.levels - 1}.")
        return x

    def log_prob_per_symbol(self, x: Tensor, condition: object = None) -> Tensor:
        """log p of every symbol given all earlier ones, nats, [N, C, H, W]; differentiable.

        A class-conditional model without a class answers for the marginal over classes.
        """
        x = self.check_images(x)
        if condition is not None or not self._class_only:
            return self.log_prob_given(x, condition)
        given = torch.stack([self.in_sequence(self.log_prob_given(x, label)) for label in range(self.classes or 0)])
        prior = self.log_class_prior().to(given.device)[:, None, None]
        joint = torch.logsumexp(given.double().cumsum(2) + prior, 0)  # thousands of nats: differences need float64
        steps = torch.diff(joint, dim=1, prepend=joint.new_zeros(len(x), 1))
        return self.from_sequence(steps.to(given), (x.shape[2], x.shape[3]))

    def log_prob(self, x: Tensor, condition: object = None) -> Tensor:
        """log p(x | condition), nats per image, [N]; differentiable.

        A class-conditional model without a class gives the exact marginal log Σ_y p(y) p(x|y), with the class
        frequencies of its training data as p(y). In training mode dropout counts: the likelihood of what was trained is
        that of `model.eval()`.
        """
        if condition is not None or not self._class_only:
            return self.log_prob_per_symbol(x, condition).flatten(1).sum(1)
        given = self.log_prob_given_classes(x)
        return torch.logsumexp(given + self.log_class_prior().to(given), 1)

    def log_prob_given_classes(self, x: Tensor) -> Tensor:
        """log p(x | y) for every class y, nats, [N, classes]."""
        if not self._class_only:
            raise UserError("This model is not class-conditional.")
        return torch.stack([self.log_prob(x, label) for label in range(self.classes or 0)], 1)

    @property
    def _class_only(self) -> bool:
        return self.classes is not None and self.condition is not None and self.condition.only_classes

    def set_class_prior(self, shares: Tensor) -> None:
        """Say what p(y) is, [classes], summing to 1: to the model, and to the models it is made of."""
        for module in self.modules():
            if isinstance(module, Model) and module.classes is not None:
                module.get_buffer("class_prior").copy_(shares)

    def log_class_prior(self) -> Tensor:
        """log p(y) of every class, float64 [classes]: the class frequencies of the training data."""
        prior = self.get_buffer("class_prior").double()
        return torch.log(prior / prior.sum())


def condition_of(model: Model, given: Tensor | dict[str, Tensor] | None) -> Tensor | dict[str, Tensor] | None:
    """Of what is known of some images, labels or tensors by kind, that which the model is conditioned on: None for an
    unconditional model; UserError if something is missing."""
    wanted = model.condition
    if wanted is None:
        return None
    known = given if isinstance(given, dict) else {} if given is None else {"class": given}
    kinds = {"class": wanted.classes, "vector": wanted.vector_width, "map": wanted.map_shape}
    needed = [kind for kind, there in kinds.items() if there is not None]
    for kind in needed:
        if kind not in known:
            raise UserError(
                "The model is class-conditional, but the images have no labels."
                if kind == "class"
                else f"The model is conditioned on a {kind}, but the images have none."
            )
    return known["class"] if needed == ["class"] else {kind: known[kind] for kind in needed}


def chosen_condition(condition: Any, indices: Any) -> Any:
    """The condition of the pictures `indices`, of what `condition_of` gives."""
    if isinstance(condition, dict):
        return {kind: values[indices] for kind, values in condition.items()}
    return None if condition is None else condition[indices]


def check_model(model: Any) -> None:
    """UserError for what is no model."""
    if not isinstance(model, Model):
        raise UserError(f"This is no model but a {type(model).__name__}: npx.load opens a folder, a name or a hub id.")


def check_weights(model: Model) -> None:
    """UserError where weights are not finite: pictures drawn from such a model would look like any others."""
    if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
        raise UserError("The model's weights are not all finite numbers: they are damaged, or its training has failed.")
