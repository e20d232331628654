"""What `explain` can draw: for each figure its name, for which models it exists, what it shows, and how it is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nextpixel import figures
from nextpixel.errors import UserError
from nextpixel.image_model import ImageModel
from nextpixel.model import Model
from nextpixel.orders import EIGHT
from nextpixel.saving import load
from nextpixel.tasks.animate import sampling_frames
from nextpixel.tasks.explained import CANVAS, PIXEL, Subject
from nextpixel.tasks.sample import sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHIPPED = "binarized-mnist"  # whose pictures appear where no other model is named
GRID = (5, 8)  # on which schedules are counted


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure (or a GIF), the stem of its file's name, what it shows, and what is to be seen for those who cannot."""

    stem: str
    content: Figure | bytes
    caption: str
    alt: str


class NoSuchFigureError(UserError):
    """A figure does not exist for a family; found out from its layers."""


@dataclasses.dataclass(frozen=True)
class Explanation:
    name: str
    title: str
    draw: Callable[[Subject], list[Drawn]]
    wants: tuple[str, ...] = ()
    """the families that it is about; empty: all"""
    any_model: bool = False
    """whether multi-scale models have it too"""

    def refusal(self, subject: Subject) -> str | None:
        """Why this figure does not exist for the subject; None if it does."""
        model = subject.model
        if model is not None and not isinstance(model, ImageModel) and not self.any_model:
            return f"The figure {self.name} is one of a single network: name the family of the part to be explained."
        family = model.family if model is not None else subject.family
        if family and self.wants and family not in self.wants:
            return f"The figure {self.name} is about {' and '.join(self.wants)}; the family {family} has none."
        return None


def masks(subject: Subject) -> list[Drawn]:
    model = subject.network("pixelcnn", shape=(3, 9, 9), first_kernel=5)
    layers = figures.spatial_layers(model.network)
    if not layers:
        connected = figures.masked_layers(model.network)
        if not connected:
            raise NoSuchFigureError(f"The family {model.family} has no masks.")
        drawn = figures.connection_page(connected)
        text = (
            "The masks of a fully connected network (MADE). Inputs and outputs are sorted by their place in the order: "
            "an output is connected to earlier inputs only, which makes the staircase."
        )
        return [Drawn("masks", drawn, text, "Matrices whose lower left is dark below a staircase.")]
    if subject.layer and subject.layer not in layers:
        raise UserError(f"There is no layer {subject.layer!r} with a mask; there are: {', '.join(layers)}.")
    found = []
    for name in [subject.layer] if subject.layer else _telling(layers):
        layer = layers[name]
        mask, centre = figures.kernel_mask(layer)
        kind = getattr(layer, "mask", "")
        title = f"{name}: mask {kind}" if kind else f"{name}: vertical stack, moved down a row"
        text = f"Where the layer `{name}` of {_a(model)} has weights (dark); the ring is the current pixel. "
        if kind == "A":
            text += "Mask A, in the first layer: of the current pixel only the channels before one's own."
        elif kind == "B":
            text += "Mask B, in all later layers: of the current pixel one's own channel too."
        else:
            text += "A layer of the vertical stack reads a stream that has been moved down by a row: no mask is needed."
        if mask.shape[0] > 1:
            text += " There is a row of panels for each channel that is computed, a column for each that is looked at."
        here = mask[..., centre[0], centre[1]]
        weights = "a weight" if here.all() else "a weight for some channels" if here.any() else "no weight"
        where = "above and to the left" if centre[0] else "to the left"
        alt = f"Cells {where} of the current pixel are dark; the current pixel has {weights}."
        if not kind:
            alt = "All cells of the rows down to that of the current pixel are dark."
        found.append(Drawn(f"masks-{name.replace('.', '-')}", figures.mask_page(layer, title), text, alt))
    return found


def _telling(layers: dict[str, Any]) -> list[str]:
    """One layer of every kind: mask A, mask B, and the first two vertical ones."""
    first = {kind: next((n for n, la in layers.items() if getattr(la, "mask", "") == kind), None) for kind in "AB"}
    vertical = [name for name, layer in layers.items() if not hasattr(layer, "mask")]
    return [name for name in layers if name in (first["A"], first["B"], *vertical[:1])]


def field(subject: Subject) -> list[Drawn]:
    model = subject.network("gated_pixelcnn", shape=(1, 15, 15))
    size = (15, 15) if model.network.family.any_size else model.shape[1:]
    text = (
        f"What three pixels (rings) of {_a(model)} depend on. Above, how strongly, by the gradients of the network as "
        "it is (powers of ten); below, on which pixels at all, under any of many random weights: blue is seen, orange "
        "comes earlier and is never seen."
    )
    alt = "Maps of a square picture with the pixels before a ring coloured by whether the ring depends on them."
    return [Drawn(f"field-{model.family}", figures.receptive_field(_raster(model), size), text, alt)]


