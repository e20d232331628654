"""Tables in documents that are made from cards: markdown, and the parts of a document that a command may rewrite.

Such a part stands between `<!-- made: NAME -->` and `<!-- end: NAME -->`, each on a line of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextpixel import durable

RESULTS_PAGE = Path(__file__).parents[1] / "docs" / "results.md"


def cards_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def part(document: str, name: str) -> str:
    """What stands between the markers of that name. SystemExit where they are missing."""
    found = _pattern(name).search(document)
    if found is None:
        raise SystemExit(f"The document has no lines <!-- made: {name} --> and <!-- end: {name} -->.")
    return found[2].strip("\n")


def rewrite(path: Path, parts: Mapping[str, str]) -> None:
    """Put these texts between the markers of their names, all of them or none."""
    document = path.read_text(encoding="utf-8")
    for name, text in parts.items():
        part(document, name)
        document = _pattern(name).sub(lambda found, text=text: f"{found[1]}\n{text}\n\n{found[3]}", document)  # type: ignore[misc]
    durable.write_text(path, document)
    print(f"{path}: {', '.join(parts)}")


def _pattern(name: str) -> re.Pattern[str]:
    name = re.escape(name)
    return re.compile(rf"^(<!-- made: {name} -->\n)(.*?)^(<!-- end: {name} -->)$", re.DOTALL | re.MULTILINE)
