"""A frozen network by NumPy's int64 alone, position by position of the kernel: what all other ways must agree with.

The network's own code runs; every module in it that computes is replaced by the plain statement of what it should do.
Tensors are int64 on the way between modules, and no product of theirs is made by PyTorch.
"""

import numpy as np
import torch
from torch import nn

from nextpixel.causal import Whole
from nextpixel.exact.halves import ExactHalves
from nextpixel.exact.layers import ExactLinear, ExactPixelConv, ExactRowConv
from nextpixel.exact.pointwise import (
    ExactAdd,
    ExactConcatELU,
    ExactGate,
    ExactHighway,
    ExactLinearGate,
    ExactReLU,
    ExactSigmoid,
)
from nextpixel.exact.proof import rebuilt
from nextpixel.exact.recurrence import ExactDiagonalBiLSTM, ExactRowLSTM


def integers(tensor):
    return tensor.detach().cpu().numpy().astype(np.int64)


def halves_up(x, bits):
    """x / 2^bits, rounded, halves up, in integers."""
    return (x + (1 << bits >> 1)) >> bits


class Reference(nn.Module):
    """Stands for one module; `compute` works on NumPy arrays."""

    def __init__(self, exact, tables):
        super().__init__()
        self.__dict__["exact"], self.__dict__["tables"] = exact, tables

    def forward(self, *inputs):
        arrays = [integers(x) if isinstance(x, torch.Tensor) else x for x in inputs]
        return torch.from_numpy(self.compute(*[x for x in arrays if not isinstance(x, Whole)]))

    def function(self, name, x):
        formats = self.exact.formats
        table = integers(self.tables.functions)[self.tables.rows[name]]
        middle = len(table) // 2
        index = halves_up(x, formats.activation - formats.index)
        return table[np.clip(index, -middle, middle) + middle]

    def fit(self, x):
        return np.clip(x, -self.exact.formats.limit, self.exact.formats.limit)

    def cell(self, gates, cell):
        take, keep, show, content = np.split(gates, 4, -1)
        bits = self.exact.formats.activation
        new = self.function("sigmoid", keep) * cell + self.function("sigmoid", take) * self.function("tanh", content)
        new = np.clip(halves_up(new, bits), -8 << bits, 8 << bits)
        return halves_up(self.function("sigmoid", show) * self.function("tanh", new), bits), new


class Halves(Reference):
    """One product of whole inputs, as int64 has room for."""

    def compute(self, x):
        layer = self.exact.rest
        weight = integers(layer.kernel())
        sums = x @ weight.reshape(weight.shape[:2]).T + integers(layer.bias)
        return self.fit(sums >> (integers(self.exact.shift) + self.exact.formats.low))


class Convolution(Reference):
    """A dense kernel, its last row on the own row and `reach` columns of it to the left."""

    def compute(self, x):
        layer = self.exact
        kernel = integers(layer.kernel())
        kernel = kernel.reshape(*kernel.shape[:2], *(kernel.shape[2:] if kernel.ndim == 4 else (1, 1)))
        outputs, _, height, width = kernel.shape
        reach = layer.reach if isinstance(layer, ExactPixelConv) else width // 2
        x = halves_up(x, layer.drop)
        n, rows, columns, _ = x.shape
        sums = np.zeros((n, rows, columns, outputs), np.int64) + integers(layer.bias)
        for i in range(rows):
            for j in range(columns):
                for a in range(height):
                    for b in range(width):
                        row, column = i + a - height + 1, j + b - reach
                        if 0 <= row < rows and 0 <= column < columns:
                            sums[:, i, j] += x[:, row, column] @ kernel[:, :, a, b].T
        return self.fit(sums >> integers(layer.shift))


class Add(Reference):
    def compute(self, x, y):
        return self.fit(x + y)


class ReLU(Reference):
    def compute(self, x):
        return np.maximum(x, 0)


class Gate(Reference):
    def compute(self, x):
        content, gate = np.split(x, 2, -1)
        bits = self.exact.formats.activation
        return halves_up(self.function("tanh", content) * self.function("sigmoid", gate), bits)


class Mixing(Reference):
    def share(self, gate):
        return halves_up(self.function("sigmoid", gate), self.exact.formats.spare[1])

    def mixed(self, sums):
        return halves_up(sums, self.exact.formats.activation - sum(self.exact.formats.spare))


class LinearGate(Mixing):
    def compute(self, x):
        content, gate = np.split(x, 2, -1)
        return self.mixed(self.share(gate) * halves_up(content, self.exact.formats.spare[0]))


class Highway(Mixing):
    def compute(self, gate, new, old):
        share, bits = self.share(gate), self.exact.formats.spare[0]
        rest = (1 << self.exact.formats.activation - self.exact.formats.spare[1]) - share
        return self.mixed(share * halves_up(new, bits) + rest * halves_up(old, bits))


class ConcatELU(Reference):
    def compute(self, x):
        both = np.concatenate([x, -x], -1)
        return np.where(both > 0, both, self.function("elu", both))


class Sigmoid(Reference):
    def compute(self, x):
        return self.function("sigmoid", x)


