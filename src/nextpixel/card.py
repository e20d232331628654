"""The model card that is saved beside the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nextpixel.saving import HubModel


def model_card(model: HubModel) -> str:
    """Markdown with the hub's metadata block: what the model is, what it was trained on, its figures."""
    from nextpixel.model import Model

    assert isinstance(model, Model)
    channels, height, width = model.shape
    card = getattr(model, "card", {})
    lines = [
        "---",
        "library_name: nextpixel",
        "tags: [nextpixel, autoregressive, density-estimation, pixelcnn]",
        "---",
        "",
        f"# {model.family}, {channels}x{height}x{width}, {model.levels} levels",
        "",
        "An exact-likelihood image model that predicts the next pixel.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {_cell(value)} |" for name, value in model.facts().items()),
    ]
    lines += [
        f"| {key.replace('_', ' ')} | {_cell(value)} |"
        for key, value in card.items()
        if value is not None and not isinstance(value, dict)
    ]
    for title, table in card.items():
        if isinstance(table, dict):
            lines += ["", f"## {title.replace('_', ' ').capitalize()}", "", "| | |", "|---|---|"]
            lines += [
                f"| {key.replace('_', ' ')} | {_cell(value)} |" for key, value in table.items() if value is not None
            ]
    lines += [
        "",
        "```python",
        "import nextpixel as npx",
        "",
        'model = npx.load("this folder, or its hub id")',
        "pictures = npx.sample(model, n=16, seed=0)",
        "nats = -model.log_prob(pictures)",
        "```",
        "",
    ]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
