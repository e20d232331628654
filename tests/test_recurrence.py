"""The recurrent layers against their recurrences, written out position by position."""

import pytest
import torch

from nextpixel.causal import DiagonalBiLSTM, Layout, RowLSTM, Whole
from nextpixel.causal.lstm import CELL_LIMIT, diagonal_scan, lstm_cell


def _random(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return module.double()


def test_the_row_lstm_is_its_recurrence():
    torch.manual_seed(0)
    layer = _random(RowLSTM(Layout((3,)), width=3))
    x = torch.randn(2, 5, 4, 12, dtype=torch.double)
    hidden = layer.first_hidden.expand(2, 4, 3)
    cell = layer.first_cell.expand(2, 4, 3)
    for row in range(5):
        new_hidden, new_cell = [], []
        for column in range(4):
            gates = x[:, row, column]
            for tap in range(3):  # columns j-1, j, j+1 of the row above; outside the image is nothing
                at = column + tap - 1
                if 0 <= at < 4:
                    gates = gates + hidden[:, at] @ layer.state_to_state[:, :, 0, tap].T
            h, c = lstm_cell(gates, cell[:, column])
            new_hidden.append(h)
            new_cell.append(c)
        hidden, cell = torch.stack(new_hidden, 1), torch.stack(new_cell, 1)
        assert torch.allclose(layer(x, Whole())[:, row], hidden, atol=1e-12)


def test_the_diagonal_bilstm_is_its_recurrence():
    torch.manual_seed(1)
    inputs, hidden = Layout((4,)), Layout((3,))
    layer = _random(DiagonalBiLSTM(inputs, hidden, raw=Layout((2,))))
    x, raw = torch.randn(2, 5, 4, 4, dtype=torch.double), torch.randn(2, 5, 4, 2, dtype=torch.double)

    def scan(gates, direction):
        """Left to right: every state from the one behind and the one above."""
        states = {}
        for row in range(gates.shape[1]):
            h, c = layer.first_hidden[direction].expand(2, 3), layer.first_cell[direction].expand(2, 3)
            for column in range(gates.shape[2]):
                above = states.get((row - 1, column), torch.zeros(2, 3, dtype=torch.double))
                moved = torch.cat([h, above], 1) @ layer.state_to_state[direction]
                h, c = lstm_cell(gates[:, row, column] + moved, c)
                states[row, column] = h
        return states

    ahead = scan(layer.input_to_state(x, Whole()), 0)
    mirrored = layer.mirrored_input(x) + layer.mirrored_raw(raw)
    back = scan(mirrored.flip(2), 1)
    result = layer(x, raw, Whole())
    for row in range(5):
        for column in range(4):
            expected = ahead[row, column]
            if row:  # the right-to-left map, one row down
                expected = expected + back[row - 1, 3 - column]
            assert torch.allclose(result[:, row, column], expected, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(4, 3), (2, 5), (1, 4), (3, 1)])
@pytest.mark.parametrize("limit", [CELL_LIMIT, 0.4])
def test_the_scan_has_the_gradient_of_what_it_computes(monkeypatch, height, width, limit):
    monkeypatch.setattr("nextpixel.causal.lstm.CELL_LIMIT", limit)  # 0.4: many cells are at their limit
    torch.manual_seed(2)
    sizes = [(2, 2, height, width, 8), (2, 4, 8), (2, 2), (2, 2)]
    arguments = [torch.randn(size, dtype=torch.double, requires_grad=True) for size in sizes]
    assert torch.autograd.gradcheck(diagonal_scan, arguments)


def test_the_scan_is_the_same_without_a_gradient():
    torch.manual_seed(3)
    arguments = [torch.randn(size, requires_grad=True) for size in [(2, 3, 5, 4, 12), (2, 6, 12), (2, 3), (2, 3)]]
    with torch.no_grad():
        plain = diagonal_scan(*arguments)
    assert torch.equal(plain, diagonal_scan(*arguments))


def test_cells_are_clamped():
    gates = torch.full((1, 4), 50.0)
    cell = torch.zeros(1, 1)
    for _ in range(20):
        hidden, cell = lstm_cell(gates, cell)
    assert float(cell) == CELL_LIMIT
    assert float(hidden) <= 1
