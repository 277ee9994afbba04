"""A plain CSV with one row an image, whatever its columns are called within reason."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kderm.data.datasets.csv_file import CsvFile, open_csv
from kderm.data.datasets.image_index import (
    IMAGE_SUFFIXES,
    ImageIndex,
    ids_of,
    index_images,
    stem,
    suffix,
)
from kderm.data.manifest import Problem, RawRows
from kderm.errors import UserError
from kderm.labels import LabelSpace

ID_COLUMNS = ("image_id", "isic_id", "image", "image_name", "img_id", "img", "id")
PATH_COLUMNS = ("path", "image_path", "filepath", "file_path", "filename", "file_name", "file")
LABEL_COLUMNS = (
    "label",
    "dx",
    "diagnosis",
    "diagnostic",
    "class",
    "class_name",
    "target",
    "benign_malignant",
)
OPTIONAL_COLUMNS = {
    "lesion_id": ("lesion_id", "lesion"),
    "patient_id": ("patient_id", "patient"),
    "age": ("age", "age_approx"),
    "sex": ("sex", "gender"),
    "site": (
        "site",
        "localization",
        "localisation",
        "anatom_site_general_challenge",
        "anatom_site_general",
        "region",
    ),
    "source": ("source", "dataset"),
}


def read_table(root: Path, labels: LabelSpace, table: Path | None = None) -> RawRows:
    """Rows of the CSV `table`, with the image files wherever they lie below `root`.

    Args:
        root: the folder that holds the images.
        labels: picks the label column where several are there: the one whose values it knows best.
        table: the CSV; found by itself when it is the only one in `root`.
    """
    source = open_csv(table or _only_csv(root))
    id_column, path_column = source.first_of(ID_COLUMNS), source.first_of(PATH_COLUMNS)
    if id_column is None and path_column is None:
        source.require((*ID_COLUMNS, *PATH_COLUMNS), "image")
    source.require(LABEL_COLUMNS, "label")
    label_columns = [name for name in LABEL_COLUMNS if name in source.columns]
    chosen = {name: source.first_of(names) for name, names in OPTIONAL_COLUMNS.items()}
    images = [name for name in (id_column, path_column) if name]
    used = [name for name in chosen.values() if name]
    read, problems = source.read([*images, *label_columns, *used])
    label_column, notes = _label_column(read, label_columns, labels)
    rows = pd.DataFrame({"row": read["row"], "label": read[label_column]})
    for name, column in chosen.items():
        rows[name] = read[column] if column else None
    named = read[path_column or id_column].tolist()
    rows["image_id"] = [stem(name) for name in read[id_column]] if id_column else ids_of(named)
    if id_column and rows["image_id"].nunique() < read[id_column].nunique():
        rows["image_id"] = ids_of(read[id_column].tolist())
    rows["path"], ambiguous = _find(named, rows["row"], index_images(root), source)
    if not chosen["lesion_id"] and not chosen["patient_id"]:
        notes.append(
            f"{source.path.name} has no lesion or patient ids: leakage between folds cannot be "
            "ruled out."
        )
    return RawRows(rows, [*problems, *ambiguous], notes)


def _only_csv(root: Path) -> Path:
    tables = sorted(Path(root).glob("*.csv"))
    if len(tables) == 1:
        return tables[0]
    names = ", ".join(path.name for path in tables[:12])
    raise UserError(
        f"data.dataset=table needs data.table, the CSV to read. Received none, and {root} holds "
        f"{f'{len(tables)} of them: {names}' if tables else 'no CSV'}."
    )


def _label_column(
    rows: pd.DataFrame, columns: Sequence[str], labels: LabelSpace
) -> tuple[str, list[str]]:
    if len(columns) == 1:
        return columns[0], []

    def known(column: str) -> int:
        counts = rows[column].value_counts()
        return sum(count for text, count in counts.items() if labels.resolve(text) is not None)

    best = max(columns, key=known)
    others = ", ".join(column for column in columns if column != best)
    return best, [f"Labels are read from the column {best!r} (not from: {others})."]


def _find(
    names: list[str], rows: pd.Series, index: ImageIndex, source: CsvFile
) -> tuple[list[str | None], list[Problem]]:
    """The file of each row: by path below root, beside the table or absolute, else by file name."""
    paths: list[str | None] = []
    problems = []
    for name, row in zip(names, rows, strict=True):
        below = index.by_path(name)
        if below is None and _is_path(name):
            beside = os.path.join(source.path.parent, name.replace("\\", "/"))
            if os.path.isfile(beside):
                paths.append(beside)
                continue
        candidates = [below] if below else index.by_id(stem(name)) if name else []
        if len(candidates) > 1 and _is_path(name):
            # Fewer folders may be written than there are: a/b.jpg for root/images/a/b.jpg.
            tail = "/" + name.replace("\\", "/").lstrip("./")
            candidates = [path for path in candidates if f"/{path}".endswith(tail)] or candidates
        folders = {path.rsplit("/", 1)[0] if "/" in path else "" for path in candidates}
        if len(folders) > 1:
            shown = ", ".join(candidates[:4])
            problems.append(
                Problem("ambiguous image", int(row), f"{name!r} may be any of: {shown}")
            )
        paths.append(index.full(candidates[0]) if candidates else None)
    return paths, problems


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or suffix(name) in IMAGE_SUFFIXES
