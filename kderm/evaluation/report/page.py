"""A report's document as one self-contained HTML page: no script, no network.

Drawings go in as SVG whose inks follow the page's, so that one drawing serves light, dark and
print.
"""

import re
from pathlib import Path

from kderm import html_page
from kderm.evaluation.report.document import (
    Beside,
    Block,
    Bullets,
    Code,
    Document,
    Estimate,
    Figure,
    Gallery,
    Heading,
    Note,
    Spread,
    Still,
    Table,
    Text,
    Tiles,
    Value,
)
from kderm.evaluation.report.wording import said

NO_BREAK = "\u00a0"
# Inks of the drawings -> the page's own; see `style.INK` and its neighbours.
_INKS = {
    "#222222": "var(--ink)",
    "#000000": "var(--ink)",
    "#d9d9d9": "var(--line)",
    "#ececec": "var(--line)",
    "#8c8c8c": "var(--soft)",
    "#f4f4f4": "var(--page)",
    "#ffffff": "var(--card)",
}


def to_html(document: Document, directory: Path) -> str:
    """The file's text; pictures are read from `directory`."""
    lead = "\n".join(block_html(block, directory) for block in document.lead)
    page = html_page.Page(document.title, lead)
    for section in document.sections:
        page.section(section.heading, *(block_html(block, directory) for block in section.blocks))
    return page.html()


def block_html(block: Block, directory: Path) -> str:
    """One block; empty where there is nothing to show."""
    match block:
        case Text():
            return html_page.paragraph(block.words, block.soft)
        case Heading():
            return html_page.heading(block.words)
        case Bullets():
            return html_page.bullets(block.items)
        case Note():
            return html_page.note(block.kind, block.words)
        case Tiles():
            return html_page.facts(_tile(value, name) for value, name in block.items)
        case Table():
            return _table(block)
        case Figure():
            path = directory / "figures" / f"{block.name}.svg"
            parts = panels(inline_svg(path, block.name), block.name, block.panels)
            return html_page.vector(parts, block.caption, block.width)
        case Beside():
            return html_page.charts(*(block_html(figure, directory) for figure in block.items))
        case Still():
            return html_page.still(block.path, block.caption)
        case Gallery():
            return _gallery(block)
        case Code():
            return html_page.details(block.summary, html_page.preformatted(block.words))
    raise TypeError(f"no such block: {block!r}")


def _tile(value: Value, name: str) -> tuple[str, str, str]:
    """What it is, the number, and its interval."""
    if not isinstance(value, Estimate):
        return name, said(value), ""
    alone, _, interval = said(value).partition(" ")
    return name, alone, interval.strip("()").replace(" ", NO_BREAK)


def _table(block: Table) -> str:
    # On a phone a cell may break before its interval, not within it.
    rows = [
        [
            html_page.Cell(
                _unbroken(said(cell)) if isinstance(cell, Estimate | Spread) else said(cell)
            )
            for cell in row
        ]
        for row in block.rows
    ]
    whole = html_page.table(block.header, rows)
    return html_page.details(block.folded, whole) if block.folded and whole else whole


def _unbroken(words: str) -> str:
    value, *rest = words.split(" ", 1)
    return " ".join([value, *(part.replace(" ", NO_BREAK) for part in rest)])


def _gallery(block: Gallery) -> str:
    missing = [shown.caption for shown in block.items if shown.pixels is None]
    doubles = [
        (shown.pixels, shown.overlay, shown.caption)
        for shown in block.items
        if shown.pixels is not None and shown.overlay is not None
    ]
    singles = [
        (shown.pixels, shown.caption)
        for shown in block.items
        if shown.pixels is not None and shown.overlay is None
    ]
    return "\n".join(
        [
            html_page.pairs(doubles) if doubles else "",
            html_page.grid(singles, 150) if singles else "",
            html_page.bullets(missing) if missing else "",
        ]
    )


def inline_svg(path: Path, name: str) -> str:
    """The <svg> element of a drawing, in the page's inks and with ids that are its own."""
    text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sid="([^"]+)"', rf' id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    for ink, own in _INKS.items():
        text = re.sub(ink, own, text, flags=re.IGNORECASE)
    # A glyph of matplotlib's is filled with black unless it is told otherwise.
    return re.sub(r"(<svg [^>]*?)>", r'\1 fill="currentColor">', text, count=1)


def panels(svg: str, name: str, count: int) -> list[str]:
    """A drawing cut into its panels, of equal width: the first holds it, the others show it again.

    Args:
        svg: of `inline_svg`.
        name: the same.
        count: panels.
    """
    if count == 1:
        return [svg]
    left, top, width, height = map(float, re.search(r'viewBox="([^"]+)"', svg)[1].split())
    boxes = [
        f"{left + width * j / count:g} {top:g} {width / count:g} {height:g}" for j in range(count)
    ]
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    first = re.sub(r'viewBox="[^"]+"', f'viewBox="{boxes[0]}"', svg, count=1)
    again = f'<use href="#{name}-figure_1"/>'
    return [
        first,
        *(f'<svg viewBox="{box}" fill="currentColor">{again}</svg>' for box in boxes[1:]),
    ]
