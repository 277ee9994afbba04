"""Image files under a folder, by name only: nothing is opened."""

import os
from pathlib import Path

from kderm.data.images import IMAGE_SUFFIXES
from kderm.errors import UserError


def is_image_name(name: str | os.PathLike) -> bool:
    """Whether the suffix is one of an image format that kderm reads."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def is_hidden(name: str | os.PathLike) -> bool:
    """Whether a file or folder is hidden (.DS_Store, ._x.jpg, .parts)."""
    return Path(name).name.startswith(".")


def image_files(folder: Path) -> tuple[list[Path], int]:
    """All images in and under `folder`, and the number of other files that were passed over.

    Hidden files and folders are ignored and not counted. Links are followed, each real folder once.

    Returns:
        paths sorted by their parts (the same on every machine), and the count of non-images.
    """
    images: list[Path] = []
    others, seen = 0, set()
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        # Sorted so that of two ways to one real folder the same one is taken everywhere.
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in files:
            if is_hidden(name):
                continue
            if is_image_name(name):
                images.append(Path(root, name))
            else:
                others += 1
    return sorted(images, key=lambda path: path.parts), others


def _refuse(error: OSError) -> None:
    raise UserError(
        f"The folder {error.filename} cannot be listed ({error.strerror}). "
        "Check its permissions, or name the images another way."
    )
