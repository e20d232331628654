"""Integer arrays in .npy and .npz files.

Keys of an .npz file, the first of these that is there:

- ``images`` (and ``labels``), or the only array there is: cut into splits;
- ``train``, ``valid`` or ``val``, ``test`` (and ``train_labels`` ...);
- ``train_images`` ... (and ``train_labels`` ...);
- ``x_train`` ... (and ``y_train`` ...).

Beside each: ``map`` and ``vector`` (or ``train_map``, ``train_vector`` ...), what a model may be conditioned on: a map
is numbers [N,h,w] or [N,D,h,w], integers if they are codes; a vector numbers [N,V].

Shape: [N,H,W]; or four axes, of which the second or the last one is the channels: that which has 1 or 3 entries if the
other has not, else that without which the pictures are square, else the shorter one if it has neither 1 nor 3.
Levels, unless given: unsigned bytes are 2 levels if none is above 1, else 256; other integers the largest value
plus 1. Truth values are 2 levels. Floats are refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nextpixel.errors import UserError
from nextpixel.images.levels import MOST_LEVELS, check_levels
from nextpixel.images.source import Array, LazySource, Part, Source, StorePart, load_npz, unreadable_array
from nextpixel.images.store import ArrayStore, pieces

# How images and labels of a part are called; {} is the part.
_STYLES = [("{}", "{}_labels"), ("{}_images", "{}_labels"), ("x_{}", "y_{}")]
_SPELLINGS = {"train": ["train"], "valid": ["valid", "val"], "test": ["test"]}


def read_arrays(path: Path, levels: int | None) -> Source:
    """levels: what the values are (they are not changed); None decides by the rule above.

    Raises UserError for floats, an ambiguous shape, unknown keys, or values that do not fit into ``levels``.
    """
    arrays = load_npz(path)
    found = _find(arrays, path)
    for key, (images, _, _) in found.items():
        _check_type(images, _where(path, key))
    largest = max(int(images.max(initial=0)) for images, _, _ in found.values())
    smallest = min(int(images.min(initial=0)) for images, _, _ in found.values())
    if smallest < 0:
        raise UserError(f"{path} holds the value {smallest}, but pixel values start at 0.")
    count = levels if levels is not None else _levels([images for images, _, _ in found.values()], largest)
    check_levels(count)
    if largest >= count:
        enough = largest < MOST_LEVELS
        advice = (
            f"pass levels={largest + 1} (--levels {largest + 1}) or more" if enough else f"{MOST_LEVELS} is the most"
        )
        raise UserError(f"{path} holds the value {largest}, but {count} levels end at {count - 1}: {advice}.")
    kept = np.uint8 if count <= 256 else np.int32
    parts = {
        key: Part(
            _channels_last(images, _where(path, key)).astype(kept, copy=False),
            _labels(labels, len(images), path),
            _told(arrays, spelling, len(images), path),
        )
        for key, (images, labels, spelling) in found.items()
    }
    return Source(path.stem, parts, count, _protocol(count))


def open_array(path: Path, levels: int | None) -> LazySource:
    """A .npy file that stays where it is, mapped into memory; the same images as of `read_arrays`.

    Without ``levels`` unsigned bytes are read until a value above 1 is found, other integers to the end. With them,
    values are checked when they are read. Raises UserError as `read_arrays` does.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise unreadable_array(path, error) from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} is no .npy file: give one, or name it .npz.")
    _check_type(array, str(path))
    array = _channels_last(array, str(path))
    count = levels if levels is not None else _levels_found(array, path)
    check_levels(count)
    part = StorePart(ArrayStore(array, count, str(path)), None)
    return LazySource(path.stem, {"all": part}, count, _protocol(count))


def read_told(path: Path, plain: str) -> dict[str, Array]:
    """What a file tells of pictures that are yet to be drawn: its ``map``, ``vector`` and ``labels``, of equally many
    pictures, as a Split has them; a .npy file, or an .npz file of ``images`` alone, is taken for the kind ``plain``."""
    arrays = load_npz(path)
    if len(arrays) == 1:
        arrays = {plain if name == "images" else name: values for name, values in arrays.items()}
    kinds = [kind for kind in ("map", "vector", "labels") if kind in arrays and arrays[kind].ndim > 0]
    if not kinds:
        raise UserError(f"{path} holds the arrays {', '.join(arrays) or '(none)'}: name them map, vector or labels.")
    count = len(arrays[kinds[0]])
    if count == 0:
        raise UserError(f"{path} is for no pictures: there must be one {kinds[0]} for each.")
    found = _told(arrays, "", count, path)
    labels = _labels(arrays.get("labels"), count, path)
    return found if labels is None else {**found, "labels": labels.astype(np.int64)}


