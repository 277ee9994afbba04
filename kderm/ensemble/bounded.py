"""Reading what may come from a stranger: regular files of a sensible size, arrays that are there.

For the files of a bundle. Knows nothing of what is in them.
"""

import io
import json
import math
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

JSON_BYTES = 16 * 2**20
ARRAYS_BYTES = 512 * 2**20


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        OSError: there is no such file, or it is a pipe or a device, which may never end.
        ValueError: it is larger.
    """
    # Not blocking: opening a pipe would wait for its writer.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as handle:
        found = os.fstat(handle.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "not a regular file", str(path))
        if found.st_size > limit:
            raise ValueError(f"{found.st_size:,} bytes, where {limit:,} are the most")
        return handle.read(limit)


def parse_json(content: bytes) -> Any:
    """JSON as plain data.

    Raises:
        ValueError: it is not JSON, or nested without end.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested without end") from None


def load_arrays(content: bytes, limit: int = ARRAYS_BYTES) -> dict[str, np.ndarray]:
    """The arrays of an npz file, none of them an object.

    Each must be as long as its header says before memory is asked for, so a small file cannot
    unfold into a large one beyond `limit`.

    Raises:
        ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile: as NumPy, or too large.
    """
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        total = sum(item.file_size for item in archive.infolist())
        if total > limit:
            raise ValueError(f"its arrays would take {total:,} bytes, where {limit:,} are the most")
        for item in archive.infolist():
            data = io.BytesIO(archive.read(item))
            _require_whole(data, item.file_size)
            data.seek(0)
            arrays[item.filename.removesuffix(".npy")] = np.lib.format.read_array(
                data, allow_pickle=False
            )
    return arrays


def _require_whole(data: io.BytesIO, size: int) -> None:
    version = np.lib.format.read_magic(data)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"arrays of format {version}")
    shape, _, dtype = read(data)
    if dtype.hasobject:
        raise ValueError("an array of objects")
    if math.prod(shape) * dtype.itemsize != size - data.tell():
        raise ValueError(f"an array of shape {shape} that is not in the file")
