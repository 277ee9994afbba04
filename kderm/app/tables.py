"""Many answers as a table, a contact sheet and a CSV, all inside the page: nothing to serve.

On a phone each row of the table is a card; the roles say that it is a table all the same. The
contact sheet is shown as small pictures with words, as many in a line as there is room for, and
downloaded as a picture. The CSV is predictions.csv, as `ensemble-predict` writes it. Knows answers;
no model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from kderm.app.answers import as_jpeg
from kderm.app.cards import message_list
from kderm.app.lay_names import lay_name
from kderm.app.points import point_rates, point_title
from kderm.app.sheet import HEIGHT, WIDTH, Tile, draw_sheets
from kderm.app.uploads import Upload
from kderm.counting import counted, percent
from kderm.data.images import ImageSpec, UnreadableImage, read_image
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.result_table import as_text
from kderm.evaluation.decisions.points import FrozenPoint
from kderm.html_page import data_uri

_THUMB = ImageSpec(HEIGHT, WIDTH)
_MALIGNANT, _AGREE = "Malignant", "Networks agree"


@dataclass(frozen=True)
class Tabled:
    """The answers to many pictures, with what the contact sheet shows.

    Attributes:
        table: the columns of predictions.csv, a row a picture.
        thumbs: a small picture for each, uint8 (HEIGHT, WIDTH, 3), or None.
        notes: what was passed over, and what weakens all answers, a sentence each.
    """

    table: pd.DataFrame
    thumbs: tuple[np.ndarray | None, ...]
    notes: tuple[str, ...]


def thumb(picture: Upload) -> np.ndarray | None:
    """The picture for the contact sheet, upright; None where it cannot be read."""
    try:
        return read_image(picture.data, _THUMB)
    except UnreadableImage:
        return None


def csv_bytes(table: pd.DataFrame) -> bytes:
    """predictions.csv."""
    return as_text(table).to_csv(index=False, lineterminator="\n").encode()


def tabled_html(tabled: Tabled, bundle: Bundle, point: FrozenPoint | None) -> str:
    """Summary, downloads, table and contact sheet.

    Args:
        tabled: the answers.
        bundle: who gave them.
        point: which operating point flags; None for a bundle without points.
    """
    rows = tabled.table.to_dict("records")
    tiles = [
        _tile(row, picture, bundle, point) for row, picture in zip(rows, tabled.thumbs, strict=True)
    ]
    flagged = sum(tile.flagged for tile in tiles)
    answered = sum(row["error"] == "" for row in rows)
    summary = f"{answered:,} of {counted(len(rows), 'picture')} answered"
    if point is not None:
        rates = f"{point_title(point, bundle.labels)}: {point_rates(point, bundle.labels)}"
        summary += f", {flagged} flagged ({rates})"
    synthetic = "SYNTHETIC DATA. " * bundle.facts.synthetic
    sheets = draw_sheets(tiles, f"{synthetic}{bundle.facts.run}: no medical device")
    return (
        f'<section class="kd-answers" tabindex="-1" aria-label="Answers"><p>{escape(summary)}.</p>'
        f"{_links(tabled.table, sheets)}"
        f"{message_list(tabled.notes, 'kd-cautions')}"
        f"{_html_table(rows, bundle, point)}{_sheet_html(tiles)}</section>"
    )


def _tile(
    row: dict[str, Any], picture: np.ndarray | None, bundle: Bundle, point: FrozenPoint | None
) -> Tile:
    if row["error"]:
        return Tile(picture, row["image_id"], "no answer", False)
    code = row["predicted"]
    words = f"{percent(row[f'p_{code}'])} {lay_name(bundle.labels, code).name}"
    return Tile(picture, row["image_id"], words, _flagged(row, point))


def _flagged(row: dict[str, Any], point: FrozenPoint | None) -> bool:
    return point is not None and point.name in row["operating_points"].split()


def _links(table: pd.DataFrame, sheets: Sequence[bytes]) -> str:
    links = [
        f'<a download="predictions.csv" href="{data_uri(csv_bytes(table), "text/csv")}">'
        "Download the CSV</a>"
    ]
    for number, sheet in enumerate(sheets, 1):
        which = f" {number}" if len(sheets) > 1 else ""
        links.append(
            f'<a download="contact_sheet_{number:02d}.jpg" href="{data_uri(sheet, "image/jpeg")}">'
            f"Download contact sheet{which}</a>"
        )
    return f'<p class="kd-links">{"".join(links)}</p>'


def _html_table(rows: Sequence[dict[str, Any]], bundle: Bundle, point: FrozenPoint | None) -> str:
    doubted = any(row["unlike_training"] == 1 for row in rows)
    heads = {"Picture": "", "Flag": "", "Most likely": "", "Probability": "n"}
    heads |= {_MALIGNANT: "n", _AGREE: "n"} | ({"Doubt": ""} if doubted else {})
    head = "".join(
        f'<th scope="col" role="columnheader" class="{kind}">{name}</th>'
        for name, kind in heads.items()
    )
    body = "".join(_html_row(row, bundle, point, len(heads)) for row in rows)
    return (
        '<div class="kd-wide" tabindex="0" role="region" aria-label="Table of answers">'
        '<table class="kd-table" role="table"><thead role="rowgroup">'
        f'<tr role="row">{head}</tr></thead><tbody role="rowgroup">{body}</tbody></table></div>'
    )


def _html_row(row: dict[str, Any], bundle: Bundle, point: FrozenPoint | None, columns: int) -> str:
    name = _cell(row["path"], "kd-name")
    if row["error"]:
        return (
            f'<tr role="row">{name}{_cell(row["error"], "kd-whole", f"colspan={columns - 1}")}</tr>'
        )
    code, members = row["predicted"], len(bundle.facts.members)
    malignant = "–" if math.isnan(row["p_malignant"]) else percent(row["p_malignant"])
    flagged = _flagged(row, point)
    said = "⚑\N{NO-BREAK SPACE}flagged" if flagged else "not flagged"
    cells = [
        name,
        _cell("" if point is None else said, "kd-yes" if flagged else ""),
        _cell(lay_name(bundle.labels, code).name, "kd-what"),
        _cell(percent(row[f"p_{code}"]), "n kd-what"),
        _cell(malignant, "n", f'data-said="{_MALIGNANT}"'),
        _cell(
            f"{round(row['vote_agreement'] * members)} of {members}", "n", f'data-said="{_AGREE}"'
        ),
        _cell("unlike the training data" if row["unlike_training"] == 1 else "", "kd-whole"),
    ]
    return f'<tr role="row">{"".join(cells[:columns])}</tr>'


def _cell(words: str, kind: str, about: str = "") -> str:
    return f'<td role="cell" class="{kind}" {about}>{escape(words)}</td>'


def _sheet_html(tiles: Sequence[Tile]) -> str:
    return f'<h3>Contact sheet</h3><div class="kd-sheet">{"".join(map(_figure, tiles))}</div>'


def _figure(tile: Tile) -> str:
    picture = '<div class="kd-none"></div>'
    if tile.picture is not None:
        picture = f'<img src="{as_jpeg(tile.picture)}" alt="">'
    kind = ' class="kd-marked"' if tile.flagged else ""
    words = f"⚑ {tile.words}" if tile.flagged else tile.words
    return (
        f"<figure{kind}>{picture}<figcaption><b>{escape(words)}</b>{escape(tile.name)}"
        "</figcaption></figure>"
    )
