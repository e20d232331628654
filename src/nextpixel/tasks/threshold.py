"""A threshold with a false-alarm rate that holds: split-conformal calibration on held-out normal images.

If the n normal images that calibrate and a new normal image are exchangeable, the new one's score is above the
⌈(n + 1)(1 − α)⌉-th smallest of the n with a probability of at most α, whatever the score and the model are, and however
badly the model fits (Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World"). The images must not
have been used to train the model or to choose the score.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextpixel import durable
from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.model import Model
from nextpixel.tasks.normality import Normality
from nextpixel.tasks.score import ScoreOptions, score
from nextpixel.tasks.scores import Scores, check_score

FILE = "threshold.json"
FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Above `value` an image is called an anomaly.

    score: the name of the score; false_alarms: α, the share of normal images that are called so, at most, on average
    over calibrations; calibration: the n scores of the normal images, sorted (p-values come from them); model, against:
    `identity` of the model and, for the ratio, of the other one; data, data_sha256: the normal images; given_class:
    whether images were scored given their class; statistics: of the normal images with which the score `distance`
    compares, which are none of the n.
    """

    score: str
    value: float
    false_alarms: float
    calibration: list[float]
    model: str = ""
    against: str = ""
    data: str = ""
    data_sha256: str = ""
    given_class: bool = False
    statistics: list[list[float]] = dataclasses.field(default_factory=list)

    @property
    def normality(self) -> Normality | None:
        """What the score `distance` needs; None for other scores."""
        return Normality(torch.tensor(self.statistics, dtype=torch.float64)) if self.statistics else None

    @property
    def n(self) -> int:
        """How many normal images calibrated it."""
        return len(self.calibration)

    def above(self, scores: Tensor) -> Tensor:
        """Which scores [N] are called anomalies, bool [N]."""
        return scores.double() > self.value

    def p_values(self, scores: Tensor) -> Tensor:
        """Conformal p-values of scores [N]: (1 + how many of the n are at least as high) / (n + 1)."""
        return p_values(torch.tensor(self.calibration, dtype=torch.float64), scores)

    def save(self, folder: Path) -> Path:
        """Write threshold.json into a model's folder."""
        path = folder / FILE
        text = json.dumps({"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}, indent=1)
        try:
            durable.write_text(path, text + "\n")
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error
        return path

    @classmethod
    def load(cls, folder: Path) -> Threshold | None:
        """What `save` wrote into the folder; None if nothing is there, UserError if it cannot be understood."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format_version") != FORMAT_VERSION:
                raise ValueError
            found = cls(**values)
            check_score(found.score)
            calibration = torch.tensor(found.calibration, dtype=torch.float64)
            checked = calibrate(found.score, calibration, found.false_alarms)
            _ = found.normality
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} is damaged: calibrate again (--calibrate NORMAL), or remove it.") from error
        return dataclasses.replace(found, value=checked.value)


def calibrate(score: str, normal: Tensor, false_alarms: float, **about: Any) -> Threshold:
    """The threshold of a score from its values [n] on held-out normal images: the ⌈(n + 1)(1 − α)⌉-th smallest.

    about: further fields of Threshold. UserError for an empty set, an α outside (0, 1), scores that are not numbers,
    and too few images for α, which would need n ≥ 1/α − 1.
    """
    if not 0 < false_alarms < 1:
        raise UserError(f"The rate of false alarms must be between 0 and 1, not {false_alarms}.")
    values = normal.double().flatten().sort().values
    n = len(values)
    if n == 0:
        raise UserError("There are no normal images to calibrate on: give at least some.")
    if torch.isnan(values).any():
        raise UserError("Some scores of the normal images are not numbers (NaN), so no threshold can be set.")
    rank = rank_of(n, false_alarms)
    if rank > n:
        raise UserError(
            f"{n} normal images are too few for a rate of false alarms of {false_alarms:g}: give at least "
            f"{fewest(false_alarms)}, or allow a rate of {1 / (n + 1):.2g} or more."
        )
    return Threshold(score, float(values[rank - 1]), false_alarms, values.tolist(), **about)


def rank_of(n: int, false_alarms: float) -> int:
    """⌈(n + 1)(1 − α)⌉, not misled by rounding where that is a whole number."""
    return math.ceil((n + 1) * (1 - false_alarms) - 1e-9)


def fewest(false_alarms: float) -> int:
    """The smallest n for which there is a threshold."""
    return math.ceil(1 / false_alarms - 1 - 1e-9)


def p_values(calibration: Tensor, scores: Tensor) -> Tensor:
    """(1 + how many of the calibration [n] are at least as high) / (n + 1), for scores [N]: float64 [N]."""
    ordered = calibration.double().sort().values
    below = torch.searchsorted(ordered, scores.double().contiguous(), right=False)
    return (1 + len(ordered) - below) / (len(ordered) + 1)


def calibrated_on(
    model: Model,
    normal: Split | Tensor,
    by: str = "distance",
    false_alarms: float = 0.01,
    options: ScoreOptions | None = None,
    *,
    against: Model | None = None,
    progress: bool = False,
) -> Threshold:
    """A threshold for the score `by` from held-out normal images, which the model was not trained on.

    For the score `distance` every second image is one to compare with, and the others calibrate. UserError for an
    unknown score, an α outside (0, 1), and too few images, before any is scored.
    """
    check_score(by, against is not None)
    if not 0 < false_alarms < 1:
        raise UserError(f"The rate of false alarms must be between 0 and 1, not {false_alarms}.")
    n = len(normal) // 2 if by == "distance" else len(normal)
    if 0 < n < fewest(false_alarms):
        half = ", of which half are compared with," if by == "distance" else ""
        raise UserError(
            f"{len(normal)} normal images{half} are too few for a rate of false alarms of {false_alarms:g}: give at "
            f"least {fewest(false_alarms) * (2 if half else 1)}, or allow a higher rate."
        )
    found = score(model, normal, options, against=against, progress=progress)
    statistics, values = torch.empty(0), None
    if by == "distance":
        statistics = found.statistics()
        normality = Normality(statistics[::2])
        statistics, values = statistics[::2], normality.distance(statistics[1::2])
    return calibrate(
        by,
        found.anomaly(by) if values is None else values,
        false_alarms,
        model=_scored_by(model, options),
        against=identity(against) if by == "ratio" and against is not None else "",
        data=normal.name if isinstance(normal, Split) else "a tensor",
        data_sha256=normal.sha256 if isinstance(normal, Split) else "",
        given_class=options is not None and options.given_class,
        statistics=statistics.tolist(),
    )


def check_applies(threshold: Threshold, model: Model, against: Model | None, by: str, options: ScoreOptions) -> None:
    """UserError unless the threshold was calibrated for scores such as these; by: the score, "" for any."""
    if by not in ("", threshold.score):
        raise UserError(
            f"The saved threshold is for the score {threshold.score}, not {by}: calibrate again (--calibrate NORMAL)."
        )
    if threshold.model != _scored_by(model, options):
        raise UserError("The saved threshold is of other weights or orders: calibrate again (--calibrate NORMAL).")
    if threshold.score == "ratio" and (against is None or threshold.against != identity(against)):
        raise UserError(
            "The saved threshold is for the ratio against another model: name the same one (--against), or calibrate "
            "again (--calibrate NORMAL)."
        )
    if threshold.given_class != options.given_class:
        raise UserError(
            "The saved threshold was calibrated with another setting of given_class: use the same, or calibrate again."
        )


def verdicts(threshold: Threshold, scores: Scores) -> tuple[Tensor, Tensor]:
    """(which images are called anomalies, bool [N]; their p-values, [N])."""
    values = dataclasses.replace(scores, normality=threshold.normality).anomaly(threshold.score)
    return threshold.above(values), threshold.p_values(values)


def _scored_by(model: Model, options: ScoreOptions | None) -> str:
    """`identity` of the model in the one order of prediction in which it scores."""
    return identity(model.in_order(options.order) if options is not None and options.order else model)


def identity(model: Model) -> str:
    """SHA-256 of what the model is and of its weights, hexadecimal."""
    described = {**model.made_with(), "orders": list(model.order_names)}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"\n{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
