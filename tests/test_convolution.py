"""Causal convolutions against classical masked ones, written independently here, and against themselves by steps."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from nextpixel.causal import Cursor, Layout, Memory, PixelConv, Ring, RowConv, ShiftDown, UnwrittenError, Whole

LAYOUTS = {  # inputs, outputs: one to four channels, even and uneven groups, a gate
    "1 channel": (Layout((3,)), Layout((5,))),
    "2 channels": (Layout((2, 1)), Layout((3, 3))),
    "3 channels, uneven": (Layout((3, 2, 2)), Layout((4, 3, 3))),
    "3 channels, a gate": (Layout((2, 1, 1)), Layout((3, 2, 2), pieces=2)),
    "3 channels, from a gate": (Layout((2, 2, 1), pieces=2), Layout((1, 1, 2))),
    "4 channels": (Layout((2, 1, 1, 1)), Layout((1, 2, 1, 3))),
    "an empty group": (Layout((2, 1, 0)), Layout((2, 0, 1))),
}
HEIGHT, WIDTH = 4, 5

every_layout = pytest.mark.parametrize("layout", LAYOUTS)
every_kernel = pytest.mark.parametrize("kernel", [1, 3, 5, 7])
both_masks = pytest.mark.parametrize("mask", ["A", "B"])


def classical(full, x, inputs, outputs, mask, bias):
    """Every implementation of the 2016 paper: a full k×k kernel times a mask, then an ordinary convolution."""
    kernel = full.shape[-1]
    half = kernel // 2
    allowed = torch.zeros_like(full)
    allowed[:, :, :half] = 1
    allowed[:, :, half, :half] = 1
    channel_in = [g for _ in range(inputs.pieces) for g, size in enumerate(inputs.sizes) for _ in range(size)]
    channel_out = [g for _ in range(outputs.pieces) for g, size in enumerate(outputs.sizes) for _ in range(size)]
    for (o, out), (i, into) in itertools.product(enumerate(channel_out), enumerate(channel_in)):
        if into < out or (into == out and mask == "B"):
            allowed[o, i, half, half] = 1
    y = F.conv2d(x.permute(0, 3, 1, 2), full * allowed, bias, padding=half)
    return y.permute(0, 2, 3, 1), full * allowed


def filled(conv, full):
    """The weights of a full k×k kernel put into the parts of a PixelConv."""
    half = full.shape[-1] // 2
    with torch.no_grad():
        if half:
            conv.above.copy_(full[:, :, :half])
            conv.before.copy_(full[:, :, half, :half])
        if hasattr(conv, "centre"):
            conv.centre.copy_(full[:, :, half, half])
        conv.bias.copy_(torch.randn(conv.outputs.width).double())
    return conv


def made(inputs, outputs, mask, kernel):
    half = kernel // 2
    conv = PixelConv(inputs, outputs, mask, left=half, rows=half, side=half).double()
    return conv, torch.randn(outputs.width, inputs.width, kernel, kernel).double()


@every_layout
@every_kernel
@both_masks
def test_the_same_as_a_classical_masked_convolution(layout, kernel, mask):
    inputs, outputs = LAYOUTS[layout]
    conv, full = made(inputs, outputs, mask, kernel)
    filled(conv, full)
    x = torch.randn(2, HEIGHT, WIDTH, inputs.width).double()
    expected, masked = classical(full, x, inputs, outputs, mask, conv.bias)
    torch.testing.assert_close(conv(x, Whole()), expected, atol=1e-12, rtol=0)
    half = kernel // 2
    assert torch.equal(conv.kernel(), masked[:, :, : half + 1])
    assert not masked[:, :, half + 1 :].any()


@every_layout
@both_masks
def test_gradients_reach_allowed_weights_only(layout, mask):
    inputs, outputs = LAYOUTS[layout]
    conv, full = made(inputs, outputs, mask, 3)
    filled(conv, full)
    x = torch.randn(2, HEIGHT, WIDTH, inputs.width).double()
    full.requires_grad_()
    weight = torch.randn(2, HEIGHT, WIDTH, outputs.width).double()
    expected, _ = classical(full, x, inputs, outputs, mask, conv.bias.detach())
    (expected * weight).sum().backward()
    (conv(x, Whole()) * weight).sum().backward()
    torch.testing.assert_close(conv.above.grad, full.grad[:, :, :1], atol=1e-12, rtol=0)
    torch.testing.assert_close(conv.before.grad, full.grad[:, :, 1, :1], atol=1e-12, rtol=0)
    if hasattr(conv, "centre"):
        torch.testing.assert_close(conv.centre.grad, full.grad[:, :, 1, 1], atol=1e-12, rtol=0)


def test_no_weights_where_a_crop_says_the_same():
    """Parameters of a k×k layer: k//2 rows of k, k//2 to the left, and the centre if anything of it may be seen."""
    one, three = Layout((4,)), Layout((2, 2, 2))
    for kernel, half in ((3, 1), (7, 3)):
        taps = half * kernel + half
        for layout, mask, centre in ((one, "A", 0), (one, "B", 1), (three, "A", 1), (three, "B", 1)):
            conv, _ = made(layout, layout, mask, kernel)
            assert sum(p.numel() for p in conv.parameters()) == layout.width**2 * (taps + centre) + layout.width


