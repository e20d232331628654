"""Row LSTM (van den Oord et al. 2016a, section 3.1): row by row from the top, the whole row at once.

A pixel sees a triangle above it, not the full context. Input-to-state is a masked convolution of `width` columns over
the own row, state-to-state one of `width` columns over the states of the row above.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from nextpixel.causal import Layout, PixelConv, RowLSTM, Run
from nextpixel.networks.network import check_options, register, spread
from nextpixel.networks.recurrent import RecurrentConfig, RecurrentNetwork


@register(
    "row_lstm",
    summary="LSTM over rows, triangular context (PixelRNN)",
    channel_masks=True,
    full_context=False,
    conditions=("class", "vector", "map"),
    schedules=("raster", "wavefront"),
    freezable=True,
)
class RowLSTMNetwork(RecurrentNetwork):
    @dataclasses.dataclass(frozen=True)
    class Config(RecurrentConfig):
        width: int = 3
        """columns of the input-to-state and the state-to-state convolution (odd)"""

        def __post_init__(self) -> None:
            super().__post_init__()
            check_options(self, kernels="width")

    def recurrence(self, wide: Layout, hidden: Layout) -> nn.Module:
        return _Recurrence(wide, hidden, self.config.width)

    def seen_by_layer(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        half, states = self.config.width // 2, seen
        for _ in range(seen.shape[0]):
            states = states | spread(states, range(-1, 0), range(-half, half + 1))
        return spread(states, range(1), range(-half, 1)), torch.zeros_like(seen)


class _Recurrence(nn.Module):
    def __init__(self, wide: Layout, hidden: Layout, width: int):
        super().__init__()
        self.lstm = RowLSTM(hidden, width)
        self.input_to_state = PixelConv(wide, self.lstm.gates, "B", left=width // 2)

    def forward(self, x: Tensor, raw: Tensor | None, run: Run) -> Tensor:
        states: Tensor = self.lstm(self.input_to_state(x, run), run)
        return states
