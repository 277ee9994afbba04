"""Sheets of explained pictures: the picture above, the two maps below, a few words on each.

Draws with Pillow what `kderm.explain.explained` found; knows no model and no run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from kderm.atomic import atomic_path
from kderm.explain.explained import Explained
from kderm.explain.lettering import font, shortened, wrapped

INK, FAINT, WRONG, FLAG, PAPER = "#222222", "#6B6B6B", "#B3261E", "#9A5B00", "#FFFFFF"
TILE_WIDTH = 220
_MARGIN, _GAP, _LINE, _SMALL, _LARGE = 18, 10, 16, 12, 20
_QUALITY = 88

LEGEND = (
    "Below each picture: what speaks for the class named there. Every map is scaled to its own "
    "maximum, so read the probability beside it. Maps are coarse: a cell is one of the layer "
    "looked into, of the last features usually 32 pixels of the input (4 × 4 cells at 128 px), "
    "smoothly "
    "enlarged, so the line is no outline of what was seen. The lesion, ruler and corners of the "
    "amber words are found by simple means. No medical device."
)
# What the key shows -> how strong the evidence is there, and whether the network looked.
_KEY = (
    ("in colour: evidence for the class", 1.0, True),
    ("grey: none", 0.0, True),
    ("white line: half of the maximum", None, True),
    ("pale: not seen by the network", 0.0, False),
)
_KEY_WORDS = (("red: wrong answer", WRONG), ("amber: why to look twice", FLAG))


@dataclass(frozen=True)
class Card:
    """An explained image and the picture that it is drawn on, uint8 (H, W, 3), the whole frame."""

    image: Explained
    picture: np.ndarray


def overlay(picture: np.ndarray, evidence: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The picture as it is where the evidence is, dark grey where it is not, white where unseen.

    Laid over the picture, colours would hide the very place that the network looks at.

    Args:
        picture: uint8 (H, W, 3), a whole frame at any scale.
        evidence: float (H', W'), in [0, 1], over the frame; from three quarters on nothing is taken
            away.
        seen: bool (H', W').

    Returns:
        uint8 (H, W, 3).
    """
    shape = picture.shape[:2]
    large = resized(evidence, shape)
    lit = np.clip(large / 0.75, 0.0, 1.0)[..., None]
    dark = 0.45 * picture.mean(axis=-1, keepdims=True) + 15.0
    drawn = lit * picture + (1.0 - lit) * dark
    inside = large >= 0.5
    hidden = resized(seen.astype(np.float32), shape) < 0.5
    # Where the view ends the map does too: that edge is none of the evidence's.
    edge = ndimage.binary_dilation(hidden, iterations=2 + round(2 * shape[0] / seen.shape[0]))
    drawn[ndimage.binary_dilation(inside) & ~inside & ~edge] = 255.0
    drawn[hidden] = 0.25 * picture[hidden] + 0.75 * 255.0
    return np.rint(drawn).astype(np.uint8)


def draw_sheet(
    path: Path,
    title: str,
    sections: Sequence[tuple[str, Sequence[Card]]],
    *,
    columns: int = 6,
    note: str = "",
) -> None:
    """Write a sheet: a heading and rows of cards for each section; sections without cards say so.

    Args:
        path: PNG or JPEG.
        title: of the sheet.
        sections: headings and their cards.
        columns: cards in a row.
        note: added to the legend below.
    """
    width = 2 * _MARGIN + columns * (TILE_WIDTH + _GAP) - _GAP
    blocks = [_text(title, width, _LARGE, bold=True), _key(width)]
    for heading, cards in sections:
        if heading:
            told = heading if cards else f"{heading}: none"
            blocks.append(_text(told, width, 15, bold=True))
        for start in range(0, len(cards), columns):
            blocks.append(_row([draw_card(card) for card in cards[start : start + columns]], width))
    blocks.append(_text(f"{note} {LEGEND}".strip(), width, _SMALL, FAINT))
    height = sum(block.height for block in blocks) + _GAP * (len(blocks) + 1)
    sheet, top = Image.new("RGB", (width, height), PAPER), _GAP
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height + _GAP
    save_picture(path, sheet)


