"""An index of the image files below a folder, made in one walk, asked by id or by path.

Serves the adapters of this folder; a table of 400,000 rows must not cost 400,000 looks at the disk.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

# Earlier suffixes win where one folder holds an image in two formats.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class ImageIndex:
    """Image files below `root`.

    Attributes:
        root: the folder.
        paths: posix paths below root, sorted.
    """

    root: Path
    paths: tuple[str, ...]
    _by_stem: dict[str, list[str]] = field(repr=False)
    _known: frozenset[str] = field(repr=False)

    def by_id(self, image_id: str) -> list[str]:
        """Paths below root of files named `image_id` (case ignored), best first."""
        return self._by_stem.get(image_id.lower(), [])

    def by_path(self, path: str) -> str | None:
        """`path` itself if it is an indexed path below root, else None."""
        path = path.replace("\\", "/").removeprefix("./")
        return path if path in self._known else None

    def full(self, path: str) -> str:
        """The path to open: root joined with a path below it."""
        return os.path.join(self.root, path)


def index_images(root: Path) -> ImageIndex:
    """Walk `root` once, passing over hidden files and folders and macOS archives' `__MACOSX`."""
    found: list[str] = []
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        below = Path(folder).relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        found += [
            prefix + name
            for name in files
            if not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)
        ]
    found.sort()
    by_stem: dict[str, list[str]] = {}
    for path in found:
        by_stem.setdefault(stem(path).lower(), []).append(path)
    for paths in by_stem.values():
        if len(paths) > 1:
            paths.sort(key=lambda path: (IMAGE_SUFFIXES.index(suffix(path)), path))
    return ImageIndex(Path(root), tuple(found), by_stem, frozenset(found))


def suffix(path: str) -> str:
    """The lower-case suffix of `path`, with its dot."""
    return os.path.splitext(path)[1].lower()


def stem(path: str) -> str:
    """The file name without folder and without an image suffix."""
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    return name[: -len(suffix(name))] if suffix(name) in IMAGE_SUFFIXES else name


def ids_of(paths: list[str]) -> list[str]:
    """Image ids for files known by path: file names, or whole paths where names repeat.

    All ids of one data set have the same form, so that one repeated name does not mix two forms.
    """
    stems = [stem(path) for path in paths]
    if len(set(stems)) == len(set(paths)):
        return stems
    return [
        path[: -len(suffix(path))] if suffix(path) in IMAGE_SUFFIXES else path for path in paths
    ]
