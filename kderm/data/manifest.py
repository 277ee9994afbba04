"""The manifest: one row an image, checked, with every problem of the source told at once.

Adapters in `kderm.data.datasets` hand over `RawRows`; `build_manifest` makes a `Manifest` of them.
Folds, image store and training read nothing but that. Must not open images: whether a file decodes
is found out by the image store, which hands its findings to `without_images`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kderm.atomic import write_csv
from kderm.counting import counted
from kderm.errors import UserError
from kderm.labels import LabelSpace

MANIFEST_COLUMNS = (
    "image_id",
    "path",
    "lesion_id",
    "patient_id",
    "label",
    "age",
    "sex",
    "site",
    "source",
)
# What people write where they know nothing. Never applied to image ids or labels.
MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "none", "null", "unknown", "?", "-"})
SEXES = {"f": "female", "w": "female", "woman": "female", "m": "male", "man": "male"}
_LINES_A_KIND = 20
_ROWS_A_LINE = 8
_FILES_A_LINE = 3

# Kind of problem -> what to do about it.
ADVICE = {
    "wrong number of fields": "Give these lines as many fields as the header has (quote commas).",
    "no image id": "Fill in the image id or remove the line.",
    "no label": "Fill in the label or remove the line.",
    "unknown label": "Correct the spelling, leave its images out with data.map.<label>=drop, or "
    "choose the label space that has these classes (data.labels; with data.labels=custom, "
    "data.classes lists your own).",
    "label without one counterpart": "Decide it with data.map, or choose the label space that the "
    "data set is labelled in (data.labels).",
    "image not in the HDF5 file": "Fetch the file again, or remove these lines from the table.",
    "duplicate image id": "Keep one line an image.",
    "conflicting labels in a lesion": "One lesion has one diagnosis: correct the label, or the "
    "lesion id.",
    "bad age": "Give the age in years (0 to 120) or leave it empty.",
    "ambiguous image": "Name the image by its path below the data root.",
    "unreadable image": "Fetch these files again, or set data.drop_unreadable=true to go on "
    "without them.",
}


@dataclass(frozen=True)
class Problem:
    """One thing wrong in the source.

    Attributes:
        kind: a key of `ADVICE`.
        row: line number in the source file as an editor shows it; None or 0 where there is none.
        message: what is wrong with it.
    """

    kind: str
    row: int | None
    message: str


@dataclass(frozen=True)
class RawRows:
    """What an adapter read, before any check.

    Attributes:
        table: `MANIFEST_COLUMNS`, all text (missing: NaN or ""), label as the source spells it,
            path missing where no file was found; and the int column `row`, the line number, 0
            where the source has no table.
        problems: what the adapter itself found wrong.
        notes: facts that the user and the report should know.
        sought: the images without a file as the source names them, and where they were looked
            for; "" where there are none, or the source names them by their ids.
    """

    table: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sought: str = ""


@dataclass(frozen=True)
class Manifest:
    """One row an image.

    Attributes:
        table: `MANIFEST_COLUMNS`. label is a code of `labels`, age a float (NaN: not known, 0 is an
            age), sex, site and source are "unknown" where not known, lesion_id and patient_id NaN.
        labels: the label space.
        rows: int array (n,), line numbers in the source, aligned with `table`; 0 for none.
        dropped: reason -> number of images left out.
        notes: facts that the user and the report should know.
    """

    table: pd.DataFrame
    labels: LabelSpace
    rows: np.ndarray
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)


def build_manifest(raw: RawRows, labels: LabelSpace) -> tuple[Manifest, list[Problem]]:
    """Resolve labels, normalise the columns, drop missing files and collect every problem.

    The manifest holds only rows without a problem of their own; whoever needs all rows to be right
    hands the problems to `raise_problems`.

    Raises:
        UserError: no rows at all, or not one image file found.
    """
    if raw.table.empty:
        raise UserError(
            "Expected at least one image in the data set. Received: none. "
            "Look at data.root and data.dataset." + _listing(raw.problems)
        )
    source = raw.table.reset_index(drop=True)
    codes, problems = _resolve_labels(source, labels)
    table = pd.DataFrame(
        {
            "image_id": _text(source["image_id"]),
            "path": _text(source["path"]),
            "lesion_id": _known(source["lesion_id"]),
            "patient_id": _known(source["patient_id"]),
            "label": codes,
            "age": _ages(source["age"]),
            "sex": _words(source["sex"]).replace(SEXES),
            "site": _words(source["site"]),
            "source": _known(source["source"]).fillna("unknown"),
        }
    )
    rows = source["row"].to_numpy(dtype=np.int64)
    problems += _id_problems(table, rows)
    problems += _age_problems(source, table, rows)
    problems += _lesion_problems(table, rows)
    usable = table["label"].notna() & (table["image_id"] != "") & ~table["image_id"].duplicated()
    found = table["path"] != ""
    if not found.any():
        raise UserError(
            _nothing_found(table, rows, raw.sought) + _listing([*raw.problems, *problems])
        )
    dropped = {}
    if not found.all():
        dropped["file not found"] = int((~found).sum())
    keep = (usable & found).to_numpy()
    manifest = Manifest(
        table[keep].reset_index(drop=True), labels, rows[keep], dropped, tuple(raw.notes)
    )
    return manifest, [*raw.problems, *problems]


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise one `UserError` that lists every problem, grouped by kind; do nothing without any."""
    if problems:
        raise UserError(f"{counted(len(problems), 'problem')} in the data set.{_listing(problems)}")


