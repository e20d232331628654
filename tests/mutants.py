"""Deliberately wrong models, most of them after mistakes found in public code, and the fault that `check` must name.

A catalogue of one-off surgery on small real models. One classic is missing: linking the vertical to the horizontal
stack after the gate instead of before it. That model is causal, sees everything and is normalised; it is another
model, not a wrong one, and no check of probabilities can tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

import nextpixel as npx
from nextpixel.causal import Cursor, Layout, PixelConv, Ring, RowConv, ShiftDown, Whole, centre_mask, map_channels
from nextpixel.heads import Categorical
from nextpixel.image_model import ImageModel
from nextpixel.networks import Network, register, unregister


@dataclasses.dataclass(frozen=True)
class Mutant:
    build: Callable[[], ImageModel]
    fault: str


MUTANTS: dict[str, Mutant] = {}


def mutant(fault: str):
    def add(build: Callable[[], ImageModel]):
        MUTANTS[build.__name__] = Mutant(build, fault)
        return build

    return add


def gated(channels: int = 1, **options) -> ImageModel:
    settings = {"layers": 3, "features": 5, "kernel": 3, "first_kernel": 3, "levels": 2} | options
    return npx.build("gated_pixelcnn", shape=(channels, 8, 8), **settings).eval()


def plain(channels: int = 1, **options) -> ImageModel:
    settings = {"blocks": 2, "features": 5, "kernel": 3, "first_kernel": 3, "levels": 2} | options
    return npx.build("pixelcnn", shape=(channels, 8, 8), **settings).eval()


def masked(model: ImageModel) -> list[PixelConv]:
    return [module for module in model.network.modules() if isinstance(module, PixelConv) and module.inputs.groups > 1]


def set_mask(conv: PixelConv, allowed: Tensor) -> None:
    conv.register_buffer("allowed", allowed, persistent=False)


class Without(nn.Module):
    """A weight with zeros at some taps, whatever its parameters are."""

    def __init__(self, taps: Tensor):
        super().__init__()
        self.register_buffer("kept", (~taps).double())

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept.to(weight)


class Then(nn.Module):
    """Layers one after another; the first takes the run."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x, run=None):
        return self.second(self.first(x) if run is None else self.first(x, run))


def taller(conv: RowConv, rows: int) -> RowConv:
    """The same layer reading `rows` more rows above."""
    return RowConv(conv.inputs, len(conv.weight), conv.height + rows, 2 * conv.side + 1)


# Channel masks


@mutant("mask A twice")
def mask_a_in_the_first_blocks_second_convolution():
    model = plain(3)
    conv = model.network.blocks[0].spatial
    set_mask(conv, centre_mask(conv.inputs.channel(), conv.outputs.channel(), "A"))
    return model


@mutant("mask A twice")
def mask_a_in_every_later_horizontal_layer():
    model = gated(3)
    for layer in model.network.layers[1:]:
        set_mask(layer.left, centre_mask(layer.left.inputs.channel(), layer.left.outputs.channel(), "A"))
    return model


@mutant("channel order lost")
def green_not_given_red():
    model = gated(3)
    for conv in masked(model):
        set_mask(conv, conv.inputs.channel()[None] == conv.outputs.channel()[:, None])
    first = model.network.layers[0].left
    set_mask(first, torch.zeros(first.outputs.width, first.inputs.width, dtype=torch.bool))
    return model


@mutant("channel order lost")
def green_not_given_red_in_one_layer_of_many():
    model = gated(3)
    conv = model.network.layers[1].left
    set_mask(conv, conv.inputs.channel()[None] == conv.outputs.channel()[:, None])
    return model


class MaskedTaps(nn.Module):
    def __init__(self, allowed: Tensor):
        super().__init__()
        self.register_buffer("allowed", allowed)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.allowed[..., None].to(weight)


@mutant("channels lost")
def channel_masks_at_every_tap():
    """Red sees only the red of the pixels to its left."""
    model = gated(3)
    for layer in model.network.layers:
        allowed = centre_mask(layer.left.inputs.channel(), layer.left.outputs.channel(), "B")
        parametrize.register_parametrization(layer.left, "before", MaskedTaps(allowed))
    return model


