"""Pictures written to files, in the form that the file's name asks for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nextpixel import durable
from nextpixel.errors import UserError
from nextpixel.images.pictures import grid

KINDS = (".png", ".npy", ".npz", "")


def check_kind(out: Path) -> None:
    """UserError unless the ending of the name is one that `save_pictures` knows."""
    if out.suffix.lower() not in KINDS:
        raise UserError(f"The name {out.name} must end in .png, .npy or .npz, or have no ending for a folder.")


def save_pictures(
    out: Path, pictures: Tensor, levels: int, columns: int | None = None, labels: Tensor | None = None
) -> str:
    """Write pictures [N, C, H, W] as one .png sheet, a .npy or .npz array of their integers, or one PNG each in a
    folder (a name without ending); says what was written. Only a .npz array keeps the labels [N]."""
    check_kind(out)
    kind = out.suffix.lower()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if kind:
            with durable.replacing(out) as aside, open(aside, "wb") as file:
                if kind == ".png":
                    grid(pictures, levels, columns).save(file, "PNG")
                elif kind == ".npy":
                    np.save(file, pictures.numpy())
                else:
                    labelled: dict[str, Any] = {} if labels is None else {"labels": labels.numpy()}
                    np.savez_compressed(file, images=pictures.numpy(), **labelled)
            return f"one sheet in {out}" if kind == ".png" else f"an array in {out}"
        out.mkdir(exist_ok=True)
        paths = [out / f"{index:05d}.png" for index in range(len(pictures))]
        if there := next((path for path in paths if os.path.lexists(path)), None):
            raise UserError(f"{there} is there already: name a new folder, or remove it.")
        for path, picture in zip(paths, pictures, strict=True):
            grid(picture[None], levels, zoom=1).save(path)
        return f"one file each in {out}"
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error}).") from error
