"""Image files under a folder by name, and what tells that one was replaced: nothing is opened."""

import os
from pathlib import Path

from kderm.data.datasets.image_index import is_hidden, is_image_name, walk_files
from kderm.data.hdf5 import is_member, member_stat

# Beside a CSV's folder lie, at most, a folder of images with parts or with splits and classes.
_NEAR = ("*", "*/*", "*/*/*", "*/*/*/*")


def image_files(folder: Path) -> tuple[list[Path], int]:
    """All images in and under `folder`, and the number of other files that were passed over.

    Returns:
        paths sorted by their parts (the same on every machine), and the count of non-images; hidden
        files are not counted (see `walk_files`).
    """
    images: list[Path] = []
    others = 0
    for root, names in walk_files(folder):
        found = [Path(root, name) for name in names if is_image_name(name)]
        images += found
        others += len(names) - len(found)
    return sorted(images, key=lambda path: path.parts), others


def images_near(folder: Path) -> list[Path]:
    """Images in `folder` and the next folders below it, sorted by their parts.

    Not to the bottom: nobody named this folder, and it may be the top of a disk.
    """
    found = []
    for level in _NEAR:
        for path in folder.glob(level):
            inside = path.relative_to(folder).parts
            if is_image_name(path) and not any(map(is_hidden, inside)):
                found.append(path)
    return sorted(found, key=lambda path: path.parts)


def size_and_time(path: str) -> tuple[int, int]:
    """Bytes and time of the last change (ns) of a file, or of an HDF5 file's; -1 where it is gone.

    With the path they tell whether an answer that was kept is still of this file.
    """
    try:
        found = member_stat(path) if is_member(path) else os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
