"""The output layers of the PixelRNN paper's networks (van den Oord et al. 2016a, table 1), and what lets training begin
with a prediction from the neighbours."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextpixel.causal import Add, Layout, PixelConv, ReLU, Run

VALUES = slice(1, None)  # of a scaled embedding's features; the first one is a constant
ENLARGED = 32  # by how much a first layer enlarges differences; 1 would leave them: docs/results.md, "The codec"


class OutputLayers(nn.Module):
    """Twice ReLU and 1×1, then ReLU and a 1×1 onto what the head wants; all mask B."""

    def __init__(self, inputs: Layout, between: Layout, outputs: Layout):
        super().__init__()
        pairs = [(inputs, between), (between, between), (between, outputs)]
        self.layers = nn.ModuleList(PixelConv(*pair, "B") for pair in pairs)
        self.relu = ReLU()

    def forward(self, x: Tensor, run: Run) -> Tensor:
        for layer in self.layers:
            x = layer(self.relu(x), run)
        return x

    @torch.no_grad()
    def begin_small(self) -> None:
        """Let the outputs begin near 0, beside something that is known better."""
        last = self.layers[-1]
        last.get_parameter("centre").mul_(0.3)
        last.get_parameter("bias").zero_()


class LinearPart(nn.Module):
    """Adds a weighted sum of the known values `reach` rows and columns around to what the output layers give.

    It begins as nothing, or as a prediction: `begin`.
    """

    def __init__(self, inputs: Layout, outputs: Layout, reach: int, slope: int):
        super().__init__()
        self.known = PixelConv(inputs, outputs, "A", left=reach, rows=reach, side=reach, cut=slope)
        for parameter in self.known.parameters():
            nn.init.zeros_(parameter)
        self.add = Add()

    def forward(self, x: Tensor | None, y: Tensor, run: Run) -> Tensor:
        return self.add(y, self.known(x, run))

    @torch.no_grad()
    def begin(self, gain: Tensor, bias: Tensor) -> None:
        """As gain [outputs, C] times the prediction of each channel, plus bias [outputs]; the inputs are one group."""
        conv, above = self.known, self.known.above.flatten(2)
        for tap, weight in ((1, 0), 0.75), ((1, -1), -0.5):
            above[:, VALUES, conv.taps_above.index(tap)] = weight * gain
        conv.before[:, VALUES, -1] = 0.75 * gain
        conv.bias.copy_(bias)


@torch.no_grad()
def begin_with_differences(first: PixelConv) -> None:
    """Let the random weights of a first layer that sees scaled values begin as differences of neighbours, enlarged.

    Neighbours of a photograph differ by a few levels of 256: beside the values themselves that is little, and it takes
    a network with small random weights long to make anything of it.
    """
    taps = [part.flatten(2)[:, VALUES] for part in (first.above, first.before)]
    mean = torch.cat(taps, 2).mean(2, keepdim=True)
    for part in taps:
        part.sub_(mean).mul_(ENLARGED)
