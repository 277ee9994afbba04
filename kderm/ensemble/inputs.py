"""What to predict: folders, files, CSVs and patterns, in any mixture, become one table.

The first step of `ensemble-predict`. Looks at names and tables only; pictures are opened by
`kderm.ensemble.predictor`, which lists the ones that cannot be read.
"""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from kderm.counting import counted
from kderm.data.datasets.columns import FACTS
from kderm.data.datasets.image_index import is_hidden, is_image_name
from kderm.data.images import IMAGE_SUFFIXES
from kderm.ensemble.image_files import image_files
from kderm.ensemble.input_table import InputRow, read_input_table
from kderm.ensemble.other_labels import Counterparts, counterparts
from kderm.ensemble.url_images import images_at
from kderm.errors import UserError
from kderm.labels import LabelSpace, plain
from kderm.storage.places import is_url

COLUMNS = ("image_id", "path", "problem", "label", *FACTS)
TABLE_SUFFIXES = (".csv", ".tsv", ".tab")
_SHOWN_FOLDERS = 10
NOT_UTF8 = "its name is not UTF-8, which tables are written in: rename it"


@dataclass(frozen=True)
class Inputs:
    """The images to predict.

    Attributes:
        table: one row an image, columns `COLUMNS`, all strings, "" where unknown. `image_id` is
            unique; `problem` says why there is no file to read; `label` is a code.
        sources: what was asked for, as absolute paths and patterns.
        skipped: files that are no images and were passed over.
        repeated: further mentions of files that are in the table already.
        notes: what was left out, translated or looked for elsewhere, a sentence each.
        warnings: what makes a score on these images worth less than it looks, a sentence each.
    """

    table: pd.DataFrame
    sources: tuple[str, ...]
    skipped: int
    repeated: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labelled(self) -> int:
        """Images whose label is known."""
        return int((self.table["label"] != "").sum())


def find_inputs(sources: Sequence[str], labels: LabelSpace, *, translate: bool = False) -> Inputs:
    """All images that `sources` name, each file once, in a stable order.

    Args:
        sources: folders (taken with everything below), image files, CSVs (see
            `kderm.ensemble.input_table`) and patterns such as "scans/**/*.jpg"; URLs of all but
            CSVs.
        labels: what class folders and label columns are resolved with. Images outside of CSVs have
            labels if every one of them lies in a folder named after a class.
        translate: understand labels of other label spaces too (`kderm.ensemble.other_labels`), and
            leave out, with a note, the images whose label or class folder has no counterpart. By
            default such labels in a CSV are refused, and among class folders they cost the labels.

    Raises:
        UserError: a source that does not exist, or nothing to predict.
    """
    translation = counterparts(labels) if translate else None
    from_tables: list[bool] = []
    rows: list[InputRow] = []
    notes: list[str] = []
    skipped = 0
    for source in (path for text in sources for path in expand(str(text), scored=translate)):
        if is_url(source):
            more, others = _rows_at_url(source, labels, translation)
            rows, skipped = rows + more, skipped + others
            from_tables += [False] * len(more)
            continue
        is_table = source.is_file() and source.suffix.lower() in TABLE_SUFFIXES
        if is_table:
            more, told = read_input_table(source, labels, translation)
            notes += told
        else:
            more, others = _rows_of_files(source, labels, translation)
            skipped += others
        rows += more
        from_tables += [is_table] * len(more)
    if not rows:
        raise UserError(
            f"There is no image to predict in {', '.join(map(str, sources)) or 'no source'}. "
            f"Expected files with the suffixes {', '.join(IMAGE_SUFFIXES)}, or a CSV that "
            f"names them. Received {counted(skipped, 'other file')}."
        )
    if translation is None:
        rows = _trust_class_folders(rows, from_tables)
        trusted = sum(
            bool(row.spelling and row.label)
            for row, table in zip(rows, from_tables, strict=True)
            if not table
        )
        if trusted:
            notes.append(f"the folder's name is the label of {counted(trusted, 'image')}")
    unique = _each_file_once(rows)
    repeated = len(rows) - len(unique)
    if translation is not None:
        # Where one folder is named after a class, the others are taken for classes too.
        pairs = zip(rows, from_tables, strict=True)
        class_folders = any(row.spelling for row, from_table in pairs if not from_table)
        unique, told = _with_counterpart(unique, translation, class_folders)
        notes += told
    asked = tuple(map(absolute, sources))
    return Inputs(table_of(unique), asked, skipped, repeated, tuple(notes))


def absolute(source: str) -> str:
    """A source as it is named from anywhere."""
    source = str(source)
    return printable(source if is_url(source) else os.path.abspath(os.path.expanduser(source)))