def without_images(
    manifest: Manifest, reasons: Mapping[str, str], drop: bool
) -> tuple[Manifest, list[Problem]]:
    """The manifest without images that did not decode.

    Args:
        manifest: any manifest.
        reasons: image id -> why the file cannot be used.
        drop: leave them out with a count (`dropped["unreadable image"]`); otherwise they come back
            as problems too.
    """
    bad = manifest.table["image_id"].isin(list(reasons)).to_numpy()
    if not bad.any():
        return manifest, []
    problems = [
        Problem("unreadable image", int(row), f"{path}: {reasons[image_id]}")
        for row, path, image_id in zip(
            manifest.rows[bad],
            manifest.table["path"][bad],
            manifest.table["image_id"][bad],
            strict=True,
        )
    ]
    if bad.all():
        raise UserError(
            "Not one image of the data set can be read." + _listing(problems, advice=False)
        )
    dropped = {**manifest.dropped, "unreadable image": int(bad.sum())}
    rest = replace(
        manifest,
        table=manifest.table[~bad].reset_index(drop=True),
        rows=manifest.rows[~bad],
        dropped=dropped,
    )
    return rest, [] if drop else problems


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the table as CSV, with the source's line number in a last column `row`."""
    write_csv(path, manifest.table[list(MANIFEST_COLUMNS)].assign(row=manifest.rows))