def growth(subject: Subject) -> list[Drawn]:
    model = subject.network("pixelcnn", blocks=4, first_kernel=3)
    size, pixel = subject.canvas(model)
    try:
        drawn = figures.growth(_raster(model), size, pixel)
    except UserError as error:
        raise NoSuchFigureError(str(error)) from None
    text = (
        f"How the receptive field of one pixel of {_a(model)} grows: what its features depend on after each layer, by "
        "gradients. The number counts pixels."
    )
    alt = "A row of maps in which the blue region around and above the ring becomes larger."
    return [Drawn(f"growth-{model.family}", drawn, text, alt)]


def blind_spot(subject: Subject) -> list[Drawn]:
    def one(family: str, layers: str) -> ImageModel:
        if isinstance(subject.model, ImageModel) and subject.model.family == family:
            return subject.model
        own = subject.options if subject.family == family else {}
        return Subject(family=family, options={"first_kernel": 3, "features": 6, layers: 14, **own}).network(family)

    plain, gated = one("pixelcnn", "blocks"), one("gated_pixelcnn", "layers")
    text = (
        "The blind spot. Stacked masked convolutions never see a triangle to the upper right, however deep the network "
        "is: to get there a path would have to step further to the right than it climbs. The two stacks of the Gated "
        "PixelCNN see all of it."
    )
    alt = "Left, an orange triangle to the upper right of the ring is never seen; right, everything before it is blue."
    drawn = figures.blind_spot(_raster(plain), _raster(gated), CANVAS, PIXEL)
    return [Drawn("blind-spot", drawn, text, alt)]


def stacks(subject: Subject) -> list[Drawn]:
    model = subject.network("gated_pixelcnn", layers=8)
    text = (
        f"The two stacks of {_a(model)}, each with the other held still. The vertical stack sees finished rows, "
        "to both sides; the horizontal one the pixels to the left, and it hears from the vertical one, never the other "
        "way round."
    )
    alt = "Left, the rows above the ring are light blue; middle, the pixels left of it dark blue; right, both."
    return [Drawn(f"stacks-{model.family}", figures.stacks(_raster(model), *subject.canvas(model)), text, alt)]


def row_lstm(subject: Subject) -> list[Drawn]:
    model = subject.network("row_lstm", layers=1, first_kernel=3)
    text = (
        "Row LSTM. The state of a row comes from the row above by a small convolution, so that one layer sees a "
        "triangle that widens by one pixel a row, and misses what lies outside. The first layer's window widens it a "
        "little."
    )
    alt = "A blue triangle that opens upwards from the ring, with orange on both sides."
    return [Drawn("row-lstm", figures.row_lstm(_raster(model), *subject.canvas(model)), text, alt)]


def diagonal_bilstm(subject: Subject) -> list[Drawn]:
    model = subject.network("diagonal_bilstm", layers=1)
    picture = figures.scene(24, 32) if subject.picture is None else _small_picture(subject.picture)
    text = (
        "Diagonal BiLSTM. Above, the skewing: each row is moved one pixel further, so that a diagonal (orange line) "
        "becomes a column, and the layer computes one column a step. Below, what its two directions see: from the left "
        "all above and to the left; from the right all above and to the right, moved down a row so that nothing of the "
        "pixel's own row to the right is seen."
    )
    alt = "A picture and the same picture slanted; three maps: upper left blue, upper right blue, everything blue."
    drawn = figures.diagonal_bilstm(_raster(model), *subject.canvas(model), picture, 256)
    return [Drawn("diagonal-bilstm", drawn, text, alt)]


def levels(subject: Subject) -> list[Drawn]:
    picture = figures.scene() if subject.picture is None else _small_picture(subject.picture, 128)
    text = (
        "The quantisation ladder: the same picture with 2 to 256 levels a channel; the error is the root mean square "
        "over its values. Below each, the last channel down the middle column: orange as it was, blue quantised. With "
        "few levels gradients turn into steps; a model has as many values to choose from as there are levels."
    )
    alt = "Six versions of a picture, from two levels with hard edges to the smooth original, with their value curves."
    return [Drawn("levels", figures.ladder(picture), text, alt)]


def wavefront(subject: Subject) -> list[Drawn]:
    own = subject.network("gated_pixelcnn", shape=(1, *GRID)) if subject.model or subject.family else None
    models = [own] if own else [subject.network(n) for n in ("gated_pixelcnn", "local", "pixelcnn")]
    shown: dict[str, Tensor] = {}
    for model in models:
        one = _raster(model)
        size = GRID if model.network.family.any_size else model.shape[1:]
        if not shown:
            shown["pixel by pixel (Cursor)"] = figures.steps_by_pixel(one, size)
        if model.network.slope:
            shown[f"diagonals of slope {model.network.slope}"] = figures.steps_by_diagonal(one, size)
        elif model.family == "gated_pixelcnn":
            shown["vertical stack, row by row"] = figures.steps_by_row(one, size)
    text = (
        "At which step each pixel is made; equal numbers are made at once. Pixel by pixel a picture of H×W takes H·W "
        "steps; a vertical stack works a row at a time; a network that looks no further to the right than a slope "
        "allows makes whole diagonals, W + slope·(H − 1) steps. The numbers are those of the code that draws pictures."
    )
    alt = "Grids of step numbers: in rows from the left, by rows, and along slanted diagonals."
    return [Drawn("wavefront", figures.schedule_page(shown), text, alt)]