def printable(name: str) -> str:
    """A file's name as UTF-8 can hold it: other bytes are spelled out."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def expand(source: str, *, scored: bool = False) -> list[Path] | list[str]:
    """The paths that a source stands for: itself, or what a pattern matches; a URL for a URL.

    Raises:
        UserError: nothing of this name; in the words for images that are `scored`, or for any.
    """
    if is_url(source):
        return [source]
    path = Path(source).expanduser()
    if path.exists():
        return [path]
    if not glob.has_magic(source):
        expected = (
            "labelled images: a folder of class folders, a CSV with labels, or a pattern of those"
            if scored
            else "a folder, an image, a CSV or a pattern such as 'scans/**/*.jpg'"
        )
        raise UserError(
            f"Expected {expected}. Received: {source}, which does not exist (looked from "
            f"{Path.cwd()})."
        )
    matches = sorted(glob.glob(str(path), recursive=True), key=lambda match: Path(match).parts)
    if not matches:
        raise UserError(
            f"No file matches the pattern {source!r} (looked from {Path.cwd()}). "
            "Put a pattern in quotes so that the shell leaves it alone; ** goes down into folders."
        )
    return [Path(match) for match in matches]


def _rows_of_files(
    source: Path, labels: LabelSpace, translation: Counterparts | None
) -> tuple[list[InputRow], int]:
    """One row for each image at or under `source`, and the number of files passed over."""
    if not source.is_dir():
        if is_hidden(source) or not is_image_name(source):
            return [], 1
        folders = [source.absolute().parent.name]
        return [_row(source, (source.stem, str(source)), folders, labels, translation)], 0
    paths, others = image_files(source)
    rows, top = [], source.absolute().name
    for path in paths:
        inside = path.relative_to(source)
        # The nearest folder that is named after a class, the source itself included.
        folders = [*reversed(inside.parts[:-1]), top]
        names = (path.stem, inside.as_posix(), str(path))
        rows.append(_row(path, names, folders, labels, translation))
    return rows, others


def _rows_at_url(
    url: str, labels: LabelSpace, translation: Counterparts | None
) -> tuple[list[InputRow], int]:
    """The same of a URL."""
    found = list(images_at(url))
    images = sorted((each for each in found if each), key=lambda each: each.inside.split("/"))
    rows = []
    for image in images:
        names = (Path(image.inside).stem, image.inside, image.url)
        rows.append(_row(image.url, names, image.folders, labels, translation))
    return rows, len(found) - len(images)


def _row(
    path: Path | str,
    names: tuple[str, ...],
    folders: list[str],
    labels: LabelSpace,
    translation: Counterparts | None,
) -> InputRow:
    """The row of a file, labelled by the first of `folders` that is named after a class."""
    reading = translation.reading if translation else labels
    told = printable(str(path))
    problem = "" if told == str(path) else NOT_UTF8
    names = tuple(map(printable, names))
    for folder in folders:
        code = reading.resolve(folder)
        if code is not None or (translation and plain(folder) in translation.outside):
            return InputRow(told, names, problem, code, {}, spelling=printable(folder))
    below = printable("/".join(reversed(folders[:-1])) or folders[-1])
    return InputRow(told, names, problem, None, {}, folder=below)


def _trust_class_folders(rows: list[InputRow], from_tables: list[bool]) -> list[InputRow]:
    """Drop labels read off folder names unless every file has one.

    Else a folder just happens to be called "nevus", and a report over the few in it would mislead.
    """
    pairs = list(zip(rows, from_tables, strict=True))
    if all(row.label is not None for row, from_table in pairs if not from_table):
        return rows
    return [
        row if from_table or not row.spelling else replace(row, label=None, spelling="")
        for row, from_table in pairs
    ]


def _with_counterpart(
    rows: list[InputRow], translation: Counterparts, class_folders: bool
) -> tuple[list[InputRow], tuple[str, ...]]:
    """The rows without those of classes that the label space lacks, and what to say of both."""
    told = translation.told([row.spelling for row in rows if row.spelling])
    strange: Counter[str] = Counter()
    kept = []
    for row in rows:
        if row.label is None and row.spelling:
            continue
        if row.label is None and row.folder and class_folders:
            strange[row.folder] += 1
            continue
        kept.append(row)
    if strange:
        names = [f"{name} ({count})" for name, count in strange.most_common(_SHOWN_FOLDERS)]
        more = len(strange) - len(names)
        names += [f"{more} more"] if more else []
        told += (
            f"{counted(strange.total(), 'image')} left out, in folders named after no class of "
            f"{translation.labels.name}: {', '.join(names)}",
        )
    return kept, told


def _each_file_once(rows: list[InputRow]) -> list[InputRow]:
    """Rows without repetitions; what a later mention knows (a label, a lesion) is kept."""
    first: dict[str, InputRow] = {}
    for row in rows:
        key = row.path if is_url(row.path) else os.path.realpath(row.path)
        key = key if not row.problem else f"{row.path}\n{row.names[0]}"
        known = first.setdefault(key, row)
        if known is row:
            continue
        if row.label and known.label and row.label != known.label:
            raise UserError(
                f"The image {row.path} is given twice with different labels: {known.label} and "
                f"{row.label}. Correct one of them, or leave one source out."
            )
        # One mention with a label that has no counterpart is enough to leave the image out.
        outside = [item.spelling for item in (known, row) if item.label is None and item.spelling]
        first[key] = replace(
            known,
            label=None if outside else known.label or row.label,
            spelling=outside[0] if outside else known.spelling or row.spelling,
            folder=known.folder or row.folder,
            facts={**row.facts, **known.facts},
        )
    return list(first.values())


def table_of(rows: list[InputRow]) -> pd.DataFrame:
    """The table of `Inputs`, a row each."""
    columns = {
        "image_id": _unique_names(rows),
        "path": [row.path for row in rows],
        "problem": [row.problem for row in rows],
        "label": [row.label or "" for row in rows],
        **{fact: [row.facts.get(fact, "") for row in rows] for fact in FACTS},
    }
    return pd.DataFrame(columns, columns=list(COLUMNS), dtype=str)


def _unique_names(rows: list[InputRow]) -> list[str]:
    """For each row the first of its names that no other row goes by; at the end a number."""
    level = [0] * len(rows)
    while True:
        names = [row.names[depth] for row, depth in zip(rows, level, strict=True)]
        counts = Counter(names)
        shared = [
            i
            for i, name in enumerate(names)
            if counts[name] > 1 and level[i] + 1 < len(rows[i].names)
        ]
        if not shared:
            break
        for i in shared:
            level[i] += 1
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return unique
