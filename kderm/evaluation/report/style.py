"""How every picture of the project's reports looks, and how it becomes a file.

One style throughout: a class keeps its colour in every figure. Matplotlib is imported when a
figure is drawn, through its object interface, so no window system or pyplot state is touched.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kderm import atomic
from kderm.font_list import make_font_list

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito 2008, told apart with any colour vision; its pale yellow is left out and grey added.
COLOURS = ("#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#8C8C8C")
# Beyond eight classes the colours come round again with another line.
DASHES = ("-", "--", ":")
INK, FAINT, SEEN, HELD_OUT = "#222222", "#D9D9D9", "#8C8C8C", "#0072B2"
STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "axes.grid": True,
    "grid.color": "#ECECEC",
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.facecolor": "white",
    "savefig.dpi": 144,
    "svg.fonttype": "path",
    "svg.hashsalt": "kderm",
}


def class_style(j: int) -> dict[str, str]:
    """Colour and dash of the class at position `j` of its label space."""
    return {
        "color": COLOURS[j % len(COLOURS)],
        "linestyle": DASHES[j // len(COLOURS) % len(DASHES)],
    }


@contextlib.contextmanager
def drawn(path: Path, size: tuple[float, float], *, tight: bool = True) -> Iterator["Figure"]:
    """A figure in the project's style, saved when the block ends without an error.

    Args:
        path: PNG to write; the same drawing goes beside it as SVG, its words as outlines, so that
            it looks the same without the font.
        size: width and height in inches.
        tight: cut off what is empty around the drawing.
    """
    make_font_list()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        # No software version and no date in the files: the same table gives the same bytes.
        for file, none in ((path, "Software"), (path.with_suffix(".svg"), "Date")):
            with atomic.atomic_path(file) as temporary:
                box = "tight" if tight else None
                figure.savefig(temporary, metadata={none: None}, bbox_inches=box)


@contextlib.contextmanager
def drawn_panels(path: Path, count: int, size: tuple[float, float]) -> Iterator[list["SubFigure"]]:
    """A figure of panels that are exactly alike in width, so that a narrow page can stack them.

    Args:
        path: PNG to write, as for `drawn`.
        count: panels beside one another.
        size: width and height of one panel in inches.
    """
    with drawn(path, (count * size[0], size[1]), tight=False) as figure:
        yield list(figure.subfigures(1, count, squeeze=False)[0])
