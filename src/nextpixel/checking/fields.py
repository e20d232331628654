"""How far a symbol sees, and which channels of its own pixel: measured, against what the network declares."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from nextpixel.checking.causality import influence, sensitivity
from nextpixel.checking.report import Faults, Finding
from nextpixel.checking.subject import Size, Symbol, condition_for, images, named, private_copy, redrawn
from nextpixel.image_model import ImageModel

INPUTS = 2  # random inputs for each set of random weights
PATIENCE = 2  # times `seeds` rounds (at least 8) without a new pixel, then what is missing is believed to be missing
LONG_SIDES = (5, 9, 17, 33)
OWN_PIXELS_AT_MOST = 64 * 64  # in larger images it takes long to work out the declared field


@dataclasses.dataclass
class _Look:
    """One canvas and the pixels examined there."""

    size: Size
    pixels: list[tuple[int, int]]
    declared: dict[tuple[int, int], Tensor] = dataclasses.field(default_factory=dict)
    seen: Tensor | None = None  # bool [pixels * C, H, W, groups], the union so far


def receptive_fields(model: ImageModel, size: Size, any_size: bool, seeds: int) -> list[Finding]:
    """The union over random weights and inputs is the declared field, for each channel. In its row and in the rows
    above, a channel sees all channels somewhere; at its own pixel exactly the earlier ones."""
    field, order = Faults("receptive field"), Faults("channel order")
    looks = [_Look(size, _pixels(size))]
    if any_size:
        # Long and narrow canvases, beyond the declared reach: on the small one, a deep network sees everything.
        tall, wide = _long_side(model, tall=True), _long_side(model, tall=False)
        looks += [_Look((tall, 3), [(tall - 1, 1)]), _Look((3, wide), [(2, wide // 2)])]
    for look in looks:
        look.declared = {pixel: model.network.receptive_field(*look.size, *pixel) for pixel in look.pixels}
    rounds = _measure(model, looks, seeds)
    for look in looks:
        for t, symbol in enumerate(_wanted(model, look)):
            assert look.seen is not None
            _compare(model, look, symbol, look.seen[t], field, order)
    fine = f"as declared {_reach(model, looks)}, over {rounds} random weights and {INPUTS * rounds} inputs"
    if not all(_complete(model, look) for look in looks):
        fine += "; of some pixels not every channel is seen"
    findings = field.findings(fine)
    findings += _full_context(model, looks[0])
    if model.channels_by == "network":
        findings += order.findings("by the network: each channel depends on exactly the earlier ones of its pixel")
    return findings


def measured_fields(model: ImageModel, size: Size, pixels: list[tuple[int, int]], seeds: int = 8) -> Tensor:
    """The pixels that the pmfs at `pixels` depend on under any of many random weights, bool [pixels, H, W]."""
    look = _Look(size, pixels)
    look.declared = {pixel: model.network.receptive_field(*size, *pixel) for pixel in pixels}
    _measure(model, [look], seeds)
    assert look.seen is not None
    return look.seen.any(-1).unflatten(0, (len(pixels), model.shape[0])).any(1)


def own_sensitivity(model: ImageModel, size: Size, pixels: list[tuple[int, int]]) -> Tensor:
    """The mean strength of the gradients at `pixels` by all pixels, with the model's own weights: [pixels, H, W]."""
    own, generator = private_copy(model), torch.Generator().manual_seed(0)
    wanted = [(i, j, model.shape[0] - 1) for i, j in pixels]
    total = torch.zeros(len(pixels), *size, dtype=torch.float64)
    for _ in range(8):
        x = images(own, len(wanted), size, generator)
        condition = condition_for(own, len(wanted), size, generator)
        total += sensitivity(own, x, condition, wanted, generator).amax(-1)
    return total / 8


