"""Matplotlib's list of fonts, whole in its place before Matplotlib looks for it.

Matplotlib writes the list straight into the user's cache, behind a lock file that it never breaks.
Killed there, it leaves half a list and the lock: every later start waits five seconds, warns, and
lists the fonts anew. So the first list is made in a folder beside and moved.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kderm.leftovers import temporary_beside

# Matplotlib holds its lock for less than one.
_SECONDS = 60.0


def make_font_list() -> None:
    """Make the list if there is none; call it before what imports `matplotlib.font_manager`.

    Where it cannot be made Matplotlib does what it does without: it lists the fonts at each start.
    """
    if "matplotlib.font_manager" in sys.modules:
        return
    import matplotlib

    cache = Path(matplotlib.get_cachedir())
    if cache.parent == Path(tempfile.gettempdir()):  # no home: it goes with this process
        return
    _break_old_locks(cache)
    if any(_is_whole(path) for path in cache.glob("fontlist-*.json")):
        return
    with contextlib.suppress(OSError), temporary_beside(cache / "fonts") as folder:
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-P", "-c", "import matplotlib.font_manager"],
            env={**os.environ, "MPLCONFIGDIR": str(folder)},
            capture_output=True,
        )
        for path in filter(_is_whole, folder.glob("fontlist-*.json")):
            os.replace(path, cache / path.name)


def _break_old_locks(cache: Path) -> None:
    for lock in cache.glob("fontlist-*.matplotlib-lock"):
        with contextlib.suppress(OSError):
            if time.time() - lock.stat().st_mtime > _SECONDS:
                lock.unlink()


def _is_whole(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True
