"""One CSV that names images for prediction: checked, each row led to its file.

`kderm.ensemble.inputs` calls it for each table among the sources. The columns are read as training
reads them (`kderm.data.datasets.columns`); no image is opened. All problems of the table are
reported at once, with the line numbers of the file.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kderm.data.datasets.columns import FACTS, TableRows, read_rows
from kderm.data.datasets.image_index import stem
from kderm.data.hdf5 import is_member, member_stat
from kderm.data.manifest import MISSING_WORDS
from kderm.ensemble.image_files import image_files
from kderm.errors import UserError
from kderm.labels import LabelSpace

SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class InputRow:
    """One image to predict.

    Attributes:
        path: where the image is, or where it was looked for.
        names: ids for the image, the nicest first; the first one that is unique is taken.
        problem: why there is no file to read, or "".
        label: the code that is known for it, or None.
        facts: `FACTS`, as far as known (strings).
    """

    path: Path
    names: tuple[str, ...]
    problem: str
    label: str | None
    facts: dict[str, str]


def read_input_table(path: Path, labels: LabelSpace) -> list[InputRow]:
    """The rows of a CSV that names images.

    Args:
        path: a CSV with a column for the file or for an image id, both looked up from the CSV's own
            folder, optionally a label and facts; see `kderm.data.datasets.columns` for the names.
        labels: what the labels are resolved with.

    Raises:
        UserError: not a CSV, no column that names images, lines that cannot be read, unknown
            labels, or no file of it found.
    """
    found = read_rows(path, labels)
    if found.table.empty and not found.problems:
        raise UserError(f"{path} has a header but no rows, so there is nothing to predict.")
    codes = _codes(found, labels)
    folder, rows = _Folder(path.parent), []
    for record in found.table.to_dict("records"):
        file, name = record["path"], record["image_id"]
        where, problem = folder.file(file) if file else folder.image(name)
        facts = {fact: record[fact] for fact in FACTS if not is_missing(record[fact])}
        names = (stem(name), stem(file), file or name, f"{path.name}:{record['row']}")
        code = codes[record["label"]]
        rows.append(InputRow(where, tuple(filter(None, names)), problem, code, facts))
    if all(row.problem for row in rows):
        raise UserError(
            f"None of the {len(rows)} images that {path} names was found. They are looked up from "
            f"the CSV's folder, {path.parent}. The first one: {rows[0].path}: {rows[0].problem}. "
            "Put the CSV beside the images, or give full paths in a column 'path'."
        )
    return rows


def is_missing(cell: str) -> bool:
    """Whether a cell says "not known"."""
    return cell.lower() in MISSING_WORDS


def _inside_hdf5(path: Path) -> bool:
    """Whether `path` names an image inside an HDF5 file that is there."""
    if not is_member(path):
        return False
    try:
        member_stat(path)
    except OSError:
        return False
    return True


class _Folder:
    """Leads the names in a CSV to files in and under its folder."""

    def __init__(self, root: Path):
        self._root = root

    def file(self, text: str) -> tuple[Path, str]:
        """The file at `text`, seen from the CSV's folder or else from the working folder."""
        text = text.replace("\\", "/")
        for path in (self._root / text, Path(text)):
            if path.is_file() or _inside_hdf5(path):
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


def _codes(found: TableRows, labels: LabelSpace) -> dict[str, str | None]:
    """The code of each spelling in the label column, None where the cell says that none is known.

    All problems of the table are refused together: unknown spellings and lines that are no rows.
    """
    # A class may be called "unknown" or "none", so the label space is asked first.
    codes = {text: labels.resolve(text) for text in found.table["label"].unique()}
    unknown = {text for text, code in codes.items() if code is None and not is_missing(text)}
    told = [(problem.row, problem.message) for problem in found.problems]
    for line, text in zip(found.table["row"], found.table["label"], strict=True):
        if text in unknown:
            close = labels.nearest(text)
            told.append((line, f"{text!r}" + (f" (nearest: {', '.join(close)})" if close else "")))
    if told:
        shown = "\n".join(f"  line {line}: {what}" for line, what in sorted(told)[:SHOWN_PROBLEMS])
        more = len(told) - SHOWN_PROBLEMS
        raise UserError(
            f"Expected in each line of {found.source.path} as many fields as in its header, and as "
            f"label one of {labels.name} ({', '.join(labels.codes)}) or nothing. Received "
            f"{len(told)} other(s):\n{shown}{f'{chr(10)}  and {more} more' if more > 0 else ''}\n"
            "Correct them. To predict images without scoring them, empty their labels or rename "
            "the column."
        )
    return codes
