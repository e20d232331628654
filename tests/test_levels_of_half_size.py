"""What PixelCNN++ needs beside convolutions: levels of half the size, weight normalisation and its initialisation."""

import pytest
import torch

import nextpixel as npx
from nextpixel.causal import (
    ConcatELU,
    DoublePixels,
    DoubleRows,
    Halve,
    Layout,
    LinearGate,
    PixelConv,
    RowConv,
    Whole,
    initialise_from_data,
)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (5, 7), (8, 6)])
@pytest.mark.parametrize("double", [DoubleRows(), DoublePixels()])
def test_going_up_deals_out_four_positions(double, height, width):
    """Four copies of each position, told apart by a number: each lands where its parity says."""
    low = torch.arange(-(-height // 2) * -(-width // 2)).view(1, -(-height // 2), -(-width // 2), 1)
    four = torch.cat([4 * low + parity for parity in range(4)], -1)
    up = double(four, width, height, Whole())
    assert up.shape == (1, height, width, 1)
    for i in range(height):
        for j in range(width):
            assert int(up[0, i, j]) == 4 * int(low[0, i // 2, j // 2]) + 2 * (i % 2) + j % 2


def test_going_down_keeps_the_first_of_four():
    x = torch.arange(35).view(1, 5, 7, 1)
    assert Halve()(x, Whole())[0, :, :, 0].tolist() == [[0, 2, 4, 6], [14, 16, 18, 20], [28, 30, 32, 34]]


def test_gates():
    x = torch.tensor([[1.0, -2.0, 0.0, 100.0]])
    assert LinearGate()(x).tolist() == [[0.5, -2.0]]
    both = ConcatELU()(torch.tensor([[2.0, -1.0]]))
    expected = [2.0, float(torch.expm1(torch.tensor(-1.0))), float(torch.expm1(torch.tensor(-2.0))), 1.0]
    assert torch.allclose(both, torch.tensor([expected]))


@pytest.mark.parametrize("mask", ["A", "B"])
def test_normalised_kernels_have_the_norm_of_their_gain(mask):
    torch.manual_seed(0)
    conv = PixelConv(Layout((2, 1, 1)), Layout((3, 2, 2)), mask, left=1, rows=1, side=(1, 0), normalised=True)
    with torch.no_grad():
        conv.gain.copy_(torch.rand(7) + 0.5)
    assert torch.allclose(conv.kernel().flatten(1).norm(dim=1), conv.gain, atol=1e-6)
    row = RowConv(3, 4, 2, 3, normalised=True)
    assert torch.allclose(row.kernel().flatten(1).norm(dim=1), row.gain, atol=1e-6)


def test_initialisation_from_data_makes_outputs_standard():
    torch.manual_seed(0)
    layers = torch.nn.ModuleList(
        PixelConv(Layout((4,)), Layout((4,)), "B", left=1, rows=1, side=1, normalised=True) for _ in range(3)
    )
    x = 5 + 3 * torch.randn(8, 6, 6, 4)

    def run():
        h = x
        for layer in layers:
            h = layer(h, Whole())
        return h

    assert initialise_from_data(layers, run) == 3
    h = x
    for layer in layers:
        h = layer(h, Whole())
        assert torch.allclose(h.flatten(0, 2).mean(0), torch.zeros(4), atol=1e-4)
        assert torch.allclose(h.flatten(0, 2).std(0), torch.ones(4), atol=1e-3)


def test_a_single_value_initialises_nothing():
    """One 4x4 image has one pixel at a quarter of the size: its spread is unknown, and no weight may become NaN."""
    torch.manual_seed(0)
    model = npx.build("pixelcnnpp", shape=(1, 4, 4), levels=2, scales=3, blocks=1, features=6).eval()
    for count in (1, 0):
        model.initialise_from_data(torch.randint(2, (count, 1, 4, 4)))
        assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_training_starts_from_data(tmp_path, monkeypatch):
    """`train` sets gains and biases from training images, once, before the first step."""
    data = npx.dataset("digits")
    torch.manual_seed(0)
    model = npx.build("pixelcnnpp", like=data, scales=2, blocks=1, features=6, dropout=0.0)
    with torch.no_grad():
        before = float(model.log_prob(data.valid.images).mean())
        assert model.initialise_from_data(data.train.images[:64]) > 10
        assert float(model.log_prob(data.valid.images).mean()) != before
    seen = []
    original = npx.ImageModel.initialise_from_data

    def watched(self, x, condition=None):
        seen.append(x)
        return original(self, x, condition)

    monkeypatch.setattr(npx.ImageModel, "initialise_from_data", watched)
    npx.train(model, data, epochs=1, batch_size=675, run=tmp_path / "run", progress=False)
    assert len(seen) == 1
    assert all((data.train.images == image).flatten(1).all(1).any() for image in seen[0])
    plain = npx.build("pixelcnnpp", like=data, scales=1, blocks=1, features=6, normalised=False)
    assert plain.initialise_from_data(data.train.images[:64]) == 0
