"""The commands and the Python of README.md and docs/ run as they are printed.

A fenced block that follows the comment `<!-- run -->` is run: bash blocks as they are, console blocks line by line
after their `$`, and after these the Python blocks, as one session of this interpreter. The blocks of one page share
one folder, which is empty at first.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^<!--\s*run\s*-->[ \t]*\n\s*^```(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL
)
SHELL = ("bash", "sh", "shell", "console")
LONGEST = 240  # seconds a block may take


def marked_blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of the blocks of a page that are to be run."""
    return [(match["kind"], match["body"]) for match in BLOCK.finditer(text)]


def commands(kind: str, body: str) -> str:
    """What a reader would type: of a console block only the lines after $ (and those that they go on in)."""
    if kind != "console":
        return body
    typed, goes_on = [], False
    for line in body.splitlines():
        if line.startswith("$ ") or goes_on:
            typed.append(line.removeprefix("$ ").removeprefix("> "))
            goes_on = line.endswith("\\")
    return "\n".join(typed) + "\n"


def run(command: list[str], folder: Path, what: str) -> None:
    """The venv of this interpreter comes first, and nothing is looked up on the network."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "Agg",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode == 0, f"{what}\nended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.timeout(LONGEST * 2)
@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_the_marked_blocks_of_a_page_run_as_written(page, tmp_path):
    blocks = marked_blocks(page.read_text(encoding="utf-8")) if page.is_file() else []
    if not blocks:
        pytest.skip(f"{page.name} marks no block to be run")
    session = ""
    for kind, body in blocks:
        if kind in SHELL:
            run(["bash", "-eu", "-o", "pipefail", "-c", commands(kind, body)], tmp_path, body)
        else:
            assert kind == "python", f"a block to be run must be bash, console or python, not {kind!r}"
            session += body
    if session:
        (tmp_path / "session.py").write_text(session, encoding="utf-8")
        run([sys.executable, "session.py"], tmp_path, session)


def test_only_marked_blocks_are_found_and_only_what_is_typed_is_run():
    page = "```bash\nno\n```\n<!-- run -->\n```bash\nyes 1\nyes 2\n```\ntext\n"
    page += "<!-- run -->\n\n```console\n$ one \\\n> more\nseen\n$ two\n```\n"
    (first, body), (second, console) = marked_blocks(page)
    assert (first, body) == ("bash", "yes 1\nyes 2\n")
    assert commands(second, console) == "one \\\nmore\ntwo\n"
