"""What the families on flattened images of one size share: they refuse all other sizes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nextpixel.causal import Layout, Run
from nextpixel.errors import UserError
from nextpixel.networks.network import Network


class FlatNetwork(Network):
    """A network whose weights belong to the pixels of an image of `size` (H, W); registered with any_size=False."""

    def __init__(
        self, config: Any, inputs: Layout, outputs: Layout, condition: int | None = None, *, size: tuple[int, int]
    ):
        super().__init__(config, inputs, outputs, condition)
        self.size = size

    @property
    def positions(self) -> int:
        return self.size[0] * self.size[1]

    def rows(self, x: Tensor | None, condition: Tensor | None, run: Run) -> list[Tensor]:
        """UserError for pictures of another size. Known first rows are no picture: their memory tells its size."""
        if run.memory is not None:
            self.check_size(run.memory.height, run.memory.width)
        else:
            assert x is not None
            self.check_size(run.height or x.shape[1], x.shape[2])
        return []

    def check_size(self, height: int, width: int) -> None:
        """UserError if an image of that size is none of this model's."""
        if (height, width) != self.size:
            own = f"{self.size[0]}x{self.size[1]}"
            raise UserError(f"The family {self.family.name} runs at its own size {own} only, not at {height}x{width}.")
