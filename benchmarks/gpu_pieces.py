"""What travels to and from a machine with a GPU: pieces of data sets put together there, and results cut into parts.

A part is a stretch of a tar archive that holds the cards, the weights and, as far as there is room, what unfinished
jobs need to go on. Parts have a size that transfers allow; `unpack` joins them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

SUMMARY = "summary.json"
MIB = 2**20


class Torn(Exception):  # noqa: N818 - says what the parts are
    """Parts that do not belong together, or of which some are missing."""


def stage(carried: Path, data: Path) -> list[str]:
    """Copy files of data sets that were carried here, sub-folder by sub-folder, beside those that came before; the
    names of the new ones. A file appears whole or not at all."""
    new = []
    for source in sorted(path for path in carried.rglob("*") if path.is_file()):
        name = source.relative_to(carried)
        target = data / name
        if target.exists() and target.stat().st_size == source.stat().st_size:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, aside)
        os.replace(aside, target)
        new.append(str(name))
    return new


def pack(runs: Path, out: Path, summary: dict[str, Any], *, part_mib: float = 15.0, parts: int = 4) -> dict[str, Any]:
    """Write summary.json and at most `parts` parts of `part_mib` MiB into `out`, in place of what is there.

    In this order, as long as there is room: all cards; weights that were not packed before; the run folders of
    unfinished jobs. What there is no room for is named in the summary, under "left_behind".
    """
    packed_before = runs / "packed.json"
    before: list[str] = json.loads(packed_before.read_text()) if packed_before.exists() else []
    room, held = int(part_mib * MIB) * parts - 64 * 1024, 0
    behind, weights, buffer = [], [], io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in _wanted(runs, before):
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else [folder]
            size = sum(-(-path.stat().st_size // 512) * 512 + 1024 for path in files)
            name = str(folder.relative_to(runs))
            if held + size > room:
                behind.append(name)
                continue
            held += size
            for path in files:
                tar.add(path, str(path.relative_to(runs)), filter=_anonymous)
            weights += [name] if name.startswith("weights/") else []
    whole = buffer.getvalue()
    step = int(part_mib * MIB)
    pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("part-*.bin"):
        old.unlink()
    for number, piece in enumerate(pieces):
        (out / f"part-{number}.bin").write_bytes(piece)
    about = {
        **summary,
        "left_behind": behind,
        "parts": len(pieces),
        "bytes": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
    }
    (out / SUMMARY).write_text(json.dumps(about, indent=1) + "\n")
    packed_before.write_text(json.dumps(sorted({*before, *weights})))
    return about


def unpack(back: Path, runs: Path, *, replace: bool = False) -> list[str]:
    """Put what came back (the folder `out` of a call) where it was; the names of the files. Files that are there
    already stay, or, with `replace`, give way. Raises Torn if parts are missing or of different calls."""
    about = json.loads((back / SUMMARY).read_text())
    whole = b"".join((back / f"part-{n}.bin").read_bytes() for n in range(about["parts"]) if _there(back, n))
    if len(whole) != about["bytes"] or hashlib.sha256(whole).hexdigest() != about["sha256"]:
        raise Torn(f"The {about['parts']} parts do not belong together, or one is missing: copy all files of one call.")
    new = []
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        for member in tar.getmembers():
            if member.isfile() and (replace or not (runs / member.name).exists()):
                tar.extract(member, runs, filter="data")
                new.append(member.name)
    return new


def _wanted(runs: Path, before: list[str]) -> list[Path]:
    cards = sorted((runs / "cards").glob("*.json"))
    unfinished = [path for path in cards if json.loads(path.read_text())["status"] == "stopped"]
    weights = [path for path in sorted((runs / "weights").glob("*")) if str(path.relative_to(runs)) not in before]
    return [
        *cards,
        *weights,
        *(runs / "jobs" / path.stem for path in unfinished if (runs / "jobs" / path.stem).exists()),
    ]


def _there(back: Path, number: int) -> bool:
    return (back / f"part-{number}.bin").is_file()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
