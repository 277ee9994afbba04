"""The folder for copies of what lives elsewhere: $KDERM_CACHE, or ~/.cache/kderm."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The folder; it need not exist yet."""
    given = os.environ.get("KDERM_CACHE")
    return Path(given).expanduser().absolute() if given else Path.home() / ".cache" / "kderm"
