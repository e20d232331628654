"""Scores written to files: one row an image to CSV or Parquet, the numbers of every symbol to .npz."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nextpixel import durable
from nextpixel.errors import UserError
from nextpixel.tasks.posterior import Posterior
from nextpixel.tasks.scores import Scores

TABLES = (".csv", ".parquet")
Columns = dict[str, list[Any]]


def columns(
    scores: Scores, verdicts: tuple[Tensor, Tensor] | None = None, posterior: Posterior | None = None
) -> Columns:
    """The table of all scores, one row an image.

    name; label, where there are labels; bits_per_dim, expected_bits_per_dim (ΣH / dims), typicality (z, with its sign),
    complexity, ratio, distance, where there are; anomaly and p_value, where there is a threshold; class and
    p_class (the likeliest one and its probability), where posteriors were asked for.
    """
    found: Columns = {"name": scores.names}
    if scores.labels is not None:
        found["label"] = scores.labels.tolist()
    values = {
        "bits_per_dim": scores.bits_per_dim,
        "expected_bits_per_dim": scores.model.entropy / scores.dims,
        "typicality": scores.typicality,
        "complexity": scores.complexity,
        "ratio": scores.ratio,
        "distance": scores.distance,
    }
    found |= {name: value.tolist() for name, value in values.items() if value is not None}
    if verdicts is not None:
        found |= {"anomaly": verdicts[0].tolist(), "p_value": verdicts[1].tolist()}
    if posterior is not None:
        found |= {"class": posterior.predicted.tolist(), "p_class": posterior.prob.amax(1).tolist()}
    return found


def check_table(path: Path) -> None:
    """UserError unless a table can be written under this name: .csv, or .parquet where pyarrow is installed."""
    if path.suffix.lower() not in TABLES:
        raise UserError(f"The name {path.name} must end in .csv or .parquet.")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def save_table(path: Path, table: Columns) -> None:
    """Write a table of equally long columns as CSV (floats in full) or Parquet, aside first and then renamed."""
    check_table(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with durable.replacing(path) as aside:
            if path.suffix.lower() == ".parquet":
                arrow, parquet = _pyarrow()
                parquet.write_table(arrow.table(table), aside)
            else:
                with open(aside, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                    writer = csv.writer(file)
                    writer.writerow(table)
                    writer.writerows(zip(*table.values(), strict=True))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error


def save_maps(path: Path, scores: Scores) -> None:
    """Write bits, expected bits (H), variance (V) and z of every pixel, channels summed, float32 [N, H, W], and the
    images' names, as a compressed .npz."""
    if scores.maps is None or scores.pixel_z is None:
        raise UserError("There are no maps: score with maps=True.")
    maps = {"bits": scores.maps.bits, "expected_bits": scores.maps.entropy, "variance": scores.maps.variance}
    arrays = {name: value.sum(1).float().numpy() for name, value in maps.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with durable.replacing(path) as aside, open(aside, "wb") as file:
            np.savez_compressed(file, **arrays, z=scores.pixel_z.float().numpy(), names=np.array(scores.names))  # type: ignore[arg-type]
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            "Parquet files need pyarrow: install it with pip install 'nextpixel[parquet]', or write a .csv."
        ) from None
    return pyarrow, parquet
