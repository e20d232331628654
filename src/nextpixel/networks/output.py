"""The output layers of the PixelRNN paper's networks (van den Oord et al. 2016a, table 1)."""

from __future__ import annotations

from torch import Tensor, nn

from nextpixel.causal import Layout, PixelConv, ReLU, Run


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