def test_only_the_first_layer_reads_the_networks_input():
    layout = Layout((2,))
    assert PixelConv(layout, layout, "A", left=2, rows=3, side=1).input_reach == (3, 2, 1)
    assert PixelConv(layout, layout, "A", left=1, rows=3, side=2).input_reach == (3, 2, 2)
    assert PixelConv(layout, layout, "B", left=2, rows=3, side=1).input_reach is None


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (2, 1), (2, 3), (3, 5), (4, 7)])
def test_a_row_convolution_is_a_plain_one_with_the_rows_above(height, width):
    conv = RowConv(3, 4, height, width).double()
    x = torch.randn(2, HEIGHT, WIDTH, 3).double()
    padded = F.pad(x.permute(0, 3, 1, 2), (width // 2, width // 2, height - 1, 0))
    expected = F.conv2d(padded, conv.weight, conv.bias).permute(0, 2, 3, 1)
    torch.testing.assert_close(conv(x, Whole()), expected, atol=1e-12, rtol=0)
    changed = x.clone()
    changed[:, 2:] += 1
    assert torch.equal(conv(changed, Whole())[:, :2], conv(x, Whole())[:, :2])


def test_a_row_convolution_of_even_width_is_refused():
    with pytest.raises(ValueError, match="odd"):
        RowConv(1, 1, 2, 4)


def test_shift_down():
    x = torch.randn(2, 3, 4, 5)
    shifted = ShiftDown()(x, Whole())
    assert torch.equal(shifted[:, 1:], x[:, :-1])
    assert not shifted[:, 0].any()


# The same by steps


def memory_for(x, reach):
    n, height, width, features = x.shape
    memory = Memory(x.new_empty(0), n, height, width)
    above, left, right = reach
    memory.input = Ring(x, n, above + 1, width, features, left, right)
    return memory


def by_steps(conv, x, memory=None, first=0, skip=None):
    """A PixelConv position by position and group by group, as a network would run it."""
    inputs, outputs = conv.inputs, conv.outputs
    memory = memory or memory_for(x, conv.input_reach or (0, 0, 0))
    run = Cursor(memory)
    found = torch.zeros(*x.shape[:3], outputs.width, dtype=x.dtype)
    offsets = [0, *inputs.ends()]
    for run.row, run.column in itertools.product(range(first, x.shape[1]), range(x.shape[2])):
        if skip == (run.row, run.column):
            continue
        here = x[:, run.row, run.column]
        for run.group in range(inputs.groups):
            mine = here[:, inputs.members(run.group)]
            found[:, run.row, run.column, outputs.members(run.group)] = conv(mine if conv.mask == "B" else None, run)
            if conv.mask == "A":
                memory.input.write(run.row, run.column, offsets[run.group], mine)
    return found


SHAPES = [(0, 0, 0), (2, 0, 0), (0, 2, 1), (1, 1, 1), (3, 2, 1), (1, 3, 2), (3, 3, 3)]  # left, rows, side


@every_layout
@pytest.mark.parametrize("shape", SHAPES)
@both_masks
def test_steps_give_the_whole(layout, shape, mask):
    inputs, outputs = LAYOUTS[layout]
    left, rows, side = shape
    conv = PixelConv(inputs, outputs, mask, left=left, rows=rows, side=side).double()
    x = torch.randn(2, HEIGHT, WIDTH, inputs.width).double()
    torch.testing.assert_close(by_steps(conv, x), conv(x, Whole()), atol=1e-12, rtol=0)


@every_layout
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("known", [1, 2, 3])
@both_masks
def test_prefill_is_as_if_stepped(layout, shape, known, mask):
    inputs, outputs = LAYOUTS[layout]
    left, rows, side = shape
    conv = PixelConv(inputs, outputs, mask, left=left, rows=rows, side=side).double()
    x = torch.randn(2, HEIGHT, WIDTH, inputs.width).double()
    memory = memory_for(x, conv.input_reach or (0, 0, 0))
    conv(x[:, :known], Whole(memory))
    if mask == "A":  # whoever runs the network remembers its input
        memory.input.write_last_rows(x[:, :known][..., inputs.group_major()])
    found = by_steps(conv, x, memory, first=known)
    torch.testing.assert_close(found[:, known:], conv(x, Whole())[:, known:], atol=1e-12, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (2, 1), (2, 3), (4, 5)])
@pytest.mark.parametrize("known", [0, 1, 3])
def test_rows_by_steps_and_prefilled(height, width, known):
    conv = RowConv(3, 4, height, width).double()
    x = torch.randn(2, HEIGHT, WIDTH, 3).double()
    memory = memory_for(x, (1, 0, 0))
    if known:
        conv(x[:, :known], Whole(memory))
    run, expected = Cursor(memory), conv(x, Whole())
    for run.row in range(known, HEIGHT):
        row = slice(run.row, run.row + 1)
        torch.testing.assert_close(conv(x[:, row], run), expected[:, row], atol=1e-12, rtol=0)


def test_shift_down_by_steps():
    x = torch.randn(2, HEIGHT, WIDTH, 3)
    memory = memory_for(x, (1, 2, 1))
    run, expected = Cursor(memory), ShiftDown()(x, Whole())
    for run.row in range(HEIGHT):
        assert torch.equal(ShiftDown()(None, run), expected[:, run.row : run.row + 1])
        memory.input.write_row(run.row, x[:, run.row])


@pytest.mark.parametrize("mask", ["A", "B"])
def test_a_skipped_position_is_noticed(mask):
    layout = Layout((2,))
    conv = PixelConv(layout, layout, mask, left=1, rows=1, side=1)
    for skip in ((0, 1), (1, 0), (2, 4)):
        with pytest.raises(UnwrittenError):
            by_steps(conv, torch.randn(1, HEIGHT, WIDTH, 2), skip=skip)


def test_a_skipped_row_is_noticed():
    conv, x = RowConv(2, 2, 2, 3), torch.randn(1, HEIGHT, WIDTH, 2)
    run = Cursor(memory_for(x, (1, 0, 0)))
    conv(x[:, :1], run)
    run.row = 2
    with pytest.raises(UnwrittenError):
        conv(x[:, 2:3], run)


def test_an_input_memory_that_is_too_small_is_noticed():
    """One row of memory for a layer that reads two rows above."""
    layout = Layout((2,))
    conv = PixelConv(layout, layout, "A", left=1, rows=2, side=1)
    x = torch.randn(1, HEIGHT, WIDTH, 2)
    with pytest.raises(UnwrittenError):
        by_steps(conv, x, memory_for(x, (0, 1, 1)))


def test_the_first_layer_needs_nothing_of_the_pixel_that_is_to_be_predicted():
    layout = Layout((2,))
    conv = PixelConv(layout, layout, "A", left=2, rows=2, side=2)
    x = torch.randn(1, HEIGHT, WIDTH, 2)
    first = conv(None, Cursor(memory_for(x, conv.input_reach)))  # nothing at all has been written
    torch.testing.assert_close(first, conv(x, Whole())[:, 0, 0])


def test_the_initial_weights_scale_with_the_taps_that_are_there():
    torch.manual_seed(0)
    layout = Layout((64,))
    conv = PixelConv(layout, layout, "B", left=1, rows=1, side=1)
    bound = (64 * 5) ** -0.5  # three taps above, one to the left, one at the centre
    for parameter in conv.parameters():
        assert float(parameter.detach().abs().max()) <= bound
    assert float(conv.above.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)
