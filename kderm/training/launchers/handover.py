"""The prepared data set on its way to another process: tables by value, pixels by file name.

So a process that trains one fold reads no table anew, looks at no image file, and maps the very
pixels that were checked.
"""

import mmap
import pickle
from typing import BinaryIO

import numpy as np

from kderm.data.prepare import Prepared


class _ByFileName(pickle.Pickler):
    def reducer_override(self, value: object) -> object:
        # A slice of a memory map is one by type, but its base is another one: copied as it is.
        if isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap):
            return np.memmap, (value.filename, value.dtype, "r", value.offset, value.shape)
        return NotImplemented


def hand_over(data: Prepared, stream: BinaryIO) -> None:
    """Write `data` for `take_over`."""
    _ByFileName(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(data)
    stream.flush()


def take_over(stream: BinaryIO) -> Prepared:
    """Read what `hand_over` wrote; only from the process that started this one."""
    return pickle.load(stream)
