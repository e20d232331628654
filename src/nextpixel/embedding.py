"""From what a user holds (integer images, classes, vectors, maps) to what a network reads.

Positions outside the image are zeros in every layer. A constant 1 beside the pixel values tells them from grey.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from nextpixel.causal import Layout
from nextpixel.errors import UserError
from nextpixel.images.levels import scale

EmbeddingKind = Literal["scaled", "learned"]


class SymbolEmbedding(nn.Module):
    """Integer images [N, C, H, W] → [N, H, W, D], sorted by channel group.

    "scaled": each value on [-1, 1], for levels that are ordered. "learned": a vector for each value and channel, for
    codes that are not. With `ordered` channels every channel is a group of its own; else there is one group.
    """

    def __init__(self, channels: int, levels: int, kind: EmbeddingKind, features: int, ordered: bool):
        super().__init__()
        self.channels, self.levels, self.kind = channels, levels, kind
        each = features if kind == "learned" else 1
        if kind == "learned":
            self.tables = nn.ModuleList(nn.Embedding(levels, features) for _ in range(channels))
        sizes = (each + 1, *[each] * (channels - 1)) if ordered else (channels * each + 1,)
        self.layout = Layout(sizes)

    def channel(self, values: Tensor, channel: int, like: Tensor) -> Tensor:
        """Values [...] of one channel → [..., d]; the constant comes with channel 0."""
        if self.kind == "learned":
            vectors = self.tables[channel](values.long())
        else:
            vectors = scale(values, self.levels, like.dtype)[..., None]
        return torch.cat([torch.ones_like(vectors[..., :1]), vectors], -1) if channel == 0 else vectors

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return torch.cat([self.channel(x[:, c], c, like) for c in range(self.channels)], -1)


class ConditionEmbedding(nn.Module):
    """Class [N], vector [N, V] and map [N, D, h, w] → one tensor [N, 1 or H, 1 or W, E] that networks add inside.

    A map of the image's size goes through a 1×1; a smaller one is first doubled by learned transposed convolutions
    until it covers the image, and cropped (van den Oord et al. 2016b, section 2.3). With `map_levels` the map holds
    integers below that, such as the codes of a coarser level (van den Oord et al. 2017; Razavi et al. 2019); a learned
    vector for each value, and each of the D grids, takes their place.
    """

    def __init__(
        self,
        features: int,
        classes: int | None,
        vector: int | None,
        map_shape: tuple[int, int, int] | None,
        size: tuple[int, int],
        map_levels: int | None = None,
    ):
        super().__init__()
        self.classes, self.vector_width, self.map_shape, self.map_levels = classes, vector, map_shape, map_levels
        if classes is not None:
            self.table = nn.Embedding(classes, features)
        if vector is not None:
            self.vector = nn.Linear(vector, features)
        if map_shape is not None:
            depth, height, width = map_shape
            if map_levels is not None:
                self.codes = nn.ModuleList(nn.Embedding(map_levels, features) for _ in range(depth))
                depth = features
            doublings = max(math.ceil(math.log2(size[0] / height)), math.ceil(math.log2(size[1] / width)), 0)
            steps: list[nn.Module] = []
            for _ in range(doublings):
                steps += [nn.ConvTranspose2d(depth, features, 4, stride=2, padding=1), nn.ReLU()]
                depth = features
            self.map = nn.Sequential(*steps, nn.Conv2d(depth, features, 1))

    @property
    def only_classes(self) -> bool:
        return self.classes is not None and self.vector_width is None and self.map_shape is None

    def forward(self, parts: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
        embedded = []
        if "class" in parts:
            embedded.append(self.table(parts["class"])[:, None, None])
        if "vector" in parts:
            embedded.append(self.vector(parts["vector"])[:, None, None])
        if "map" in parts:
            given = parts["map"]
            if self.map_levels is not None:
                vectors = [table(grid.long()) for table, grid in zip(self.codes, given.unbind(1), strict=True)]
                given = torch.stack(vectors).sum(0).movedim(-1, 1)
            grown = self.map(given)
            if grown.shape[2] < size[0] or grown.shape[3] < size[1]:
                raise UserError(
                    f"The map of the condition covers {grown.shape[2]}x{grown.shape[3]} pixels only, "
                    f"the picture has {size[0]}x{size[1]}; give a larger map."
                )
            embedded.append(grown[:, :, : size[0], : size[1]].permute(0, 2, 3, 1))
        total = embedded[0]
        for more in embedded[1:]:
            total = total + more
        return total

    def parts(self, condition: object, n: int, like: Tensor) -> dict[str, Tensor]:
        """Check what the user gave (an int, a tensor, or a dict by kind) and bring it to tensors of n pictures."""
        kinds = [
            kind
            for kind, there in (("class", self.classes), ("vector", self.vector_width), ("map", self.map_shape))
            if there is not None
        ]
        if condition is None:
            raise UserError(f"This model is conditional: give its condition ({', '.join(kinds)}).")
        if not isinstance(condition, dict):
            if len(kinds) > 1:
                raise UserError(f"This model takes several conditions; give a dict with the keys {', '.join(kinds)}.")
            condition = {kinds[0]: condition}
        if set(condition) != set(kinds):
            raise UserError(
                f"The condition must have the keys {', '.join(kinds)}, not {', '.join(condition) or 'none'}."
            )
        parts = {}
        if self.classes is not None:
            parts["class"] = self._classes(condition["class"], n, like)
        if self.vector_width is not None:
            parts["vector"] = _dense("vector", condition["vector"], (self.vector_width,), n, like)
        if self.map_shape is not None:
            given = condition["map"]
            if self.map_levels is not None:
                _check_codes(given, self.map_levels)
                like = like.long()
            parts["map"] = _dense("map", given, self.map_shape, n, like)
        return parts

    def _classes(self, value: object, n: int, like: Tensor) -> Tensor:
        try:
            classes = torch.as_tensor(value, device=like.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"Classes must be integers, not {type(value).__name__}.") from error
        if classes.is_floating_point() or classes.dtype == torch.bool:
            raise UserError("Classes must be integers.")
        classes = classes.long().expand(n) if classes.dim() == 0 else classes.long()
        if classes.shape != (n,):
            raise UserError(f"There must be one class per picture: {n}, not {tuple(classes.shape)}.")
        if n and (int(classes.min()) < 0 or int(classes.max()) >= (self.classes or 0)):
            worst = int(classes.max()) if int(classes.max()) >= (self.classes or 0) else int(classes.min())
            raise UserError(f"There is no class {worst}: the classes of this model are 0..{(self.classes or 0) - 1}.")
        return classes


def _dense(kind: str, value: object, shape: tuple[int, ...], n: int, like: Tensor) -> Tensor:
    """One condition for all pictures, or one each, as [n, *shape]. The sides of a map follow the picture's."""
    try:
        given = torch.as_tensor(value).to(like)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"The {kind} condition must be a tensor of numbers, not {type(value).__name__}.") from error
    if given.dim() == len(shape):
        given = given.expand(n, *given.shape)
    if given.dim() != 1 + len(shape) or given.shape[:2] != (n, shape[0]):
        raise UserError(f"The {kind} condition must have shape {[n, *shape]}, not {list(given.shape)}.")
    if not torch.isfinite(given).all():
        raise UserError(f"The {kind} condition holds numbers that are not finite.")
    return given


def _check_codes(given: object, levels: int) -> None:
    if not isinstance(given, Tensor) or given.is_floating_point() or given.dtype == torch.bool:
        raise UserError(f"The map condition must be a tensor of integers 0..{levels - 1}.")
    if given.numel() and (int(given.min()) < 0 or int(given.max()) >= levels):
        worst = int(given.max()) if int(given.max()) >= levels else int(given.min())
        raise UserError(f"The map condition holds the value {worst}, but its levels are 0..{levels - 1}.")