@mutant("sees itself")
def blue_sees_itself():
    model = plain(3)
    conv = model.network.first
    own = (conv.inputs.channel()[None] == 2) & (conv.outputs.channel()[:, None] == 2)
    set_mask(conv, conv.allowed | own)
    return model


@mutant("channel leak")
def no_channel_masks():
    model = gated(3)
    for conv in masked(model):
        set_mask(conv, torch.ones(conv.outputs.width, conv.inputs.width, dtype=torch.bool))
    return model


def interleaved(features: int) -> ImageModel:
    model = gated(3, features=features)
    for conv in masked(model):
        ends = [conv.inputs.channel(), conv.outputs.channel()]  # those of the network itself stay sorted
        if conv is not model.network.layers[0].left:
            ends[0] = map_channels(conv.inputs.width, 3, "interleaved")
        if conv is not model.network.out[-1]:
            ends[1] = map_channels(conv.outputs.width, 3, "interleaved")
        set_mask(conv, centre_mask(*ends, conv.mask))
    return model


@mutant("channel leak")
def gate_halves_that_mix_channels():
    """Map i belongs to channel i mod 3, but the two halves of a gate have 5 maps each: map 3 is gated by map 8."""
    return interleaved(features=5)


# The spatial order


@mutant("blind spot")
def shift_in_every_vertical_layer():
    model = gated()
    for layer in model.network.layers[1:]:
        layer.down = taller(layer.down, 1)
        own = torch.zeros_like(layer.down.weight, dtype=torch.bool)
        own[:, :, -1] = True
        parametrize.register_parametrization(layer.down, "weight", Without(own))
    return model


class NoShift(ShiftDown):
    def forward(self, x, run):
        return x if isinstance(run, Whole) else super().forward(x, run)


@mutant("future leak")
def no_shift():
    model = gated()
    model.network.shift = NoShift()
    return model


class LooksRight(PixelConv):
    """`padding="same"` of a convolution that is 2 wide pads on the right."""

    def forward(self, x, run):
        if isinstance(run, Cursor):
            return super().forward(x, run)
        kernel = self.kernel()[:, :, 0]
        return F.conv1d(F.pad(x.flatten(0, 1).mT, (0, 1)), kernel, self.bias).mT.unflatten(0, x.shape[:2])


@mutant("future leak")
def same_padding_of_an_even_kernel():
    """Each of the two later layers looks one to the right: the first makes up for mask A, the second for nothing."""
    model = gated()
    for layer in model.network.layers[1:]:
        layer.left.__class__ = LooksRight
    return model


class LooksDown(RowConv):
    """The same, of two rows."""

    def forward(self, x, run):
        padded = F.pad(x, (0, 0, 1, 1, 0, 1))
        return F.conv2d(padded.permute(0, 3, 1, 2), self.weight, self.bias).permute(0, 2, 3, 1)


@mutant("sees itself")
def same_padding_of_two_rows():
    model = gated()
    model.network.layers[1].down.__class__ = LooksDown
    return model


class Around(nn.Module):
    def __init__(self, inner: PixelConv):
        super().__init__()
        self.inner, self.input_reach = inner, inner.input_reach
        self.around = nn.Linear(inner.inputs.width, inner.outputs.width)

    def forward(self, x, run):
        return self.inner(x, run) if x is None else self.inner(x, run) + self.around(x)


@mutant("sees itself")
def residual_around_the_masked_first_layer():
    model = plain()
    model.network.first = Around(model.network.first)
    return model


class OneFromTheRight(nn.Module):
    def forward(self, x):
        return F.pad(x, (0, 0, 0, 1))[:, :, 1:]


@mutant("too much context")
def link_from_one_column_to_the_right():
    """In every layer: where it is not the last, later layers see as far to the right, and no pixel gives it away."""
    model = gated()
    for layer in model.network.layers:
        layer.link = Then(layer.link, OneFromTheRight())
    return model


@mutant("blind spot")
def horizontal_stack_shifted_twice():
    """The first horizontal layer leaves out the pixel just before."""
    model = gated(first_kernel=5)
    conv = model.network.layers[0].left
    taps = torch.zeros_like(conv.before, dtype=torch.bool)
    taps[:, :, -1] = True
    parametrize.register_parametrization(conv, "before", Without(taps))
    return model


