"""Reading a metadata CSV as people have it: any common delimiter, BOM or none, with line numbers.

Serves the adapters of this folder and the tables that prediction is given. Everything is text here;
meaning comes later.
"""

import codecs
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kderm.data.manifest import Problem
from kderm.errors import UserError

# Lists of Python strings take some ten times the room of pandas' own, so they are kept short.
_ROWS_A_PART = 1 << 15
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class CsvFile:
    """A CSV file whose header has been read.

    Attributes:
        path: the file.
        columns: header names, lower case, spaces as underscores.
        delimiter: one of comma, semicolon, tab, bar.
        encoding: utf-8-sig or utf-16.
        above: comment lines above the header, which begin with '#'.
    """

    path: Path
    columns: tuple[str, ...]
    delimiter: str
    encoding: str
    above: int = 0

    def first_of(self, names: Sequence[str]) -> str | None:
        """The first of `names` that is a column, or None."""
        return next((name for name in names if name in self.columns), None)

    def require(self, names: Sequence[str], what: str) -> str:
        """The first of `names` that is a column.

        Raises:
            UserError: none of them is.
        """
        found = self.first_of(names)
        if found is None:
            raise UserError(
                f"{self.path} has no column for the {what}. Expected one of: {', '.join(names)}. "
                f"Received the columns: {', '.join(self.columns)}. Rename the column."
            )
        return found

    def read(self, columns: Sequence[str]) -> tuple[pd.DataFrame, list[Problem]]:
        """The given columns as stripped text, with `row`, the line number of each row.

        Lines with a wrong number of fields are left out and come back as problems.
        """
        places = [self.columns.index(column) for column in columns]
        width = len(self.columns)
        parts: list[pd.DataFrame] = []
        kept: list[list[str]] = []
        rows: list[int] = []
        problems: list[Problem] = []
        with open(self.path, encoding=self.encoding, newline="") as handle:
            for _ in range(self.above):
                handle.readline()
            reader = csv.reader(handle, delimiter=self.delimiter)
            next(reader)
            before = self.above + reader.line_num
            try:
                for cells in reader:
                    # A quoted line break makes a row end further down than it starts.
                    line, before = before + 1, self.above + reader.line_num
                    if not any(cells):
                        continue
                    if len(cells) != width:
                        message = f"{len(cells)} fields instead of {width}"
                        problems.append(Problem("wrong number of fields", line, message))
                        continue
                    kept.append([cells[place].strip() for place in places])
                    rows.append(line)
                    if len(kept) == _ROWS_A_PART:
                        parts.append(pd.DataFrame(kept, columns=list(columns), dtype=str))
                        kept = []
            except csv.Error as error:
                raise UserError(
                    f"{self.path}, row {before + 1}: not valid CSV ({error})."
                ) from None
            except UnicodeDecodeError as error:
                raise _not_utf8(self.path, error) from None
        parts.append(pd.DataFrame(kept, columns=list(columns), dtype=str))
        table = pd.concat(parts, ignore_index=True)
        table["row"] = pd.Series(rows, dtype="int64")
        return table, problems


def open_csv(path: Path) -> CsvFile:
    """Read the header of the CSV at `path` and find out its delimiter and encoding.

    Any common delimiter will do, UTF-8 with a byte order mark or without, UTF-16, and lines of
    comment above the header that begin with '#'.

    Raises:
        UserError: no such file, empty, not text, or two columns of one name.
    """
    try:
        with open(path, "rb") as handle:
            start = handle.read(4)
        utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding = "utf-16" if utf16 else "utf-8-sig"
        with open(path, encoding=encoding, newline="") as handle:
            header, above = handle.readline(), 0
            while header.startswith("#"):
                header, above = handle.readline(), above + 1
    except OSError as error:
        raise UserError(f"Expected a CSV file at {path}. Received: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from None
    if not header.strip():
        raise UserError(f"Expected a CSV with a header line at {path}. Received: an empty line.")
    delimiter = max(_DELIMITERS, key=header.count)
    names = next(csv.reader([header], delimiter=delimiter))
    columns = tuple("_".join(name.strip().lower().split()) for name in names)
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise UserError(
            f"{path} has more than one column named {', '.join(map(repr, repeated))} "
            "(upper and lower case count as the same). Rename or remove all but one."
        )
    return CsvFile(Path(path), columns, delimiter, encoding, above)


def _not_utf8(path: Path, error: UnicodeDecodeError) -> UserError:
    return UserError(
        f"Expected UTF-8 text in {path}. Received: a byte that is none ({error.reason}). "
        "Save the table as 'CSV UTF-8'."
    )