def read_manifest(path: Path, labels: LabelSpace) -> Manifest:
    """Read what `write_manifest` wrote (counts of dropped images and notes are not kept there).

    Raises:
        UserError: no such file, not a manifest, or labels of another label space.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"Expected a manifest at {path}. Received: {error}") from None
    expected = [*MANIFEST_COLUMNS, "row"]
    if list(table.columns) != expected:
        raise UserError(
            f"Expected a manifest with the columns {', '.join(expected)} at {path}. "
            f"Received: {', '.join(table.columns)}. Delete it and run prepare again."
        )
    strangers = sorted(set(table["label"]) - set(labels.codes))
    if strangers:
        raise UserError(
            f"The manifest {path} holds labels that {labels.name} does not have: "
            f"{', '.join(strangers[:10])}. Expected: {', '.join(labels.codes)}."
        )
    rows = table.pop("row").astype(np.int64).to_numpy()
    for column in ("lesion_id", "patient_id"):
        table[column] = table[column].where(table[column] != "")
    table["age"] = pd.to_numeric(table["age"])
    return Manifest(table, labels, rows)


def _text(column: pd.Series) -> pd.Series:
    return column.astype("object").where(column.notna(), "").astype(str).str.strip()


def _known(column: pd.Series) -> pd.Series:
    text = _text(column)
    return text.where(~text.str.lower().isin(MISSING_WORDS))


def _words(column: pd.Series) -> pd.Series:
    text = _text(column)
    # Word by word: rows of one spelling share one string, whatever their number.
    words = {spelling: spelling.lower() for spelling in text.unique()}
    known = {key: "unknown" if word in MISSING_WORDS else word for key, word in words.items()}
    return text.map(known).astype(str)


def _ages(column: pd.Series) -> pd.Series:
    # A decimal comma comes with semicolon-separated files.
    ages = pd.to_numeric(_known(column).str.replace(",", "."), errors="coerce").astype(float)
    return ages.where(ages.between(0, 120))


def _resolve_labels(source: pd.DataFrame, labels: LabelSpace) -> tuple[pd.Series, list[Problem]]:
    text = _text(source["label"])
    spellings = {spelling: labels.resolve(spelling) for spelling in text.unique()}
    problems = []
    for spelling in (item for item, code in spellings.items() if code is None):
        rows = source[text == spelling]
        line = int(rows["row"].iloc[0])
        if spelling == "":
            problems.append(Problem("no label", line, f"no label in {_places(rows)}"))
            continue
        near = labels.nearest(spelling)
        hint = f" (nearest: {', '.join(near)})" if near else ""
        message = f"{spelling!r} in {_places(rows)}{hint}"
        if not any(problem.kind == "unknown label" for problem in problems):
            message += f"; known: {', '.join(labels.codes)}"
        problems.append(Problem("unknown label", line, message))
    return text.map(spellings), problems


def _id_problems(table: pd.DataFrame, rows: np.ndarray) -> list[Problem]:
    ids = table["image_id"]
    empty = (ids == "").to_numpy()
    problems = [Problem("no image id", int(row), "the image id is empty") for row in rows[empty]]
    repeated = (ids.duplicated(keep=False) & ~empty).to_numpy()
    problems += [
        Problem("duplicate image id", int(found["row"].iloc[0]), f"{name!r} in {_places(found)}")
        for name, found in table.assign(row=rows)[repeated].groupby("image_id", sort=False)
    ]
    return problems


def _age_problems(source: pd.DataFrame, table: pd.DataFrame, rows: np.ndarray) -> list[Problem]:
    bad = (table["age"].isna() & _known(source["age"]).notna()).to_numpy()
    return [
        Problem("bad age", int(row), f"{age!r} is no age in years")
        for row, age in zip(rows[bad], source["age"][bad], strict=True)
    ]


def _lesion_problems(table: pd.DataFrame, rows: np.ndarray) -> list[Problem]:
    pairs = table.assign(row=rows).dropna(subset=["lesion_id", "label"])
    distinct = pairs.drop_duplicates(["lesion_id", "label"])
    torn = distinct.loc[distinct["lesion_id"].duplicated(), "lesion_id"]
    problems = []
    for lesion, found in pairs[pairs["lesion_id"].isin(torn)].groupby("lesion_id", sort=False):
        parts = [f"{code} in {_places(part)}" for code, part in found.groupby("label")]
        message = f"lesion {lesion!r} is {' and '.join(parts)}"
        problems.append(
            Problem("conflicting labels in a lesion", int(found["row"].iloc[0]), message)
        )
    return problems


def _nothing_found(table: pd.DataFrame, rows: np.ndarray, sought: str) -> str:
    examples = sought or ", ".join(
        f"{image_id!r} (row {row})"
        for image_id, row in zip(table["image_id"][:5], rows[:5], strict=True)
    )
    return (
        f"Expected image files for the {len(table)} rows of the table below data.root. "
        f"Received: not one of them was found, for example {examples}. "
        "Point data.root at the folder that holds the images."
    )


def _places(found: pd.DataFrame) -> str:
    """Where these rows (columns row, path) stand: the lines of the table, or else the files."""
    if (found["row"] == 0).all():
        count, most, word = len(found), _FILES_A_LINE, "file"
        shown = found["path"].head(most).tolist()
    else:
        count, most, word = len(found), _ROWS_A_LINE, "row"
        shown = [str(int(row)) for row in found["row"].head(most)]
    more = f" and {count - most} more" if count > most else ""
    return f"{word}{'s' * (count > 1)} {', '.join(shown)}{more}"


def _listing(problems: Sequence[Problem], advice: bool = True) -> str:
    lines = []
    for kind in dict.fromkeys(problem.kind for problem in problems):
        found = sorted(
            (item for item in problems if item.kind == kind), key=lambda item: item.row or 0
        )
        hint = f" {ADVICE[kind]}" if advice else ""
        lines.append(f"\n{kind} ({len(found)}):{hint}")
        lines += [
            f"  row {item.row}: {item.message}" if item.row else f"  {item.message}"
            for item in found[:_LINES_A_KIND]
        ]
        if len(found) > _LINES_A_KIND:
            lines.append(f"  and {len(found) - _LINES_A_KIND} more")
    return "\n".join(lines)
