"""What a report says, before it is a page: sections of paragraphs, tables and pictures.

The sections of the report are built of these blocks once; `markdown`, `page` and `tables` write
them down. So report.html, report.md and the CSV files cannot disagree. Holds data only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; each may be None where it is undefined.

    Attributes:
        value: the number.
        low: lower end of its interval.
        high: upper end.
        digits: decimals that people are shown; files keep all.
        mark: of a footnote, behind the number where people are shown it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    digits: int = 3
    mark: str = ""

    @classmethod
    def of(cls, entry: dict, digits: int = 3) -> "Estimate":
        """From an entry {value, low, high} of metrics.json."""
        return cls(entry["value"], entry["low"], entry["high"], digits)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over folds."""

    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class Share:
    """A part of a whole in 0..1, told in percent."""

    value: float | None


Value = str | int | float | Estimate | Spread | Share | None


@dataclass(frozen=True)
class Text:
    """A paragraph; **bold** and `code` as in Markdown."""

    words: str
    soft: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    words: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Note:
    """A sentence that must not be overlooked: "bad", "warn" or "good"."""

    kind: str
    words: str


@dataclass(frozen=True)
class Tiles:
    """Large numbers, each with what it is and, where it has one, its interval."""

    items: Sequence[tuple[Value, str]]


@dataclass(frozen=True)
class Table:
    """A table; with a name it is also written to tables/<name>.csv, in full digits.

    Attributes:
        header: names of the columns.
        rows: one value a column.
        name: file name without its end, or None for no file.
        folded: on the page the table opens on a click on these words; "" shows it at once.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Value]]
    name: str | None = None
    folded: str = ""


@dataclass(frozen=True)
class Figure:
    """figures/<name>.svg and .png, drawn before the document is written.

    Attributes:
        name: file name without its end.
        caption: what it shows.
        draw: draws it to the path of the PNG that it is given, and the SVG beside it.
        width: most pixels across on the page.
        panels: parts of equal width; a page that is too narrow for them stacks them.
    """

    name: str
    caption: str
    draw: Callable[[Path], None]
    width: int = 760
    panels: int = 1


@dataclass(frozen=True)
class Beside:
    """Figures beside one another where there is room."""

    items: Sequence[Figure]


@dataclass(frozen=True)
class Still:
    """A PNG below the report's folder that something else drew."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Shown:
    """One image of a gallery.

    Attributes:
        caption: what it is.
        pixels: uint8 (h, w, 3), or None where the image is not at hand.
        overlay: the same with its activation map, or None.
    """

    caption: str
    pixels: np.ndarray | None = None
    overlay: np.ndarray | None = None


@dataclass(frozen=True)
class Gallery:
    """Images side by side; on paper without images, a list of their captions."""

    items: Sequence[Shown]


@dataclass(frozen=True)
class Code:
    """Text as it stands, behind a summary that opens."""

    summary: str
    words: str
    language: str = ""


Block = Text | Heading | Bullets | Note | Tiles | Table | Figure | Beside | Still | Gallery | Code


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; without blocks it is left out."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """The whole report.

    Attributes:
        title: its heading.
        lead: blocks above the first section.
        sections: in the order of reading.
    """

    title: str
    lead: Sequence[Block]
    sections: Sequence[Section] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sections", tuple(s for s in self.sections if s.blocks))

    def blocks(self) -> list[Block]:
        """All blocks in order; figures that stand beside one another one by one."""
        blocks = [*self.lead, *(block for section in self.sections for block in section.blocks)]
        return [
            part
            for block in blocks
            for part in (block.items if isinstance(block, Beside) else [block])
        ]
