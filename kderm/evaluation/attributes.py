"""What images are divided by when subgroups are compared: sex, age band, site, source and the like.

Turns columns of a predictions table into levels, as data; `subgroups` scores them. Words are taken
as the table has them. Must not import `kderm.data`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

# Years at which a new band begins; the last one is open.
AGE_BANDS = (0, 30, 45, 60, 75)
# Any of these columns holds the Fitzpatrick skin type or another scale of skin tone.
SKIN_TONE_COLUMNS = (
    "fitzpatrick",
    "fitspatrick",
    "fitzpatrick_skin_type",
    "skin_tone",
    "skin_type",
)
# Flags of `inspect`'s quality.csv, whose columns are is_<flag>.
QUALITY_FLAGS = ("blurred", "dark_corners", "hair", "too_dark", "too_bright", "bluer_than_red")
# What stands for nothing known.
UNKNOWN = frozenset({"", "unknown", "nan", "none", "na", "n/a", "null", "<na>"})
YES, NO = frozenset({"true", "1", "1.0", "yes"}), frozenset({"false", "0", "0.0", "no"})
# A level with fewer images than this, or beyond the largest of an attribute, is not shown alone.
LEAST_IMAGES = 10
MOST_LEVELS = 20


@dataclass(frozen=True, eq=False)
class Attribute:
    """One division of the images.

    Attributes:
        name: key, such as "sex" or "quality_hair".
        title: for people.
        levels: the values that are shown, in order.
        level: int (n,), position in `levels`; len(levels) for a value that is not shown alone;
            len(levels) + 1 where nothing is recorded.
        not_shown: images by value of those not shown alone.
    """

    name: str
    title: str
    levels: tuple[str, ...]
    level: np.ndarray
    not_shown: dict[str, int]

    @property
    def not_recorded(self) -> int:
        """Images of which the attribute is not known."""
        return int((self.level == len(self.levels) + 1).sum())


@dataclass(frozen=True)
class _Source:
    """Where an attribute is found: the first of `columns` that the table has, read by `read`."""

    name: str
    title: str
    columns: tuple[str, ...]
    read: Callable[[pd.Series], pd.Series]
    # Levels in the order of their names; otherwise the largest first.
    in_order: bool = False


def age_band(age: pd.Series) -> pd.Series:
    """Bands such as "30-44" of ages in years (zero is an age); missing where there is no age."""
    names = [f"{low}-{high - 1}" for low, high in pairwise(AGE_BANDS)]
    names.append(f"{AGE_BANDS[-1]}+")
    years = pd.to_numeric(age, errors="coerce")
    return pd.cut(years, [*AGE_BANDS, np.inf], right=False, labels=names).astype(object)


def attributes_of(table: pd.DataFrame) -> tuple[list[Attribute], list[str]]:
    """The attributes that `table` has, and the titles of those that it does not have.

    An attribute is there if its column is and something is recorded in it.
    """
    found, absent = [], []
    for source in SOURCES:
        column = next((name for name in source.columns if name in table), None)
        values = None if column is None else source.read(table[column])
        if values is None or values.isna().all():
            absent.append(source.title)
        else:
            found.append(_attribute(source, values))
    return found, absent


def _attribute(source: _Source, values: pd.Series) -> Attribute:
    counts = values.value_counts().sort_index(kind="stable")
    largest = counts.sort_values(ascending=False, kind="stable")
    shown = [name for name in largest.index[:MOST_LEVELS] if counts[name] >= LEAST_IMAGES]
    levels = tuple(sorted(shown, key=_first_number) if source.in_order else shown)
    position = {name: i for i, name in enumerate(levels)}
    level = np.array(values.map(position).fillna(len(levels)), dtype=np.int64)
    level[values.isna().to_numpy()] = len(levels) + 1
    rest = {str(name): int(count) for name, count in largest.items() if name not in position}
    return Attribute(source.name, source.title, levels, level, rest)


def _first_number(level: str) -> tuple[float, str]:
    """Sorts "30-44" before "100+", and words behind numbers."""
    number = re.match(r"\d+", level)
    return (float(number.group()) if number else np.inf, level)


def _words(values: pd.Series) -> pd.Series:
    text = values.astype(object).where(values.notna(), "").astype(str).str.strip().astype(object)
    return text.where(~text.str.lower().isin(UNKNOWN), np.nan)


def _numbered(values: pd.Series) -> pd.Series:
    """Words, with "3.0" as "3"; zero is what some tables write for an unknown type."""
    words = _words(values).map(lambda word: word.removesuffix(".0"), na_action="ignore")
    return words.where(words != "0", np.nan)


def _yes_or_no(values: pd.Series) -> pd.Series:
    text = values.astype(object).where(values.notna(), "").astype(str).str.strip().str.lower()
    return text.map(lambda word: "yes" if word in YES else "no" if word in NO else np.nan)


SOURCES = (
    _Source("sex", "Sex", ("sex",), _words),
    _Source("age", "Age", ("age",), age_band, in_order=True),
    _Source("site", "Body site", ("site",), _words),
    _Source("source", "Source", ("source",), _words),
    _Source("skin_tone", "Skin tone", SKIN_TONE_COLUMNS, _numbered, in_order=True),
    *(
        _Source(
            f"quality_{flag}",
            f"Image quality: {flag.replace('_', ' ')}",
            (f"is_{flag}",),
            _yes_or_no,
            in_order=True,
        )
        for flag in QUALITY_FLAGS
    ),
)
# Every column that an attribute may be found in.
ATTRIBUTE_COLUMNS = tuple(column for source in SOURCES for column in source.columns)
