"""Commands of the lossless codec: compress, decompress, verify; and what `info` says of an archive."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from nextpixel import durable, figures
from nextpixel.cli.arguments import Device, Json, check_work, ending_in, open_model, split_of
from nextpixel.cli.options import flags_of
from nextpixel.cli.output import table, writable, write_json
from nextpixel.coding import Codable, File
from nextpixel.errors import UserError
from nextpixel.exact import Coded, ExactModel
from nextpixel.images import names
from nextpixel.tasks import compress as compressing
from nextpixel.tasks import decompress as decompressing
from nextpixel.tasks.data import DataOptions, load_data
from nextpixel.tasks.export import save_pictures
from nextpixel.tasks.pictures import Pictures, check_new, read_array, read_files, write_files
from nextpixel.tasks.processes import first_process

Model = Annotated[
    str, typer.Argument(help="model, better frozen: its folder, shipped name, or hub id", show_default=False)
]
ArchiveFile = Annotated[Path, typer.Argument(help="an archive that compress wrote", show_default=False)]
Verified = Annotated[Path, typer.Argument(help="an archive, or the folder of a model", show_default=False)]
MaybeModel = Annotated[
    str | None, typer.Argument(help="the model it was made with; not needed if it is inside", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    first = "after the example of compress"
    app.command(epilog="Example: nextpixel compress digits digits --out digits.npx")(compress)
    app.command(epilog=f"Example: nextpixel decompress digits.npx digits --out again.npz, {first}")(decompress)
    app.command(epilog=f"Example: nextpixel verify digits.npx digits, {first}")(verify)


def _new_archive(out: Path) -> Path:
    """A finished archive may be all that is left of its pictures: it is not overwritten."""
    if out.is_file() and out.stat().st_size and first_process():
        raise UserError(f"{out} is there already: name another archive with --out, or remove it.")
    writable(out)
    return out


def _array_or_folder(out: Path) -> Path:
    if out.suffix.lower() not in (".npz", ".npy", ""):
        raise UserError(f"The name {out.name} must end in .npz or .npy, or have no ending for a folder.")
    check_new(out)  # again when it is written, but decoding may take hours
    writable(out / "0.png" if out.is_dir() else out)
    return out


@flags_of(options=compressing.CompressOptions, images=DataOptions)
def compress(
    model: Model,
    data: Annotated[
        list[str], typer.Argument(help="picture files and folders; or one array, or the name of a data set")
    ],
    out: Annotated[Path, typer.Option(callback=_new_archive, help="the archive to write")] = Path("archive.npx"),
    split: Annotated[str, typer.Option(help="train, valid or test, of data that has splits")] = "test",
    bits_map: Annotated[
        Path | None,
        typer.Option("--bits-map", callback=ending_in(".png"), help="also draw where the bits went, as PNG"),
    ] = None,
    device: Device = "cpu",
    json_file: Json = None,
    *,
    options: compressing.CompressOptions,
    images: DataOptions,
) -> None:
    """Compress pictures without loss into one archive, and prove it by decoding (unless --no-verify)."""
    check_work(options.work)
    opened = open_model(model, device)
    pictures = _pictures(data, opened.shape[0], opened.levels, split, images)
    frozen = compressing.codable(opened, like=compressing.like(opened, pictures))
    if first_process() and isinstance(frozen, Coded) and not isinstance(opened, ExactModel):
        keep = f"nextpixel freeze {shlex.quote(model)} --form {frozen.model.formats.form}"
        typer.echo(f"Decoding needs this exact frozen model, so keep it: {keep}", err=True)
    archive = compressing.compress(frozen, pictures, options, progress=True)
    if not first_process():
        return
    _write(out, archive)
    facts = decompressing.archive_info(archive, max_pixels=_values(pictures))
    plain = -(-_values(pictures) * (frozen.levels - 1).bit_length() // 8)
    table(
        f"{out}: {facts['pictures']:,} pictures",
        [
            ("bytes", f"{facts['bytes']:,} (pixels as they are: {plain:,})"),
            ("bytes per picture", f"{facts['bytes_per_picture']:,.2f}"),
            ("bits/dim, whole archive", f"{facts['bits_per_dim']:.4f}"),
            ("of it framing, names", f"{facts['framing_bytes']:,} bytes, {facts['names_bytes']:,} bytes"),
            ("model", f"{facts['model'][:16]}, {'inside' if facts['model_bytes'] else 'not inside: keep it'}"),
            ("verified", "yes: decoded, every pixel equal" if options.verify else "no"),
        ],
    )
    if bits_map is not None:
        _draw(frozen, pictures, options, bits_map)
    write_json(json_file, {**facts, "verified": options.verify})


@flags_of(options=decompressing.DecompressOptions)
def decompress(
    archive: ArchiveFile,
    model: MaybeModel = None,
    out: Annotated[
        Path, typer.Option(callback=_array_or_folder, help="a new folder for the pictures, or a .npz or .npy array")
    ] = Path("pictures"),
    chunk: Annotated[list[int] | None, typer.Option(help="only the pictures in this chunk; may be repeated")] = None,
    device: Device = "cpu",
    json_file: Json = None,
    *,
    options: decompressing.DecompressOptions,
) -> None:
    """Get the pictures of an archive back, under their names. What is damaged is not handed out."""
    _check_kind(out, decompressing.archive_info(archive, options.max_pixels))
    opened = None if model is None else open_model(model, device)
    found = decompressing.unpack(archive, opened, options, chunks=chunk or None, progress=True)
    _save(out, found)
    whole, total = int(found.whole.sum()), len(found.whole)
    rows: list[tuple[str, object]] = [("pictures", f"{whole:,} of {total:,}"), ("written", out)]
    if found.pictures.labels is not None and out.suffix.lower() != ".npz":
        rows.append(("labels", "left out: only a .npz array holds them"))
    table(str(archive), [*rows, *[("damaged", fault) for fault in found.faults]])
    write_json(json_file, {"pictures": whole, "of": total, "damage": found.faults})
    if found.faults:
        raise UserError(f"{decompressing.damage(found.faults)} What is whole has been written to {out}.")


@flags_of(options=decompressing.DecompressOptions)
def verify(
    archive: Verified,
    model: MaybeModel = None,
    device: Device = "cpu",
    json_file: Json = None,
    *,
    options: decompressing.DecompressOptions,
) -> None:
    """Check an archive, writing nothing: with its model every pixel, without it the coded bytes only.

    Of a model's folder it is checked that it can be used here: that it opens whole and, if it is frozen, that it is
    proved.
    """
    if archive.is_dir():
        _verify_model(str(archive), device, json_file)
        return
    opened = None if model is None else open_model(model, device)
    decoded = decompressing.verify(archive, opened, options, progress=True)
    what = "every picture was decoded and has its checksum"
    without = "the coded bytes are whole; pass the model to decode them as well"
    table(f"{archive}: in order", [("checked", what if decoded else without)])
    write_json(json_file, {"in_order": True, "decoded": decoded})


def _verify_model(name: str, device: str, json_file: Path | None) -> None:
    model = open_model(name, device)  # refuses weights that are missing or not finite
    facts: dict[str, object] = {"in_order": True, "weights": "all there, all finite"}
    if isinstance(model, ExactModel):  # opening it has proved it
        model.ready()
        facts |= {"sums": f"proved to be exact ({model.formats.form} form)", "products": f"exact on {device}"}
        facts["identity"] = model.identity
    table(f"{name}: in order", [(key, value) for key, value in facts.items() if key != "in_order"])
    write_json(json_file, facts)


def show_archive(path: Path, json_file: Path | None) -> None:
    """What `nextpixel info` prints of an archive."""
    facts = decompressing.archive_info(path, max_pixels=sys.maxsize)  # nothing is decoded
    sizes = ", ".join(f"{number:,} of {height}x{width}" for height, width, number in facts["sizes"])
    shown = {**facts, "sizes": sizes, "damage": "; ".join(facts["damage"]) or "none"}
    table(str(path), [(name.replace("_", " "), _shown(value)) for name, value in shown.items()])
    write_json(json_file, facts)


def _shown(value: object) -> str:
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"
    return "" if value is None else str(value)


def _pictures(data: list[str], channels: int, levels: int, split: str, options: DataOptions) -> Pictures:
    """What the arguments name: one data set or array, else files and folders."""
    paths = [Path(name) for name in data]
    if len(paths) == 1 and paths[0].suffix.lower() in (".npy", ".npz"):
        return read_array(paths[0], options.levels or levels, split)[0]
    if len(data) == 1 and data[0] in names():
        part = split_of(load_data(data[0], options), split)
        return Pictures([part.images], None if part.labels is None else [part.labels])
    if options != dataclasses.replace(DataOptions(), data_dir=options.data_dir):
        raise UserError("Picture files are compressed as they are: leave levels, binarise, channels, size and fit out.")
    return read_files(paths, channels, levels)


def _values(pictures: Pictures) -> int:
    return sum(images.numel() for images in pictures.images)


def _write(out: Path, archive: bytes) -> None:
    try:
        durable.write_bytes(out, archive)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error}).") from error


def _draw(model: Codable, pictures: Pictures, options: compressing.CompressOptions, path: Path) -> None:
    """The bits of up to eight pictures of the first run, evenly spaced."""
    images = pictures.images[0]
    chosen = torch.arange(min(8, len(images))) * len(images) // min(8, len(images))
    labels = None if pictures.labels is None else pictures.labels[0][chosen]
    bits = compressing.bits_map(model, images[chosen], labels=labels, tile=options.tile, batch_size=options.batch_size)
    figures.bits_page(images[chosen], bits, model.levels, "Where the bits went").savefig(path)


def _check_kind(out: Path, facts: dict[str, Any]) -> None:
    """UserError if the pictures of the archive that these facts are of cannot be written to such an array or folder."""
    if out.suffix or facts["named_files"] is None:
        if out.suffix and len(facts["sizes"]) > 1:
            raise UserError(
                f"The archive holds pictures of {len(facts['sizes'])} sizes: name a folder to write them to."
            )
        if not out.suffix and facts["levels"] > 256:
            raise UserError(f"Picture files cannot hold {facts['levels']} levels: name a .npz array to write to.")


def _save(out: Path, found: decompressing.Unpacked) -> None:
    """The pictures that are whole; into a folder also those of which some tiles are there, named as damaged. Pictures
    without names are numbered, those of several sizes in a folder for each."""
    images, labels, files = found.pictures.images, found.pictures.labels, found.pictures.files
    if out.suffix or files is None:
        check_new(out)
        several = len(images) > 1
        for number, whole in enumerate(found.whole.split([len(run) for run in images])):
            height, width = images[number].shape[2:]
            where = out / f"{number}-{height}x{width}" if several else out
            given = None if labels is None else labels[number][whole]
            save_pictures(where, images[number][whole], found.levels, labels=given)
        return
    each = [image for run in images for image in run]
    kept = torch.nonzero(found.whole | found.partial)[:, 0].tolist()
    partial = found.partial.tolist()
    named = [File(f"{files[i].name}.damaged", files[i].mode) if partial[i] else files[i] for i in kept]
    write_files(out, [each[i] for i in kept], named, found.levels)
