"""A run on one page: what was trained, how it went, and what the model does. For finished runs and for those still in
training; what is not there yet is said in a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from nextpixel import durable, figures
from nextpixel.checks import check as run_check
from nextpixel.errors import UserError
from nextpixel.image_model import ImageModel
from nextpixel.images import Dataset
from nextpixel.images.pictures import grid
from nextpixel.model import Model, condition_of
from nextpixel.saving import load
from nextpixel.tasks.batches import InOrder, spaced
from nextpixel.tasks.complete import complete
from nextpixel.tasks.evaluate import Evaluation, check_split
from nextpixel.tasks.evaluate import evaluate as run_evaluation
from nextpixel.tasks.expected import compare_curve, compare_test
from nextpixel.tasks.html import drawing, heading, page, paragraph, preformatted, table
from nextpixel.tasks.looked_once import looked_at
from nextpixel.tasks.masks import known_pixels
from nextpixel.tasks.run_folder import RunFolder
from nextpixel.tasks.sample import sample

SCORED = 256  # validation pictures, among which the easiest and the hardest are looked for
SHOWN = 6
LARGEST_JSON = 1 << 20  # bytes of a saved evaluation


def report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    data: Dataset | None = None,
    why_no_data: str = "",
    evaluate: bool = False,
    check: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Write one self-contained HTML file about a run folder; returns its path (default: report.html in the folder).

    data: what the run was trained on, for completions and surprise maps; without it `why_no_data` is said. evaluate:
    score the whole test split (else an evaluation that was saved into the folder is shown, if there is one). check:
    prove the model causal. tell: is called with each part's name. Raises UserError for what is no run folder, and for
    a file that cannot be written.
    """
    folder = RunFolder(run)
    config, metrics = folder.read_config(), folder.read_metrics()
    model, why_no_model = _model(folder)
    path = Path(out) if out is not None else folder.path / "report.html"
    fit, why_unfit = _fitting(model, data, why_no_data or "The data of the run were not given.")
    title = (
        f"{config['model'].get('family', 'model')} on {config['data'].get('name', config['data'].get('source', '?'))}"
    )
    sections: list[tuple[str, Callable[[], list[str]]]] = [
        ("Figures", lambda: _figures(folder, config, metrics, model, fit, evaluate)),
        ("Curve", lambda: _curve(folder, metrics)),
        ("Samples", lambda: _samples(folder, model, why_no_model)),
        ("Completions", lambda: _completions(model, fit, why_unfit)),
        ("Easiest and hardest", lambda: _surprise(model, fit, why_unfit)),
        ("What a pixel sees", lambda: _field(model, why_no_model)),
        *([("Check", lambda: _check(model, why_no_model))] if check else []),
        ("What was trained", lambda: _trained(config, model)),
        ("To make it again", lambda: _again(config)),
    ]
    parts = [heading(title, 1), paragraph(_state(config, metrics, folder), "soft")]
    for name, make in sections:
        if tell is not None:
            tell(name)
        try:
            body = make()
        except UserError as error:  # a part that cannot be had says why; the others are there
            body = [paragraph(str(error))]
        parts += [heading(name), *body]
    _write(path, page(title, parts))
    return path


def _model(folder: RunFolder) -> tuple[Model | None, str]:
    if not folder.model.exists():
        return None, "No model has been saved yet: one is after the first validation."
    try:
        model: Model = load(folder.path)
    except UserError as error:
        return None, str(error)
    return model.eval(), ""


def _fitting(model: Model | None, data: Dataset | None, why: str) -> tuple[Dataset | None, str]:
    if model is None or data is None:
        return None, why if data is None else "There is no model yet to look at the data with."
    try:
        check_split(model, data.valid)
    except UserError as error:
        return None, str(error)
    return data, ""


def _state(config: dict[str, Any], metrics: list[dict[str, Any]], folder: RunFolder) -> str:
    if not metrics:
        return "Nothing has been logged yet: the training has just begun, or ended before its first step."
    epochs = config["train"].get("epochs")
    validated = [line.get("epoch") for line in metrics if "valid" in line]
    done = f"{validated[-1] if validated else 0} of {epochs} epochs validated, {metrics[-1]['step']:,} steps logged"
    if validated and validated[-1] == epochs:
        return f"Finished: {done}."
    return f"In training, or stopped: {done}."


