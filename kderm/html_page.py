"""One self-contained HTML page: sections, tables, figures and picture grids in one file.

Everything is inside the file: style, charts, pictures. No script and no network. Light or dark by
what the reader's system says, readable at the width of a phone, and fit to be printed. Knows
strings and pictures; no data set. The pages of `inspect` and the report are made of it.
"""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

_STYLE = """
:root{color-scheme:light dark;--page:#f6f6f7;--card:#fff;--ink:#1f2328;--soft:#59606a;
--line:#e3e5e8;--accent:#0072b2;--bad:#b42318;--bad-page:#fdeceb;--warn:#8a5300;--warn-page:#fdf3e1;
--good:#1a6b3c;--good-page:#e8f5ee}
@media screen and (prefers-color-scheme:dark){:root{--page:#0f0f11;--card:#18181b;--ink:#e4e4e7;
--soft:#a1a1aa;--line:#303036;--accent:#4ba3da;--bad:#ff9d93;--bad-page:#3a1916;--warn:#f3c26b;--warn-page:#33270f;
--good:#7fd6a2;--good-page:#12301f}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 6px;overflow-wrap:anywhere}
h2{font-size:1.3rem;line-height:1.3;margin:0 0 10px}
h3{font-size:1.02rem;margin:26px 0 8px}
p{margin:0 0 12px;max-width:75ch}
.soft{color:var(--soft)}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:24px;
margin:20px 0}
nav{display:flex;flex-wrap:wrap;gap:6px 18px;margin:14px 0 0;font-size:.94rem}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(118px,1fr));gap:12px;margin:20px 0}
.fact{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:12px 16px}
.fact b{display:block;font-size:1.5rem;line-height:1.25;font-variant-numeric:tabular-nums}
.fact span,.fact small{display:block;color:var(--soft);font-size:.88rem}
.fact small{font-variant-numeric:tabular-nums;font-size:.82rem}
.findings{list-style:none;margin:0;padding:0;display:grid;gap:8px}
.findings li{border-radius:8px;padding:9px 14px;overflow-wrap:anywhere}
.bad{background:var(--bad-page);color:var(--bad)}
.warn{background:var(--warn-page);color:var(--warn)}
.good{background:var(--good-page);color:var(--good)}
.wide{overflow-x:auto;margin:0 0 14px;
background:linear-gradient(to left,var(--card) 35%,transparent) right/40px 100% no-repeat local,
linear-gradient(to left,rgb(128 128 128/.4),transparent) right/12px 100% no-repeat scroll}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;min-width:50%}
th,td{padding:6px 11px 6px 0;text-align:left;border-bottom:1px solid var(--line);
vertical-align:top}
th{color:var(--soft);font-weight:600;vertical-align:bottom}
td.n,th.n{text-align:right}
td.n{white-space:nowrap}
td.long{min-width:24ch}
td.shade{padding-left:10px;padding-right:10px}
.bar{display:inline-block;height:.72em;border-radius:2px;margin-right:8px;min-width:2px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:18px}
figure{margin:0}
figure.chart{max-width:640px}
figure img{width:100%;height:auto;display:block;border-radius:6px}
figcaption{color:var(--soft);font-size:.88rem;margin-top:4px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(var(--least),1fr));gap:8px 12px;
margin:0 0 18px}
.grid figcaption{font-size:.74rem;line-height:1.35;overflow-wrap:anywhere}
.steps{display:grid;gap:8px;margin:0 0 16px}
.row{display:grid;grid-template-columns:repeat(var(--n),minmax(104px,1fr));gap:6px;overflow-x:auto}
.row figcaption{font-size:.76rem}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,270px),1fr));gap:14px}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:4px}
.pair figcaption{grid-column:1/3;font-size:.8rem;overflow-wrap:anywhere}
footer{color:var(--soft);font-size:.88rem}
figure.vector{margin:0 0 16px;max-width:var(--width,760px)}
figure.vector svg{width:100%;height:auto;display:block}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,var(--panel)),1fr))}
figure.plain img{max-width:760px}
ul.plain{margin:0 0 12px;padding-left:1.2em;max-width:75ch}ul.plain li{margin:0 0 6px}
.findings.apart{margin:14px 0}
details{margin:0 0 12px}summary{cursor:pointer;color:var(--accent)}
pre{background:var(--page);border:1px solid var(--line);border-radius:8px;padding:12px 14px;
overflow-x:auto;font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,monospace;white-space:pre-wrap;
overflow-wrap:anywhere}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
@media (max-width:560px){table{font-size:.86rem}td,th{padding-right:10px}td.n{white-space:normal}
td.long{min-width:16ch}
td:first-child{min-width:0}main{padding:20px 12px 40px}.card{padding:16px 14px}h1{font-size:1.5rem}
.grid{grid-template-columns:repeat(auto-fill,minmax(calc(.8*var(--least)),1fr))}}
@media print{:root{--page:#fff}body{font-size:10.5pt}main{max-width:none;padding:0}nav{display:none}
.card{border:0;border-top:1px solid var(--line);border-radius:0;padding:14px 0;margin:0}
figure,tr,.fact,.findings li,.pair{break-inside:avoid}h2,h3{break-after:avoid}
.wide,pre{overflow:visible;background:none}
details::details-content{content-visibility:visible;height:auto}
.charts{grid-template-columns:1fr 1fr}.pairs{display:block}.pair{margin:0 0 12px}
table{font-size:8.2pt}th,td.n{white-space:normal}td,th{padding:4px 8px 4px 0}
.grid{grid-template-columns:repeat(6,1fr)}}
"""


