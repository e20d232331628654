"""Every channel-masked layer on its own: what the whole network's Jacobian cannot show behind a residual connection."""

from __future__ import annotations

import torch
from torch import Tensor

from nextpixel.causal import Layout
from nextpixel.checking.report import Faults, Finding
from nextpixel.checking.subject import Size, condition_for, images
from nextpixel.image_model import ImageModel


def masked_layers(models: list[ImageModel], size: Size) -> list[Finding]:
    """In every channel-masked layer but those that read the unmasked input, a group sees itself and the earlier ones.

    A second mask A behind a residual or skip connection takes away connections without a trace in the whole network's
    Jacobian; only the layer itself shows it.
    """
    faults = Faults("mask layers")
    seen: dict[str, Tensor] = {}
    after_mask: dict[str, Tensor] = {}
    layouts: dict[str, tuple[Layout, Layout]] = {}
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(700 + seed)
        for name, raw, layer, pair in _layer_jacobians(model, size, generator):
            seen[name] = seen.get(name, torch.zeros_like(layer)) | layer
            after_mask[name] = after_mask.get(name, torch.ones_like(raw)) & ~raw
            layouts[name] = pair
    for name, sees in seen.items():
        inputs, outputs = layouts[name]
        for to in range(outputs.groups):
            if not after_mask[name][min(to, inputs.groups - 1)] or not outputs.sizes[to]:
                continue
            for source in range(inputs.groups):
                if not inputs.sizes[source] or bool(sees[to, source]) == (source <= to):
                    continue
                if source == to:
                    faults.add(
                        "mask A twice",
                        f"layer {name}: group {to} does not see itself, though its input is masked already",
                    )
                elif source < to:
                    faults.add("channel order lost", f"layer {name}: group {to} does not see group {source}")
                else:
                    faults.add("channel leak", f"layer {name}: group {to} sees group {source}")
    return faults.findings(
        f"{len(seen)} layers with channel groups, each seen on its own"
        if seen
        else "no layer declares channel groups: only the whole network was looked at"
    )


def _layer_jacobians(
    model: ImageModel, size: Size, generator: torch.Generator
) -> list[tuple[str, Tensor, Tensor, tuple[Layout, Layout]]]:
    """Of every layer with channel groups: its name; whether group g of its input still depends on channel g of its own
    pixel, bool [groups in]; which input groups each output group sees there, bool [groups out, groups in]."""
    layers = {
        name: (module, module.inputs, module.outputs)
        for name, module in model.network.named_modules()
        if isinstance(getattr(module, "inputs", None), Layout) and isinstance(getattr(module, "outputs", None), Layout)
        if module is not model.network and isinstance(module.inputs, Layout) and module.inputs.groups > 1
    }
    row, column = size[0] // 2, size[1] // 2
    calls: dict[str, tuple[int, list[object], dict[str, object]]] = {}
    handles = []
    for name, (module, inputs, _) in layers.items():

        def keep(
            module: object,
            args: tuple[object, ...],
            kwargs: dict[str, object],
            name: str = name,
            width: int = inputs.width,
        ) -> None:
            for index, value in enumerate(args):
                if isinstance(value, Tensor) and value.dim() == 4 and value.shape[-1] == width:
                    calls.setdefault(name, (index, list(args), kwargs))
                    break

        handles.append(module.register_forward_pre_hook(keep, with_kwargs=True))
    found = []
    with torch.enable_grad():
        x = images(model, 1, size, generator)
        leaf = model.embedding(x, model.like()).detach().requires_grad_()
        condition = condition_for(model, 1, size, generator)
        try:
            model.network(leaf.clone(), model.embed_condition(condition, 1, size))
        finally:
            for handle in handles:
                handle.remove()
        for name, (index, args, kwargs) in calls.items():
            module, inputs, outputs = layers[name]
            value = args[index]
            assert isinstance(value, Tensor)
            raw = torch.zeros(inputs.groups, dtype=torch.bool)
            for group in range(min(inputs.groups, model.embedding.layout.groups)):
                own = model.embedding.layout.members(group)
                gradient = _derivative(value[0, row, column, inputs.members(group)], leaf, generator)
                raw[group] = bool((gradient[0, row, column, own] != 0).any())
            alone = value.detach().clone().requires_grad_()
            output = module(*args[:index], alone, *args[index + 1 :], **kwargs)
            sees = torch.zeros(outputs.groups, inputs.groups, dtype=torch.bool)
            for to in range(outputs.groups):
                gradient = _derivative(output[0, row, column, outputs.members(to)], alone, generator)[0, row, column]
                for source in range(inputs.groups):
                    sees[to, source] = bool((gradient[inputs.members(source)] != 0).any())
            found.append((name, raw, sees, (inputs, outputs)))
    return found


def _derivative(values: Tensor, by: Tensor, generator: torch.Generator) -> Tensor:
    """Gradient of a random combination of the values; zero if they do not depend on it at all."""
    direction = torch.randn(values.shape, generator=generator, dtype=torch.float64).to(values)
    combined = (values * direction).sum()
    if not combined.requires_grad:
        return torch.zeros_like(by)
    (gradient,) = torch.autograd.grad(combined, by, retain_graph=True, allow_unused=True)
    return torch.zeros_like(by) if gradient is None else gradient
