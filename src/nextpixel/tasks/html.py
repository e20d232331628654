"""One self-contained page of HTML: everything that is said is escaped, pictures lie in the page, nothing is loaded."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --ink: #1c2026; --soft: #5b6470; --page: #ffffff; --line: #d9dee4; --box: #f4f6f8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #a3adb9; --page: #15181c; --line: #363d45; --box: #1f242a }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line) }
p { margin: .5rem 0 } .soft { color: var(--soft) } .big { font-size: 1.6rem; font-weight: 600 }
figure { margin: .75rem 0 } figcaption { color: var(--soft); font-size: .9rem }
img { display: block; max-width: 100%; height: auto; background: #fff; padding: 4px; border-radius: 4px }
img.pixels { image-rendering: pixelated }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 500; color: var(--soft); width: 38% }
pre { background: var(--box); padding: .75rem; overflow-x: auto; white-space: pre-wrap; font-size: .9rem }
"""
NOTHING_LOADED = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def escaped(text: object) -> str:
    return html.escape(str(text), quote=True)


def page(title: str, parts: Iterable[str]) -> str:
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escaped(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{NOTHING_LOADED}">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{escaped(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escaped(text)}</p>' if kind else f"<p>{escaped(text)}</p>"


def preformatted(text: str) -> str:
    return f"<pre>{escaped(text)}</pre>"


def table(rows: Iterable[tuple[object, object]]) -> str:
    cells = "\n".join(f"<tr><th>{escaped(name)}</th><td>{escaped(value)}</td></tr>" for name, value in rows)
    return f"<table>\n{cells}\n</table>"


def drawing(content: Figure | Image.Image, alt: str, caption: str = "") -> str:
    """A figure, or a picture whose pixels stay squares when it is enlarged."""
    file, kind = io.BytesIO(), ""
    if isinstance(content, Image.Image):
        content.save(file, "PNG", optimize=True)
        kind = ' class="pixels"'
    else:
        content.savefig(file, format="png")
    said = f"<figcaption>{escaped(caption)}</figcaption>" if caption else ""
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<figure><img{kind} alt="{escaped(alt)}" src="data:image/png;base64,{data}">{said}</figure>'
