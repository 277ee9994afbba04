"""kernels.cpp as a library: compiled for this machine on first use, kept in the user's cache.

A library is kept under a name made of everything that it depends on: the source, the compiler, the
flags and the processor, so that a home that machines share holds one for each kind. It takes
pointers and knows nothing of torch, so that torch's version is no part of it. Where no library can
be had nothing fails: `library` is None.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from kderm import console
from kderm.atomic import atomic_path

_SOURCE = Path(__file__).with_name("kernels.cpp")
_WIDE = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
_FLAGS = (
    *("-O3", "-march=native", *_WIDE, "-fopenmp", "-shared", "-fPIC"),
    # No fast-math: it would make NaN invisible and change the rounding of the whole process.
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
)
_SECONDS = 120  # that a compiler has
_one_at_a_time = threading.Lock()


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there can be none."""
    with _one_at_a_time:
        return _found()


@functools.cache
def _found() -> ctypes.CDLL | None:
    compiler = _compiler()
    if compiler is None or platform.system() != "Linux":
        return None
    try:
        name = f"kernels_{_key(compiler)}.so"
        kept = _cache()
        if kept is not None:
            try:
                return _open(kept / name)
            except OSError:  # none yet, a damaged one, or a place that nothing may run from
                pass
            try:
                return _make(compiler, kept / name, "once, then they are kept")
            except OSError:
                pass
        with tempfile.TemporaryDirectory(prefix="kderm_kernels_") as folder:
            word = "for this process alone: the cache folder cannot be used"
            return _make(compiler, Path(folder) / name, word)  # once open, the file may go
    except (OSError, subprocess.SubprocessError):
        console.warn(
            f"{compiler[0]} could not compile the kernels for this processor; PyTorch's own "
            "operators are used, which give the same answers in more time"
        )
        return None


def _compiler() -> list[str] | None:
    """The command of the C++ compiler with the words that CXX may add to it."""
    asked = shlex.split(os.environ.get("CXX", ""))
    for command in (asked, ["c++"], ["g++"]):
        if command and (found := shutil.which(command[0])):
            return [found, *command[1:]]
    return None


def _key(compiler: list[str]) -> str:
    """A word for all that a library depends on."""
    made_by = f"{compiler} {_FLAGS} {platform.machine()} {_processor()}"
    return hashlib.sha256(_SOURCE.read_bytes() + made_by.encode()).hexdigest()[:24]


def _processor() -> str:
    """What the processor can do: a library for another one of a shared home must not be used."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _cache() -> Path | None:
    """The folder of the libraries that stay; None for a user without a home or a right to it."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = cache / "kderm" / "kernels"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder


def _open(path: Path) -> ctypes.CDLL:
    if not path.exists():
        raise FileNotFoundError(path)
    return ctypes.CDLL(str(path))


def _make(compiler: list[str], path: Path, word: str) -> ctypes.CDLL:
    """Compile to `path`; processes that do so at once replace each other's file by the same one."""
    with atomic_path(path) as temporary:
        temporary.touch()  # whether it may be written is known before time is spent
        console.say(f"compiling the kernels for this processor; {word}")
        command = [*compiler, *_FLAGS, "-o", str(temporary), str(_SOURCE)]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=_SECONDS,
            env={**os.environ, "TMPDIR": tempfile.gettempdir()},
        )
    return _open(path)