@mutant("too little context")
def one_row_too_few():
    model = gated()
    conv = model.network.layers[1].down
    taps = torch.zeros_like(conv.weight, dtype=torch.bool)
    taps[:, :, 0] = True
    parametrize.register_parametrization(conv, "weight", Without(taps))
    return model


@mutant("too little context")
def one_row_too_few_in_a_deep_network():
    """On a small canvas such a network still sees everything."""
    model = gated(layers=8)
    conv = model.network.layers[4].down
    taps = torch.zeros_like(conv.weight, dtype=torch.bool)
    taps[:, :, 0] = True
    parametrize.register_parametrization(conv, "weight", Without(taps))
    return model


@mutant("too much context")
def one_row_too_many():
    model = gated()
    model.network.layers[2].down = taller(model.network.layers[2].down, 1)
    return model


@mutant("blind spot")
def promises_the_full_context():
    """A plain PixelCNN that declares its blind spot pixel by pixel, and the full context as a family."""
    model = plain(blocks=6)
    model.network.family = dataclasses.replace(model.network.family, full_context=True)
    return model


class Attention(Network):
    """One causal attention layer; the soft-max of the first query, all of whose keys are masked, is uniform."""

    def __init__(self, config, inputs: Layout, outputs: Layout, condition=None):
        super().__init__(config, inputs, outputs, condition)
        self.query, self.key, self.value = (nn.Linear(inputs.width, 6) for _ in range(3))
        self.place = nn.Linear(2, 6)
        self.out = nn.Linear(6, outputs.width)

    def pixels(self, x, contexts, run):
        _, height, width, _ = x.shape
        i, j = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places = self.place(torch.stack([i, j], -1).to(x))
        flat = x.flatten(1, 2)
        query = places.flatten(0, 1) @ self.query.weight @ torch.ones_like(flat).mT
        scores = query + (self.key(flat) @ places.flatten(0, 1).mT).mT
        earlier = torch.ones(height * width, height * width, dtype=torch.bool).tril(-1)
        weights = torch.softmax(scores.masked_fill(~earlier, -1e10), -1)
        return self.out(torch.tanh((weights @ self.value(flat)).unflatten(1, (height, width)) + places))

    def receptive_field(self, height, width, row, column):
        return (torch.arange(height * width) < row * width + column).view(height, width)

    def input_reach(self):
        return (0, 0, 0)


@mutant("future leak")
def softmax_over_a_row_that_is_masked_out():
    register("attention_mutant", summary="", channel_masks=False, full_context=True)(Attention)
    try:
        return npx.build("attention_mutant", shape=(1, 8, 8), levels=2).eval()
    finally:
        unregister("attention_mutant")


# Batches, modes and side effects


class Norm(nn.Module):
    def __init__(self, features: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(features)

    def forward(self, x):
        return self.norm(x.flatten(0, -2)).view(x.shape)


@mutant("train-mode leak")
def batch_norm_in_the_horizontal_stack():
    model = gated()
    layer = model.network.layers[1]
    layer.mix = Then(layer.mix, Norm(layer.mix.outputs.width))
    return model.eval()


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0, keepdim=True)


@mutant("batch leak")
def features_centred_over_the_batch():
    model = gated()
    layer = model.network.layers[1]
    layer.mix = Then(layer.mix, Centred())
    return model


class AlwaysDropout(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.3, training=True)


@mutant("not repeatable")
def dropout_in_evaluation():
    model = gated()
    model.network.layers[1].dropout = AlwaysDropout()
    return model


class EditsInput(PixelConv):
    def forward(self, x, run):
        return super().forward(x if x is None else x.mul_(0.5), run)


@mutant("edits its input")
def input_edited_in_place():
    model = gated()
    model.network.layers[0].left.__class__ = EditsInput
    return model


# Whole and Cursor


@mutant("whole differs from cursor")
def input_edited_in_whole_only():
    return input_edited_in_place()