def _figures(
    folder: RunFolder,
    config: dict[str, Any],
    metrics: list[dict[str, Any]],
    model: Model | None,
    data: Dataset | None,
    evaluate: bool,
) -> list[str]:
    lines = [line for line in metrics if isinstance(line.get("valid"), float | int) and math.isfinite(line["valid"])]
    parts = []
    if lines:
        best = min(lines, key=lambda line: line["valid"])
        parts.append(paragraph(f"{best['valid']:.4f} bits/dim", "big"))
        of = f"on the validation images, the best of {len(lines)} looks, after epoch {best.get('epoch', '?')}"
        parts.append(paragraph(f"{of} (step {best['step']:,})."))
    else:
        parts.append(paragraph("There is no validation figure yet."))
    scored = looked_at(folder) if "recipe" in config else None
    if scored is not None:
        parts.append(paragraph(compare_test(folder.expected(), scored)[1]))
    if evaluate:
        if model is None or data is None:
            parts.append(paragraph("The test split could not be scored: the model or the data are missing."))
            return parts
        saved = run_evaluation(model, data.test, progress=True).to_dict()
    else:
        saved = _saved_evaluation(folder) or {}
    if not saved:
        text = "No evaluation of a whole split was found: nextpixel report RUN --evaluate makes one, and so does "
        return [*parts, paragraph(text + "nextpixel evaluate RUN --json RUN/evaluation.json.")]
    return [*parts, table(_evaluation_rows(saved))]


def _evaluation_rows(saved: dict[str, Any]) -> list[tuple[object, object]]:
    def figure(name: str, error: str, digits: int) -> str:
        value, around = saved.get(name), saved.get(error)
        if not isinstance(value, float | int):
            return str(value)
        return f"{value:.{digits}f}" + (f" ± {around:.{digits}f}" if isinstance(around, float | int) else "")

    rows: list[tuple[object, object]] = [
        (f"bits/dim of {saved.get('data')}", figure("bits_per_dim", "stderr", 4)),
        ("nats per image", figure("nats", "nats_stderr", 3)),
        ("exact or bound", f"{'exact' if saved.get('exact') else 'bound'}: {saved.get('why')}"),
    ]
    if saved.get("given_class") is not None:
        rows.append(("bits/dim given the class", figure("given_class", "", 4)))
    names = (("images", "images"), ("data", "data"), ("data_sha256", "SHA-256 of the data"), ("protocol", "protocol"))
    return [*rows, *((shown, saved.get(name)) for name, shown in names)]


def _saved_evaluation(folder: RunFolder) -> dict[str, Any] | None:
    """What `evaluate --json` wrote into the folder, the newest one."""
    wanted = {"bits_per_dim", "protocol", "exact"} & Evaluation.__dataclass_fields__.keys()
    for path in sorted(folder.path.glob("*.json"), key=lambda path: -path.stat().st_mtime):
        try:
            values = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < LARGEST_JSON else None
        except (OSError, ValueError):
            continue
        if isinstance(values, dict) and wanted <= values.keys():
            return values
    return None


def _curve(folder: RunFolder, metrics: list[dict[str, Any]]) -> list[str]:
    if not any("train" in line or "valid" in line for line in metrics):
        return [paragraph("There is no curve yet.")]
    text = "Bits/dim of the training batches and of the validation images, and the learning rate, against steps. "
    text += compare_curve(folder.expected(), folder.valid_curve())
    drawn = figures.curve(metrics, rate=True, expected=folder.expected_curve())
    return [drawing(drawn, "Curves of training and validation against steps.", text.strip())]


def _samples(folder: RunFolder, model: Model | None, why: str) -> list[str]:
    if model is not None and (model.condition is None or model.condition.only_classes):
        across = min(model.classes or 9, 12)
        pictures = sample(model, 4 * across, condition="each" if model.classes is not None else None)
        text = "Pictures drawn from the saved model" + (", class after class." if model.classes else ".")
        sheet = grid(pictures, model.levels, columns=across)
        return [drawing(sheet, "A sheet of pictures drawn from the model.", text)]
    drawn = sorted(folder.samples.glob("epoch-*.png"))
    if not drawn:
        return [
            paragraph(why or "The model needs conditions that a report does not know."),
            paragraph("No samples yet."),
        ]
    with Image.open(drawn[-1]) as picture:
        sheet = picture.convert("RGB")
    return [drawing(sheet, "A sheet of pictures drawn while training.", f"Drawn while training: {drawn[-1].name}.")]


