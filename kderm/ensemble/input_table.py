"""One CSV that names images for prediction: read, checked, each row led to its file.

`kderm.ensemble.inputs` calls it for each CSV among the sources. It looks at names only and opens no
image. All problems of the table are reported at once, with the line numbers of the file.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from kderm.ensemble.image_files import image_files, is_image_name
from kderm.errors import UserError
from kderm.labels import LabelSpace

# Columns are found by these names, in any case; the first one that the table has is taken.
PATH_COLUMNS = ("path", "filepath", "file", "filename")
ID_COLUMNS = ("image_id", "image", "image_name", "isic_id")
LABEL_COLUMNS = ("label", "dx", "diagnosis")
PASSED_ON = {
    "lesion_id": ("lesion_id",),
    "patient_id": ("patient_id",),
    "age": ("age", "age_approx"),
    "sex": ("sex",),
    "site": ("site", "localization", "anatom_site_general"),
}
# How other projects write "not known".
MISSING = ("", "nan", "na", "n/a", "none", "unknown", "null")
SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class InputRow:
    """One image to predict.

    Attributes:
        path: where the image is, or where it was looked for.
        names: ids for the image, the nicest first; the first one that is unique is taken.
        problem: why there is no file to read, or "".
        label: the code that is known for it, or None.
        facts: lesion_id, patient_id, age, sex, site, as far as known (strings).
    """

    path: Path
    names: tuple[str, ...]
    problem: str
    label: str | None
    facts: dict[str, str]


def read_input_table(path: Path, labels: LabelSpace) -> list[InputRow]:
    """The rows of a CSV that names images.

    Args:
        path: a CSV with a column for the file (`PATH_COLUMNS`) or for an image id (`ID_COLUMNS`),
            both looked up from the CSV's own folder; optionally a label (`LABEL_COLUMNS`, or the
            one-hot columns of the ISIC challenges) and the columns of `PASSED_ON`.
        labels: what the labels are resolved with.

    Raises:
        UserError: not a CSV, no column that names images, unknown labels, or no file of it found.
    """
    table = _read_csv(path)
    columns = {str(column).strip().lower(): column for column in table.columns}
    path_column, id_column = _first(columns, PATH_COLUMNS), _first(columns, ID_COLUMNS)
    if path_column is None and id_column is None:
        raise UserError(
            f"{path} must name images in a column {' or '.join(PATH_COLUMNS)} (files) or "
            f"{' or '.join(ID_COLUMNS)} (ids). Received the columns: {', '.join(table.columns)}"
        )
    if table.empty:
        raise UserError(f"{path} has a header but no rows, so there is nothing to predict.")
    known = _labels(table, columns, labels, path)
    passed_on = {fact: _first(columns, names) for fact, names in PASSED_ON.items()}
    folder, rows = _Folder(path.parent), []
    for line, code, record in zip(table.index, known, table.to_dict("records"), strict=True):
        file = record[path_column].strip() if path_column is not None else ""
        name = record[id_column].strip() if id_column is not None else ""
        found, problem = folder.file(file) if file else folder.image(name)
        facts = {
            fact: record[column].strip()
            for fact, column in passed_on.items()
            if column is not None and not is_missing(record[column])
        }
        own_name = Path(name).stem if is_image_name(name) else name
        names = (own_name, Path(file).stem, file or name, f"{path.name}:{line}")
        rows.append(InputRow(found, tuple(filter(None, names)), problem, code, facts))
    if all(row.problem for row in rows):
        raise UserError(
            f"None of the {len(rows)} images that {path} names was found. They are looked up from "
            f"the CSV's folder, {path.parent}. The first one: {rows[0].path}: {rows[0].problem}. "
            "Put the CSV beside the images, or give full paths in a column 'path'."
        )
    return rows


def is_missing(value: object) -> bool:
    """Whether a cell says "not known"."""
    return str(value).strip().lower() in MISSING


def _first(columns: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((columns[name] for name in names if name in columns), None)


def _read_csv(path: Path) -> pd.DataFrame:
    """All cells as strings; the index is the line in the file. '#' lines on top are skipped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        above = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
        header = lines[above] if above < len(lines) else ""
        table = pd.read_csv(
            path,
            sep=max(",;\t", key=header.count),
            skiprows=above,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            encoding="utf-8-sig",
        )
    except (OSError, ValueError) as error:  # bad encodings and pandas' parser errors among them
        raise UserError(f"{path} cannot be read as a CSV in UTF-8: {error}") from None
    table = table.fillna("").set_axis(range(above + 2, above + 2 + len(table)))
    return table[~(table == "").all(axis=1)]


