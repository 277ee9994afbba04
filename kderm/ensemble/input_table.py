"""One CSV that names images for prediction: checked, each row led to its file.

`kderm.ensemble.inputs` calls it for each table among the sources. The columns are read as training
reads them (`kderm.data.datasets.columns`); no image is opened. All problems of the table are
reported at once, with the line numbers of the file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kderm.counting import counted
from kderm.data.datasets.columns import FACTS, TableRows, read_rows
from kderm.data.datasets.image_index import stem
from kderm.data.hdf5 import is_member, member_stat
from kderm.data.manifest import MISSING_WORDS
from kderm.ensemble.image_files import image_files, images_near, size_and_time
from kderm.ensemble.other_labels import Counterparts
from kderm.errors import UserError
from kderm.labels import LabelSpace
from kderm.storage.places import is_url

SHOWN_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class InputRow:
    """One image to predict.

    Attributes:
        path: where the image is, or where it was looked for.
        names: ids for the image, the nicest first; the first one that is unique is taken.
        problem: why there is no file to read, or "".
        label: the code that is known for it, or None.
        facts: `FACTS`, as far as known (strings).
        spelling: what the label was read from; with no label, one that the label space lacks.
        folder: the folder that was looked at for a label and gave none, or "".
    """

    path: str  # a Path takes four times the memory, and there may be 400,000 rows
    names: tuple[str, ...]
    problem: str
    label: str | None
    facts: dict[str, str]
    spelling: str = ""
    folder: str = ""


def read_input_table(
    path: Path, labels: LabelSpace, translation: Counterparts | None = None
) -> tuple[list[InputRow], tuple[str, ...]]:
    """The rows of a CSV that names images, and what the user should know about them.

    Args:
        path: a CSV with a column for the file or for an image id, optionally a label and facts; see
            `kderm.data.datasets.columns` for the names. Images are looked up from the CSV's own
            folder and, if none is there, from the folder above: the ISIC challenges unpack ground
            truth and images into two folders side by side.
        labels: what the labels are resolved with.
        translation: understands labels of other label spaces too, and keeps the rows with labels
            that it cannot translate; without it they are refused.

    Raises:
        UserError: not a CSV, no column that names images, lines that cannot be read, unknown
            labels, or no file of it found.
    """
    found = _read(path, labels, translation)
    if found.table.empty and not found.problems:
        raise UserError(f"{path} has a header but no rows, so there is nothing to predict.")
    codes = _codes(found, labels, translation)
    told = ()
    if "label" not in found.present and found.unused:
        told = (f"{path.name} has no column of labels; not used: {', '.join(found.unused)}",)
    own, above = path.absolute().parent, path.absolute().parent.parent
    rows = _rows(found, codes, _Folder(path.parent, lambda root: image_files(root)[0]))
    if not all(row.problem for row in rows):
        return rows, told
    further = _rows(found, codes, _Folder(above, images_near)) if above != own else rows
    count = sum(not row.problem for row in further)
    if count:
        where = f"{path.name}: {count} of {len(rows)} images were found from the folder above its"
        return further, (*told, f"{where} own, {above}, and none from its own")
    raise UserError(
        f"None of the {len(rows)} images that {path} names was found. They are looked up from the "
        f"CSV's folder, {path.parent}, and then from the folder above. The first one: "
        f"{rows[0].path}: {rows[0].problem}. Put the CSV beside the images, or give full paths in "
        "a column 'path'."
    )


def _read(path: Path, labels: LabelSpace, translation: Counterparts | None) -> TableRows:
    """The table; one without labels that `labels` knows may be one-hot in another label space."""
    if translation is None:
        return read_rows(path, labels)
    found = read_rows(path, translation.reading)
    for space in () if "label" in found.present else translation.others:
        again = read_rows(path, space)
        if "label" in again.present:
            return again
    return found


def _rows(
    found: TableRows, codes: dict[str, tuple[str | None, str]], folder: "_Folder"
) -> list[InputRow]:
    rows = []
    for record in found.table.to_dict("records"):
        file, name = record["path"], record["image_id"]
        named = (file or name).replace("\0", "\N{REPLACEMENT CHARACTER}")  # no path has a zero
        where, problem = folder.file(named) if file else folder.image(named)
        facts = {fact: record[fact] for fact in FACTS if not is_missing(record[fact])}
        names = (stem(name), stem(file), file or name, f"{found.source.path.name}:{record['row']}")
        code, spelling = codes[record["label"]]
        rows.append(
            InputRow(
                str(where), tuple(filter(None, names)), problem, code, facts, spelling=spelling
            )
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


def _is_file(path: Path) -> bool:
    """Whether a file is there; a name that no disk can hold is none."""
    try:
        return path.is_file()
    except OSError:
        return False


class _Folder:
    """Leads the names in a CSV to files in and under a folder."""

    def __init__(self, root: Path, images: Callable[[Path], list[Path]]):
        self._root, self._images = root, images

    def file(self, text: str) -> tuple[Path | str, str]:
        """The file at `text`, seen from the folder or else from the working folder, or its URL."""
        if is_url(text):
            return text, ""  # whether it is there shows when it is read
        # A backslash parts folders on Windows and is a letter like others elsewhere.
        for named in dict.fromkeys((text, text.replace("\\", "/"))):
            for path in (self._root / named, Path(named)):
                if _is_file(path) or _inside_hdf5(path):
                    return path, ""
        return self._root / named, "file not found"

    def image(self, name: str) -> tuple[Path, str]:
        """The image called `name`, with or without its suffix, in or under the folder."""
        if not name:
            return self._root, "the row names no image"
        path, problem = self.file(name)
        if not problem:
            return path, ""
        found = self._by_name.get(Path(name).name.lower(), [])
        if not found:
            return self._root / name, "no image of this name in or under the CSV's folder"
        if len({size_and_time(str(path))[0] for path in found}) > 1:
            shown = ", ".join(str(path.relative_to(self._root)) for path in found[:3])
            return found[0], f"{len(found)} different images have this name: {shown}"
        return found[0], ""

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """Images by file name and by stem, in lower case."""
        table: dict[str, list[Path]] = {}
        for path in self._images(self._root):
            for key in (path.name.lower(), path.stem.lower()):
                table.setdefault(key, []).append(path)
        return table


def _codes(
    found: TableRows, labels: LabelSpace, translation: Counterparts | None
) -> dict[str, tuple[str | None, str]]:
    """The code of each text in the label column, and the text itself where it is a label.

    The code is None where the cell says that none is known, or with `translation` where there is
    none in the label space. Otherwise unknown labels are refused, together with lines that are no
    rows.
    """
    # A class may be called "unknown" or "none", so the label space is asked first.
    resolve = (translation.reading if translation else labels).resolve
    codes = {text: resolve(text) for text in found.table["label"].unique()}
    unknown = {text for text, code in codes.items() if code is None and not is_missing(text)}
    told = [(problem.row, problem.message) for problem in found.problems]
    if translation is None:
        told += _unknown_labels(found, unknown, labels)
    if told:
        shown = "\n".join(f"  line {line}: {what}" for line, what in sorted(told)[:SHOWN_PROBLEMS])
        more = len(told) - SHOWN_PROBLEMS
        raise UserError(
            f"Expected in each line of {found.source.path} as many fields as in its header, and as "
            f"label one of {labels.name} ({', '.join(labels.codes)}) or nothing. Received "
            f"{counted(len(told), 'other')}:\n{shown}"
            f"{f'{chr(10)}  and {more} more' if more > 0 else ''}\n"
            "Correct them. To predict images without scoring them, empty their labels or rename "
            "the column."
        )
    return {
        text: (code, text if code is not None or text in unknown else "")
        for text, code in codes.items()
    }


def _unknown_labels(
    found: TableRows, unknown: set[str], labels: LabelSpace
) -> list[tuple[int, str]]:
    """Line number and, in words, what stands there instead of a label."""
    told = []
    for line, text in zip(found.table["row"], found.table["label"], strict=True):
        if text in unknown:
            close = labels.nearest(text)
            told.append((line, f"{text!r}" + (f" (nearest: {', '.join(close)})" if close else "")))
    return told