def _pixels(size: Size) -> list[tuple[int, int]]:
    """The middle, the edges, the corners where something can be seen."""
    (height, width), middle = size, (size[0] // 2, size[1] // 2)
    wanted = [
        middle,
        (middle[0], 0),
        (middle[0], width - 1),
        (height - 1, middle[1]),
        (height - 1, width - 1),
        (0, width - 1),
    ]
    return list(dict.fromkeys(wanted))


def _long_side(model: ImageModel, tall: bool) -> int:
    """Long enough that the declared field ends inside the canvas; a moderate one if it never ends."""
    for side in LONG_SIDES:
        if tall:
            inside = not model.network.receptive_field(side, 3, side - 1, 1)[0].any()
        else:
            field = model.network.receptive_field(3, side, 2, side // 2)
            inside = not field[:, 0].any() and not field[:, -1].any()
        if inside:
            return side
    return LONG_SIDES[1]


def _wanted(model: ImageModel, look: _Look) -> list[Symbol]:
    return [(i, j, c) for i, j in look.pixels for c in range(model.shape[0])]


def _measure(model: ImageModel, looks: list[_Look], seeds: int) -> int:
    """Fill in `seen`. Goes on beyond `seeds` rounds while pixels are missing and new ones still turn up (small networks
    of ReLUs are dead at random); returns the rounds."""
    idle = rounds = 0
    while rounds < seeds or (not all(_complete(model, look) for look in looks) and idle < max(PATIENCE * seeds, 8)):
        weights = redrawn(model, 1000 + rounds, looks[0].size)
        generator = torch.Generator().manual_seed(rounds)
        new = False
        for look in looks:
            wanted = _wanted(model, look)
            for _ in range(INPUTS):
                x = images(weights, len(wanted), look.size, generator)
                condition = condition_for(weights, len(wanted), look.size, generator)
                seen = influence(weights, x, condition, wanted, generator)
                new = new or look.seen is None or bool((seen & ~look.seen).any())
                look.seen = seen if look.seen is None else look.seen | seen
        idle = 0 if new else idle + 1
        rounds += 1
    return rounds


def _own_channels(model: ImageModel, channel: int, groups: int) -> Tensor:
    """Which groups of its own pixel a channel may and must see, bool [groups]."""
    return torch.arange(groups) < (channel if model.channels_by == "network" else 0)


def _complete(model: ImageModel, look: _Look) -> bool:
    if look.seen is None:
        return False
    for (i, j, c), seen in zip(_wanted(model, look), look.seen, strict=True):
        if (look.declared[i, j][..., None] & ~seen).any() or (
            _own_channels(model, c, seen.shape[-1]) & ~seen[i, j]
        ).any():
            return False
    return True


def _compare(model: ImageModel, look: _Look, symbol: Symbol, seen: Tensor, field: Faults, order: Faults) -> None:
    i, j, c = symbol
    (height, width), channels = look.size, model.shape[0]
    who = f"{named(symbol, channels)} of {height}x{width}"
    past = (torch.arange(height * width) < i * width + j).view(height, width)
    declared = look.declared[i, j]
    pixels = seen.any(-1)
    missing, more = declared & past & ~pixels, pixels & past & ~declared
    if missing.any():
        hole = missing & _within(pixels, i, j)
        a, b = torch.nonzero(hole if hole.any() else missing)[0].tolist()
        fault = "blind spot" if hole.any() else "too little context"
        field.add(fault, f"{who} never sees row {a}, column {b}: {int(missing.sum())} pixels missing")
    if more.any():
        a, b = torch.nonzero(more)[0].tolist()
        field.add("too much context", f"{who} sees row {a}, column {b}, which is not declared")
    # A single channel of a single pixel may be out of sight for a good reason (the end of the row above in a Diagonal
    # BiLSTM); a channel that is nowhere seen has been masked where nothing needs masking.
    own_row = (torch.arange(height) == i)[:, None] & past
    for where, part in (("its row", own_row), ("the rows above", past & ~own_row)):
        for group in range(seen.shape[-1]):
            if (pixels & part).any() and not (seen[..., group] & part).any():
                field.add("channels lost", f"{who} sees channel {group} of no pixel in {where}")
    if (declared & ~past).any():
        field.add("future leak", f"the field declared for {who} holds the pixel itself or later ones")
    if model.channels_by == "network":
        for group in torch.nonzero(_own_channels(model, c, seen.shape[-1]) & ~seen[i, j]).flatten().tolist():
            order.add("channel order lost", f"channel {c} does not depend on channel {group} of its pixel ({who})")
        for group in torch.nonzero(seen[i, j]).flatten().tolist():
            if group >= c:
                fault = "sees itself" if group == c else "channel leak"
                order.add(fault, f"channel {c} depends on channel {group} of its own pixel ({who})")


def _within(seen: Tensor, row: int, column: int) -> Tensor:
    """Pixels that have seen ones beyond them: further up, further left, or further right. bool [H, W]"""
    up = seen.int().cumsum(0) > 0
    left = seen.int().cumsum(1) > 0
    right = seen.flip(1).int().cumsum(1).flip(1) > 0
    columns = torch.arange(seen.shape[1])[None, :]
    return up | (left & (columns < column)) | (right & (columns > column))


def _reach(model: ImageModel, looks: list[_Look]) -> str:
    """The canvases looked at, and what is declared for the middle of the model's own images."""
    where = " and ".join(f"{look.size[0]}x{look.size[1]}" for look in looks)
    height, width = model.shape[1:]
    if height * width > OWN_PIXELS_AT_MOST:
        return f"on {where}"
    row, column = height // 2, width // 2
    count = int(model.network.receptive_field(height, width, row, column).sum())
    return f"on {where} ({count} of the {row * width + column} earlier pixels in the middle of {height}x{width})"


def _full_context(model: ImageModel, look: _Look) -> list[Finding]:
    """A family that promises the full context must keep the promise where it is deep enough to reach the edges."""
    if not model.network.family.full_context:
        return []
    height, width = look.size
    row, column = height - 1, width // 2
    past = (torch.arange(height * width) < row * width + column).view(height, width)
    declared = look.declared[row, column]
    faults = Faults("full context")
    # Not the case where fully connected layers have fewer units than there are pixels.
    before = declared.flatten()[row * width + column - 1]
    spans = bool(declared[0].any() and declared[:, -1].any() and (column == 0 or declared[row, 0]) and before)
    count, total = int((declared & past).sum()), int(past.sum())
    if spans and count < total:
        faults.add(
            "blind spot", f"the network reaches all edges of {height}x{width}, yet sees {count} of {total} pixels"
        )
    if spans:
        return faults.findings(f"all {total} earlier pixels at row {row}, column {column} of {height}x{width}")
    return faults.findings(
        f"promised for larger networks; this one reaches {count} of {total} pixels of {height}x{width}"
    )
