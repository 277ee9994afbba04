"""Damaged and unusual tables of images, made from a good one; which of them are answered, and how.

A table is bytes here. Each kind goes to both readers of the project: that of `ensemble-predict`,
and that of `prepare`, `inspect` and `cv`. Both must answer, or refuse in one sentence.
"""

# ruff: noqa: D103 (the names say what is done)

import csv
import gzip
import io
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

Maker = Callable[[np.random.Generator, str], bytes]
TABLES: dict[str, Maker] = {}


def kind(function: Maker) -> Maker:
    """Enter a function into `TABLES` under its name."""
    TABLES[function.__name__.replace("_", " ")] = function
    return function


def _rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def _text(rows: list[list[str]], **options: str) -> str:
    held = io.StringIO()
    csv.writer(held, lineterminator="\n", **options).writerows(rows)
    return held.getvalue()


def _changed(rng: np.random.Generator, text: str, column: str, value: str) -> bytes:
    """Some rows of one column get another value."""
    rows = _rows(text)
    place = rows[0].index(column)
    for row in rng.choice(np.arange(1, len(rows)), 3, replace=False):
        rows[row][place] = value
    return _text(rows).encode()


_ENCODINGS = {
    "with a byte order mark": "utf-8-sig",
    "in UTF-16": "utf-16",
    "in Latin-1": "latin-1",
    "in UTF-32": "utf-32",
}
for _name, _encoding in _ENCODINGS.items():
    TABLES[_name] = lambda rng, text, encoding=_encoding: text.encode(encoding)

_DELIMITERS = {"semicolons": ";", "tabs": "\t", "bars": "|"}
for _name, _delimiter in _DELIMITERS.items():
    TABLES[f"with {_name}"] = lambda rng, text, mark=_delimiter: _text(
        _rows(text), delimiter=mark
    ).encode()

# (column, value): what a cell may hold that it should not.
_CELLS = {
    "an empty label": ("dx", ""),
    "a label NaN": ("dx", "NaN"),
    "a label NA": ("dx", "NA"),
    "an unknown label": ("dx", "melanomma"),
    "a number as label": ("dx", "3"),
    "an age below zero": ("age", "-5"),
    "an age without end": ("age", "inf"),
    "an age in words": ("age", "forty"),
    "an age with a comma": ("age", "45,5"),
    "an unknown sex": ("sex", "?"),
    "an empty id": ("image_id", ""),
    "an id that leads out": ("image_id", "../../etc/passwd"),
    "an absolute id": ("image_id", "/etc/passwd"),
    "an id with a zero byte": ("image_id", "DEMO\0x"),
    "an id of 100,000 letters": ("image_id", "x" * 100_000),
    "an id that is not there": ("image_id", "DEMO42_9999999"),
    "an id that is a number": ("image_id", "7"),
    "a formula": ("localization", "=cmd|' /C calc'!A0"),
    "a line break in a cell": ("localization", "back\nface"),
    "a quote in a cell": ("localization", 'ba"ck'),
    "an emoji": ("localization", "\N{FACE WITH TEARS OF JOY}"),
    "markup in a cell": ("localization", "<script>alert(1)</script>"),
    "an empty lesion": ("lesion_id", ""),
    "ten megabytes in a cell": ("localization", "x" * 10_000_000),
}
for _name, (_column, _value) in _CELLS.items():
    TABLES[_name] = lambda rng, text, column=_column, value=_value: _changed(
        rng, text, column, value
    )


@kind
def every_label_empty(rng: np.random.Generator, text: str) -> bytes:
    rows = _rows(text)
    place = rows[0].index("dx")
    for row in rows[1:]:
        row[place] = ""
    return _text(rows).encode()


@kind
def every_label_alike(rng: np.random.Generator, text: str) -> bytes:
    rows = _rows(text)
    place = rows[0].index("dx")
    for row in rows[1:]:
        row[place] = "nv"
    return _text(rows).encode()


@kind
def a_header_twice(rng: np.random.Generator, text: str) -> bytes:
    return (text.split("\n", 1)[0] + "\n" + text).encode()


@kind
def a_header_in_the_middle(rng: np.random.Generator, text: str) -> bytes:
    lines = text.splitlines()
    lines.insert(int(rng.integers(2, len(lines))), lines[0])
    return ("\n".join(lines) + "\n").encode()


@kind
def a_column_twice(rng: np.random.Generator, text: str) -> bytes:
    return _text([[*row, row[2]] for row in _rows(text)]).encode()


@kind
def the_id_column_twice(rng: np.random.Generator, text: str) -> bytes:
    return _text([[*row, row[1]] for row in _rows(text)]).encode()


@kind
def no_header(rng: np.random.Generator, text: str) -> bytes:
    return text.split("\n", 1)[1].encode()


@kind
def headers_in_capitals(rng: np.random.Generator, text: str) -> bytes:
    header, rest = text.split("\n", 1)
    return f"{header.upper()}\n{rest}".encode()


@kind
def headers_with_spaces(rng: np.random.Generator, text: str) -> bytes:
    header, rest = text.split("\n", 1)
    return (header.replace(",", " , ") + "\n" + rest).encode()