class RowLSTM(Reference):
    def compute(self, x):
        layer = self.exact
        kernel = integers(layer.state_to_state)[:, :, 0]
        n, rows, columns, _ = x.shape
        hidden = np.zeros((n, columns, layer.hidden.width), np.int64) + integers(layer.first_hidden)
        cell = np.zeros_like(hidden) + integers(layer.first_cell)
        states = []
        for i in range(rows):
            sums = np.zeros((n, columns, len(kernel)), np.int64)
            for j in range(columns):
                for b in range(kernel.shape[2]):
                    if 0 <= j + b - layer.side < columns:
                        sums[:, j] += hidden[:, j + b - layer.side] @ kernel[:, :, b].T
            gates = self.fit(x[:, i] + self.fit(halves_up(sums, int(layer.shift[0]))))
            hidden, cell = self.cell(gates, cell)
            states.append(hidden)
        return np.stack(states, 1)


class DiagonalBiLSTM(Reference):
    def __init__(self, exact, tables):
        super().__init__(exact, tables)
        for name in ("input_to_state", "mirrored_input", "mirrored_raw"):
            part = getattr(exact, name)
            self.__dict__[name] = None if part is None else Convolution(part, tables)

    def compute(self, x, raw):
        mirrored = self.__dict__["mirrored_input"].compute(x)
        if self.__dict__["mirrored_raw"] is not None:
            mirrored = self.fit(mirrored + self.__dict__["mirrored_raw"].compute(raw))
        ahead = self.states(self.__dict__["input_to_state"].compute(x), 0)
        back = self.states(mirrored[:, :, ::-1], 1)[:, :, ::-1]
        ahead[:, 1:] += back[:, :-1]
        return self.fit(ahead)

    def states(self, inputs, direction):
        layer = self.exact
        weight = integers(layer.state_to_state)[direction]
        n, rows, columns, _ = inputs.shape
        hiddens = np.zeros((n, rows, columns, layer.hidden.width), np.int64)
        for i in range(rows):
            hidden = np.zeros((n, layer.hidden.width), np.int64) + integers(layer.first_hidden)[direction]
            cell = np.zeros_like(hidden) + integers(layer.first_cell)[direction]
            for j in range(columns):
                above = hiddens[:, i - 1, j] if i else np.zeros_like(hidden)
                sums = np.concatenate([hidden, above], -1) @ weight
                gates = self.fit(inputs[:, i, j] + self.fit(halves_up(sums, int(layer.shift[0]))))
                hidden, cell = self.cell(gates, cell)
                hiddens[:, i, j] = hidden
        return hiddens


TWINS = {
    ExactHalves: Halves,
    ExactPixelConv: Convolution,
    ExactRowConv: Convolution,
    ExactLinear: Convolution,
    ExactAdd: Add,
    ExactReLU: ReLU,
    ExactGate: Gate,
    ExactLinearGate: LinearGate,
    ExactHighway: Highway,
    ExactConcatELU: ConcatELU,
    ExactSigmoid: Sigmoid,
    ExactRowLSTM: RowLSTM,
    ExactDiagonalBiLSTM: DiagonalBiLSTM,
}


def reference_features(exact, x, labels=None):
    """The integers that a frozen model's network gives for images, [N, H, W, outputs]."""

    def replace(name, module):
        twin = TWINS.get(type(module))
        return None if twin is None else twin(module, exact.tables)

    vectors = [integers(exact.embedding.tables[c])[x[:, c].numpy()] for c in range(x.shape[1])]
    told = None
    if labels is not None:
        told = torch.from_numpy(integers(exact.condition.table.weight)[labels.numpy()][:, None, None])
    return integers(rebuilt(exact.network, replace)(torch.from_numpy(np.concatenate(vectors, -1)), told))


def reference_masses(exact, x, labels=None):
    """Masses [N, T, K] of a model whose head is bernoulli or one of the categorical ones, by Python integers."""
    features, head = reference_features(exact, x, labels), exact.head
    table, formats = integers(exact.tables.mass), exact.formats
    n, rows, columns, _ = features.shape
    values, masses = x.permute(0, 2, 3, 1).numpy(), []
    for place in np.ndindex(n, rows, columns):
        start = 0
        for channel in range(head.channels):
            if head.orders_channels:
                logits = own_channel_logits(head, features[place], channel, values[place], formats)
            else:
                logits = features[place][start : start + head.sizes[channel]]
                start += head.sizes[channel]
            logits = [0, int(logits[0])] if head.name == "bernoulli" else [int(logit) for logit in logits]
            below = [halves_up(max(logits) - logit, formats.activation - formats.index) for logit in logits]
            masses.append([int(table[min(d, len(table) - 1)]) for d in below])
    return np.array(masses).reshape(n, rows * columns * head.channels, head.levels)


def own_channel_logits(head, features, channel, values, formats):
    for before in range(channel):
        vector = integers(head.earlier[channel])[before, values[before]]
        features = np.clip(features + vector, -formats.limit, formats.limit)
    layer, x = head.logits[channel], np.maximum(features, 0)
    if isinstance(layer, ExactHalves):  # one product of whole inputs, in int64
        sums = integers(layer.rest.weight) @ x + integers(layer.rest.bias)
        shift = integers(layer.shift) + formats.low
    else:
        sums = integers(layer.weight) @ halves_up(x, layer.drop) + integers(layer.bias)
        shift = integers(layer.shift)
    return np.clip(sums >> shift, -formats.limit, formats.limit)
