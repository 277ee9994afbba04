"""The contact sheet of many answers: small pictures with their names, answers and flags.

Drawn with Pillow from pixels alone, so that no EXIF can come along. Knows no model.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from kderm.explain.lettering import font, shortened

COLUMNS, PER_SHEET = 6, 60
WIDTH, HEIGHT = 200, 150
_GAP, _LINE, _SIZE, _HEAD = 12, 18, 13, 34
_INK, _FAINT, _FLAG, _PAPER = "#222222", "#6B6B6B", "#B3261E", "#FFFFFF"
_QUALITY = 85


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        picture: uint8 (HEIGHT, WIDTH, 3); None where it could not be read.
        name: of the picture.
        words: the answer, or why there is none.
        flagged: whether the operating point flags it.
    """

    picture: np.ndarray | None
    name: str
    words: str
    flagged: bool


def draw_sheets(tiles: Sequence[Tile], title: str) -> list[bytes]:
    """JPEG files of up to `PER_SHEET` tiles each.

    Args:
        tiles: what to show, in this order.
        title: the heading of every sheet.
    """
    count = -(-len(tiles) // PER_SHEET)
    sheets = []
    for number in range(count):
        part = tiles[number * PER_SHEET : (number + 1) * PER_SHEET]
        which = f"{title}, sheet {number + 1} of {count}" if count > 1 else title
        file = io.BytesIO()
        _sheet(part, which).save(file, "JPEG", quality=_QUALITY)
        sheets.append(file.getvalue())
    return sheets


def _sheet(tiles: Sequence[Tile], title: str) -> Image.Image:
    columns = min(COLUMNS, max(3, len(tiles)))
    rows = -(-len(tiles) // columns)
    across, down = WIDTH + _GAP, HEIGHT + 2 * _LINE + _GAP
    sheet = Image.new("RGB", (columns * across + _GAP, rows * down + _HEAD + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, (_GAP, _GAP), title, sheet.width - 2 * _GAP, _INK)
    for number, tile in enumerate(tiles):
        left = _GAP + number % columns * across
        top = _HEAD + _GAP // 2 + number // columns * down
        if tile.picture is not None:
            sheet.paste(Image.fromarray(tile.picture), (left, top))
        frame = (left - 2, top - 2, left + WIDTH + 1, top + HEIGHT + 1)
        if tile.flagged or tile.picture is None:
            colour = _FLAG if tile.flagged else _FAINT
            pen.rectangle(frame, outline=colour, width=3 if tile.flagged else 1)
        words = f"⚑ {tile.words}" if tile.flagged else tile.words
        colour = _FLAG if tile.flagged else _INK
        _write(pen, (left, top + HEIGHT + 3), words, WIDTH, colour)
        _write(pen, (left, top + HEIGHT + 3 + _LINE), tile.name, WIDTH, _FAINT)
    return sheet


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], words: str, width: int, colour: str
) -> None:
    pen.text(place, shortened(words, width, _SIZE, keep="start"), colour, font(_SIZE))
