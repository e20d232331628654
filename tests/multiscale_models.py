"""Tiny multi-scale models for tests, and what their parts say."""

import itertools

import torch

import nextpixel as npx

SMALL = {"features": 5, "kernel": 3, "first_kernel": 3, "layers": 2, "blocks": 1, "out_features": 4}
"""Small values for options by name; a family takes those that it has."""

LARGE_FAMILIES = [name for name, declared in npx.families().items() if "map" in declared.conditions]


def small(family):
    return {name: value for name, value in SMALL.items() if name in npx.families()[family].options}


def multi(family="gated_pixelcnn", *, spread=2.0, seed=1, small_family=None, **options):
    """A tiny model in float64 whose random weights give probabilities that are far from uniform; with spread=0 as
    `build_multiscale` makes it."""
    torch.manual_seed(seed)
    settings = {"shape": (1, 5, 7), "levels": 3, **small(family), **options}
    if small_family is not None:
        settings |= {"small_family": small_family, "small_options": small(small_family)}
    model = npx.build_multiscale(family, **settings).eval().double()
    with torch.no_grad():
        for parameter in model.parameters() if spread else ():
            matrix = parameter.dim() > 1
            parameter.copy_(spread * torch.randn_like(parameter) / (parameter[0].numel() ** 0.5 if matrix else 2))
    return model


def every_image(model):
    values = itertools.product(range(model.levels), repeat=model.dims)
    return torch.tensor(list(values)).view(-1, *model.shape)


def map_by_hand(model, small_picture):
    """A constant 1, then each channel on [-1, 1]."""
    values = 2 * small_picture.double() / (model.levels - 1) - 1
    return torch.cat([torch.ones(len(values), 1, *values.shape[2:], dtype=torch.float64), values], 1)


def parts_by_hand(model, x, label=None):
    """log p of every symbol under the small and under the large part, [N, C, h, w] and [N, C, H, W]."""
    k = model.scale
    s = x[:, :, ::k, ::k]
    given = {} if label is None else {"class": label}
    with torch.no_grad():
        first = model.small.log_prob_per_symbol(s, given or None)
        second = model.large.log_prob_per_symbol(x, {**given, "map": map_by_hand(model, s)})
    return first, second


def copied(model, x):
    mask = torch.zeros(x.shape[1:], dtype=torch.bool)
    mask[:, :: model.scale, :: model.scale] = True
    return mask
