"""The one folder that uploads pass through: in the system's temporary folder, emptied as it goes.

An upload is removed as soon as it has been read, what nobody asked about is removed after minutes,
and the folder itself when the server ends. What a killed server left is removed by the next one.
"""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from kderm.leftovers import temporary_beside

_NAME = "kderm-page"
# Seconds that an upload may lie unasked, and between two looks.
KEPT, BETWEEN = 300.0, 20.0


class Workroom:
    """A folder for uploads, as a context: it is there inside and gone behind.

    Attributes:
        path: the folder.
    """

    def __init__(self, kept: float = KEPT) -> None:
        self._kept = kept
        self._stop = threading.Event()
        self.path = Path()

    def __enter__(self) -> "Workroom":
        self._place = temporary_beside(Path(tempfile.gettempdir()).resolve() / _NAME)
        self.path = self._place.__enter__()
        self.path.mkdir(mode=0o700)
        self._watch = threading.Thread(target=self._sweep_now_and_then, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *about: object) -> None:
        self._stop.set()
        self._place.__exit__(None, None, None)

    def forget(self, paths: Iterable[str | os.PathLike]) -> None:
        """Remove uploads, and the folders that hold nothing else; strangers' files stay."""
        for path in map(Path, paths):
            place = path.resolve()
            if not place.is_relative_to(self.path) or place == self.path:
                continue
            with contextlib.suppress(OSError):
                place.unlink()
            with contextlib.suppress(OSError):  # another upload lies there too
                place.parent.relative_to(self.path)
                if place.parent != self.path:
                    place.parent.rmdir()

    def held(self) -> int:
        """Bytes that lie in the folder."""
        count = 0
        for place, _, files in os.walk(self.path):
            for name in files:
                with contextlib.suppress(OSError):  # just forgotten
                    count += Path(place, name).stat().st_size
        return count

    def sweep(self, older_than: float) -> None:
        """Remove what was not touched for `older_than` seconds."""
        before = time.time() - older_than
        for place, folders, files in os.walk(self.path, topdown=False):
            for name in files:
                with contextlib.suppress(OSError):
                    path = Path(place, name)
                    if path.stat().st_mtime < before:
                        path.unlink()
            for name in folders:
                with contextlib.suppress(OSError):  # not empty, or just made for an upload
                    path = Path(place, name)
                    if path.stat().st_mtime < before:
                        path.rmdir()

    def _sweep_now_and_then(self) -> None:
        while not self._stop.wait(BETWEEN):
            self.sweep(self._kept)
