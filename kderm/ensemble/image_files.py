"""Image files under a folder, by name only: nothing is opened."""

from pathlib import Path

from kderm.data.datasets.image_index import is_image_name, walk_files


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
