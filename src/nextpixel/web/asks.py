"""What the operations are asked with: the bodies of the requests.

What an image is depends on the model, so `pixels.as_images` checks that, in one piece; here millions of wrong numbers
would be told one by one.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Image = Annotated[
    list[Any] | str,
    Field(description="integers [C][H][W] of the model's levels and size, or a picture file in base64"),
]
Mask = Annotated[list[Any], Field(description="true and false [H][W]: what is known")]
Count = Annotated[int, Field(strict=True, ge=1)]
Class = Annotated[int | None, Field(strict=True, description="for class-conditional models")]


class Ask(BaseModel):
    """`model` is a name from /api/models; the first one if it is left out."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = None


class Drawn(Ask):
    """How pictures are drawn, as in `nextpixel sample`."""

    seed: Annotated[int, Field(strict=True, ge=0, lt=2**53)] = 0
    temperature: Annotated[float, Field(ge=0, le=1000)] = 1.0
    top_k: Annotated[int, Field(strict=True, ge=0)] = 0
    order: Annotated[str, Field(max_length=100)] = ""


class Generate(Drawn):
    """New pictures."""

    n: Count = 1
    class_: Annotated[Class, Field(alias="class")] = None


class Complete(Drawn):
    """Completions of an image, of which `known` [H][W] counts."""

    image: Image
    known: Mask
    fills: Count = 4
    class_: Annotated[Class, Field(alias="class")] = None


class Look(Ask):
    """An image to look at."""

    image: Image
    class_: Annotated[Class, Field(alias="class")] = None


class Position(Ask):
    """A pixel."""

    row: Annotated[int, Field(strict=True, ge=0)]
    column: Annotated[int, Field(strict=True, ge=0)]


class Gif(Ask):
    """Pictures, to be seen as they come to be; what is `known` [H][W] is there from the start."""

    images: Annotated[list[Image], Field(min_length=1)]
    known: Mask | None = None
