"""What scoring found, image by image, and the scores that can be asked of it by name.

Plain likelihood is a poor detector: simple pictures of another kind often get a higher one than those the model was
trained on (Nalisnick et al. 2019, "Do Deep Generative Models Know What They Don't Know?"). `SCORES` lists what else can
be asked of the same model; docs/anomalies.md has the formulas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from nextpixel.brief import Brief
from nextpixel.errors import UserError, did_you_mean
from nextpixel.tasks.normality import Normality
from nextpixel.tasks.surprise import Surprise, calibrated


@dataclasses.dataclass(frozen=True, repr=False)
class Sums(Brief):
    """Sums over the symbols of each image under one model, float64 [N]: bits, their expectation H and variance V."""

    bits: Tensor
    entropy: Tensor
    variance: Tensor

    @property
    def z(self) -> Tensor:
        """(Σ bits − ΣH) / √ΣV, [N]: mean 0 and variance 1 under the model."""
        return calibrated(self.bits - self.entropy, self.variance)


@dataclasses.dataclass(frozen=True, repr=False)
class Scores(Brief):
    """What `score` found of N images [C, H, W]; everything float64.

    model: sums under the model; against: those under the other model, or None; file_bits: bits of the image as a file,
    by format, [N] each (none where they were left out, or files cannot hold the images); maps: bits, H and V of every
    symbol [N, C, H, W], or None; dims: C·H·W; names, labels: of the images; normality: normal images to compare with,
    or None.
    """

    model: Sums
    against: Sums | None
    file_bits: dict[str, Tensor]
    maps: Surprise | None
    dims: int
    names: list[str]
    labels: Tensor | None
    normality: Normality | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def bits_per_dim(self) -> Tensor:
        """−log2 p(x) / dims, [N]."""
        return self.model.bits / self.dims

    @property
    def typicality(self) -> Tensor:
        """(Σ bits − ΣH) / √ΣV, [N]: mean 0 and variance 1 under the model. Both tails are anomalous."""
        return self.model.z

    @property
    def complexity(self) -> Tensor | None:
        """(bits − bits of the image as a file) / dims, [N]; of the formats the shorter one (Serrà et al. 2020)."""
        if not self.file_bits:
            return None
        return (self.model.bits - torch.stack(list(self.file_bits.values())).amin(0)) / self.dims

    @property
    def ratio(self) -> Tensor | None:
        """(bits − bits under the other model) / dims, [N]: log p_other / p (Ren et al. 2019; Zhang et al. 2021)."""
        return None if self.against is None else (self.model.bits - self.against.bits) / self.dims

    @property
    def distance(self) -> Tensor | None:
        """How far the image's statistics are from those of normal images, [N]."""
        return None if self.normality is None else self.normality.distance(self.statistics())

    @property
    def symbol_z(self) -> Tensor | None:
        """(bits − H) / √V of every symbol, [N, C, H, W]."""
        return None if self.maps is None else calibrated(self.maps.bits - self.maps.entropy, self.maps.variance)

    @property
    def pixel_z(self) -> Tensor | None:
        """The same of every pixel: of its channels' sums, [N, H, W]."""
        if self.maps is None:
            return None
        return calibrated((self.maps.bits - self.maps.entropy).sum(1), self.maps.variance.sum(1))

    @property
    def available(self) -> list[str]:
        """The names of the scores that there are: those of `SCORES` for which everything is at hand."""
        return [name for name, kind in SCORES.items() if kind.of(self) is not None]

    def anomaly(self, name: str) -> Tensor:
        """The score of a name from `SCORES`, [N], turned so that higher is more anomalous. UserError where it cannot be
        had."""
        check_score(name)
        values = SCORES[name].of(self)
        if values is None:
            raise UserError(f"The score {name!r} needs {SCORES[name].needs}.")
        return values

    def statistics(self) -> Tensor:
        """What `normality` looks at, [N, S]: logarithms of the bits, H and V summed over each image, and of its bits
        as a file in each format."""
        columns = [*vars(self.model).values(), *self.file_bits.values()]
        return torch.stack(columns, 1).clamp(min=1e-3).log()


@dataclasses.dataclass(frozen=True)
class Kind:
    """A score by name: what it is, how it is got (None: it cannot be), what it needs."""

    summary: str
    of: Callable[[Scores], Tensor | None]
    needs: str = "nothing"


SCORES = {
    "bits": Kind("−log2 p(x), bits/dim", lambda scores: scores.bits_per_dim),
    "typicality": Kind("|Σ bits − ΣH| / √ΣV: both tails", lambda scores: scores.typicality.abs()),
    "complexity": Kind(
        "bits/dim minus those of the image as a PNG or WebP file",
        lambda scores: scores.complexity,
        "the images as files: leave complexity on (--complexity)",
    ),
    "ratio": Kind(
        "bits/dim minus those under another model",
        lambda scores: scores.ratio,
        "another model: against=OTHER (--against)",
    ),
    "distance": Kind(
        "how far bits, H, V and the files' bits together are from those of normal images",
        lambda scores: scores.distance,
        "normal images to compare with: normality=... (--calibrate NORMAL)",
    ),
}
"""The scores by name."""


def check_score(name: str, against: bool = True) -> None:
    """UserError unless it is the name of a score, and one that can be had. against: whether there is another model."""
    if name not in SCORES:
        raise UserError(f"There is no score {name!r}; there are {', '.join(SCORES)}." + did_you_mean(name, SCORES))
    if name == "ratio" and not against:
        raise UserError(f"The score {name!r} needs {SCORES[name].needs}.")