class BiasBeforeShift(ShiftDown):
    """Whole pads the biased rows with zeros; a Cursor adds the bias to the zero row as well."""

    def __init__(self, width: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x, run):
        return super().forward(x + self.bias, run) if isinstance(run, Whole) else super().forward(x, run) + self.bias


@mutant("whole differs from cursor")
def bias_before_the_shift():
    model = gated()
    model.network.shift = BiasBeforeShift(model.network.inputs.width)
    return model


class ShortRing(RowConv):
    def _ring(self, memory):
        return memory.ring(self, self.height - 1, self.inputs, self.side, self.side)


@mutant("cursor fails")
def ring_one_row_too_small():
    model = gated()
    model.network.layers[1].down.__class__ = ShortRing
    return model


class NeverWrites(Ring):
    def write(self, row, column, start, x):
        super().write(row, column, start, torch.zeros_like(x))


class Forgets(PixelConv):
    def _ring(self, memory):
        ring = super()._ring(memory)
        ring.__class__ = NeverWrites
        return ring


@mutant("whole differs from cursor")
def cursor_that_forgets():
    model = gated()
    model.network.layers[1].left.__class__ = Forgets
    return model


class SharedRing(RowConv):
    """Forks share the plans of a memory: what is kept there is written by all of them."""

    def _ring(self, memory):
        return memory.plan(("ring", self), lambda: Ring(memory.like, 8, self.height, memory.width, self.inputs, 1, 1))

    def forward(self, x, run):
        if isinstance(run, Whole):
            return super().forward(x, run)
        n = len(x)
        return super().forward(torch.cat([x, x.new_zeros(8 - n, *x.shape[1:])]), run)[:n]


@mutant("fork differs")
def forks_share_a_memory():
    model = gated()
    model.network.layers[1].down.__class__ = SharedRing
    return model


class NoPrefill(RowConv):
    def forward(self, x, run):
        return super().forward(x, Whole() if isinstance(run, Whole) else run)


@mutant("prefill differs")
def known_rows_not_remembered():
    model = gated()
    model.network.layers[1].down.__class__ = NoPrefill
    return model


# Probabilities


class DropsFirst(ImageModel):
    def log_prob_per_symbol(self, x, condition=None):
        each = super().log_prob_per_symbol(x, condition)
        first = torch.ones_like(each)
        first[:, 0, 0, 0] = 0
        return each * first


@mutant("first symbol lost")
def first_symbol_dropped_from_the_loss():
    model = gated()
    model.__class__ = DropsFirst
    return model


class OneLogitMore(Categorical):
    """A constant logit for "no value" takes part in the soft-max."""

    def log_prob(self, features, x):
        each = self.log_pmf(features.unflatten(-1, (self.channels, self.levels)), 0, x)
        return each.gather(-1, x.permute(0, 2, 3, 1)[..., None])[..., 0].permute(0, 3, 1, 2)

    def log_pmf(self, features, channel, earlier):
        return F.log_softmax(F.pad(features, (0, 1)), -1)[..., :-1]


@mutant("not normalised")
def one_logit_too_many():
    model = gated(levels=3)
    model.head.__class__ = OneLogitMore
    return model


class Tempered(Categorical):
    def log_prob(self, features, x):
        return super().log_prob(features / 1.1, x)


@mutant("log_prob differs")
def loss_at_another_temperature():
    model = gated(levels=3)
    model.head.__class__ = Tempered
    return model


class BestClass(ImageModel):
    def log_prob(self, x, condition=None):
        if condition is None:
            return self.log_prob_given_classes(x).amax(1)
        return super().log_prob(x, condition)


@mutant("marginal wrong")
def best_class_for_the_marginal():
    model = gated(classes=3)
    model.__class__ = BestClass
    return model


class IgnoresCondition(ImageModel):
    def embed_condition(self, condition, n, size):
        embedded = super().embed_condition(condition, n, size)
        return None if embedded is None else torch.zeros_like(embedded)


@mutant("condition ignored")
def condition_that_does_nothing():
    model = plain(classes=3)
    model.__class__ = IgnoresCondition
    return model


@mutant("channel order lost")
def channels_without_features():
    """Three channel groups share two features: nothing is left for the last channel."""
    return gated(3, features=2)
