"""Files and folders on their way, and what killed processes left of theirs.

Whatever is written under a temporary name gets one from `temporary_beside`, which says who writes
it; `sweep` removes those whose process is gone. A living process's are never touched, so sweeping
needs no lock. Knows nothing of what is written.
"""

import atexit
import contextlib
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# .<name>.<machine>-<process>-<random>.tmp<suffix>; before there was a machine it was left out.
_NAME = re.compile(r"^\..*\.(?:([0-9a-f]{6})-)?(\d+)-[0-9a-f]{8}\.tmp(?:\.\w+)?$", re.DOTALL)
# Whether another machine's process lives cannot be told: what nobody has written to for so long is
# left behind.
_SECONDS = 24 * 3600.0
# A file's name may have 255 bytes, of which the rest of a temporary one takes about 60.
_NAME_BYTES = 120

_in_work: set[str] = set()  # this process's own
_swept: set[str] = set()


@contextlib.contextmanager
def temporary_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a hidden name beside `path`, with its suffix, that no other process uses.

    A file or folder under that name that is still there afterwards is removed. With the first one
    in a folder, what killed processes left there goes too.
    """
    path = Path(path)
    stem = path.stem.encode()[:_NAME_BYTES].decode(errors="ignore")
    name = f".{stem}.{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp{path.suffix}"
    temporary = path.with_name(name)
    if str(path.parent) not in _swept:
        _swept.add(str(path.parent))
        sweep(path.parent)
    _in_work.add(name)
    try:
        yield temporary
    finally:
        _remove(temporary)
        _in_work.discard(name)


def sweep(folder: Path) -> None:
    """Remove temporary files and folders in `folder`, not below it, whose process is gone."""
    with contextlib.suppress(OSError):  # no such folder, or no right to look into it
        for entry in os.scandir(folder):
            if is_left(Path(entry.path)):
                _remove(Path(entry.path))


def is_left(path: Path) -> bool:
    """Whether `path` is a temporary one of a process that is gone."""
    found = _NAME.match(path.name)
    if found is None or path.name in _in_work:
        return False
    machine, process = found.groups()
    if machine == _machine():
        # This process's number, but not in work: of an earlier one that had it.
        return int(process) == os.getpid() or not _lives(int(process))
    try:
        return time.time() - path.lstat().st_mtime > _SECONDS
    except OSError:
        return False


@contextlib.contextmanager
def own_temporary_files() -> Iterator[None]:
    """Give this process a folder of its own for Python's temporary files; it goes with it.

    Keras, PyTorch and exporters put folders into the system's temporary folder, where a killed
    process would leave them for good: the next one finds them by the name and removes them. What
    is not empty stays to the end of the process: Matplotlib looks for its own then.
    """
    before = tempfile.tempdir
    try:
        parent = Path(tempfile.gettempdir())
    except OSError:  # nowhere to write at all: whoever needs a file will say so
        yield
        return
    held = contextlib.ExitStack()
    folder = held.enter_context(temporary_beside(parent / "kderm"))
    atexit.register(held.close)  # runs after the callbacks of what is imported from here on
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700)
        tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        with contextlib.suppress(OSError):
            folder.rmdir()


@cache
def _machine() -> str:
    """Six letters for where a process number means something: this host, this container.

    Since it was started: hosts may have one name, and no process outlives a start.
    """
    boot = space = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {boot} {space}".encode()).hexdigest()[:6]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
