"""The report's tables as CSV files, in full digits, one column a number."""

from pathlib import Path

import pandas as pd

from kderm import atomic
from kderm.evaluation.report.document import Document, Estimate, Share, Spread, Table


def write_tables(document: Document, directory: Path) -> list[str]:
    """Write tables/<name>.csv of each named table, remove those of an earlier report; the names."""
    folder = directory / "tables"
    named = {block.name: block for block in document.blocks() if isinstance(block, Table)}
    named.pop(None, None)
    for name, table in named.items():
        atomic.write_csv(folder / f"{name}.csv", to_frame(table))
    for path in folder.glob("*.csv"):
        if path.stem not in named:
            path.unlink()
    return sorted(named)


def to_frame(table: Table) -> pd.DataFrame:
    """The table with each interval and spread taken apart into columns of their own."""
    columns: dict[str, list] = {}
    for j, name in enumerate(table.header):
        cells = [row[j] for row in table.rows]
        if any(isinstance(cell, Estimate) for cell in cells):
            parts = ("value", "low", "high")
            columns |= {_named(name, part, "value"): _parts(cells, part) for part in parts}
        elif any(isinstance(cell, Spread) for cell in cells):
            columns |= {f"{name} {part}": _parts(cells, part) for part in ("mean", "sd")}
        elif any(isinstance(cell, Share) for cell in cells):
            columns[name] = _parts(cells, "value")
        else:
            columns[name] = cells
    return pd.DataFrame(columns)


def _named(name: str, part: str, main: str) -> str:
    return name if part == main else f"{name} {part}"


def _parts(cells: list, part: str) -> list:
    return [getattr(cell, part, cell if part == "value" else None) for cell in cells]
