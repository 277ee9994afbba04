"""What people see while work goes on: bars on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

Progress = Callable[[int, int], None]  # (done, total)

_bars: "Bars | None" = None  # the one live display; inner bars become lines of it


def say(text: str = "") -> None:
    """Print one line (or a block) to standard output at once."""
    if _bars is not None and sys.stdout.isatty():
        _bars.console.print(text, markup=False, highlight=False)
    else:
        print(text, flush=True)


def warn(text: str) -> None:
    """Print a warning to standard error."""
    if _bars is not None:
        _bars.console.print(f"warning: {text}", markup=False, highlight=False)
    else:
        print(f"warning: {text}", file=sys.stderr, flush=True)


def program() -> str:
    """How this program was called: "kderm", or "python run.py"."""
    return "kderm" if Path(sys.argv[0]).stem == "kderm" else "python run.py"


@contextlib.contextmanager
def progress(description: str, every: float = 15.0) -> Iterator[Progress]:
    """Yield `report(done, total)`; a bar on a terminal, a line each `every` seconds elsewhere."""
    if sys.stderr.isatty():
        with _live() as bars:
            task = bars.add_task(description, total=None)
            try:
                yield lambda done, total: bars.update(task, completed=done, total=total)
            finally:
                bars.remove_task(task)
        return
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every:
            last = now
            print(f"{description}: {done}/{total}", file=sys.stderr, flush=True)

    yield report


@contextlib.contextmanager
def _live() -> Iterator["Bars"]:
    """The live display, opened by the outermost bar."""
    global _bars
    if _bars is not None:
        yield _bars
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # Standard output may be a file while the bars are on the terminal: leave it alone.
    screen = Console(stderr=True)
    with Bars(*columns, console=screen, transient=True, redirect_stdout=False) as _bars:
        try:
            yield _bars
        finally:
            _bars = None


def table(rows: list[list[object]], header: list[str]) -> str:
    """A plain aligned text table: the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for number, row in enumerate(cells):
        parts = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(parts).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)
