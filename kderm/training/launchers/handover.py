"""The prepared data set on its way to another process: tables by value, pixels by file name.

So a process that trains one fold reads no table anew, looks at no image file, and maps the very
pixels that were checked.
"""

import mmap
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kderm.data.prepare import Prepared


class _ByFileName(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        # A slice of a memory map is one by type, but its base is another one: copied as it is.
        if isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap):
            return str(value.filename), value.dtype.str, value.offset, value.shape
        return None


class _Mapped(pickle.Unpickler):
    def __init__(self, stream: BinaryIO, where: Callable[[Path], Path]) -> None:
        super().__init__(stream)
        self._where = where

    def persistent_load(self, told: tuple) -> np.memmap:
        path, dtype, offset, shape = told
        return np.memmap(self._where(Path(path)), np.dtype(dtype), "r", offset, shape)


def hand_over(data: Prepared, stream: BinaryIO) -> None:
    """Write `data` for `take_over`."""
    _ByFileName(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(data)
    stream.flush()


def take_over(stream: BinaryIO, where: Callable[[Path], Path] = lambda path: path) -> Prepared:
    """Read what `hand_over` wrote; only from the process that started this one.

    Args:
        stream: to read.
        where: file of pixels there -> the same file here.
    """
    return _Mapped(stream, where).load()


def pixel_files(data: Prepared) -> list[Path]:
    """The files of pixels that `hand_over` names."""
    arrays = [data.store.images, *([] if data.pseudo is None else [data.pseudo.images])]
    return [Path(array.filename) for array in arrays if isinstance(array, np.memmap)]
