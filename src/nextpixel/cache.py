"""Where things are kept that can be had again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """For downloads and for what was compiled on this machine: $NEXTPIXEL_CACHE, or the user's usual cache."""
    own = os.environ.get("NEXTPIXEL_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nextpixel"
