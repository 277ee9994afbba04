"""ISIC 2018 Task 3 and ISIC 2019: one-hot ground truths, facts about the images in tables beside.

Every ground truth that lies below the root is read, and `source` says which part a row is from, so
that training and test stay apart where that is wanted; `data.table` names a single one.
Source: https://challenge.isic-archive.com/data (Codella et al. 2019, arXiv:1902.03368; Combalia et
al. 2019, arXiv:1908.02288).
"""

import re
from pathlib import Path

import pandas as pd

from kderm.data.datasets.columns import one_hot_columns, one_hot_labels
from kderm.data.datasets.csv_file import open_csv
from kderm.data.datasets.image_index import index_images
from kderm.data.datasets.layout import complete, find_images, find_tables, no_table, read_columns
from kderm.data.manifest import MISSING_WORDS, Problem, RawRows
from kderm.errors import UserError
from kderm.labels import LabelSpace

_PARTS = ("training", "validation", "test")
# In the official test, with weight 0 in the official scorer: a picture that was made, not taken.
SYNTHETIC = "ISIC_0035068"
_LEAKAGE = "leakage between folds cannot be ruled out"


def read_isic2018(root: Path, labels: LabelSpace, table: Path | None = None) -> RawRows:
    """Rows of `ISIC2018_Task3_{Training,Validation,Test}_GroundTruth.csv`, whichever are there.

    Lesions come from `ISIC2018_Task3_Training_LesionGroupings.csv`; its diagnosis_confirm_type is
    not read, because it gives the label away. Age, sex and site are not published.
    """
    expected = "ISIC2018_Task3_Training_GroundTruth.csv"
    rows, problems = _truths(root, labels, table, r"isic2018_task3_\w+_groundtruth\.csv", expected)
    columns = {"lesion_id": ["lesion_id"]}
    facts, more = _facts(root, table, r"isic2018_task3_\w+_lesiongroupings\.csv", columns)
    synthetic = rows["image_id"] == SYNTHETIC
    notes = [f"{SYNTHETIC} of the test is synthetic and left out."] if synthetic.any() else []
    return _joined(rows[~synthetic], facts, root, [*problems, *more], notes)


def read_isic2019(root: Path, labels: LabelSpace, table: Path | None = None) -> RawRows:
    """Rows of `ISIC_2019_{Training,Test}_GroundTruth.csv`, with the `_Metadata.csv` beside.

    Ids that end in `_downsampled` are kept as they are: the files are named so. They are images of
    older collections, which the overlap audit finds under their other name.
    """
    expected = "ISIC_2019_Training_GroundTruth.csv"
    rows, problems = _truths(root, labels, table, r"isic_2019_\w+_groundtruth\.csv", expected)
    columns = {
        "lesion_id": ["lesion_id"],
        "age": ["age_approx"],
        "sex": ["sex"],
        "site": ["anatom_site_general"],
    }
    facts, more = _facts(root, table, r"isic_2019_\w+_metadata\.csv", columns)
    return _joined(rows, facts, root, [*problems, *more], [])


def _truths(
    root: Path, labels: LabelSpace, table: Path | None, pattern: str, expected: str
) -> tuple[pd.DataFrame, list[Problem]]:
    """image_id, label, row and source of all ground truths, training first."""
    paths = [table] if table is not None else find_tables(root, pattern)
    if not paths:
        raise no_table(root, expected)
    parts = [_truth(path, labels) for path in sorted(paths, key=lambda path: _rank(_part(path)))]
    problems = [problem for _, found in parts for problem in found]
    return pd.concat([rows for rows, _ in parts], ignore_index=True), problems


def _truth(path: Path, labels: LabelSpace) -> tuple[pd.DataFrame, list[Problem]]:
    source = open_csv(path)
    image = source.require(["image"], "image")
    columns = one_hot_columns(source, labels)
    if not columns:
        absent = [code.upper() for code in labels.codes if code not in source.columns]
        raise UserError(
            f"Expected in {path} one column a class: {', '.join(labels.codes).upper()}. It has no "
            f"{', '.join(absent)}. Received the columns: {', '.join(source.columns)}. Choose the "
            "data.dataset that this table belongs to, or data.dataset=table."
        )
    read, problems = source.read([image, *columns])
    rows = read[["row"]].assign(
        image_id=read[image], label=one_hot_labels(read, columns, labels), source=_part(path)
    )
    return rows, problems


def _part(path: Path) -> str:
    """training, validation or test, by the file's name; else that name."""
    found = re.search("|".join(_PARTS), path.name.lower())
    return found[0] if found else path.stem


def _rank(part: str) -> int:
    return _PARTS.index(part) if part in _PARTS else len(_PARTS)


def _facts(
    root: Path, table: Path | None, pattern: str, columns: dict[str, list[str]]
) -> tuple[pd.DataFrame, list[Problem]]:
    """What the tables below the root or beside `table` say, one row an image id."""
    tables, problems = [], []
    folders = [root] if table is None else [root, table.parent]
    paths = {path.resolve(): path for folder in folders for path in find_tables(folder, pattern)}
    for path in paths.values():
        read, found = read_columns(open_csv(path), {"image_id": ["image"]}, columns)
        tables.append(read.drop(columns="row"))
        problems += found
    facts = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"image_id": []})
    return facts.reindex(columns=["image_id", *columns]).drop_duplicates("image_id"), problems


def _joined(
    rows: pd.DataFrame,
    facts: pd.DataFrame,
    root: Path,
    problems: list[Problem],
    notes: list[str],
) -> RawRows:
    table = rows.merge(facts.astype({"image_id": rows["image_id"].dtype}), "left", on="image_id")
    table["path"], copies = find_images(table["image_id"], index_images(root))
    lesions = table["lesion_id"]
    alone = int((lesions.isna() | lesions.astype(str).str.lower().isin(MISSING_WORDS)).sum())
    if alone:
        notes.append(
            f"{alone} of {len(table)} images have no lesion id and are groups of their own: "
            f"{_LEAKAGE} for them."
        )
    return RawRows(complete(table), problems, [*notes, *copies])
