"""Where the real data sets are, and no test that sees the user's own cache."""

import os
from pathlib import Path

import pytest

_FOLDER = Path(os.environ.get("NEXTPIXEL_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")


@pytest.fixture
def shared_data():
    """The folder of the real data sets; skips where there is none."""
    if not (_FOLDER / "mnist").is_dir():
        pytest.skip(f"the data sets are not in {_FOLDER}: set NEXTPIXEL_DATA to their folder")
    return _FOLDER


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """An empty download cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("NEXTPIXEL_CACHE", str(folder))
    monkeypatch.delenv("NEXTPIXEL_DATA", raising=False)
    return folder
