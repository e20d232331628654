"""How well a model's scores tell anomalies from normal images it was not trained on."""

from __future__ import annotations

from torch import Tensor

from nextpixel.errors import UserError
from nextpixel.images import Split
from nextpixel.model import Model
from nextpixel.tasks.detection import Detection, detection
from nextpixel.tasks.normality import NEIGHBOURS, Normality
from nextpixel.tasks.score import ScoreOptions, score
from nextpixel.tasks.scores import SCORES


def detect(
    model: Model,
    normal: Split,
    anomalies: Split,
    options: ScoreOptions | None = None,
    *,
    reference: Split | None = None,
    against: Model | None = None,
    resamples: int = 1000,
    progress: bool = False,
) -> dict[str, Detection]:
    """AUROC, AUPR and FPR@95TPR with bootstrap intervals of every score at hand, by name.

    normal: images of the kind the model was trained on, but not those; anomalies: others. reference: further normal
    images, with which the score `distance` compares. Nothing is fitted to the anomalies, nor to `normal`. Raises
    UserError for empty sets, for a reference that holds one of the images in `normal`, and where images do not fit the
    model.
    """
    for split, what in ((normal, "normal images"), (anomalies, "anomalies")):
        if len(split) == 0:
            raise UserError(f"There are no {what}: give at least one.")
    normality = None
    if reference is not None:
        if len(reference) <= NEIGHBOURS:
            raise UserError(
                f"The score distance compares with {len(reference)} normal images: give it more than {NEIGHBOURS} as "
                "reference (--limit counts them too), or none."
            )
        if {_key(image) for image in reference.images} & {_key(image) for image in normal.images}:
            raise UserError(
                "Some of the normal images are in the reference too: take others, or the figures would be too good."
            )
        found = score(model, reference, options, against=against, progress=progress)
        normality = Normality(found.statistics())
    scored = [
        score(model, split, options, against=against, normality=normality, progress=progress)
        for split in (normal, anomalies)
    ]
    return {
        name: detection(scored[0].anomaly(name), scored[1].anomaly(name), resamples=resamples)
        for name in SCORES
        if all(name in each.available for each in scored)
    }


def _key(image: Tensor) -> bytes:
    return image.numpy().tobytes()