def sampling(subject: Subject) -> list[Drawn]:
    model = subject.trained() if subject.model is not None or subject.family else load(SHIPPED)
    text = (
        f"{'16 pictures' if model.classes is None else '16 pictures, class after class,'} drawn by {_a(model)}: every "
        "value is drawn from the model's distribution of the next one, given all before it. What is black has not been "
        "drawn yet."
    )
    frames = sampling_frames(model, 16, condition=_classes(model, 16))
    alt = "Sixteen pictures that fill up from the first predicted pixel to the last."
    return [Drawn("sampling", figures.animation(frames, model.levels), text, alt)]


def distribution(subject: Subject) -> list[Drawn]:
    model = subject.trained()
    images, labels = (None, None) if subject.images is None else (subject.images.images, subject.images.labels)
    if images is None:
        images = sample(model, 2, seed=3, condition=_classes(model, 2))[1:]
        labels = None if model.classes is None else torch.tensor([1 % model.classes])
    condition = labels[:1] if model.classes is not None and labels is not None else None
    log_pmf = model.each_order()[0].log_pmf(images[:1], condition)[0, 0].double()
    doubt = -(log_pmf.exp() * log_pmf.clamp(min=-1e3)).sum(-1)
    doubt[: doubt.shape[0] // 3] = 0  # where much is known already
    pixel = divmod(int((doubt - 0.7 * doubt.max()).abs().argmin()), doubt.shape[1])
    text = (
        f"What {_a(model)} says of one pixel: the probability of every value, given what "
        "comes before. The value that the picture has is hatched; it costs −log₂ of its probability in bits. All that "
        "the library does (likelihood, sampling, compressing) is made of such distributions."
    )
    alt = "A picture known as far as a ring, and a bar chart of probabilities with one bar hatched."
    return [Drawn("distribution", figures.next_pixel(model, images[0], pixel, 0, condition), text, alt)]


def orders(subject: Subject) -> list[Drawn]:
    chosen = list(EIGHT.values())
    size = (4, 6)
    if subject.model is not None or subject.family:
        model = subject.network("gated_pixelcnn")
        if subject.model is not None:
            chosen = list(model.orders)[:16]
            size = model.shape[1:] if model.free_orders else size
    text = (
        "Orders of prediction: which pixel comes when (dark first). Raster order is one of eight that a rectangle has "
        "by flipping and transposing; what comes later never plays a part in what comes before."
    )
    alt = "Grids of numbers that count through a small picture row by row or column by column, from each corner."
    return [Drawn("orders", figures.order_page(chosen, size), text, alt)]


def _raster(model: ImageModel) -> ImageModel:
    """A model of one order that is raster in the grid that its network sees."""
    return model.each_order()[0].own_grid()


def _classes(model: Model, n: int) -> Tensor | None:
    return None if model.classes is None else torch.arange(n) % model.classes


def _small_picture(picture: Tensor, side: int = 40) -> Tensor:
    """Every k-th pixel of a large picture."""
    step = -(-max(picture.shape[1:]) // side)
    return picture[:, ::step, ::step]


def _a(model: Model) -> str:
    return f"a network of the family `{model.family}`"


EXPLANATIONS = {
    e.name: e
    for e in (
        Explanation("masks", "Masks A and B", masks),
        Explanation("growth", "The receptive field grows with every layer", growth),
        Explanation("blind-spot", "The blind spot", blind_spot, ("pixelcnn", "gated_pixelcnn")),
        Explanation("stacks", "Two stacks", stacks, ("gated_pixelcnn", "pixelcnnpp")),
        Explanation("row-lstm", "The triangle of the Row LSTM", row_lstm, ("row_lstm",)),
        Explanation("diagonal-bilstm", "The skewed map of the Diagonal BiLSTM", diagonal_bilstm, ("diagonal_bilstm",)),
        Explanation("field", "What a pixel sees", field),
        Explanation("levels", "The quantisation ladder", levels, any_model=True),
        Explanation("orders", "Orders of prediction", orders),
        Explanation("wavefront", "Schedules: what is made at once", wavefront),
        Explanation("distribution", "The next pixel", distribution, any_model=True),
        Explanation("sampling", "A picture appears", sampling, any_model=True),
    )
}
"""All figures by name, in the order in which a lecture would show them."""
