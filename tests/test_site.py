"""The site: every page and every public name is in it, no link is broken, nothing is loaded from elsewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import nextpixel

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
# Packages that have the name of a function in them: only the longer name says which of the two is meant.
NAMES = {name: name for name in nextpixel.__all__ if name != "__version__"}
NAMES |= {name: f"{name}.{name}" for name in ("heads", "shipped")}


def test_every_page_is_in_the_navigation():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = [page for entry in nav for page in entry.values()]
    assert sorted(named) == sorted(path.name for path in DOCS.glob("*.md"))


def test_every_public_name_is_in_the_reference():
    documented = re.findall(r"^::: nextpixel\.([\w.]+)$", (DOCS / "reference.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(NAMES.values())


def test_the_site_builds_without_a_broken_link(tmp_path):
    pytest.importorskip("zensical", reason="zensical is not installed")
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "site" / "reference.html").read_text()
    for name in NAMES.values():
        assert f'id="nextpixel.{name}"' in reference, name
    for page in (tmp_path / "site").glob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]+?(?:src|href)=\"(https?:[^\"]+)", page.read_text())
        assert not loaded, f"{page.name} loads {loaded}"
