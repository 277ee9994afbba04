"""A plain CSV with one row an image, whatever its columns are called within reason."""

import os
from pathlib import Path

import pandas as pd

from kderm.data.datasets.columns import ALIASES, FACTS, read_rows
from kderm.data.datasets.csv_file import CsvFile
from kderm.data.datasets.image_index import (
    ImageIndex,
    ids_of,
    index_images,
    is_image_name,
    stem,
)
from kderm.data.manifest import Problem, RawRows
from kderm.errors import UserError
from kderm.labels import LabelSpace

_SHOWN = 5


def read_table(root: Path, labels: LabelSpace, table: Path | None = None) -> RawRows:
    """Rows of the CSV `table`, with the image files wherever they lie below `root`.

    Args:
        root: the folder that holds the images.
        labels: tells which column holds the labels; see `read_rows`.
        table: the CSV; found by itself when it is the only one in `root`.
    """
    found = read_rows(table or _only_csv(root), labels)
    if "label" not in found.present:
        found.source.require(ALIASES["label"], "label")
    rows = found.table[["row", "label", *FACTS]].copy()
    ids = found.table["image_id"].tolist()
    named = found.table["path"].where(found.table["path"] != "", found.table["image_id"]).tolist()
    rows["image_id"] = ids_of(ids if "image_id" in found.present else named)
    rows["path"], ambiguous = _find(named, rows["row"], index_images(root), found.source)
    notes = list(found.notes)
    sought = _sought(named, rows, root, found.source)
    if sought and rows["path"].notna().any():
        notes.append(f"Images of {found.source.path.name} that are not there: {sought}.")
    return RawRows(rows, [*found.problems, *ambiguous], notes, sought)


def _only_csv(root: Path) -> Path:
    tables = sorted(Path(root).glob("*.csv"))
    if len(tables) == 1:
        return tables[0]
    names = ", ".join(path.name for path in tables[:12])
    raise UserError(
        f"data.dataset=table needs data.table, the CSV to read. Received none, and {root} holds "
        f"{f'{len(tables)} of them: {names}' if tables else 'no CSV'}."
    )


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


def _sought(names: list[str], rows: pd.DataFrame, root: Path, source: CsvFile) -> str:
    """The images without a file as the table names them, and where they were looked for."""
    missing = rows["path"].isna().to_numpy().nonzero()[0]
    if not len(missing):
        return ""
    shown = [f"{names[item]!r} (row {rows['row'].iloc[item]})" for item in missing[:_SHOWN]]
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"{', '.join(shown)}{more}, looked for below {root} and beside {source.path}"


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or is_image_name(name)