@kind
def a_column_missing(rng: np.random.Generator, text: str) -> bytes:
    rows = _rows(text)
    gone = int(rng.integers(len(rows[0])))
    return _text([row[:gone] + row[gone + 1 :] for row in rows]).encode()


@kind
def rows_of_other_lengths(rng: np.random.Generator, text: str) -> bytes:
    rows = _rows(text)
    for row in rng.choice(np.arange(1, len(rows)), 3, replace=False):
        rows[row] = [*rows[row], "more", "and more"]
    for row in rng.choice(np.arange(1, len(rows)), 3, replace=False):
        rows[row] = rows[row][:3]
    return _text(rows).encode()


@kind
def rows_twice(rng: np.random.Generator, text: str) -> bytes:
    rows = _rows(text)
    return _text(rows + [rows[row] for row in rng.integers(1, len(rows), 3)]).encode()


@kind
def an_id_twice_with_other_labels(rng: np.random.Generator, text: str) -> bytes:
    rows = _rows(text)
    place = rows[0].index("dx")
    other = list(rows[int(rng.integers(1, len(rows)))])
    other[place] = "mel" if other[place] != "mel" else "nv"
    return _text([*rows, other]).encode()


@kind
def a_cut_off_table(rng: np.random.Generator, text: str) -> bytes:
    content = text.encode()
    return content[: int(rng.integers(1, len(content)))]


@kind
def flipped_bits(rng: np.random.Generator, text: str) -> bytes:
    content = np.frombuffer(text.encode(), np.uint8).copy()
    for place in rng.integers(0, len(content), int(rng.integers(1, 30))):
        content[place] ^= 1 << int(rng.integers(8))
    return content.tobytes()


@kind
def an_open_quote(rng: np.random.Generator, text: str) -> bytes:
    place = int(rng.integers(len(text) // 2))
    return (text[:place] + '"' + text[place:]).encode()


@kind
def zero_bytes_in_it(rng: np.random.Generator, text: str) -> bytes:
    place = int(rng.integers(len(text)))
    return (text[:place] + "\0" * 5 + text[place:]).encode()


@kind
def windows_line_ends(rng: np.random.Generator, text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


@kind
def old_mac_line_ends(rng: np.random.Generator, text: str) -> bytes:
    return text.replace("\n", "\r").encode()


@kind
def empty_lines(rng: np.random.Generator, text: str) -> bytes:
    return text.replace("\n", "\n\n", 20).encode()


@kind
def spaces_around_cells(rng: np.random.Generator, text: str) -> bytes:
    return text.replace(",", ", ").encode()


@kind
def five_thousand_columns(rng: np.random.Generator, text: str) -> bytes:
    rows = _rows(text)
    more = [f"c{number}" for number in range(5000)]
    return _text([rows[0] + more] + [row + ["1"] * 5000 for row in rows[1:]]).encode()


@kind
def an_empty_file(rng: np.random.Generator, text: str) -> bytes:
    return b""


@kind
def only_a_header(rng: np.random.Generator, text: str) -> bytes:
    return text.split("\n", 1)[0].encode() + b"\n"


@kind
def only_spaces(rng: np.random.Generator, text: str) -> bytes:
    return b"   \n  \n"


@kind
def one_row(rng: np.random.Generator, text: str) -> bytes:
    return "\n".join(text.splitlines()[:2]).encode()


@kind
def noise(rng: np.random.Generator, text: str) -> bytes:
    return rng.bytes(3000)


@kind
def a_zipped_table(rng: np.random.Generator, text: str) -> bytes:
    return gzip.compress(text.encode())


@kind
def an_office_file(rng: np.random.Generator, text: str) -> bytes:
    return b"PK\x03\x04\x14\0\6\0" + rng.bytes(2000)


@kind
def a_page_of_a_server(rng: np.random.Generator, text: str) -> bytes:
    return b"<!DOCTYPE html><html><body>Sign in</body></html>\n"


@kind
def json_lines(rng: np.random.Generator, text: str) -> bytes:
    return b'[{"image_id": "a", "dx": "nv"}]\n'


def read_for_prediction(table: Path) -> str:
    """How the reader of `ensemble-predict` meets a table: "answered", "refused: ...", or a bug."""
    from kderm.ensemble.inputs import find_inputs
    from kderm.labels import HAM10000

    return _met(lambda: find_inputs([str(table)], HAM10000))


def read_for_training(root: Path) -> str:
    """The same of `prepare`, `inspect` and `cv`, for a folder in HAM10000's layout."""
    from kderm.config.reading import load_config
    from kderm.data.checked import check_data
    from kderm.data.manifest import raise_problems
    from kderm.labels import HAM10000

    def read() -> None:
        settings = ["data.dataset=ham10000", f"data.root={root}", "image.size=32"]
        checked = check_data(load_config(None, settings), HAM10000)
        raise_problems(checked.problems)

    return _met(read)


def _met(read: Callable[[], object]) -> str:
    from kderm.errors import UserError

    try:
        read()
    except UserError as error:
        return f"refused: {error}"
    except Exception:
        return f"TRACEBACK: {traceback.format_exc()[-1200:]}"
    return "answered"
