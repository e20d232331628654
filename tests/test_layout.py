"""Which feature maps belong to which channel, and which may see which at the current pixel."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nextpixel.causal import Layout, centre_mask, map_channels

# 4 input and 7 output maps of 3 channels, map i belonging to channel i mod 3: one row an output map, written by hand
# from section 3.4 of "Pixel Recurrent Neural Networks". Inputs are R G B R, outputs R G B R G B R.
BY_HAND = {
    "A": ["0000", "1001", "1101", "0000", "1001", "1101", "0000"],
    "B": ["1001", "1101", "1111", "1001", "1101", "1111", "1001"],
}

counts = st.integers(1, 40)
channel_counts = st.integers(1, 6)


def rows(mask):
    return ["".join(str(int(cell)) for cell in row) for row in mask]


@pytest.mark.parametrize("mask", ["A", "B"])
def test_the_interleaved_masks_are_those_written_by_hand(mask):
    inputs, outputs = map_channels(4, 3, "interleaved"), map_channels(7, 3, "interleaved")
    assert rows(centre_mask(inputs, outputs, mask)) == BY_HAND[mask]


@pytest.mark.parametrize("mask", ["A", "B"])
def test_thirds_are_the_same_after_reordering(mask):
    """Inputs 0 3 | 1 | 2 and outputs 0 3 6 | 1 4 | 2 5 of the interleaved numbering, in this order."""
    inputs, outputs = map_channels(4, 3, "thirds"), map_channels(7, 3, "thirds")
    assert inputs.tolist() == [0, 0, 1, 2]
    assert outputs.tolist() == [0, 0, 0, 1, 1, 2, 2]
    expected = [[BY_HAND[mask][out][i] for i in (0, 3, 1, 2)] for out in (0, 3, 6, 1, 4, 2, 5)]
    assert rows(centre_mask(inputs, outputs, mask)) == ["".join(row) for row in expected]


def test_thirds_are_the_default():
    assert torch.equal(map_channels(7, 3), map_channels(7, 3, "thirds"))


@given(counts, counts, channel_counts, st.sampled_from(["A", "B"]))
def test_both_numberings_differ_by_a_permutation_only(inputs, outputs, channels, mask):
    interleaved = [map_channels(n, channels, "interleaved") for n in (inputs, outputs)]
    thirds = [map_channels(n, channels, "thirds") for n in (inputs, outputs)]
    order = [torch.argsort(numbers, stable=True) for numbers in interleaved]
    assert torch.equal(
        centre_mask(*interleaved, mask)[order[1]][:, order[0]],
        centre_mask(*thirds, mask),
    )


@given(counts, counts, channel_counts)
def test_a_map_sees_earlier_channels_and_its_own_in_mask_b_only(inputs, outputs, channels):
    of_input = [i % channels for i in range(inputs)]
    of_output = [i % channels for i in range(outputs)]
    a, b = (centre_mask(torch.tensor(of_input), torch.tensor(of_output), mask).tolist() for mask in "AB")
    for out in range(outputs):
        for i in range(inputs):
            assert a[out][i] == (of_input[i] < of_output[out])
            assert b[out][i] == (of_input[i] < of_output[out] or of_input[i] == of_output[out])


@given(counts, channel_counts, st.integers(1, 3))
def test_features_are_shared_out_as_evenly_as_can_be(features, groups, pieces):
    layout = Layout.of(features, groups, pieces)
    assert sum(layout.sizes) == features
    assert layout.width == pieces * features
    assert layout.groups == groups
    assert max(layout.sizes) - min(layout.sizes) <= 1
    assert list(layout.sizes) == sorted(layout.sizes, reverse=True)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(1, 3))
def test_group_major_order_sorts_the_features_by_group(sizes, pieces):
    layout = Layout(tuple(sizes), pieces)
    channel = layout.channel()
    assert channel.tolist() == [g for _ in range(pieces) for g, size in enumerate(sizes) for _ in range(size)]
    order = layout.group_major()
    assert sorted(order.tolist()) == list(range(layout.width))
    assert channel[order].tolist() == sorted(channel.tolist())
    for group in range(layout.groups):
        assert torch.equal(layout.members(group), torch.nonzero(channel == group).flatten())
        assert layout.ends()[group] == sum(pieces * size for size in sizes[: group + 1])


def test_the_two_pieces_of_a_gate():
    layout = Layout((3, 2, 2), pieces=2)
    assert layout.channel().tolist() == [0, 0, 0, 1, 1, 2, 2] * 2
    assert layout.members(1).tolist() == [3, 4, 10, 11]
    assert layout.group_major().tolist() == [0, 1, 2, 7, 8, 9, 3, 4, 10, 11, 5, 6, 12, 13]
    assert layout.ends() == [6, 10, 14]
