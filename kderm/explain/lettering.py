"""Words on drawn pictures: the font, and words cut or wrapped to a width in pixels.

For the sheets of `explain` and the contact sheet of the page. Knows no picture.
"""

import functools
import textwrap
from pathlib import Path
from typing import Literal

from PIL import ImageFont


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib brings it along, so that a sheet looks the same on every system."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def shortened(words: str, width: int, size: int, *, keep: Literal["start", "end"]) -> str:
    """`words`, with as much left out as does not fit the width.

    Args:
        words: what to say.
        width: pixels.
        size: of the font.
        keep: which end of the words tells most.
    """
    letters, kept = font(size), words
    while kept and letters.getlength(kept if kept == words else _marked(kept, keep)) > width:
        kept = kept[:-1] if keep == "start" else kept[1:]
    return words if kept == words else _marked(kept, keep)


def wrapped(words: str, width: int, size: int, bold: bool = False) -> list[str]:
    """Lines that fit the width, by the font's mean width of a letter."""
    letter = font(size, bold).getlength("nemo enim ipsam") / 15
    return textwrap.wrap(words, max(10, int(width / letter)))


def _marked(kept: str, keep: str) -> str:
    return f"{kept}…" if keep == "start" else f"…{kept}"
