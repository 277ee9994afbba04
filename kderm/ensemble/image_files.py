"""Image files under a folder, by name only: nothing is opened."""

from pathlib import Path

from kderm.data.datasets.image_index import is_hidden, is_image_name, walk_files

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
