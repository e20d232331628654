"""Multi-scale models: a small picture first, then the whole one given the small one (van den Oord et al. 2016a,
section 3.6). Two chained models that are one: one likelihood, one training, one sampler."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nextpixel.embedding import ConditionEmbedding, EmbeddingKind
from nextpixel.errors import UserError, did_you_mean
from nextpixel.image_model import ImageModel
from nextpixel.images.levels import scale as scaled
from nextpixel.model import Model
from nextpixel.networks import families, family
from nextpixel.parts import check_made_for, default_head, shape_and_levels

# not chosen by the parts
COMMON = ("shape", "levels", "classes", "vector", "map_shape", "map_levels", "embedding", "orders")


class MultiScaleModel(Model):
    """p(x) = p(small) · ∏ p(xᵢ | x₍<ᵢ₎, small), the product over the symbols that are not in the small picture.

    The small picture is every `scale`-th pixel of every `scale`-th row, x[:, :, ::scale, ::scale]. The part `small` is
    an unconditional (or class-conditional) model of it. The part `large` is a model of the whole picture, conditioned
    on a map: the small picture, doubled by learned transposed convolutions until it covers the whole one, biases every
    layer (the paper's section 3.6). The order of prediction is the small picture in raster order, then all other
    pixels in raster order, the channels of a pixel in order.

    What we do differently: the paper's large model generates all pixels again. Then the product p(small) · q(x | small)
    is the probability of the *pair*, and only pairs that agree belong to pictures: q also gives probability to pictures
    that contradict the small one, so the products sum to less than 1 over all x, and −log of them is no more than an
    upper bound on −log Σ_s p(s) q(x | s), the code length under such a model. Here the pixels of the small picture are
    copied, not generated again, and their terms are left out of the second product. What is left is the chain rule in
    another order of the symbols: exact, and never worse than the paper's count with the same weights, since the terms
    left out are probabilities.

    Use `nextpixel.build_multiscale`. The arguments here are what a saved model's config.json holds. shape, levels,
    classes, embedding: as for `ImageModel`, common to both parts. scale: a power of two. small, large: the other
    arguments of the two `ImageModel`s (family, head, options, head_options, ...).
    """

    kind = "multiscale"

    def __init__(
        self,
        shape: list[int],
        levels: int,
        scale: int,
        small: dict[str, Any],
        large: dict[str, Any],
        classes: int | None = None,
        embedding: EmbeddingKind = "scaled",
    ):
        super().__init__()
        check_made_for(shape, levels, classes, None, None, embedding)
        _check_scale(scale, shape)
        channels, height, width = shape
        self.shape, self.levels, self.classes, self.scale = (channels, height, width), levels, classes, scale
        self.one_hot = embedding == "learned"
        depth = 1 + channels * (levels if self.one_hot else 1)
        low = [*self.small_size((height, width))]
        common = {"levels": levels, "classes": classes, "embedding": embedding}
        self.small = _part("small", small, {"shape": [channels, *low], **common})
        self.large = _part("large", large, {"shape": [*shape], "map_shape": [depth, *low], **common})
        if classes is not None:
            self.register_buffer("class_prior", torch.full((classes,), 1 / classes))
        made = self._hub_mixin_config  # in full, so that a default may change without changing what old files mean
        if isinstance(made, dict):
            made |= {"small": _own_arguments(self.small), "large": _own_arguments(self.large)}

    @property
    def family(self) -> str:
        return f"multiscale_{self.large.family}"

    @property
    def condition(self) -> ConditionEmbedding | None:  # type: ignore[override] # seen from outside: classes or none
        return self.small.condition

    @property
    def why(self) -> str:
        return f"the pixels of the small picture are counted once; {super().why}"

    @property
    def order_in_words(self) -> str:
        return f"the model's order (first the small picture, in {self._lines}, then the others)"

    @property
    def _lines(self) -> str:
        return f"rows and columns 0, {self.scale}, {2 * self.scale}, ..."

    def facts(self) -> dict[str, object]:
        size = "x".join(map(str, self.small.shape[1:]))
        facts = {**super().facts(), "small picture": f"{size}: {self._lines}"}
        for name, part in (("small", self.small), ("large", self.large)):
            own = {key: value for key, value in part.facts().items() if key not in ("images", "classes")}
            facts |= {f"{name} {key}": value for key, value in own.items()}
        return facts

    def small_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) of the small picture of a picture of that size."""
        return -(-size[0] // self.scale), -(-size[1] // self.scale)

    def small_of(self, x: Tensor) -> Tensor:
        """The small pictures of images: [..., H, W] → [..., ⌈H/scale⌉, ⌈W/scale⌉]."""
        return x[..., :: self.scale, :: self.scale]

    def map_of(self, small: Tensor) -> Tensor:
        """Small pictures [N, C, h, w] as the large part's map, [N, D, h, w]: the values on [-1, 1], or one-hot where
        levels are not ordered, and a constant 1 that tells black and grey from what is outside."""
        like = self.like()
        if self.one_hot:
            values = functional.one_hot(small.long(), self.levels).movedim(-1, 2).flatten(1, 2).to(like)
        else:
            values = scaled(small, self.levels, like.dtype)
        return torch.cat([torch.ones_like(values[:, :1]), values], 1)

    def large_condition(self, parts: dict[str, Tensor] | None, small: Tensor) -> dict[str, Tensor]:
        """The condition of the large part: the model's own (`condition_parts`) and the small pictures as a map."""
        return {**(parts or {}), "map": self.map_of(small)}

    def log_prob_given(self, x: Tensor, condition: object) -> Tensor:
        parts, small = self.condition_parts(condition, len(x)), self.small_of(x)
        whole = self.large.log_prob_given(x, self.large_condition(parts, small))
        return self._with_small(whole, self.small.log_prob_given(small, parts))

    def log_pmf(self, x: Tensor, condition: object = None) -> Tensor:
        x = self.check_images(x)
        parts, small = self.condition_parts(condition, len(x)), self.small_of(x)
        whole = self.large.log_pmf(x, self.large_condition(parts, small))
        return self._with_small(whole, self.small.log_pmf(small, parts))

    def _with_small(self, whole: Tensor, small: Tensor) -> Tensor:
        """[N, C, H, W, ...] of the large part, with those of the small part in the places of its pixels."""
        whole = whole.clone()
        whole[:, :, :: self.scale, :: self.scale] = small
        return whole

    def initialise_from_data(self, x: Tensor, condition: object = None) -> int:
        x = self.check_images(x)
        parts, small = self.condition_parts(condition, len(x)), self.small_of(x)
        done = self.small.initialise_from_data(small, parts)
        return done + self.large.initialise_from_data(x, self.large_condition(parts, small))

    def stepper(self, n: int = 1, condition: object = None, size: tuple[int, int] | None = None) -> Any:
        from nextpixel.multiscale_stepping import ChainStepper

        return ChainStepper(self, n, condition, size)

    def in_sequence(self, symbols: Tensor) -> Tensor:
        return symbols.flatten(-3)[..., self._sequence((symbols.shape[-2], symbols.shape[-1])).to(symbols.device)]

    def from_sequence(self, symbols: Tensor, size: tuple[int, int]) -> Tensor:
        back = self._sequence(size).argsort().to(symbols.device)
        return symbols[..., back].unflatten(-1, (self.shape[0], *size))

    def _sequence(self, size: tuple[int, int]) -> Tensor:
        """The number of every symbol of [C, H, W] in the order of prediction: the small picture's, then the others."""
        numbers = torch.arange(self.shape[0] * size[0] * size[1]).view(self.shape[0], *size)
        copied = torch.zeros_like(numbers, dtype=torch.bool)
        self.small_of(copied)[:] = True
        others = self.large.in_sequence(numbers)
        return torch.cat([self.small.in_sequence(self.small_of(numbers)), others[~copied.flatten()[others]]])


def build_multiscale(
    family: str,
    *,
    like: Any = None,
    shape: tuple[int, int, int] | None = None,
    levels: int | None = None,
    scale: int = 2,
    head: str | None = None,
    classes: int | None = None,
    embedding: EmbeddingKind | None = None,
    head_options: dict[str, Any] | None = None,
    small_family: str | None = None,
    small_options: dict[str, Any] | None = None,
    **options: Any,
) -> MultiScaleModel:
    """A new multi-scale model with random weights: every `scale`-th pixel first, then the others given these (van den
    Oord et al. 2016a, section 3.6; `MultiScaleModel` says what we do differently).

    family: of the large part; one that can be conditioned on a map. like, shape, levels, classes, embedding, head,
    head_options: as for `nextpixel.build`; head and embedding are those of both parts. small_family: of the small part;
    by default the same. options, small_options: fields of the Configs of the large and the small part; the small part
    of the same family has the large one's options but for what small_options says.

    Raises UserError for unknown names and for combinations that cannot work, saying why.
    """
    shape, levels = shape_and_levels(like, shape, levels)
    head = head or default_head(levels)
    inherited = options if small_family in (None, family) else {}
    large = {"family": family, "head": head, "options": options, "head_options": head_options}
    small = {**large, "family": small_family or family, "options": {**inherited, **(small_options or {})}}
    return MultiScaleModel(list(shape), levels, scale, small, large, classes, embedding or "scaled")


def _check_scale(scale: object, shape: list[int]) -> None:
    if type(scale) is not int or scale < 2 or scale & (scale - 1):
        raise UserError(
            f"The scale must be a power of two, 2 or more, not {scale!r}: the map of the small picture is doubled "
            "until it covers the whole one."
        )
    if scale > max(shape[1:]):
        raise UserError(
            f"The scale must not be larger than the picture's longer side, {max(shape[1:])} pixels, but it is {scale}."
        )


def _part(which: str, wanted: object, common: dict[str, Any]) -> ImageModel:
    """One of the two models, from its own arguments and the common ones."""
    known = [name for name in inspect.signature(ImageModel.__init__).parameters if name not in ("self", *COMMON)]
    if not isinstance(wanted, dict) or not {"family", "head"} <= wanted.keys():
        raise UserError(f"The {which} part must be a table with at least the names of a family and a head.")
    for name in wanted:
        if name not in known:
            raise UserError(
                f"The {which} part has no argument {name!r}; it has: {', '.join(known)}." + did_you_mean(name, known)
            )
    if which == "large" and "map" not in family(wanted["family"]).conditions:
        able = ", ".join(name for name, declared in families().items() if "map" in declared.conditions)
        raise UserError(
            f"The family {wanted['family']} cannot be the large part of a multi-scale model: the small picture reaches "
            f"it as a map, and it cannot be conditioned on one; these can: {able}."
        )
    return ImageModel(**wanted, **common)


def _own_arguments(part: ImageModel) -> dict[str, Any]:
    made: Any = part._hub_mixin_config
    return {name: value for name, value in made.items() if name not in COMMON}
