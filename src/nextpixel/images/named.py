"""The named data sets: where they are looked for, and how they are verified and fetched.

A set called NAME lies in the folder NAME of, in this order, the ``data_dir`` given, the folder that the
environment variable NEXTPIXEL_DATA names, and the download cache ($NEXTPIXEL_CACHE, else nextpixel in
$XDG_CACHE_HOME, else ~/.cache/nextpixel). ``CATALOGUE[NAME].expects`` says which files belong there.
"""

from __future__ import annotations

import os
from pathlib import Path

from nextpixel.cache import cache_folder
from nextpixel.errors import UserError, did_you_mean
from nextpixel.images import download
from nextpixel.images.catalogue import CATALOGUE, NamedSet
from nextpixel.images.digits import embedded_folder
from nextpixel.images.source import Part, Parts, Source, array_sha256


def names() -> list[str]:
    """The names that ``dataset`` knows, sorted."""
    return sorted(CATALOGUE)


def info(name: str) -> NamedSet:
    """The catalogue's entry. Raises UserError for an unknown name."""
    if name not in CATALOGUE:
        raise UserError(
            f"There is no data set '{name}'; there are {', '.join(names())}.{did_you_mean(name, CATALOGUE)}"
        )
    return CATALOGUE[name]


def read_named(name: str, data_dir: str | os.PathLike[str] | None = None, allow_download: bool = True) -> Source:
    """The parts of a named set, downloaded if it is found nowhere and has a source on the hub.

    Raises UserError if it is not found, or if what is found is damaged.
    """
    entry = info(name)
    folder = _find(entry, data_dir)
    if folder is None and allow_download and entry.hub is not None:
        folder = fetch(name)
    if folder is None:
        raise UserError(_where_to_put(entry))
    notes = [entry.release(folder)] if entry.release is not None else []
    return Source(name, _read(entry, folder), entry.levels, entry.protocol, notes, entry.cut)


def fetch(name: str) -> Path:
    """Downloads a set into the cache unless it is there, and returns its folder.

    Raises UserError where there is no source to fetch from, no network, or the checksums differ.
    """
    entry = info(name)
    if entry.embedded:
        return embedded_folder()
    if entry.hub is None:
        raise UserError(_where_to_put(entry))
    folder = cache_folder() / name
    if not _is_whole(entry, folder):
        parts = download.from_hub(entry.hub, name)
        _check(entry, parts, f"{name} from {entry.hub.repository}")
        download.write(parts, folder)
    return folder


def verify(name: str, folder: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Compares the pixels and labels of a set with the published checksums.

    folder: the set's own folder or the one above it; None looks in the usual places, without downloading.
    Returns the sha256 of everything compared, e.g. {"train images": ...}. Raises UserError naming what differs.
    """
    entry = info(name)
    if folder is None:
        found = _find(entry, None)
    else:
        found = Path(folder) / name if (Path(folder) / name).is_dir() else Path(folder)
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"The data folder {folder} does not exist.")
    if found is None or not found.is_dir():
        raise UserError(_where_to_put(entry))
    if not entry.checksums:
        raise UserError(f"No checksums of {name} are published, so it cannot be verified.")
    return _check(entry, _read(entry, found), str(found))


def _find(entry: NamedSet, data_dir: str | os.PathLike[str] | None) -> Path | None:
    if entry.embedded:
        return embedded_folder()
    roots = [Path(data_dir)] if data_dir is not None else []
    if roots and not roots[0].is_dir():
        raise UserError(f"The data folder {roots[0]} does not exist.")
    if os.environ.get("NEXTPIXEL_DATA"):
        roots.append(Path(os.environ["NEXTPIXEL_DATA"]))
        if not roots[-1].is_dir():
            raise UserError(f"The folder {roots[-1]}, which NEXTPIXEL_DATA names, does not exist.")
    for root in [*roots, cache_folder()]:
        if (root / entry.name).is_dir():
            return root / entry.name
    return None


def _is_whole(entry: NamedSet, folder: Path) -> bool:
    """Whether the cache holds the set undamaged; a damaged copy is simply fetched again."""
    if not (folder / download.FILE).is_file():
        return False
    try:
        _check(entry, download.read(folder), str(folder))
    except UserError:
        return False
    return True


def _read(entry: NamedSet, folder: Path) -> Parts:
    parts = download.read(folder) if (folder / download.FILE).is_file() else entry.read(folder)
    channels, height, width = entry.shape
    expected = (height, width) if channels == 1 else (height, width, channels)
    for key, part in parts.items():
        if part.images.shape[1:] != expected:
            raise UserError(
                f"The {key} images in {folder} are {part.images.shape[1:]}, not {expected}: fetch them again."
            )
        if part.labels is not None and len(part.labels) != len(part.images):
            raise UserError(
                f"{folder} has {len(part.images)} {key} images but {len(part.labels)} labels: fetch it again."
            )
    return parts


def _check(entry: NamedSet, parts: Parts, where: str) -> dict[str, str]:
    sums: dict[str, str] = {}
    for key, (images, labels) in entry.checksums.items():
        part = _sorted(parts[key]) if key in entry.any_order else parts[key]
        for what, array, expected in (("images", part.images, images), ("labels", part.labels, labels)):
            if array is None:
                continue
            actual = sums[f"{key} {what}"] = array_sha256(array.astype("uint8", copy=False))
            if actual != expected:
                raise UserError(
                    f"The {key} {what} of {where} are not the published ones "
                    f"(sha256 {actual[:16]}..., expected {expected[:16]}...): fetch them again."
                )
    return sums


def _sorted(part: Part) -> Part:
    """The same pairs in the order of their bytes, so that equal sets hash equally."""
    assert part.labels is not None
    keys = [image.tobytes() + bytes([label]) for image, label in zip(part.images, part.labels, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return Part(part.images[order], part.labels[order])


def _where_to_put(entry: NamedSet) -> str:
    by_hand = f"put {entry.expects} into DIR/{entry.name} and pass data_dir=DIR (--data-dir DIR)"
    if entry.hub is None:
        return f"{entry.name} cannot be downloaded: {by_hand}."
    return f"{entry.name} is not here: allow the download, or {by_hand}."
