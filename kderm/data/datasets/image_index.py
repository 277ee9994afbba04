"""The image files below a folder, by name only: one walk for training and prediction alike.

`walk_files` finds them; `ImageIndex` is asked by id or by path, because a table of 400,000 rows
must not cost 400,000 looks at the disk. Nothing is opened.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kderm.data.images import IMAGE_SUFFIXES
from kderm.errors import UserError


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
    """Index the images that `walk_files` finds below `root`."""
    found: list[str] = []
    for folder, files in walk_files(root):
        below = Path(folder).relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        found += [prefix + name for name in files if is_image_name(name)]
    found.sort()
    by_stem: dict[str, list[str]] = {}
    for path in found:
        by_stem.setdefault(stem(path).lower(), []).append(path)
    for paths in by_stem.values():
        if len(paths) > 1:
            paths.sort(key=lambda path: (IMAGE_SUFFIXES.index(suffix(path)), path))
    return ImageIndex(Path(root), tuple(found), by_stem, frozenset(found))


def walk_files(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder at and below `root` with the names of its files.

    Hidden files and folders and macOS archives' `__MACOSX` are passed over. Links are followed,
    each real folder once.

    Raises:
        UserError: a folder cannot be listed.
    """
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=_refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        # Sorted so that of two ways to one real folder the same one is taken everywhere.
        folders[:] = sorted(name for name in folders if not is_hidden(name) and name != "__MACOSX")
        yield folder, [name for name in files if not is_hidden(name)]


def is_hidden(path: str | os.PathLike) -> bool:
    """Whether a file or folder is hidden (.DS_Store, ._x.jpg, .parts)."""
    return os.path.basename(path).startswith(".")


def is_image_name(path: str | os.PathLike) -> bool:
    """Whether the suffix is one of an image format that kderm reads."""
    return suffix(os.fspath(path)) in IMAGE_SUFFIXES


def suffix(path: str) -> str:
    """The lower-case suffix of `path`, with its dot."""
    return os.path.splitext(path)[1].lower()


def stem(path: str) -> str:
    """The file name without folder and without an image suffix."""
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    return name[: -len(suffix(name))] if is_image_name(name) else name


def ids_of(paths: list[str]) -> list[str]:
    """Image ids for files known by path: file names, or whole paths where names repeat.

    All ids of one data set have the same form, so that one repeated name does not mix two forms.
    """
    stems = [stem(path) for path in paths]
    if len(set(stems)) == len(set(paths)):
        return stems
    return [path[: -len(suffix(path))] if is_image_name(path) else path for path in paths]


def _refuse(error: OSError) -> None:
    raise UserError(
        f"The folder {error.filename} cannot be listed ({error.strerror}). "
        "Check its permissions, or name the images another way."
    )
