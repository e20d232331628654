"""No symbol sees itself or a later one: by changing symbols, and by the Jacobian of the network."""

from __future__ import annotations

import torch
from torch import Tensor

from nextpixel.checking.report import Faults, Finding
from nextpixel.checking.subject import (
    Condition,
    Size,
    Symbol,
    condition_for,
    images,
    in_order,
    named,
    pieces,
    rows_of,
    sample_of,
    symbols,
)
from nextpixel.image_model import ImageModel


def influence(
    model: ImageModel, x: Tensor, condition: Condition, wanted: list[Symbol], generator: torch.Generator
) -> Tensor:
    """On which embedded input the log-pmf of symbol wanted[t] in picture x[t] depends: bool [T, H, W, groups]."""
    return sensitivity(model, x, condition, wanted, generator) != 0


def sensitivity(
    model: ImageModel, x: Tensor, condition: Condition, wanted: list[Symbol], generator: torch.Generator
) -> Tensor:
    """How strongly the log-pmf of symbol wanted[t] in picture x[t] depends on the embedded input, [T, H, W, groups].

    The largest absolute derivative of a random combination of the symbol's log-probabilities. What a head makes of
    earlier channels does not go through the embedding and does not count.
    """
    shown: list[Tensor] = []

    def show(module: object, args: object, output: Tensor) -> Tensor:
        shown.append(output.detach().clone().requires_grad_())
        return shown[-1].clone()  # not the leaf itself, so that a network that edits its input is still examined

    handle = model.embedding.register_forward_hook(show)
    try:
        with torch.enable_grad():
            log_pmf = model.log_pmf(x, condition)
            row, column, channel = (torch.tensor(part) for part in zip(*wanted, strict=True))
            chosen = log_pmf[torch.arange(len(x)), channel, row, column]
            direction = torch.randn(chosen.shape, generator=generator, dtype=torch.float64).to(chosen)
            (gradient,) = torch.autograd.grad((chosen * direction).sum(), shown, allow_unused=True)
    finally:
        handle.remove()
    groups = model.embedding.layout
    if gradient is None:
        return shown[0].new_zeros(*shown[0].shape[:3], groups.groups)
    return torch.stack([gradient[..., groups.members(g)].abs().amax(-1) for g in range(groups.groups)], -1)


@torch.no_grad()
def changed_symbols(models: list[ImageModel], size: Size) -> list[Finding]:
    """Change one symbol at a time: no pmf up to and including it may move by a single bit, in eval or train mode."""
    faults, count = Faults("later symbols"), 0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(300 + seed)
        channels = model.shape[0]
        wanted = sample_of(symbols(channels, size))
        count = len(wanted)
        x = images(model, 1, size, generator)
        condition = condition_for(model, 1, size, generator)
        position = {symbol: index for index, symbol in enumerate(symbols(channels, size))}
        for piece in pieces(len(wanted), size):
            part = wanted[piece]
            changed = x.repeat(len(part), 1, 1, 1)
            for t, (i, j, c) in enumerate(part):
                changed[t, c, i, j] = (changed[t, c, i, j] + 1 + t % (model.levels - 1)) % model.levels
            at = torch.tensor([position[symbol] for symbol in part])
            moved = {}
            for mode in ("eval", "train"):
                moved[mode] = _moved(model, x.expand_as(changed), changed, rows_of(condition, len(part)), mode)
            late = torch.arange(len(position))[None, :] > at[:, None]
            for t, s in torch.nonzero(moved["eval"] & ~late).tolist():
                _name_leak(faults, symbols(channels, size)[s], part[t], channels)
            only_train = moved["train"] & ~late & ~moved["eval"]
            if only_train.any():
                t, s = torch.nonzero(only_train)[0].tolist()
                faults.add(
                    "train-mode leak",
                    f"in train mode only, changing {named(part[t], channels)} changes the pmf at "
                    f"{named(symbols(channels, size)[s], channels)}",
                )
    _other_pictures(models, size, faults)
    return faults.findings(
        f"each of {count} symbols changed in turn: no pmf up to it moved by a bit, in eval and train mode"
    )


