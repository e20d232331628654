import gzip
import math

import pytest
import torch

from nextpixel.images import Dataset, Split, dataset
from nextpixel.tasks.baselines import baselines


def toy(train, test, levels):
    train, test = (Split(x, None, levels, "toy", "toy") for x in (train, test))
    return Dataset("toy", train, test, test)


def test_the_digits_figures_are_those_measured_elsewhere():
    found = baselines(dataset("digits"))
    assert found["uniform"] == pytest.approx(math.log2(17))
    for name, expected in {"pooled": 2.96, "per_position": 2.42, "gzip": 3.19, "xz": 2.89}.items():
        assert found[name] == pytest.approx(expected, abs=0.01), name
    assert 2.42 < found["png"] < 4.09


def test_the_marginals_are_worked_out_by_hand():
    # Two positions, K = 4. Train: (0,1) (0,1) (0,3).
    # Pooled: 0 three times, 1 twice, 3 once, plus one each: 4 3 1 2 of 10.
    train = torch.tensor([[0, 1], [0, 1], [0, 3]]).view(3, 1, 1, 2)
    test = torch.tensor([[0, 2], [1, 1]]).view(2, 1, 1, 2)
    found = baselines(toy(train, test, 4))
    pooled = -(math.log2(0.4) + math.log2(0.1) + 2 * math.log2(0.3)) / 4
    assert found["pooled"] == pytest.approx(pooled)
    first = {0: (3 + 8 * 0.4) / 11, 1: 8 * 0.3 / 11}
    second = {1: (2 + 8 * 0.3) / 11, 2: 8 * 0.1 / 11}
    bits = -sum(math.log2(p) for p in (first[0], second[2], first[1], second[1]))
    assert found["per_position"] == pytest.approx(bits / 4)


@pytest.mark.parametrize("levels", [2, 3, 40])
def test_every_code_is_proper(levels):
    """The probabilities of all values of one symbol sum to 1: each value is its own test image."""
    train = torch.randint(0, min(levels, 5), (7, 1, 1, 1), generator=torch.Generator().manual_seed(0)) % levels
    for name in ("pooled", "per_position"):
        total = 0.0
        for value in range(levels):
            test = torch.full((1, 1, 1, 1), value)
            total += 2 ** -baselines(toy(train, test, levels))[name]
        assert total == pytest.approx(1)


def test_the_packers_get_one_byte_a_symbol_or_bits_for_two_levels():
    generator = torch.Generator().manual_seed(0)
    for levels, bits in ((2, 1), (256, 8), (512, 16)):
        noise = torch.randint(0, levels, (64, 1, 16, 16), generator=generator)
        found = baselines(toy(noise[:1], noise, levels))
        overhead = 8 * 400 / noise.numel()
        for name in ("gzip", "xz"):
            assert math.log2(levels) < found[name] <= bits + overhead, (levels, name)
        assert ("png" in found) == (levels <= 256)
    bits = (torch.arange(8 * 64) % 2).view(64, 1, 2, 4)
    assert baselines(toy(bits, bits, 2))["gzip"] * bits.numel() / 8 == len(gzip.compress(b"\x55" * 64))


def test_colour_pictures_have_a_png_figure_and_two_channels_have_none():
    flat = torch.zeros(50, 3, 8, 8, dtype=torch.uint8)
    assert baselines(toy(flat, flat, 256))["png"] < 0.2
    assert "png" not in baselines(toy(flat[:, :2], flat[:, :2], 256))


def test_dynamic_sets_are_measured_on_their_fixed_draw():
    data = dataset("digits", binarise="dynamic")
    assert baselines(data) == baselines(data)
