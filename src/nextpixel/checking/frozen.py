"""A frozen model: its proof, and that every way of asking for its integers gives the same ones."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import torch

from nextpixel.checking.report import Faults, Finding, Report, collector
from nextpixel.coding.frequencies import TOTAL, frequencies
from nextpixel.errors import UserError
from nextpixel.exact import Coded, ExactModel

MOST_IMAGES = 4096


@torch.no_grad()
def check_frozen(
    model: ExactModel, size: tuple[int, int] | None, progress: Callable[[str], None] | None = None
) -> Report:
    """Proof, self-test, Whole = decoder bit for bit (in the order in which pictures are coded), other batches and
    types of tensor, no leak, all images of a tiny size summing to 1."""
    height, width = size or (5, 7)
    findings: list[Finding] = []
    run = collector(findings, progress)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(model.levels, (3, model.shape[0], height, width), generator=generator)
    labels = None if model.classes is None else torch.arange(3) % model.classes
    run("proof", lambda: _proof(model))
    run("Whole = decoder", lambda: _decoder(model, x, labels))
    run("batches and types", lambda: _held(model, x, labels))
    run("later symbols", lambda: _later(model, x[:1], None if labels is None else labels[:1]))
    run("all images", lambda: _all_images(model))
    channels, rows, columns = model.shape
    return Report(findings, f"{model.family}, frozen, {channels}x{rows}x{columns}, {model.levels} levels")


def _proof(model: ExactModel) -> list[Finding]:
    faults = Faults("proof")
    try:
        model.prove()
        model.ready()
    except UserError as error:
        faults.add("not proved", str(error))
    return faults.findings(f"every sum of the {model.formats.form} form is exact; products are exact on this machine")


def _decoder(model: ExactModel, x: torch.Tensor, labels: torch.Tensor | None) -> list[Finding]:
    faults, coded = Faults("Whole = decoder"), Coded(model)
    size = (x.shape[2], x.shape[3])
    order = coded.coding_order(size)
    order = torch.arange(x[0].numel()) if order is None else order
    whole, values = model.masses(x, labels)[:, order], coded.in_sequence(x)[:, order]
    steps = calls = 0
    for chosen in (slice(0, 3), slice(1, 2)):
        decoder = coded.decoder(len(x[chosen]), None if labels is None else labels[chosen], size)
        steps = calls = 0
        while steps < whole.shape[1]:
            masses = decoder.masses()
            if not torch.equal(masses.transpose(0, 1), whole[chosen, steps : steps + len(masses)]):
                faults.add("decoder differs", f"other integers at symbol {steps} of {whole.shape[1]}")
            decoder.push(values[chosen, steps : steps + len(masses)].T)
            steps, calls = steps + len(masses), calls + 1
    return faults.findings(f"the same integers, bit for bit: 3 pictures, 1 picture, {steps} symbols in {calls} steps")


def _held(model: ExactModel, x: torch.Tensor, labels: torch.Tensor | None) -> list[Finding]:
    faults, whole = Faults("batches and types"), model.masses(x, labels)
    alone = model.masses(x[2:], None if labels is None else labels[2:])
    if not torch.equal(alone, whole[2:]):
        faults.add("batch leak", "a picture alone has other integers than in a batch")
    for dtype in (torch.float64, torch.int64):
        wider = copy.deepcopy(model).hold(dtype)
        if not torch.equal(wider.masses(x, labels), whole):
            faults.add("types differ", f"held in {dtype} the model gives other integers")
    return faults.findings("the same integers alone, held in float64, and in int64")


def _later(model: ExactModel, x: torch.Tensor, labels: torch.Tensor | None) -> list[Finding]:
    faults, whole, values = Faults("later symbols"), model.masses(x, labels), model.in_sequence(x)
    for place in range(values.shape[1]):
        changed = values.clone()
        changed[:, place] = (changed[:, place] + 1) % model.levels
        after = model.masses(model.from_sequence(changed, (x.shape[2], x.shape[3])), labels)
        if not torch.equal(after[:, : place + 1], whole[:, : place + 1]):
            faults.add("future leak", f"symbol {place} has an influence on itself or on an earlier one")
    return faults.findings(f"each of {values.shape[1]} symbols changed in turn: no mass up to it moved")


def _all_images(model: ExactModel) -> list[Finding]:
    faults = Faults("all images")
    channels, pixels = model.shape[0], 0
    while model.levels ** ((pixels + 1) * channels) <= MOST_IMAGES:
        pixels += 1
    if pixels:
        every = torch.tensor(list(itertools.product(range(model.levels), repeat=channels * pixels)))
        x = every.view(-1, channels, 1, pixels)
    else:
        x = torch.randint(model.levels, (64, channels, 2, 3), generator=torch.Generator().manual_seed(1))
    counts = frequencies(model.masses(x, None if model.classes is None else 0)) + 1
    if not bool((counts.sum(-1) == TOTAL).all()) or int(counts.min()) < 1:
        faults.add("not normalised", "the frequencies of a symbol do not sum to 2^24, or one is zero")
    detail = "the frequencies of every symbol sum to 2^24, none is zero"
    if pixels:
        chosen = counts.gather(-1, model.in_sequence(x).long()[..., None]).double() / TOTAL
        total = float(chosen.prod(1).sum())
        if abs(total - 1) > 1e-9:
            faults.add("not normalised", f"{len(x)} images of 1x{pixels} sum to {total}")
        detail += f"; {len(x)} images of 1x{pixels} sum to 1 within {abs(total - 1):.1e}"
    return faults.findings(detail)
