"""What the columns of a metadata table are called in the field: the project's only list.

Training's adapter of plain tables and prediction's input tables both read a CSV by `read_rows`, so
that both understand the same tables. Looks for no image and refuses no label.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from kderm.data.datasets.csv_file import CsvFile, open_csv
from kderm.data.manifest import Problem
from kderm.labels import LabelSpace

# The first alias that a table has is taken; of label columns the one that the label space knows.
ALIASES: dict[str, tuple[str, ...]] = {
    "image_id": ("image_id", "isic_id", "image", "image_name", "img_id", "img", "id"),
    "path": ("path", "image_path", "filepath", "file_path", "filename", "file_name", "file"),
    "label": (
        "label",
        "dx",
        "diagnosis",
        "diagnostic",
        "class",
        "class_name",
        "target",
        "benign_malignant",
    ),
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
# What may be known of an image beside its name and its label.
FACTS = ("lesion_id", "patient_id", "age", "sex", "site", "source")


@dataclass(frozen=True)
class TableRows:
    """A metadata CSV under the project's own column names.

    Attributes:
        source: the CSV.
        table: the columns `ALIASES`, text as the file has it, "" throughout where there is no such
            column; and the int column `row`, the line in the file.
        present: the columns that the CSV has; one-hot columns count as a label.
        problems: lines that cannot be read.
        notes: facts that the user should know.
        unused: the CSV's columns that are not read.
    """

    source: CsvFile
    table: pd.DataFrame
    present: frozenset[str]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unused: tuple[str, ...] = ()


def read_rows(path: Path, labels: LabelSpace) -> TableRows:
    """Read a CSV with one row an image, whatever its columns are called within reason.

    Args:
        path: the CSV; see `open_csv` for what it may look like.
        labels: picks the label column where several are there, the one whose values it knows best;
            where none is, its codes may be columns of 0 and 1, as in the ISIC challenges.

    Raises:
        UserError: not a CSV, or no column that names images.
    """
    source = open_csv(path)
    if not source.first_of((*ALIASES["image_id"], *ALIASES["path"])):
        source.require((*ALIASES["image_id"], *ALIASES["path"]), "image")
    chosen = {name: source.first_of(ALIASES[name]) for name in ("image_id", "path", *FACTS)}
    candidates = [name for name in ALIASES["label"] if name in source.columns]
    one_hot = [] if candidates else one_hot_columns(source, labels)
    named = [column for column in chosen.values() if column]
    read, problems = source.read([*named, *candidates, *one_hot])
    table = pd.DataFrame({"row": read["row"]})
    for name, column in chosen.items():
        table[name] = read[column] if column else ""
    notes = []
    if candidates:
        best = max(candidates, key=lambda column: _known_labels(read[column], labels))
        table["label"] = read[best]
        if len(candidates) > 1:
            others = ", ".join(column for column in candidates if column != best)
            notes.append(f"Labels are read from the column {best!r} (not from: {others}).")
    else:
        table["label"] = one_hot_labels(read, one_hot, labels) if one_hot else ""
    present = {name for name, column in chosen.items() if column}
    present |= {"label"} if candidates or one_hot else set()
    unused = tuple(column for column in source.columns if column not in read.columns)
    return TableRows(source, table, frozenset(present), problems, notes, unused)


def _known_labels(column: pd.Series, labels: LabelSpace) -> int:
    counts = column.value_counts()
    return sum(count for text, count in counts.items() if labels.resolve(text) is not None)


def one_hot_columns(source: CsvFile, labels: LabelSpace) -> list[str]:
    """The columns named after the codes, in their order; none unless all are there."""
    columns = ["_".join(code.lower().split()) for code in labels.codes]
    return columns if set(columns) <= set(source.columns) else []


def one_hot_labels(read: pd.DataFrame, columns: list[str], labels: LabelSpace) -> list[str]:
    """Each row's code; "" without a 1, and all the codes of a row with several, a label of none."""
    cells = read[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    ones = np.isclose(cells, 1.0)
    found = [labels.codes[place] for place in ones.argmax(axis=1)] if len(ones) else []
    for row in np.flatnonzero(ones.sum(axis=1) != 1):
        chosen = (code for code, one in zip(labels.codes, ones[row], strict=True) if one)
        found[row] = " and ".join(chosen)
    return found