@dataclass
class Page:
    """A page that grows section by section; `html` gives the whole.

    Attributes:
        title: heading.
        lead: HTML under the heading.
    """

    title: str
    lead: str
    _sections: list[tuple[str, str]] = field(default_factory=list)

    def section(self, heading: str, *parts: str) -> None:
        """Add a card with a heading; empty parts are left out."""
        self._sections.append((heading, "\n".join(part for part in parts if part)))

    def html(self) -> str:
        """The file's text."""
        names = [re.sub(r"\W+", "-", heading.lower()) for heading, _ in self._sections]
        links = "".join(
            f'<a href="#{escape(name)}">{escape(heading)}</a>'
            for name, (heading, _) in zip(names, self._sections, strict=True)
        )
        cards = "\n".join(
            f'<section class="card" id="{escape(name)}"><h2>{escape(heading)}</h2>\n{body}'
            "</section>"
            for name, (heading, body) in zip(names, self._sections, strict=True)
        )
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{_STYLE}</style></head>\n"
            f"<body><main><h1>{escape(self.title)}</h1>\n{self.lead}\n<nav>{links}</nav>\n"
            f"{cards}\n</main></body></html>\n"
        )


def text(words: str, soft: bool = False) -> str:
    """A paragraph."""
    return f'<p class="soft">{escape(words)}</p>' if soft else f"<p>{escape(words)}</p>"


def marked(words: str) -> str:
    """Words as HTML, with **bold** and `code` as in Markdown; everything else is escaped."""
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", _safe(words))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)


def _safe(words: str) -> str:
    """Escaped; a number stays on one line with its unit and its comparison."""
    return re.sub(r"(?<=\d) (?=%)|(?<=[≥≤]) (?=\d)", "\u00a0", escape(words))


def paragraph(words: str, soft: bool = False) -> str:
    """A paragraph of `marked` words."""
    return f"<p{' class=soft' if soft else ''}>{marked(words)}</p>"


def bullets(items: Iterable[str]) -> str:
    """A list of `marked` words."""
    return f'<ul class="plain">{"".join(f"<li>{marked(item)}</li>" for item in items)}</ul>'


def note(kind: str, words: str) -> str:
    """One finding (bad, warn or good) between paragraphs, in `marked` words."""
    return f'<ul class="findings apart"><li class="{kind}">{marked(words)}</li></ul>'


def preformatted(words: str) -> str:
    """Text as it stands, in a fixed width."""
    return f"<pre>{escape(words)}</pre>"


def details(summary: str, *parts: str) -> str:
    """Parts that open on a click; empty ones are left out."""
    inside = "\n".join(part for part in parts if part)
    return f"<details><summary>{escape(summary)}</summary>\n{inside}</details>"


def heading(words: str) -> str:
    """A heading inside a section."""
    return f"<h3>{escape(words)}</h3>"


def facts(values: Iterable[tuple[str, str] | tuple[str, str, str]]) -> str:
    """A row of large numbers, each over what it counts and, as a third part, what qualifies it."""
    cards = (
        f'<div class="fact"><b>{escape(v)}</b><span>{escape(k)}</span>'
        f"{''.join(f'<small>{escape(part)}</small>' for part in more if part)}</div>"
        for k, v, *more in values
    )
    return f'<div class="facts">{"".join(cards)}</div>'


def findings(items: Sequence[tuple[str, str]]) -> str:
    """A list of (bad, warn or good; words)."""
    rows = (f'<li class="{kind}">{escape(words)}</li>' for kind, words in items)
    return f'<ul class="findings">{"".join(rows)}</ul>'


@dataclass(frozen=True)
class Cell:
    """A table cell that is more than text.

    Attributes:
        words: what it says.
        bar: share (0..1) of a bar before the words, or None.
        colour: of the bar, on light and on dark pages.
        shade: strength (0..1) of the cell's background, or None.
    """

    words: str
    bar: float | None = None
    colour: tuple[str, str] = ("#0072b2", "#4ba3da")
    shade: float | None = None