def _completions(model: Model | None, data: Dataset | None, why: str) -> list[str]:
    if model is None or data is None:
        return [paragraph(f"No completions: {why}")]
    some = spaced(data.valid, SHOWN)
    known = known_pixels(some.shape[1] // 2, len(some), some.shape[1:])
    done = complete(model, some.images, known, 3, condition=condition_of(model, some.condition()))
    text = "Validation pictures, their known upper halves, and three draws each from p(rest | known rows)."
    drawn = figures.completion_page(some.images, done.images, known, some.levels)
    return [drawing(drawn, "Pictures, their upper halves, and three completions of each.", text)]


@torch.no_grad()
def _surprise(model: Model | None, data: Dataset | None, why: str) -> list[str]:
    if model is None or data is None:
        return [paragraph(f"No surprise maps: {why}")]
    some, one = spaced(data.valid, SCORED), model.each_order()[0]
    nats = [-one.log_prob(images, condition_of(model, told)) for images, told, _ in InOrder(some, 64)]
    bits = torch.cat(nats).double() / (math.log(2) * model.dims)
    error = f" ± {float(bits.std()) / math.sqrt(len(bits)):.4f}" if len(bits) > 1 else ""
    given = ""
    if model.condition is not None:
        given = "given the class, " if model.condition.only_classes else "given their conditions, "
    order = "" if one is model else f", in {one.order_in_words}"
    parts = [
        paragraph(
            f"{float(bits.mean()):.4f}{error} bits/dim over {len(bits)} validation pictures, {given}exact{order}."
        )
    ]
    ranked = bits.argsort()
    shown = min(SHOWN, len(bits))
    for name, chosen in (("easiest", ranked[:shown]), ("hardest", ranked[-shown:].flip(0))):
        part = some[chosen]
        cost = figures.surprise(one, part.images, condition_of(model, part.condition()))
        drawn = figures.bits_page(part.images, cost, some.levels, f"The {name} of them, and what each pixel cost")
        parts.append(drawing(drawn, f"The {name} validation pictures above maps of the bits of their pixels."))
    return parts


def _field(model: Model | None, why: str) -> list[str]:
    if not isinstance(model, ImageModel):
        return [paragraph(why or "A multi-scale model is two networks: nextpixel explain field shows either's family.")]
    one = model.each_order()[0].own_grid()
    size = (15, 15) if model.network.family.any_size else one.shape[1:]
    text = "What three pixels (rings) depend on, by gradients; orange comes earlier and is never seen."
    drawn = figures.receptive_field(one, size, seeds=2)
    return [drawing(drawn, "Maps of the pixels on which three predicted pixels depend.", text)]


def _check(model: Model | None, why: str) -> list[str]:
    if not isinstance(model, ImageModel):
        return [paragraph(why or "Check a multi-scale model with nextpixel check.")]
    found = run_check(model)
    rows = [(f"{'pass' if f.passed else 'FAIL'}: {f.name}", f.detail) for f in found.findings]
    return [paragraph("All checks passed." if found.passed else "This model is faulty."), table(rows)]


def _trained(config: dict[str, Any], model: Model | None) -> list[str]:
    facts = {} if model is None else model.facts()
    rows = [(name, value) for name, value in facts.items() if not name.startswith("option ")]  # they follow below
    parts = [table(rows)] if rows else []
    for part in ("data", "model", "train"):
        parts += [heading(part.capitalize(), 3), table(_flat(config[part]))]
    return parts


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[object, object]]:
    rows: list[tuple[object, object]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name} ")
        else:
            rows.append((f"{prefix}{name}".replace("_", " "), value))
    return rows


def _again(config: dict[str, Any]) -> list[str]:
    versions = [(name, config.get(name, "unknown")) for name in ("nextpixel", "torch", "python")]
    command = str(config.get("command", "unknown")).replace("__main__.py ", "nextpixel ", 1)
    return [preformatted(command), table(versions)]


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_text(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error
