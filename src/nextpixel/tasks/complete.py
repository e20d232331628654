"""Fill in what is missing of a picture, given everything that is known of it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from nextpixel.brief import Brief
from nextpixel.errors import UserError, did_you_mean
from nextpixel.image_model import ImageModel
from nextpixel.images.levels import storage_dtype
from nextpixel.model import Model, check_model, check_weights
from nextpixel.multiscale import MultiScaleModel
from nextpixel.precision import without_autocast
from nextpixel.tasks.drawing import SampleOptions, begun, chosen, symbols, uniform_noise
from nextpixel.tasks.lookahead import MOST_SYMBOLS, Gaussian
from nextpixel.tasks.masks import known_pixels
from nextpixel.tasks.options import with_overrides
from nextpixel.tasks.particles import Drawn, ends, fill, log_prob_in_sequence
from nextpixel.tasks.progress import Steps
from nextpixel.tasks.sample import sample

ESS = ("ess", "smallest_ess")
METHODS = ("auto", "exact", "particles", "ignore")


@dataclasses.dataclass(frozen=True)
class CompleteOptions(SampleOptions):
    """How to complete."""

    method: str = "auto"
    """exact (known pixels come first in an order of the model's), particles (any mask, approximate), auto: exact if it
    can be; ignore: what comes later plays no part in the draws (naive, for comparison)"""
    particles: int = 64
    """half-finished pictures that compete for each fill; more are nearer to exact and take longer"""
    draws: int = 0
    """pictures, drawn from the model or taken from examples, by which particles look ahead; 0: they do not"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise UserError(
                f"There is no method {self.method!r} of completing; there are: {', '.join(METHODS)}."
                + did_you_mean(self.method, METHODS)
            )
        if self.particles < 1:
            raise UserError(f"particles must be positive, not {self.particles}.")
        if self.draws < 0 or self.draws == 1:
            raise UserError(f"draws must be 0 (no looking ahead) or at least 2, not {self.draws}.")


@dataclasses.dataclass(frozen=True, repr=False)
class Completions(Brief):
    """Pictures completed in several ways each. Probabilities are in nats, float64, and given the order `order`.

    images: integers [N, fills, C, H, W]. nats: −log p(filled part | known part), [N, fills]; log_evidence: log p(known
    part), [N]. exact: the fills are draws from exactly that distribution and both figures are exact. Otherwise exp(
    log_evidence) is an unbiased estimate of p(known part), the nats are log_evidence − log p(whole picture), and the
    fills are draws from p(filled part | known part) but for a bias that falls as 1/particles.

    method: in words. ess: the effective sample size of each fill's particles when it was drawn, and smallest_ess: the
    smallest on the way, [N, fills]; 1 is the worst, the number of particles the best; of exact fills it is infinite.
    distinct: how many of a picture's fills differ, [N]. order: the name of the order of prediction; "" if it has none.
    """

    images: Tensor
    nats: Tensor
    exact: bool
    method: str
    log_evidence: Tensor
    ess: Tensor
    smallest_ess: Tensor
    order: str

    @property
    def distinct(self) -> Tensor:
        return torch.tensor([len(fills.flatten(1).unique(dim=0)) for fills in self.images])

    def to_dict(self) -> dict[str, Any]:
        """All but the images, for JSON."""
        figures = ("nats", "log_evidence", "distinct") if self.exact else ("nats", "log_evidence", "distinct", *ESS)
        facts = {"exact": self.exact, "method": self.method, "order": self.order}
        return facts | {name: getattr(self, name).tolist() for name in figures}


