"""Atomic writes: a file is either whole or absent, also after `kill -9` or a full disk.

Every table, image and model of the project is written through `atomic_path`.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from kderm import console
from kderm.errors import UserError
from kderm.leftovers import temporary_beside

_ROWS_AT_ONCE = 10_000
_LOOK_AGAIN = 0.2  # seconds between two looks at a lock that is waited for
_TELL_AFTER = 2.0  # seconds of waiting


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` if the block succeeds.

    The temporary name keeps the suffix of `path`, because writers choose a format by it. What a
    killed process left in the folder goes with the first write there, see `kderm.leftovers`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(path) as temporary:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)


@contextlib.contextmanager
def locked(
    folder: Path, refusal: str, verb: str = "command", *, patient: bool = False
) -> Iterator[None]:
    """Make `folder` and hold its lock: two commands writing one folder would mix their files.

    The lock says who holds it, as `verb` and the process. Folders that were made for it and got
    nothing are removed again, so a command that failed leaves no trace.

    Args:
        folder: the folder.
        refusal: what to say when another process holds it. A killed process holds nothing.
        verb: who holds it.
        patient: wait for another command of the same verb, instead of refusing; a longer wait is
            told.

    Raises:
        UserError: `refusal`.
    """
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with _lock_file(folder, refusal, verb if patient else None) as handle:
        handle.truncate()
        handle.write(f"{verb}, process {os.getpid()}")
        handle.flush()
        try:
            yield
        finally:
            _remove_unused(folder, made)


@contextlib.contextmanager
def _lock_file(folder: Path, refusal: str, wait_for: str | None) -> Iterator[TextIO]:
    """The folder's lock file, opened at its beginning and held."""
    import fcntl

    place = folder / ".lock"
    told_at = time.monotonic() + _TELL_AFTER
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        # Opened without emptying it: what it says may be another's.
        with open(os.open(place, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = handle.read().strip()
                # Who has just taken it has not said yet who it is.
                if wait_for and (not holder or holder.startswith(f"{wait_for}, ")):
                    time.sleep(_LOOK_AGAIN)
                    if time.monotonic() > told_at:
                        console.say(f"{refusal} At work there: {holder or 'a command'}. Waiting.")
                        told_at = math.inf
                    continue
                raise UserError(f"{refusal} At work there: {holder or 'a command'}.") from None
            # Whoever held it before may have removed it with its empty folder.
            if _is_at(place, handle):
                yield handle
                return


def _is_at(place: Path, handle: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(place))
    except FileNotFoundError:
        return False


def _remove_unused(folder: Path, made: list[Path]) -> None:
    """Remove the folders `made`, innermost first, if there is nothing but a lock in them."""
    with contextlib.suppress(OSError):  # it is gone, or another command has put something there
        if made and {path.name for path in folder.iterdir()} <= {".lock"}:
            (folder / ".lock").unlink(missing_ok=True)
            for path in made:
                path.rmdir()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_csv(
    path: str | os.PathLike,
    table: Any,
    header: str = "",
    render: Callable[[Any], Any] | None = None,
) -> None:
    """Write a pandas table without its index, atomically; `header` goes above it as it stands.

    Rows go through `render`, where there is one, and into the file part by part: as text a table is
    several times its size.
    """
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as handle,
    ):
        handle.write(header)
        for start in range(0, max(1, len(table)), _ROWS_AT_ONCE):
            rows = table.iloc[start : start + _ROWS_AT_ONCE]
            rows = rows if render is None else render(rows)
            rows.to_csv(handle, index=False, lineterminator="\n", header=start == 0)
