"""Finished chunks of an interrupted prediction, kept under `<directory>/.parts/<digest>/`.

The digest stands for everything that an answer depends on: the bundle, the views, the way of
combining, and each input file with its size and time. Parts of another digest are of no use to
anyone and are removed. Knows nothing of images or models.
"""

import shutil
import zipfile
from pathlib import Path

import numpy as np

from kderm.atomic import atomic_path


class Parts:
    """Numbered chunks of arrays on disk; a part is either whole or absent."""

    def __init__(self, directory: Path, digest: str):
        self._root = directory / ".parts"
        self._folder = self._root / digest[:16]
        if self._root.is_dir():
            for other in self._root.iterdir():
                if other.name != self._folder.name and other.is_dir():
                    shutil.rmtree(other)
        self._folder.mkdir(parents=True, exist_ok=True)

    def has(self, number: int) -> bool:
        """Whether chunk `number` is finished and readable; a damaged part is removed."""
        return self.load(number) is not None

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep the arrays of chunk `number`."""
        with atomic_path(self._path(number)) as temporary:
            np.savez(temporary, **arrays)

    def load(self, number: int) -> dict[str, np.ndarray] | None:
        """The arrays of chunk `number`, or None if it is not finished."""
        path = self._path(number)
        try:
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        except FileNotFoundError:
            return None
        except (ValueError, EOFError, OSError, zipfile.BadZipFile):
            path.unlink()
            return None

    def remove(self) -> None:
        """Forget everything: the result that the parts were for has been written."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"chunk_{number:05d}.npz"
