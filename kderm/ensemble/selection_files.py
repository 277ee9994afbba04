"""What `select` leaves in `runs/<run>/selection/`: a CSV and a Markdown table of each question."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kderm.atomic import write_csv, write_text
from kderm.console import table
from kderm.run_dir import RunDir


@dataclass(frozen=True)
class Selection:
    """One question answered.

    Attributes:
        name: of the files, without suffix.
        title: the question, for people.
        rows: see `kderm.ensemble.selection`.
        notes: what the numbers stand on and what they do not say, a sentence each.
    """

    name: str
    title: str
    rows: list[dict]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.title, "", _aligned(self.rows), "", *self.notes])


def write_selection(run: RunDir, selection: Selection) -> Path:
    """Write `<name>.csv` (whole numbers) and `<name>.md` (rounded, with notes); the latter's path.

    Args:
        run: the run that the selection speaks of.
        selection: what to write.
    """
    place = run.selection / f"{selection.name}.md"
    write_csv(place.with_suffix(".csv"), pd.DataFrame(selection.rows))
    header, *rows = _cells(selection.rows)
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    notes = [f"- {note}" for note in selection.notes]
    write_text(place, "\n".join([f"# {selection.title}", "", *lines, "", *notes, ""]))
    return place


def _aligned(rows: Sequence[dict]) -> str:
    header, *cells = _cells(rows)
    return table(cells, header)


def _cells(rows: Sequence[dict]) -> list[list[str]]:
    """The header and the rows as short texts; a gain and its interval, a mean and its range as one.

    `x_low` and `x_high`, `x_lowest` and `x_highest` go into the cell of x.
    """
    names = [
        name for name in rows[0] if not name.endswith(("_low", "_high", "_lowest", "_highest"))
    ]
    return [[name.replace("_", " ") for name in names]] + [
        [_cell(row, name) for name in names] for row in rows
    ]


def _cell(row: dict, name: str) -> str:
    value = row[name]
    text = _short(value, signed=name.endswith("_gain"))
    for low, high in (("_low", "_high"), ("_lowest", "_highest")):
        ends = row.get(name + low), row.get(name + high)
        if value is not None and None not in ends and ends != (value, value):
            signed = name.endswith("_gain")
            text += f" ({_short(ends[0], signed)} to {_short(ends[1], signed)})"
    return text


def _short(value: object, signed: bool = False) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:+.4f}" if signed else f"{value:.4f}"
    return str(value)
