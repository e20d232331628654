"""What happens at one position alone, on integers. Every result that could grow saturates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextpixel.exact.layers import UnprovableError
from nextpixel.exact.numbers import Formats, saturated, without_bits
from nextpixel.exact.tables import Tables


class Pointwise(nn.Module):
    """forward works on integers, `bound` on bounds of their magnitudes."""

    needs: tuple[str, ...] = ()
    tables: Tables

    def __init__(self, formats: Formats, tables: Tables):
        super().__init__()
        self.formats = formats
        self.__dict__["tables"] = tables  # the model's, not a part of this module
        for name in self.needs:
            tables.need(name)

    def prove(self, worst: Tensor) -> None:
        if float(worst.max()) >= self.formats.exact_below:
            raise UnprovableError(f"a product could reach {int(worst.max()):,}")

    def prove_mixing(self, content: Tensor) -> None:
        """Of products of the content and a share up to 1, with the bits left off that `Formats.spare` says."""
        of_content, of_share = self.formats.spare
        share = self.formats.one >> of_share
        self.prove((content / 2**of_content + 1) * share + share)

    def mixed(self, content: Tensor) -> Tensor:
        """The bounds of such products: a content that is odd may have been rounded up by the bits left off."""
        left_off = 1 << self.formats.spare[0]
        return torch.floor((content + left_off // 2) / left_off) * left_off


class ExactAdd(Pointwise):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return saturated(x + y, self.formats.limit)

    def bound(self, x: Tensor, y: Tensor) -> Tensor:
        self.prove(x + y)
        return (x + y).clamp(max=self.formats.limit)


class ExactReLU(Pointwise):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    def bound(self, x: Tensor) -> Tensor:
        return x


class ExactGate(Pointwise):
    needs = ("tanh", "sigmoid")

    def forward(self, x: Tensor) -> Tensor:
        content, gate = self.tables.look_up(x, "tanh", "sigmoid").chunk(2, -1)
        return without_bits(content * gate, self.formats.activation)

    def bound(self, x: Tensor) -> Tensor:
        one = float(self.formats.one)
        self.prove(torch.tensor(one * one + one, dtype=torch.float64))
        return torch.full_like(x.chunk(2, -1)[0], one)


class ExactLinearGate(Pointwise):
    needs = ("sigmoid",)

    def forward(self, x: Tensor) -> Tensor:
        content, gate = x.chunk(2, -1)
        of_content, of_share = self.formats.spare
        share = without_bits(self.tables.look_up(gate, "sigmoid"), of_share)
        product = share.mul_(without_bits(content, of_content))
        return without_bits(product, self.formats.activation - of_content - of_share)

    def bound(self, x: Tensor) -> Tensor:
        content = x.chunk(2, -1)[0]
        self.prove_mixing(content)
        return self.mixed(content)


class ExactConcatELU(Pointwise):
    needs = ("elu",)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x, -x], -1)
        return self.tables.look_up(both, "elu").add_(both.clamp(min=0))

    def bound(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], -1).clamp(min=self.formats.one)


class ExactSigmoid(Pointwise):
    needs = ("sigmoid",)

    def forward(self, x: Tensor) -> Tensor:
        return self.tables.look_up(x, "sigmoid")

    def bound(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.formats.one)


class ExactHighway(Pointwise):
    needs = ("sigmoid",)

    def forward(self, gate: Tensor, new: Tensor, old: Tensor) -> Tensor:
        of_content, of_share = self.formats.spare
        share = without_bits(self.tables.look_up(gate, "sigmoid"), of_share)
        new, old = without_bits(new, of_content), without_bits(old, of_content)
        mixed = share * new + ((self.formats.one >> of_share) - share) * old
        return without_bits(mixed, self.formats.activation - of_content - of_share)

    def bound(self, gate: Tensor, new: Tensor, old: Tensor) -> Tensor:
        content = torch.maximum(new, old)
        self.prove_mixing(content)
        return self.mixed(content)


class Nothing(nn.Module):
    """Dropout, outside training."""

    def forward(self, x: Tensor) -> Tensor:
        return x
