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

    def __init__(self, formats: Formats, tables: Tables):
        super().__init__()
        self.formats = formats
        self.__dict__["tables"] = tables  # the model's, not a part of this module
        for name in self.needs:
            tables.need(name)

    def prove(self, worst: Tensor) -> None:
        if float(worst.max()) >= self.formats.exact_below:
            raise UnprovableError(f"a product could reach {int(worst.max()):,}")


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
        content, gate = x.chunk(2, -1)
        product = self.tables.look_up("tanh", content).mul_(self.tables.look_up("sigmoid", gate))
        return without_bits(product, self.formats.activation)

    def bound(self, x: Tensor) -> Tensor:
        one = float(self.formats.one)
        self.prove(torch.tensor(one * one + one))
        return torch.full_like(x.chunk(2, -1)[0], one)


class ExactLinearGate(Pointwise):
    needs = ("sigmoid",)

    def forward(self, x: Tensor) -> Tensor:
        content, gate = x.chunk(2, -1)
        return without_bits(self.tables.look_up("sigmoid", gate).mul_(content), self.formats.activation)

    def bound(self, x: Tensor) -> Tensor:
        content = x.chunk(2, -1)[0]
        self.prove(content * self.formats.one + self.formats.one)
        return content


class ExactConcatELU(Pointwise):
    needs = ("elu",)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x, -x], -1)
        return self.tables.look_up("elu", both).add_(both.clamp(min=0))

    def bound(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], -1).clamp(min=self.formats.one)


class ExactSigmoid(Pointwise):
    needs = ("sigmoid",)

    def forward(self, x: Tensor) -> Tensor:
        return self.tables.look_up("sigmoid", x)

    def bound(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.formats.one)


class ExactHighway(Pointwise):
    needs = ("sigmoid",)

    def forward(self, gate: Tensor, new: Tensor, old: Tensor) -> Tensor:
        share = self.tables.look_up("sigmoid", gate)
        mixed = share * new + (self.formats.one - share) * old
        return without_bits(mixed, self.formats.activation)

    def bound(self, gate: Tensor, new: Tensor, old: Tensor) -> Tensor:
        self.prove(torch.maximum(new, old) * self.formats.one + self.formats.one)
        return torch.maximum(new, old)


class Nothing(nn.Module):
    """Dropout, outside training."""

    def forward(self, x: Tensor) -> Tensor:
        return x
