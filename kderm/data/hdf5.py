"""Images inside an HDF5 file, as ISIC 2024 hands them out: one data set of JPEG bytes an image.

Such an image has the path `FILE.hdf5::NAME`, which goes through the manifest, the store and the
audit like any other path. Reads bytes; what they show is the decoder's business.
"""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from kderm.errors import first_line

_MARK = "::"
_SUFFIXES = (".hdf5", ".h5", ".hdf")
_MOST_OPEN = 8

# Open files by (process, path): a forked process must not share its parent's file handle. HDF5
# itself runs one call at a time, so one lock costs nothing, and reading is far below decoding.
_open_files: dict[tuple[int, str], tuple[tuple[int, int], Any]] = {}
_lock = threading.Lock()


class MemberError(Exception):
    """An HDF5 file, or an image in it, that gives no bytes; its text says why in a few words."""


def is_member(path: str | os.PathLike) -> bool:
    """Whether `path` names an image inside an HDF5 file."""
    file, mark, name = os.fspath(path).rpartition(_MARK)
    return bool(mark and name) and file.lower().endswith(_SUFFIXES)


def member_path(file: str | os.PathLike, name: str) -> str:
    """The path of the image `name` inside the HDF5 file `file`."""
    return f"{os.fspath(file)}{_MARK}{name}"


def member_stat(path: str | os.PathLike) -> os.stat_result:
    """Size and time of the HDF5 file around the image at `path`.

    Raises:
        OSError: no such file.
    """
    return os.stat(os.fspath(path).rpartition(_MARK)[0])


def read_member(path: str | os.PathLike) -> bytes:
    """The bytes of the image at `path`, as they were written; safe to call from several threads.

    Raises:
        MemberError: a damaged file, no image of that name, or one that holds no bytes.
        OSError: no such file, or no permission to read it.
    """
    file, _, name = os.fspath(path).rpartition(_MARK)
    with _lock:
        try:
            value = _opened(file)[name][()]
        except (KeyError, TypeError):  # TypeError: a group of that name
            raise MemberError(f"{Path(file).name} holds no image {name!r}") from None
        except (FileNotFoundError, PermissionError):
            raise
        except (OSError, RuntimeError) as error:
            raise MemberError(f"{Path(file).name} is damaged: {first_line(error)[:120]}") from None
    return _as_bytes(value, Path(file).name, name)


def member_names(file: str | os.PathLike) -> list[str]:
    """The names of all images in the HDF5 file `file`; none of them is read.

    Raises:
        MemberError: not an HDF5 file, or a damaged one.
        OSError: no such file, or no permission to read it.
    """
    file = os.fspath(file)
    with _lock:
        try:
            return list(_opened(file))
        except (FileNotFoundError, PermissionError):
            raise
        except (OSError, RuntimeError) as error:
            raise MemberError(f"{Path(file).name} is damaged: {first_line(error)[:120]}") from None


def _opened(file: str) -> Any:
    """The open `h5py.File` of a path; opened anew when the file has changed on the disk."""
    import h5py

    key, status = (os.getpid(), os.path.abspath(file)), os.stat(file)
    version = (status.st_size, status.st_mtime_ns)
    known = _open_files.get(key)
    if known is not None:
        if known[0] == version:
            return known[1]
        del _open_files[key]
        known[1].close()
    while len(_open_files) >= _MOST_OPEN:
        oldest = next(iter(_open_files))
        _open_files.pop(oldest)[1].close()
    # No lock on the file: data sets lie on network drives that cannot lock, and nothing is written.
    opened = h5py.File(file, "r", locking=False)
    _open_files[key] = (version, opened)
    return opened


def _as_bytes(value: Any, file: str, name: str) -> bytes:
    """ISIC 2024 keeps opaque scalars; others keep byte strings or arrays of uint8."""
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, np.void):
        return value.tobytes()
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim <= 1:
        return value.tobytes()
    kind = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
    raise MemberError(f"{name!r} in {file} holds no encoded image but {kind}")
