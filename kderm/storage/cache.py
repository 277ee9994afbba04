"""The folder for copies of what lives elsewhere: $KDERM_CACHE, or ~/.cache/kderm."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def cache_dir() -> Path:
    """The folder; it need not exist yet."""
    given = os.environ.get("KDERM_CACHE")
    return Path(given).expanduser().absolute() if given else Path.home() / ".cache" / "kderm"


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Make `folder`; of all processes of this machine one at a time is inside, others wait."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as handle:  # the kernel frees it with the process
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
