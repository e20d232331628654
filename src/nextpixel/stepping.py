"""The next symbol: all that sampling, completing and decoding see of a model.

A Stepper costs about the arithmetic of one Whole pass for a whole picture, whatever the number of symbols: row work is
done once a row, pixel work once a pixel (once a symbol in channel-masked networks), and everything else is remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from nextpixel.causal import Cursor, Memory, Ring, Whole
from nextpixel.errors import UserError, check_count
from nextpixel.precision import without_autocast
from nextpixel.replay import Replay, applies

if TYPE_CHECKING:
    from nextpixel.exact.model import ExactModel
    from nextpixel.image_model import ImageModel


def replays(model: ImageModel, size: tuple[int, int]) -> bool:
    """Whether compiled kernels replay the steps of pictures of that size; the model must be in eval mode."""
    return applies(model.network, model.like(), size[0] * size[1])


class Stepper:
    """n pictures made symbol by symbol: `pmf()` of the next one, `push(values)`, and on to the next.

    `position` is the (row, column, channel) of the next symbol in the picture, in whatever order the model predicts;
    None at the end. `images` [n, C, H, W] is what has been pushed so far (zero elsewhere). The model must be in eval
    mode and must not be trained while it is stepped. UserError for a model of several orders, none of which was chosen.
    """

    replays: ClassVar[bool] = True  # whether compiled kernels may do the pixel work

    @without_autocast
    def __init__(
        self, model: ImageModel | ExactModel, n: int, condition: object = None, size: tuple[int, int] | None = None
    ):
        if model.training:
            raise UserError("Stepping needs the model in evaluation mode: call model.eval() first.")
        n = check_count(n)
        self.model, self.n = model, n
        self.channels, (self.height, self.width) = model.shape[0], size or model.shape[1:]
        like = model.like()
        self.images = torch.zeros(n, self.channels, self.height, self.width, dtype=torch.long, device=like.device)
        self._nothing = self.images[:, :0, 0, 0]  # earlier values of a pixel's first symbol
        self._order = model.placement
        self._rows, self._columns = self._order.grid(self.height, self.width)  # of the order's own grid
        pixels = self._order.pixels(self.height, self.width).view(self._rows, self._columns).tolist()
        self._places = [[divmod(pixel, self.width) for pixel in row] for row in pixels]  # where they are in the picture
        self._memory = Memory(like, n, self._rows, self._columns)
        self._memory.order = model.pixel_order((self.height, self.width))
        above, left, right = model.network.input_reach()
        layout = model.embedding.layout
        self._memory.input = Ring(like, n, above + 1, self._columns, layout.width, left, right)
        self._cursor = Cursor(self._memory)
        self._replay = Replay(model.network, self._memory) if self.replays else None
        with torch.no_grad():
            self._condition = model.embed_condition(condition, n, (self.height, self.width))
            every = torch.arange(model.levels, device=like.device)
            self._vectors = [model.embedding.channel(every, c, like) for c in range(self.channels)]  # by value
        self._starts = [0, *layout.ends()[:-1]]
        self._channel = 0
        self._offset = 0  # where the next channel's embedding goes when a pixel is one group
        self._contexts: list[Tensor] | None = None  # this row's; None when they are to be computed
        self._features: Tensor | None = None  # this group's
        self._log_pmf: Tensor | None = None

    def __repr__(self) -> str:
        shape = f"{self.channels}x{self.height}x{self.width}"
        at = self.position
        where = "finished" if at is None else "next: row {}, column {}, channel {}".format(*at)
        return f"{type(self).__name__}({self.n} pictures of {shape}, {self.model.levels} levels, {where})"

    @property
    def position(self) -> tuple[int, int, int] | None:
        cursor = self._cursor
        return None if cursor.row >= self._rows else (*self._places[cursor.row][cursor.column], self._channel)

    @torch.no_grad()
    @without_autocast
    def log_pmf(self) -> Tensor:
        """Log-probabilities of the next symbol's values, nats, [n, K]. Asking twice changes nothing."""
        if self._log_pmf is None:
            self._log_pmf = self.model.head.log_pmf(*self.work())
        return self._log_pmf

    @without_autocast
    def work(self) -> tuple[Tensor, int, Tensor]:
        """What the head is asked with for the next symbol: features, channel, earlier values of the pixel. The network
        does its work for the position when this is first called there."""
        row, column, channel = self._here()
        if self._contexts is None:
            self._contexts = self.model.network.rows(None, self._condition, self._cursor)
        if self._features is None:
            if self._replay is None:
                self._features = self.model.network.pixels(None, self._contexts, self._cursor)
            else:
                self._features = self._replay.pixels(self._contexts, self._cursor)
        return self._features, channel, self.images[:, :channel, row, column] if channel else self._nothing

    def pmf(self) -> Tensor:
        """Probabilities of the next symbol's values, [n, K]."""
        return self.log_pmf().exp()

    @torch.no_grad()
    def push(self, values: Tensor) -> None:
        """Say what the next symbol is, [n] integers, and go on to the one after it."""
        row, column, channel = self._here()
        if not isinstance(values, Tensor):
            raise UserError(f"Pushed values must be in a tensor [{self.n}], not a {type(values).__name__}.")
        if values.shape != (self.n,):
            raise UserError(f"There must be one value a picture: {self.n}, not {list(values.shape)}.")
        values, whole = values.long(), not values.is_floating_point()
        lowest, highest = values.aminmax() if self.n else (0, 0)
        if not whole or lowest < 0 or highest >= self.model.levels:
            raise UserError(f"Pushed values must be the model's levels 0..{self.model.levels - 1}.")
        if self.model.channels_by == "network" or channel == 0:
            self.work()  # the layers must have seen this position before it is left
        self.images[:, channel, row, column] = values
        vector = self._vectors[channel][values]
        if self.model.channels_by == "network":
            start = self._starts[channel]
        else:
            start = self._offset
        self._memory.input.write(self._cursor.row, self._cursor.column, start, vector)
        self._offset = start + vector.shape[1]
        self._advance()

    def fork(self, indices: Tensor | list[int]) -> Self:
        """Go on with the pictures `indices` [m], each as a picture of its own; this stepper stays as it is."""
        chosen = torch.as_tensor(indices, dtype=torch.long, device=self.images.device)
        if chosen.dim() != 1 or not ((chosen >= 0) & (chosen < self.n)).all():
            raise UserError(f"Fork takes a list of picture numbers 0..{self.n - 1}.")
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.n, copy.images = len(chosen), self.images[chosen]
        copy._nothing = copy.images[:, :0, 0, 0]
        copy._memory = self._memory.fork(chosen)
        copy._cursor = Cursor(copy._memory)
        copy._replay = None if self._replay is None else self._replay.fork(copy._memory)
        copy._cursor.row, copy._cursor.column, copy._cursor.group = (
            self._cursor.row,
            self._cursor.column,
            self._cursor.group,
        )
        copy._condition = None if self._condition is None else self._condition[chosen]
        copy._contexts = None if self._contexts is None else [c[chosen] for c in self._contexts]
        copy._features = None if self._features is None else self._features[chosen]
        copy._log_pmf = None if self._log_pmf is None else self._log_pmf[chosen]
        return copy

    @torch.no_grad()
    @without_autocast
    def prefill(self, rows: Tensor) -> None:
        """Take the first rows as known, [n, C, h, W], in one Whole pass. Only at the very start.

        First rows are meant as the model's order goes: rows of the order's own grid, `order.forth(images)[..., :h, :]`.
        """
        if self._cursor.row or self._cursor.column or self._channel or self._features is not None:
            raise UserError("Known rows can only be given before the first symbol is asked for or pushed.")
        if rows.dim() == 4 and rows.shape[2] == 0:
            return
        known = self.model.check_images(rows)
        if known.shape[0] != self.n or known.shape[3] != self._columns or known.shape[2] > self._rows:
            raise UserError(
                f"The known rows must have shape [{self.n}, {self.channels}, at most {self._rows}, {self._columns}], "
                f"not {list(known.shape)}."
            )
        height = known.shape[2]
        whole = self._order.forth(torch.zeros_like(self.images))
        whole[:, :, :height] = known
        self.images = self._order.back(whole).contiguous()
        embedded = self.model.embedding(known, self._memory.like)
        condition = self._condition
        if condition is not None and condition.shape[1] > 1:
            condition = condition[:, :height]
        self.model.network(embedded, condition, Whole(self._memory))
        self._memory.input.write_last_rows(embedded)
        self._cursor.row = height

    def _here(self) -> tuple[int, int, int]:
        position = self.position
        if position is None:
            raise UserError("The pictures are finished: there is no next symbol.")
        return position

    def _advance(self) -> None:
        cursor, self._log_pmf = self._cursor, None
        self._channel += 1
        if self.model.channels_by == "network":
            self._features = None
            cursor.group = self._channel
        if self._channel == self.channels:
            self._channel = cursor.group = self._offset = 0
            self._features = None
            cursor.column += 1
            if cursor.column == self._columns:
                cursor.column, cursor.row, self._contexts = 0, cursor.row + 1, None