def _moved(model: ImageModel, x: Tensor, changed: Tensor, condition: Condition, mode: str) -> Tensor:
    """Which pmfs differ between x and changed: bool [T, symbols]. Dropout gets the same mask both times."""
    answers = []
    for pictures in (x, changed):
        torch.manual_seed(0)
        answers.append(_log_pmf(model, pictures, condition, mode))
    return (answers[0] != answers[1]).any(-1)


def _log_pmf(model: ImageModel, x: Tensor, condition: Condition, mode: str) -> Tensor:
    """In order. Train mode may leave traces (running averages), which are taken back."""
    if mode == "eval":
        return in_order(model.log_pmf(x, condition))
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.train()
    try:
        return in_order(model.log_pmf(x, condition))
    finally:
        model.eval()
        for buffer, before in buffers:
            buffer.copy_(before)


def _other_pictures(models: list[ImageModel], size: Size, faults: Faults) -> None:
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(400 + seed)
        x = images(model, 3, size, generator)
        other = torch.cat([x[:1], images(model, 2, size, generator)])
        condition = condition_for(model, 3, size, generator)
        eval_moved = _moved(model, x, other, condition, "eval")[0].any()
        if _moved(model, x, other, condition, "train")[0].any() and not eval_moved:
            faults.add("train-mode leak", "in train mode the other pictures of the batch change a picture's pmfs")


def _name_leak(faults: Faults, seer: Symbol, seen: Symbol, channels: int) -> None:
    if seer == seen:
        faults.add("sees itself", f"the pmf at {named(seer, channels)} changes with the value there")
    elif seer[:2] == seen[:2]:
        faults.add("channel leak", f"the pmf at {named(seer, channels)} changes with the pixel's channel {seen[2]}")
    else:
        faults.add("future leak", f"the pmf at {named(seer, channels)} changes with {named(seen, channels)}")


def jacobian(models: list[ImageModel], size: Size) -> list[Finding]:
    """The Jacobian of every symbol's log-pmf with respect to the embedded input is strictly causal."""
    faults, count = Faults("jacobian"), 0
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(500 + seed)
        channels, width = model.shape[0], size[1]
        wanted = sample_of(symbols(channels, size))
        count = len(wanted)
        x = images(model, 1, size, generator)
        condition = condition_for(model, 1, size, generator)
        for piece in pieces(len(wanted), size):
            part = wanted[piece]
            seen = influence(
                model, x.repeat(len(part), 1, 1, 1), rows_of(condition, len(part)), part, generator
            ).flatten(1, 2)
            own = torch.tensor([i * width + j for i, j, _ in part])
            late = torch.arange(seen.shape[1])[None, :] > own[:, None]
            for t, pixel in torch.nonzero(seen.any(-1) & late).tolist():
                faults.add(
                    "future leak",
                    f"{named(part[t], channels)} has a derivative by row {pixel // width}, column {pixel % width}",
                )
            for t, group in torch.nonzero(seen[torch.arange(len(part)), own]).tolist():
                channel = part[t][2]
                if model.channels_by != "network" or group == channel:
                    faults.add("sees itself", f"{named(part[t], channels)} has a derivative by its own input")
                elif group > channel:
                    faults.add("channel leak", f"{named(part[t], channels)} has a derivative by channel {group}")
    return faults.findings(f"strictly lower triangular for {count} symbols by {size[0]}x{size[1]} pixels")


@torch.no_grad()
def head_order(models: list[ImageModel], size: Size) -> list[Finding]:
    """A head that orders the channels makes every channel depend on all earlier ones of its pixel."""
    faults = Faults("channel order")
    channels = models[0].shape[0]
    depends = torch.zeros(channels, channels, dtype=torch.bool)
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(600 + seed)
        x = images(model, 1, size, generator)
        condition = condition_for(model, 1, size, generator)
        before = model.log_pmf(x, condition)
        for channel in range(channels):
            changed = x.clone()
            changed[0, channel, -1, -1] = (changed[0, channel, -1, -1] + 1) % model.levels
            after = model.log_pmf(changed, condition)
            depends[:, channel] |= (before != after)[0, :, -1, -1].any(-1)
    for later, earlier in torch.nonzero(torch.ones_like(depends).tril(-1) & ~depends).tolist():
        faults.add("channel order lost", f"channel {later} does not depend on the pixel's channel {earlier}")
    return faults.findings("by the head: each channel depends on all earlier ones of its pixel")
