"""Exact-likelihood image models that predict the next pixel."""

from nextpixel.checks import check
from nextpixel.errors import UserError
from nextpixel.exact import ExactModel, freeze
from nextpixel.heads import heads
from nextpixel.image_model import ImageModel, build
from nextpixel.images import Dataset, Split, dataset
from nextpixel.multiscale import MultiScaleModel, build_multiscale
from nextpixel.networks import families
from nextpixel.saving import load
from nextpixel.shipped import shipped
from nextpixel.stepping import Stepper
from nextpixel.tasks.baselines import baselines
from nextpixel.tasks.codes import code_usage
from nextpixel.tasks.complete import CompleteOptions, Completions, complete
from nextpixel.tasks.compress import CompressOptions, bits_map, compress
from nextpixel.tasks.decompress import DecompressOptions, archive_info, decompress, verify
from nextpixel.tasks.detect import detect
from nextpixel.tasks.detection import Detection
from nextpixel.tasks.evaluate import Evaluation, evaluate
from nextpixel.tasks.explain import explain
from nextpixel.tasks.nearest import Closeness, Neighbours, closeness, nearest
from nextpixel.tasks.posterior import Posterior, posterior
from nextpixel.tasks.report import report
from nextpixel.tasks.sample import sample
from nextpixel.tasks.score import ScoreOptions, score
from nextpixel.tasks.scores import Scores
from nextpixel.tasks.threshold import Threshold, calibrated_on
from nextpixel.tasks.train import TrainOptions, train
from nextpixel.tasks.tune import TuneOptions, tune
from nextpixel.version import __version__

__all__ = [
    "Closeness",
    "CompleteOptions",
    "Completions",
    "CompressOptions",
    "Dataset",
    "DecompressOptions",
    "Detection",
    "Evaluation",
    "ExactModel",
    "ImageModel",
    "MultiScaleModel",
    "Neighbours",
    "Posterior",
    "ScoreOptions",
    "Scores",
    "Split",
    "Stepper",
    "Threshold",
    "TrainOptions",
    "TuneOptions",
    "UserError",
    "__version__",
    "archive_info",
    "baselines",
    "bits_map",
    "build",
    "build_multiscale",
    "calibrated_on",
    "check",
    "closeness",
    "code_usage",
    "complete",
    "compress",
    "dataset",
    "decompress",
    "detect",
    "evaluate",
    "explain",
    "families",
    "freeze",
    "heads",
    "load",
    "nearest",
    "posterior",
    "report",
    "sample",
    "score",
    "shipped",
    "train",
    "tune",
    "verify",
]