def table(header: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> str:
    """A table that scrolls sideways where it is too wide; numbers stand right."""
    rows = [[cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row] for row in rows]
    if not rows:
        return ""
    right = [all(_is_number(row[j].words) for row in rows) for j in range(len(header))]
    heads = "".join(
        f"<th{' class=n' if right[j] else ''}>{escape(name)}</th>" for j, name in enumerate(header)
    )
    body = "".join(
        "<tr>" + "".join(_cell(cell, right[j]) for j, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    head = f"<thead><tr>{heads}</tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _cell(cell: Cell, right: bool) -> str:
    classes = ["n"] if right else []
    classes += ["shade"] if cell.shade is not None else []
    classes += ["long"] if len(cell.words) > 30 else []
    style = bar = ""
    if cell.shade is not None:
        percent = round(100 * min(1.0, cell.shade))
        style = f' style="background:color-mix(in srgb,var(--accent) {percent}%,transparent)"'
    if cell.bar is not None:
        width = f"{9 * cell.bar:.2f}rem"
        light, dark = cell.colour  # the first for browsers that do not know light-dark()
        colour = f"background:{light};background:light-dark({light},{dark})"
        bar = f'<span class="bar" style="width:{width};{colour}"></span>'
    named = f' class="{" ".join(classes)}"' if classes else ""
    return f"<td{named}{style}>{bar}{_safe(cell.words)}</td>"


def _is_number(words: str) -> bool:
    return words in ("", "–") or words.lstrip("<>~ ")[:1].isdigit() or words[:1] in "-−"


def chart(paths: tuple[Path, Path], caption: str) -> str:
    """A figure that follows the page's colours.

    Args:
        paths: PNG for light and for dark pages.
        caption: what it shows.
    """
    light, dark = (data_uri(path.read_bytes(), "image/png") for path in paths)
    return (
        '<figure class="chart"><picture>'
        f'<source srcset="{dark}" media="(prefers-color-scheme: dark)">'
        f'<img src="{light}" alt="{escape(caption)}"></picture>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def vector(panels: Sequence[str], caption: str, width: int) -> str:
    """A drawing that is part of the page, no wider than `width` pixels.

    Args:
        panels: its parts, beside one another where there is room, else one below the other: each
            an <svg> element, trusted (drawn by this program); its ids must be the page's only ones
            of that name.
        caption: what it shows.
        width: most pixels across.
    """
    named = [
        svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)
        for svg in panels
    ]
    least = min(300, width // len(panels) - 20)
    return (
        f'<figure class="vector" style="--width:{width}px;--panel:{least}px">'
        f'<div class="panels">{"".join(named)}</div>'
        f"<figcaption>{_safe(caption)}</figcaption></figure>"
    )


def still(path: Path, caption: str) -> str:
    """A PNG as it is, with its caption."""
    source = data_uri(path.read_bytes(), "image/png")
    return (
        f'<figure class="plain"><img src="{source}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def charts(*figures: str) -> str:
    """Figures beside one another where there is room."""
    return f'<div class="charts">{"".join(figures)}</div>'


def grid(pictures: Iterable[tuple[np.ndarray, str]], least: int = 104) -> str:
    """Small pictures (uint8 (H, W, 3)) with a caption each, as many in a row as fit.

    Args:
        pictures: with their captions.
        least: pixels across a picture at least; captions of many words need more.
    """
    shown = "".join(_picture(*item) for item in pictures)
    return f'<div class="grid" style="--least:{least}px">{shown}</div>'


def rows(lines: Iterable[Sequence[tuple[np.ndarray, str]]]) -> str:
    """Lines of pictures that belong beside one another."""
    shown = (
        f'<div class="row" style="--n:{len(line)}">'
        f"{''.join(_picture(*item) for item in line)}</div>"
        for line in lines
    )
    return f'<div class="steps">{"".join(shown)}</div>'


def pairs(items: Iterable[tuple[np.ndarray, np.ndarray, str]]) -> str:
    """Two pictures side by side over one caption, again and again."""
    shown = (
        f'<figure class="pair">{_img(first)}{_img(second)}'
        f"<figcaption>{_safe(caption)}</figcaption></figure>"
        for first, second, caption in items
    )
    return f'<div class="pairs">{"".join(shown)}</div>'


def _picture(pixels: np.ndarray, caption: str) -> str:
    return f"<figure>{_img(pixels, caption)}<figcaption>{_safe(caption)}</figcaption></figure>"


def _img(pixels: np.ndarray, alt: str = "") -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((220, 220), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    source = data_uri(stream.getvalue(), "image/jpeg")
    return f'<img src="{source}" alt="{escape(alt)}" loading="lazy">'


def data_uri(data: bytes, kind: str) -> str:
    """A file that stands in the page itself, of the MIME type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
