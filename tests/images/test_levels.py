import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nextpixel.errors import UserError
from nextpixel.images import levels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scaling_gets_every_value_of_every_k_back(dtype):
    for k in range(2, 1025):
        x = torch.arange(k, dtype=torch.int32)
        y = levels.scale(x, k, dtype)
        assert y.dtype == dtype
        assert (y[0], y[-1]) == (-1, 1)
        assert torch.equal(levels.unscale(y, k).int(), x), k


def test_unscale_rounds_to_the_nearest_and_clamps():
    # Of 5 levels the values are -1, -.5, 0, .5, 1: truncation would turn 0.49 into 2 as well as 0.2.
    y = torch.tensor([-7.0, -0.76, -0.74, 0.2, 0.49, 3.0])
    assert levels.unscale(y, 5).tolist() == [0, 0, 1, 2, 3, 4]


def test_quantise_is_monotone_hits_every_level_evenly_and_inverts_for_every_k():
    values = torch.arange(256, dtype=torch.uint8)
    for k in range(2, 257):
        q = levels.quantise(values, k).int()
        assert q[0] == 0
        assert q[255] == k - 1
        assert (q.diff() >= 0).all()
        sizes = torch.bincount(q, minlength=k)
        assert len(sizes) == k
        assert sizes.max() - sizes.min() <= 1
        assert sizes.sum() == 256
        everything = torch.arange(k, dtype=torch.uint8)
        back = levels.dequantise(everything, k).int()
        assert (back[0], back[-1]) == (0, 255)
        assert (back.diff() > 0).all()
        assert torch.equal(levels.quantise(back, k), everything), k


def test_quantise_is_the_floor_of_the_ratio():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(levels.quantise(values, 16).int(), values.int() >> 4)
    assert torch.equal(levels.quantise(values, 256), values)
    assert torch.equal(levels.dequantise(values, 256), values)


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 3000), st.data())
def test_quantise_inverts_dequantise_for_other_sources(source, data):
    k = data.draw(st.integers(2, source))
    q = torch.tensor([data.draw(st.integers(0, k - 1))])
    assert levels.quantise(levels.dequantise(q, k, source), k, source).item() == q.item()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: levels.quantise(torch.tensor([3]), 300), "300"),
        (lambda: levels.quantise(torch.tensor([256]), 4), "256"),
        (lambda: levels.quantise(torch.tensor([0.5]), 4), "integers"),
        (lambda: levels.dequantise(torch.tensor([4]), 4), "4 levels"),
        (lambda: levels.scale(torch.tensor([0]), 1), "levels"),
        (lambda: levels.binarise(torch.tensor([1]), "fixd"), "Did you mean 'fixed'"),
        (lambda: levels.to_grey(torch.zeros(1, 2, 1, 1, dtype=torch.uint8)), "3 channels"),
    ],
)
def test_mistakes_are_explained(call, words):
    with pytest.raises(UserError, match=words):
        call()


def test_threshold_is_at_half():
    values = torch.arange(256, dtype=torch.uint8)
    assert levels.binarise(values, "threshold").tolist() == [0] * 128 + [1] * 128
    assert levels.binarise(torch.arange(17), "threshold", 17).tolist() == [0] * 9 + [1] * 8
    assert levels.binarise(values, "threshold", threshold=0).tolist() == [0] + [1] * 255


def test_fixed_draws_are_repeatable_and_dynamic_ones_are_new():
    x = torch.full((1000,), 128, dtype=torch.uint8)
    assert torch.equal(levels.binarise(x, "fixed", seed=3), levels.binarise(x, "fixed", seed=3))
    assert not torch.equal(levels.binarise(x, "fixed", seed=3), levels.binarise(x, "fixed", seed=4))
    generator = torch.Generator().manual_seed(0)
    first, second = (levels.binarise(x, "dynamic", generator=generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, levels.binarise(x, "dynamic", generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("method", ["fixed", "dynamic"])
@pytest.mark.parametrize("source", [17, 256])
def test_draws_have_the_probability_of_the_grey(method, source):
    count = 40_000
    for value in (0, 1, source // 3, source - 2, source - 1):
        p = value / (source - 1)
        bits = levels.binarise(torch.full((count,), value), method, source, generator=torch.Generator().manual_seed(1))
        spread = (p * (1 - p) / count) ** 0.5
        assert abs(bits.double().mean().item() - p) <= 5 * spread, value  # exactly, for p = 0 and p = 1


def test_grey_is_pillows_luma_and_keeps_grey_pictures():
    x = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in x.permute(0, 2, 3, 1).numpy()])
    assert np.array_equal(levels.to_grey(x)[:, 0].numpy(), expected)
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(levels.to_grey(levels.to_rgb(grey)), grey)
    assert levels.to_rgb(grey).shape == (1, 3, 16, 16)
