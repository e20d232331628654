"""A canvas of even height and width: the small one is odd, and levels of half the size may be wrong at one of them."""

from __future__ import annotations

from nextpixel.checking.agreement import whole_is_cursor
from nextpixel.checking.causality import changed_symbols
from nextpixel.checking.report import Faults, Finding
from nextpixel.checking.subject import Size
from nextpixel.image_model import ImageModel

EVEN: Size = (4, 6)


def even_sizes(models: list[ImageModel], allowed: float) -> list[Finding]:
    """Whole = Cursor, and no pmf moves when its own or a later symbol is changed."""
    stepping = whole_is_cursor(models, EVEN, "Whole = Cursor", allowed, forked=1)
    causal = changed_symbols(models, EVEN)
    faults = Faults("even sizes")
    for finding in [*stepping, *causal]:
        if finding.fault is not None:
            faults.add(finding.fault, f"on {EVEN[0]}x{EVEN[1]}: {finding.detail}")
    return faults.findings(f"{stepping[0].detail}; no pmf up to a changed symbol moved by a bit")
