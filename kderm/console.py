"""What people see while work goes on: bars on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

Progress = Callable[[int, int], None]  # (done, total)
ReportOfMany = Callable[[str, str, int, int], None]  # (name, what, done, total)

_bars: "Bars | None" = None  # the one live display; inner bars become lines of it
_listener: Callable[..., None] | None = None  # hears of everything here; see `forward_to`
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
_BETWEEN = 0.2  # seconds between two reports to a listener


def say(text: str = "") -> None:
    """Print one line (or a block) to standard output at once."""
    if _listener is not None:
        _listener("said", text)
    if _quiet.get():
        return
    if _bars is not None and sys.stdout.isatty():
        _bars.console.print(text, markup=False, highlight=False)
    else:
        print(text, flush=True)


def warn(text: str) -> None:
    """Print a warning to standard error."""
    if _listener is not None:
        _listener("warned", text)
    if _bars is not None:
        _bars.console.print(f"warning: {text}", markup=False, highlight=False)
    else:
        print(f"warning: {text}", file=sys.stderr, flush=True)


def forward_to(listener: Callable[..., None]) -> None:
    """Tell `listener` too what is printed: ("said" | "warned", text), ("at", what, done, total).

    So a process that trains one fold speaks through the process that started it.
    """
    global _listener
    _listener = listener


@contextlib.contextmanager
def quiet(hold: bool = True) -> Iterator[None]:
    """Print nothing but warnings while it lasts, in this thread; `hold` False changes nothing."""
    before = _quiet.set(hold or _quiet.get())
    try:
        yield
    finally:
        _quiet.reset(before)


def program() -> str:
    """How this program was called: "kderm", or "python run.py"."""
    return "kderm" if Path(sys.argv[0]).stem == "kderm" else "python run.py"


@contextlib.contextmanager
def progress(description: str, every: float = 15.0) -> Iterator[Progress]:
    """Yield `report(done, total)`; a bar on a terminal, a line each `every` seconds elsewhere."""
    if _quiet.get():
        yield lambda done, total: None
        return
    if sys.stderr.isatty():
        with _live() as bars:
            task = bars.add_task(description, total=None)
            try:
                yield lambda done, total: bars.update(task, completed=done, total=total)
            finally:
                bars.remove_task(task)
        return
    printed, told = time.monotonic(), 0.0

    def report(done: int, total: int) -> None:
        nonlocal printed, told
        now = time.monotonic()
        if _listener is not None and (now - told >= _BETWEEN or done == total):
            told = now
            _listener("at", description, done, total)
        if now - printed >= every:
            printed = now
            print(f"{description}: {done}/{total}", file=sys.stderr, flush=True)

    yield report


@contextlib.contextmanager
def progress_of_many(every: float = 15.0) -> Iterator[ReportOfMany]:
    """Yield `report(name, what, done, total)` for things that go on side by side.

    A bar a name on a terminal; elsewhere one line of all names each `every` seconds. A total of 0
    takes the name off.
    """
    if _quiet.get():
        yield lambda name, what, done, total: None
        return
    if sys.stderr.isatty():
        with _live() as bars:
            tasks: dict = {}

            def draw(name: str, what: str, done: int, total: int) -> None:
                if not total:
                    if name in tasks:
                        bars.remove_task(tasks.pop(name))
                    return
                if name not in tasks:
                    tasks[name] = bars.add_task(name)
                text = f"{name} {what}"
                bars.update(tasks[name], description=text, completed=done, total=total)

            yield draw
        return
    lines: dict[str, str] = {}
    printed = time.monotonic()

    def report(name: str, what: str, done: int, total: int) -> None:
        nonlocal printed
        lines.pop(name, None)
        if total:
            lines[name] = f"{name} {what} {done}/{total}"
        if lines and time.monotonic() - printed >= every:
            printed = time.monotonic()
            print("; ".join(lines[key] for key in sorted(lines)), file=sys.stderr, flush=True)

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
