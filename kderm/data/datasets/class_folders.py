"""Images in one folder a class: `<root>/<class>/*.jpg`, with `train/` and `val/` above or not.

The given split is kept as `source`; folds are made anew over all of it.
"""

from pathlib import Path

import pandas as pd

from kderm.counting import counted
from kderm.data.datasets.image_index import ImageIndex, ids_of, index_images
from kderm.data.manifest import RawRows
from kderm.errors import UserError
from kderm.labels import LabelSpace

_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")


def read_class_folders(root: Path, labels: LabelSpace, table: Path | None = None) -> RawRows:
    """One row an image file, in the order of their paths; `row` is 0, as there is no table.

    The class is the topmost folder below `root` that stands for a label; where none does, the
    topmost folder that is not the name of a split, and the manifest will call it unknown.

    Args:
        root: the folder that holds the class folders.
        labels: tells class folders from others.
        table: must be None; folders need no table.
    """
    if table is not None:
        raise UserError(
            "data.dataset=class_folders takes its labels from folder names. Received data.table="
            f"{table}. Leave it out, or choose data.dataset=table."
        )
    index = index_images(root)
    paths = _in_folders(index)
    notes = []
    if len(paths) < len(index.paths):
        count = len(index.paths) - len(paths)
        notes.append(f"{counted(count, 'image')} directly in {root}, of no class, left out.")
    if not paths:
        raise UserError(
            f"Expected images in class folders, {root}/<class>/*.jpg with classes such as "
            f"{', '.join(labels.codes)}. Received: no image in any folder below {root}."
        )
    classes: dict[str, str] = {}
    splits: dict[str, str | None] = {}
    for folder in {path.rsplit("/", 1)[0] for path in paths}:
        classes[folder] = _class_of(folder.split("/"), labels)
        splits[folder] = _split_of(folder.split("/"), classes[folder])
    if any(splits.values()):
        given = ", ".join(sorted(filter(None, set(splits.values()))))
        notes.append(f"The given split ({given}) is kept as source; folds are made over all of it.")
    rows = pd.DataFrame(
        {
            "image_id": ids_of(paths),
            "path": [index.full(path) for path in paths],
            "lesion_id": None,
            "patient_id": None,
            "label": [classes[path.rsplit("/", 1)[0]] for path in paths],
            "age": None,
            "sex": None,
            "site": None,
            "source": [splits[path.rsplit("/", 1)[0]] for path in paths],
            "row": 0,
        }
    )
    return RawRows(rows, [], notes)


def class_names(root: Path) -> list[str]:
    """The names of the class folders below `root`, sorted, whether they are known labels or not."""
    folders = {path.rsplit("/", 1)[0] for path in _in_folders(index_images(root))}
    names = (folder.split("/") for folder in folders)
    return sorted(
        {next((part for part in name if part.lower() not in _SPLITS), name[-1]) for name in names}
    )


def _in_folders(index: ImageIndex) -> list[str]:
    return [path for path in index.paths if "/" in path]


def _class_of(folders: list[str], labels: LabelSpace) -> str:
    for folder in folders:
        if labels.resolve(folder) is not None:
            return folder
    return next((folder for folder in folders if folder.lower() not in _SPLITS), folders[-1])


def _split_of(folders: list[str], label: str) -> str | None:
    """The split that stands above the class folder, lower case; None without one."""
    above = folders[: folders.index(label)]
    return next((folder.lower() for folder in above if folder.lower() in _SPLITS), None)
