"""One process a fold, whichever command started it."""

import contextlib
from collections.abc import Iterator

from kderm.atomic import locked
from kderm.run_dir import RunDir


@contextlib.contextmanager
def fold_lock(run: RunDir, fold: int) -> Iterator[None]:
    """Hold the lock of one fold; it leaves no file behind.

    Raises:
        UserError: another process is training the fold.
    """
    place = run.fold(fold).path
    refusal = f"Another command is training fold {fold} of the run {run.name!r}. Wait for it."
    with locked(place, refusal, f"training fold {fold}"):
        try:
            yield
        finally:
            (place / ".lock").unlink(missing_ok=True)