@torch.no_grad()
@without_autocast
def complete(
    model: Model,
    images: Tensor,
    known: int | Tensor,
    fills: int = 1,
    options: CompleteOptions | None = None,
    *,
    condition: Any = None,
    examples: Tensor | None = None,
    progress: bool = False,
    **overrides: Any,
) -> Completions:
    """Complete pictures [N, C, H, W] of which only the `known` part counts.

    known: the number of known rows, or a mask [H, W] (for all) or [N, H, W] (one each), True where a pixel is known.
    Whether all masks can be honoured exactly decides the method:

    * If the known pixels come before all others in an order in which the model predicts, fills are exact draws, one
      independent of the other. In raster order these are full rows, then the left part of one more; of a multi-scale
      model the small picture (all of it: super-resolution), then the first of the others. Of a model of several orders
      the first such order is taken, or the one that the option `order` names. Known rows are taken in in one pass.
    * Any other mask is completed by sequential Monte Carlo, `particles` of them for each fill (`tasks/particles.py` has
      the sources): every fill is one draw from a set of its own, so fills of a picture are independent, and as alike as
      the model finds likely or as few particles make them. Of a model of several orders the one is taken in which most
      pixels are known before the first that is not.

    fills: different completions per picture. options or overrides: fields of CompleteOptions. examples: pictures
    [M, C, H, W] like those to be completed, by which particles look ahead (`tasks/lookahead.py`); None: by as many
    pictures drawn from the model as the option `draws` says.

    Raises UserError for a mask of another size, where nothing or everything is known, and with method="exact" for a
    mask that is known first in no order.
    """
    options = with_overrides(options or CompleteOptions(), overrides)
    check_model(model)
    check_weights(model)
    images = model.check_images(images)
    n, channels, height, width = images.shape
    masks = known_pixels(known, n, (height, width))
    if n == 0:
        raise UserError("There are no pictures to complete.")
    if fills < 1:
        raise UserError(f"fills must be at least 1, not {fills}.")
    if model.classes is not None and condition is None:
        raise UserError("This model is class-conditional: say the class of each picture, for example condition=labels.")
    conditions = model.condition_parts(condition, n)
    one, exact = _order_for(model, masks, options)
    if not exact and (options.temperature != 1 or options.top_k):
        raise UserError("Particles draw from the model as it is: leave temperature and top_k out.")
    particles = 1 if options.method == "ignore" else options.particles
    batches = _batches(masks, fills, options.batch_size if exact else max(1, options.batch_size // particles))
    was_training = model.training
    model.eval()
    parts: list[Drawn] = []
    try:
        gaussian, words = None, f"exact, in {one.order_in_words}"
        if exact:
            log_known = _log_prob_known_first(one, images, masks, conditions)
        else:
            gaussian, words = _ahead(one, images, conditions, examples, options, progress)
        total = sum(_stepped(one, mask, exact) for mask, _ in batches)
        with Steps(total, "completing", unit=" symbols", show=progress) as steps:
            for mask, numbers in batches:
                which = numbers // fills
                source, told = images[which], chosen(conditions, which)
                if exact:
                    noise = uniform_noise(options.seed, numbers.tolist(), (channels, height, width))
                    parts.append(_fill_exactly(one, source, mask, told, noise, log_known[which], options, steps))
                else:
                    seeds = [[options.seed, number, 4] for number in numbers.tolist()]
                    parts.append(fill(one, source, mask, told, seeds, particles, gaussian, steps))
    finally:
        model.train(was_training)
    back = torch.cat([numbers for _, numbers in batches]).argsort()
    filled, log_p, log_set, ess, smallest = (
        torch.cat(values)[back].unflatten(0, (n, fills))
        for values in zip(*(vars(part).values() for part in parts), strict=True)
    )
    log_evidence = torch.logsumexp(log_set, 1) - math.log(fills)
    return Completions(
        images=filled.to(storage_dtype(model.levels)),
        nats=-log_p if exact else log_evidence[:, None] - log_p,
        exact=exact,
        method=words,
        log_evidence=log_evidence,
        ess=ess,
        smallest_ess=smallest,
        order=(one.order_names or ("",))[0],
    )


def _fill_exactly(
    model: Model,
    source: Tensor,
    mask: Tensor,
    conditions: dict[str, Tensor] | None,
    noise: Tensor,
    log_known: Tensor,
    options: SampleOptions,
    steps: Steps,
) -> Drawn:
    """One fill of each picture of which the known symbols, log p of which is `log_known` [n], come first; log_p is that
    of the filled part alone, which keeps small figures precise."""
    first = int(mask.sum()) * source.shape[1]
    stepper = begun(model, source, conditions, first)
    log_p = torch.zeros_like(log_known)
    for values, log_pmf in symbols(stepper, noise, options):
        log_p += log_pmf.gather(1, values[:, None])[:, 0].cpu().double()
        steps.to(steps.done + 1)
    alone = torch.full((len(source),), torch.inf, dtype=torch.float64)  # no particles compete
    return Drawn(stepper.images.cpu(), log_p, log_known, alone, alone)


def _stepped(model: Model, mask: Tensor, exact: bool) -> int:
    """How many symbols a batch steps through: to the end, or to the last of the hole."""
    known = _in_sequence(model, mask[None])[0]
    first, last = ends(known)
    return (len(known) - 1 if exact else last) - first + 1


def _log_prob_known_first(model: Model, images: Tensor, masks: Tensor, conditions: dict[str, Tensor] | None) -> Tensor:
    """log p of the known parts, [N], of masks whose pixels come first: no other pixel plays a part in it."""
    known_parts = torch.where(masks[:, None].to(images.device), images, 0)
    return (log_prob_in_sequence(model, known_parts, conditions) * _in_sequence(model, masks)).sum(1)


def _in_sequence(model: Model, masks: Tensor) -> Tensor:
    """Masks [N, H, W] by symbol, bool [N, symbols] in the order of prediction."""
    return model.in_sequence(masks[:, None].expand(-1, model.shape[0], -1, -1))


def _batches(masks: Tensor, fills: int, together: int) -> list[tuple[Tensor, Tensor]]:
    """A mask [H, W] and the numbers of at most `together` fills that have it: of the first picture 0..fills-1, ..."""
    different, kind = masks.unique(dim=0, return_inverse=True)
    batches: list[tuple[Tensor, Tensor]] = []
    for number, mask in enumerate(different):
        pictures = torch.nonzero(kind == number)[:, 0]
        numbers = (pictures[:, None] * fills + torch.arange(fills)).flatten()
        batches += [(mask, some) for some in numbers.split(together)]
    return batches


def _order_for(model: Model, masks: Tensor, options: CompleteOptions) -> tuple[Model, bool]:
    """The model in the order in which pictures are completed, and whether all that is known comes first in it."""
    model = model.in_order(options.order) if options.order else model
    several = model.each_order()
    if options.method in ("auto", "exact"):
        for one in several:
            known = _in_sequence(one, masks).long()
            if (known.diff(dim=1) <= 0).all():
                return one, True
        if options.method == "exact":
            raise UserError(
                f"The known pixels must come before all others in {model.order_in_words}; pixels known later in it "
                "cannot be taken into account exactly: leave method='exact' (--method exact) out."
            )
    return max(several, key=lambda one: int(_in_sequence(one, masks).long().cumprod(1).sum())), False


def _ahead(
    model: Model,
    images: Tensor,
    conditions: dict[str, Tensor] | None,
    examples: Tensor | None,
    options: CompleteOptions,
    progress: bool,
) -> tuple[Gaussian | None, str]:
    """What looks ahead for the particles, and the whole method in words."""
    order = f"in {model.order_in_words}"
    if options.method == "ignore":
        return None, f"naive: what comes later {order} is ignored"
    words = f"approximate: {options.particles} particles for each fill, {order}"
    unordered = model.one_hot if isinstance(model, MultiScaleModel) else False
    if isinstance(model, ImageModel):
        unordered = model.embedding.kind == "learned"
    if options.draws == 0 and examples is None:
        return None, words
    if unordered or images[0].numel() > MOST_SYMBOLS:
        raise UserError(
            f"Particles look ahead by levels that have an order, in pictures of at most {MOST_SYMBOLS} symbols: leave "
            "draws and examples out."
        )
    if examples is None:
        alone = model.condition is None or model.condition.only_classes
        some = None if alone else chosen(conditions, torch.arange(options.draws) % len(images))
        drawing = SampleOptions(seed=options.seed, batch_size=options.batch_size)
        size = (images.shape[2], images.shape[3])
        examples = sample(model, options.draws, drawing, condition=some, size=size, progress=progress)
    elif model.check_images(examples).shape[2:] != images.shape[2:] or len(examples) < 2:
        raise UserError(
            f"The examples must be at least two pictures of the same size as those to be completed, "
            f"{images.shape[2]}x{images.shape[3]}, not {list(examples.shape)}."
        )
    return Gaussian(
        model.in_sequence(examples.cpu()), model.levels
    ), f"{words}, looking ahead by {len(examples)} pictures"
