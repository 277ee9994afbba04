"""What the adapters of published data sets share: official tables found by name, columns by role.

Finds and reads; what a data set's columns and traps are stands in its own file.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from kderm.counting import counted
from kderm.data.datasets.csv_file import CsvFile
from kderm.data.datasets.image_index import ImageIndex, is_hidden
from kderm.data.manifest import MANIFEST_COLUMNS, Problem
from kderm.errors import UserError

Names = Sequence[str]


def find_tables(root: Path, pattern: str) -> list[Path]:
    """Files in `root`, or in a folder directly below, whose whole name fits `pattern` (any case).

    One a name, the topmost; sorted by name. Official archives unpack to a folder of their own.
    """
    fits = re.compile(pattern, re.IGNORECASE)
    found: dict[str, Path] = {}
    for level in ("*", "*/*"):
        for path in sorted(Path(root).glob(level)):
            if fits.fullmatch(path.name) and not is_hidden(path) and path.is_file():
                found.setdefault(path.name.lower(), path)
    return [found[name] for name in sorted(found)]


def no_table(root: Path, expected: str) -> UserError:
    """The error for a folder without the table `expected`."""
    here = sorted(path.name for path in Path(root).iterdir())
    shown = ", ".join(here[:12]) + (", ..." if len(here) > 12 else "")
    return UserError(
        f"Expected {expected} in {root} or in a folder directly below. Received a folder with: "
        f"{shown or 'nothing'}. Point data.root at the folder that holds it, or data.table at the "
        "file."
    )


def read_columns(
    source: CsvFile, required: Mapping[str, Names], optional: Mapping[str, Names]
) -> tuple[pd.DataFrame, list[Problem]]:
    """Columns of a CSV under the manifest's names, as text, with `row`.

    Args:
        source: the CSV.
        required, optional: name in the manifest -> what the column may be called here, best first.

    Raises:
        UserError: a required column is not there.
    """
    chosen = {name: source.require(aliases, name) for name, aliases in required.items()}
    chosen |= {
        name: found for name, aliases in optional.items() if (found := source.first_of(aliases))
    }
    table, problems = source.read(list(chosen.values()))
    return table.rename(columns={column: name for name, column in chosen.items()}), problems


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with every column that `RawRows` needs, None throughout where it has none."""
    absent = {column: None for column in MANIFEST_COLUMNS if column not in table}
    return table.assign(**absent)[[*MANIFEST_COLUMNS, "row"]]


def find_images(image_ids: Sequence[str], index: ImageIndex) -> tuple[list[str | None], list[str]]:
    """The file of each id, None where there is none; and a note where some have several."""
    found = [index.by_id(image_id) for image_id in image_ids]
    copies = sum(len(paths) > 1 for paths in found)
    notes = []
    if copies:
        # Kaggle's HAM10000 holds every image twice, in folders that differ in case only.
        notes.append(
            f"{copies} images lie below {index.root} more than once; the first copy is used."
        )
    return [index.full(paths[0]) if paths else None for paths in found], notes


def without_label(table: pd.DataFrame, words: frozenset[str]) -> tuple[pd.DataFrame, list[str]]:
    """Leave out the rows that say nothing for a label, with a note, if there are others.

    Args:
        table: with the column label.
        words: what stands for nothing, lower case.
    """
    empty = table["label"].fillna("").str.strip().str.lower().isin(words)
    if not empty.any() or empty.all():
        return table, []
    note = f"{counted(int(empty.sum()), 'image')} without a label left out."
    return table[~empty].reset_index(drop=True), [note]
