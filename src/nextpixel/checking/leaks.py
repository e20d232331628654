"""The causality part of `check` alone: does a symbol see itself, a later one, or another picture?"""

from __future__ import annotations

import torch

from nextpixel.checking import causality
from nextpixel.checking.even import EVEN
from nextpixel.checking.ordered import WHOLLY, spread_over
from nextpixel.checking.report import Finding
from nextpixel.checking.subject import canvas_for, private_copy, redrawn
from nextpixel.image_model import ImageModel
from nextpixel.model import Model


def leaks(model: Model) -> list[Finding]:
    """What is wrong, each with its fault; empty if nothing is. The model and the random state stay as they are.

    Of a multi-scale model both parts are looked at, of a model of several orders up to three, each in its own grid.
    """
    wrong: list[Finding] = []
    parts = [model] if isinstance(model, ImageModel) else [p for p in model.children() if isinstance(p, ImageModel)]
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        for part in parts:
            each = private_copy(part, torch.float32).each_order()
            for number in spread_over(len(each), WHOLLY):
                one = each[number].own_grid()
                canvas, any_size = canvas_for(one, None)
                some = [private_copy(one), redrawn(one, 0, canvas)]
                looks = [causality.changed_symbols(some, canvas), causality.jacobian(some, canvas)]
                if any_size:
                    looks.append(causality.changed_symbols(some, EVEN))
                wrong += [finding for look in looks for finding in look if not finding.passed]
    return wrong
