"""Data as an option of every task: a name or a path, and what is done to the pixel values."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from nextpixel.errors import UserError
from nextpixel.images import Dataset, dataset


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """How images become integers. The defaults leave named sets as they are."""

    levels: int = 0
    """quantise to this many levels; 0 keeps the data's own"""
    binarise: Literal["no", "threshold", "fixed", "dynamic"] = "no"
    """two levels: by threshold, by one seeded draw, or drawn anew for every training batch"""
    channels: int = 0
    """1 for grey, 3 for RGB; 0 keeps what is there"""
    size: str = ""
    """bring pictures to this size, such as 32 or 28x20 (height x width)"""
    fit: Literal["crop", "resize"] = "crop"
    """how: cut out the centre, or scale first"""
    lazy: Literal["auto", "yes", "no"] = "auto"
    """read the images of a folder or .npy file only when they are needed; auto: where they take more than 1 GiB"""
    data_dir: str = ""
    """folder that already holds the named sets; looked at before any download (also $NEXTPIXEL_DATA)"""


def load_data(source: str, options: DataOptions | None = None, download: bool = True) -> Dataset:
    """The data set of that name or path; UserError in one sentence if it cannot be had. download: whether a named set
    that is nowhere on this machine may be fetched."""
    options = options or DataOptions()
    if not source:
        raise UserError("The name of the data is empty: give a name (nextpixel data list) or a path.")
    return dataset(
        source,
        data_dir=options.data_dir or None,
        levels=options.levels or None,
        binarise=None if options.binarise == "no" else options.binarise,
        channels=options.channels or None,  # type: ignore[arg-type]
        size=size_of(options.size),
        fit=options.fit,
        download=download,
        lazy={"auto": None, "yes": True, "no": False}[options.lazy],
    )


def describe_data(source: str, options: DataOptions) -> dict[str, object]:
    """What a run folder keeps, so that later commands find the same data."""
    return {"source": source, **{k: v for k, v in dataclasses.asdict(options).items() if k != "data_dir"}}


def size_of(text: str) -> int | tuple[int, int] | None:
    """The option `size` as a number or (H, W); None where it is empty."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text)
    if match is None:
        raise UserError(f"size must look like 32 or 28x20 (height x width), not {text!r}.")
    return (int(match[1]), int(match[2])) if match[2] else int(match[1])