class _Folder:
    """Leads the names in a CSV to files in and under its folder."""

    def __init__(self, root: Path):
        self._root = root

    def file(self, text: str) -> tuple[Path, str]:
        """The file at `text`, seen from the CSV's folder or else from the working folder."""
        for path in (self._root / text, Path(text)):
            if path.is_file():
                return path, ""
        return self._root / text, "file not found"

    def image(self, name: str) -> tuple[Path, str]:
        """The image called `name`, with or without its suffix, in or under the CSV's folder."""
        if not name:
            return self._root, "the row names no image"
        path, problem = self.file(name)
        if not problem:
            return path, ""
        found = self._by_name.get(Path(name).name.lower(), [])
        if not found:
            return self._root / name, "no image of this name in or under the CSV's folder"
        if len({path.stat().st_size for path in found}) > 1:
            shown = ", ".join(str(path.relative_to(self._root)) for path in found[:3])
            return found[0], f"{len(found)} different images have this name: {shown}"
        return found[0], ""

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """Images by file name and by stem, in lower case."""
        table: dict[str, list[Path]] = {}
        for path in image_files(self._root)[0]:
            for key in (path.name.lower(), path.stem.lower()):
                table.setdefault(key, []).append(path)
        return table


def _labels(
    table: pd.DataFrame, columns: dict[str, str], labels: LabelSpace, path: Path
) -> list[str | None]:
    """The code of each row, None where unknown; all unknown spellings are refused together."""
    column = _first(columns, LABEL_COLUMNS)
    if column is None:
        return _one_hot_labels(table, columns, labels, path)
    codes, problems = [], []
    for line, text in table[column].items():
        code = None if is_missing(text) else labels.resolve(text)
        codes.append(code)
        if code is None and not is_missing(text):
            close = labels.nearest(text)
            hint = f" (nearest: {', '.join(close)})" if close else ""
            problems.append(f"line {line}: {text!r}{hint}")
    _refuse(
        problems,
        f"The column {column!r} of {path} must hold labels of {labels.name} "
        f"({', '.join(labels.codes)}) or nothing",
        "Correct them, or empty these cells to predict the images without scoring them.",
    )
    return codes


def _one_hot_labels(
    table: pd.DataFrame, columns: dict[str, str], labels: LabelSpace, path: Path
) -> list[str | None]:
    """Labels from one column a class, as in the ISIC challenges; all None without such columns."""
    if any(code.lower() not in columns for code in labels.codes):
        return [None] * len(table)
    codes, problems = [], []
    for line, record in zip(table.index, table.to_dict("records"), strict=True):
        cells = [record[columns[code.lower()]] for code in labels.codes]
        ones = [code for code, cell in zip(labels.codes, cells, strict=True) if _is_one(cell)]
        codes.append(ones[0] if len(ones) == 1 else None)
        if len(ones) > 1:
            problems.append(f"line {line}: {' and '.join(ones)}")
    _refuse(
        problems, f"A row of the one-hot columns of {path} must have one 1 at most", "Correct them."
    )
    return codes


def _is_one(cell: str) -> bool:
    try:
        return math.isclose(float(cell), 1.0)
    except ValueError:
        return False


def _refuse(problems: list[str], expected: str, do: str) -> None:
    if not problems:
        return
    shown = "\n".join(f"  {problem}" for problem in problems[:SHOWN_PROBLEMS])
    more = len(problems) - SHOWN_PROBLEMS
    rest = f"\n  and {more} more" if more > 0 else ""
    raise UserError(f"{expected}. Received {len(problems)} other(s):\n{shown}{rest}\n{do}")