def draw_card(card: Card, width: int = TILE_WIDTH, *, across: bool = False) -> Image.Image:
    """One image: who it is, its picture, its maps, one below the other or `across`."""
    image = card.image
    height = max(1, round(width * card.picture.shape[0] / card.picture.shape[1]))
    fitted = Image.fromarray(card.picture).resize((width, height), Image.Resampling.LANCZOS)
    tiles = [(np.asarray(fitted), _who(image), INK)]
    wrong = image.label and image.label != image.predicted
    for number, question in enumerate(image.questions):
        words = f"{question.code}  p {_probability(question.probability)}"
        if number == 0:
            words = f"answer {words}"
        if not image.maps[number].any():
            words += ", nothing for it"
        colour = WRONG if number == 0 and wrong else INK
        drawn = overlay(np.asarray(fitted), image.maps[number], image.seen)
        tiles.append((drawn, words, colour))
    step = (width + _GAP, 0) if across else (0, height + _LINE + 4)
    size = (width + 2 * step[0], (height + _LINE + 4) + 2 * step[1] + 2 * _LINE)
    canvas = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(canvas)
    for number, (pixels, words, colour) in enumerate(tiles):
        left, top = number * step[0], number * step[1]
        pen.text((left, top), shortened(words, width, _SMALL, keep="end"), colour, font(_SMALL))
        canvas.paste(Image.fromarray(pixels), (left, top + _LINE + 2))
    lines = wrapped(image.flags, size[0], 11)[:2]
    for number, line in enumerate(lines):
        pen.text((0, size[1] - (2 - number) * _LINE), line, FLAG, font(11))
    return canvas


def save_picture(path: Path, image: Image.Image) -> None:
    """Write a PNG or JPEG, atomically."""
    with atomic_path(path) as temporary:
        image.save(temporary, quality=_QUALITY)


def _who(image: Explained) -> str:
    return f"{image.image_id}  ·  {image.label}" if image.label else image.image_id


def _row(cards: Sequence[Image.Image], width: int) -> Image.Image:
    row = Image.new("RGB", (width, max(card.height for card in cards)), PAPER)
    for number, card in enumerate(cards):
        row.paste(card, (_MARGIN + number * (TILE_WIDTH + _GAP), 0))
    return row


def _key(width: int) -> Image.Image:
    """What the colours mean, as swatches and words in as many lines as they need."""
    entries = [(words, INK, _swatch(strength, seen)) for words, strength, seen in _KEY]
    entries += [(words, colour, None) for words, colour in _KEY_WORDS]
    placed, left, top = [], _MARGIN, 0
    for words, colour, swatch in entries:
        room = (swatch.width + 6 if swatch else 0) + round(font(_SMALL).getlength(words))
        if left > _MARGIN and left + room > width - _MARGIN:
            left, top = _MARGIN, top + _LINE + 8
        placed.append((left, top, words, colour, swatch))
        left += room + 2 * _MARGIN
    block = Image.new("RGB", (width, top + _LINE + 4), PAPER)
    pen = ImageDraw.Draw(block)
    for left, top, words, colour, swatch in placed:
        if swatch:
            block.paste(swatch, (left, top))
            left += swatch.width + 6
        pen.text((left, top + 1), words, colour, font(_SMALL))
    return block


def _swatch(strength: float | None, seen: bool) -> Image.Image:
    """A piece of skin as `overlay` draws it; None for evidence in its middle alone."""
    skin = np.full((_LINE, 30, 3), (226, 170, 146), np.uint8)
    skin[:, 9:21] = (150, 88, 60)
    evidence = np.full(skin.shape[:2], strength or 0.0)
    if strength is None:
        evidence[4:-4, 8:22] = 1.0
    return Image.fromarray(overlay(skin, evidence, np.full(skin.shape[:2], seen)))


def _text(
    words: str, width: int, size: int, colour: str = INK, *, bold: bool = False
) -> Image.Image:
    """A block of wrapped words as wide as the sheet."""
    lines = wrapped(words, width - 2 * _MARGIN, size, bold)
    step = round(1.35 * size)
    block = Image.new("RGB", (width, max(1, step * len(lines))), PAPER)
    pen = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, number * step), line, colour, font(size, bold))
    return block


def _probability(value: float) -> str:
    """Two digits that claim no certainty."""
    if 0.995 <= value < 1:
        return "> 0.99"
    return "< 0.01" if 0 < value < 0.005 else f"{value:.2f}"


def resized(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A map (H', W') smoothly at (H, W), float32 in [0, 1]."""
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    large = image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(large), 0.0, 1.0)
