"""A small model in pure integers that satisfies `nextpixel.coding.Codable`: values mixed by tables of counts.

The masses of a symbol are sums of table rows chosen by the value to the left, the value above, the channel before and
the class. Raster order, channels inside a pixel. It is written twice, for whole pictures and step by step, like the
models it stands for.
"""

import hashlib

import torch


class IntegerModel:
    """Value v of a neighbour has the table row v + 1; row 0 is for a neighbour outside the picture."""

    arithmetic = 1

    def __init__(self, shape=(1, 6, 5), levels=4, classes=None, seed=0, sharpness=6, stretch=7):
        self.shape, self.levels, self.classes, self.stretch = shape, levels, classes, stretch
        values, contexts = torch.arange(levels), torch.arange(levels + 1)[:, None]
        near = (contexts - 1 - values).abs() * 8 // levels
        peaked = 1 << (sharpness - near).clamp(min=0)
        self.left, self.above, self.before = (peaked + (contexts * 7 + values * 13 + seed + i) % 3 for i in range(3))
        self.classed = (torch.arange(classes or 1)[:, None] * 3 + values) % 5

    @property
    def identity(self):
        sha = hashlib.sha256(repr((self.shape, self.levels, self.classes)).encode())
        for table in (self.left, self.above, self.before, self.classed):
            sha.update(table.numpy().astype("<i8").tobytes())
        return sha.digest()

    def in_sequence(self, images):
        return images.permute(0, 2, 3, 1).flatten(1)

    def from_sequence(self, symbols, size):
        return symbols.reshape(len(symbols), *size, self.shape[0]).permute(0, 3, 1, 2)

    def coding_order(self, size):
        return None

    def masses(self, images, labels):
        rows = torch.zeros(*images.shape[:2], images.shape[2] + 1, images.shape[3] + 1, dtype=torch.long)
        rows[:, :, 1:, 1:] = images.long() + 1
        before = torch.zeros_like(images, dtype=torch.long)
        before[:, 1:] = images[:, :-1].long() + 1
        left, above = self.in_sequence(rows[:, :, 1:, :-1]), self.in_sequence(rows[:, :, :-1, 1:])
        before = self.in_sequence(before)
        classed = self.classed[torch.zeros(len(images)).long() if labels is None else labels][:, None]
        for at in range(0, left.shape[1], self.stretch):
            part = slice(at, at + self.stretch)
            yield 1 + self.left[left[:, part]] + self.above[above[:, part]] + self.before[before[:, part]] + classed

    def decoder(self, n, labels, size):
        return Steps(self, n, labels, size)


class Steps:
    def __init__(self, model, n, labels, size):
        self.model, self.width, self.at = model, size[1], 0
        self.rows = torch.zeros(n, model.shape[0], size[0] + 1, size[1] + 1, dtype=torch.long)
        self.classed = model.classed[torch.zeros(n).long() if labels is None else labels]

    def _place(self):
        pixel, channel = divmod(self.at, self.model.shape[0])
        return (channel, *divmod(pixel, self.width))

    def masses(self):
        channel, row, column = self._place()
        left, above = self.rows[:, channel, row + 1, column], self.rows[:, channel, row, column + 1]
        before = self.rows[:, channel - 1, row + 1, column + 1] if channel else torch.zeros_like(left)
        return (1 + self.model.left[left] + self.model.above[above] + self.model.before[before] + self.classed)[None]

    def push(self, values):
        channel, row, column = self._place()
        self.rows[:, channel, row + 1, column + 1] = values[0] + 1
        self.at += 1


def pictures_of(model, n, seed=0, size=None):
    """Pictures that the model finds likely: drawn from its own masses, [n, C, H, W], and labels or None."""
    generator = torch.Generator().manual_seed(seed)
    labels = None if model.classes is None else torch.randint(model.classes, (n,), generator=generator)
    size = size or model.shape[1:]
    steps, drawn = model.decoder(n, labels, size), []
    for _ in range(model.shape[0] * size[0] * size[1]):
        drawn.append(torch.multinomial(steps.masses()[0].double(), 1, generator=generator)[:, 0])
        steps.push(drawn[-1][None])
    dtype = torch.uint8 if model.levels <= 256 else torch.int32
    return model.from_sequence(torch.stack(drawn, 1), size).to(dtype).contiguous(), labels