def _levels_found(array: Array, path: Path) -> int:
    largest = 0
    for indices in pieces(len(array)):
        piece = array[indices[0] : indices[-1] + 1]
        largest = max(largest, int(piece.max()))
        if int(piece.min()) < 0:
            raise UserError(f"{path} holds the value {int(piece.min())}, but pixel values start at 0.")
        if array.dtype == np.uint8 and largest > 1:
            break
    return _levels([array], largest)


def _protocol(levels: int) -> str:
    return {2: "binary", 256: "8-bit"}.get(levels, f"{levels} levels")


def _find(arrays: dict[str, Array], path: Path) -> dict[str, tuple[Array, Array | None, str]]:
    """Images, labels, and how the part is spelt, by part."""
    if "images" in arrays:
        return {"all": (arrays["images"], arrays.get("labels"), "")}
    for image_style, label_style in _STYLES:
        found = {}
        for part, spellings in _SPELLINGS.items():
            for spelling in spellings:
                if image_style.format(spelling) in arrays:
                    labels = arrays.get(label_style.format(spelling))
                    found[part] = (arrays[image_style.format(spelling)], labels, spelling)
        if "train" in found:
            return found
    if len(arrays) == 1:
        return {"all": (next(iter(arrays.values())), None, "")}
    raise UserError(
        f"{path} holds the arrays {', '.join(arrays) or '(none)'}: name them images and labels, "
        "or train, valid and test with train_labels and so on."
    )


def _where(path: Path, part: str) -> str:
    return str(path) if part == "all" else f"{path} ({part})"


def _check_type(images: Array, where: str) -> None:
    if images.dtype.kind == "f":
        raise UserError(
            f"{where} holds floats, but pixels are integers: save x.round().astype('uint8') of values 0..255, "
            "(x * 255).round().astype('uint8') of values 0..1."
        )
    if images.dtype.kind not in "iub":
        raise UserError(f"{where} holds {images.dtype}, but pixels are integers: save an integer array.")
    if images.ndim in (3, 4) and 0 in images.shape:
        raise UserError(f"{where} holds no pixels, its shape is {images.shape}: save at least one image.")
    if images.ndim not in (3, 4):
        raise UserError(f"{where} has the shape {images.shape}: save [N,H,W], [N,C,H,W] or [N,H,W,C].")


def _levels(images: list[Array], largest: int) -> int:
    if all(array.dtype == np.uint8 for array in images) and largest > 1:
        return 256
    return max(2, largest + 1)


def _channels_last(images: Array, where: str) -> Array:
    if images.ndim == 3 or images.shape[1:] == (1, 1, 1):
        return images
    _, second, third, last = images.shape
    usual = [second in (1, 3), last in (1, 3)]
    square = [third == last, second == third]
    shorter = [second < min(third, last), last < min(second, third)] if not any(usual) else [False, False]
    for first, final in (usual, square, shorter):
        if first != final:
            return images.transpose(0, 2, 3, 1) if first else images
    raise UserError(
        f"{where} has the shape {images.shape}, and which axis has the channels is ambiguous: save [N,H,W], or square "
        "pictures, or fewer channels than rows and columns."
    )


def _told(arrays: dict[str, Array], spelling: str, count: int, path: Path) -> dict[str, Array]:
    """The vectors and maps that go with a part, as a Split wants them."""
    found = {}
    for kind, axes in (("vector", (2,)), ("map", (3, 4))):
        name = f"{spelling}_{kind}" if spelling else kind
        if name not in arrays:
            continue
        values = arrays[name]
        if values.dtype.kind not in "iuf" or values.ndim not in axes or len(values) != count:
            wanted = "[N,V]" if kind == "vector" else "[N,h,w] or [N,D,h,w]"
            raise UserError(
                f"{path} has a {name} of {values.dtype} {values.shape} for {count} images: save numbers {wanted}."
            )
        if not np.isfinite(values).all():
            raise UserError(f"{path} has a {name} with values that are not finite: leave such images out.")
        values = values[:, None] if values.ndim == 3 else values
        found[kind] = values.astype(np.float32 if values.dtype.kind == "f" else np.int64)
    return found


def _labels(labels: Array | None, count: int, path: Path) -> Array | None:
    if labels is None:
        return None
    if labels.dtype.kind not in "iu" or labels.size != count:
        raise UserError(
            f"{path} has labels of {labels.dtype} {labels.shape} for {count} images: save one integer an image."
        )
    return labels.reshape(-1)
