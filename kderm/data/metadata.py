"""Metadata as the member sees them: age, sex and site of each image as one row of numbers.

The vocabularies are fixed data, the same whatever data set is read: the sexes, and for the site
`kderm.data.sites.SITES`, into which every source's spelling is translated here and nowhere else, so
that a word tells the site and not the source. Which of these words a member has travels in the
bundle, so that training and prediction encode alike. "Not known" is a value of its own in each
column, never an average. Pandas and numpy only.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kderm import console
from kderm.counting import counted
from kderm.data.datasets.leaking import refuse_leaking
from kderm.data.manifest import MISSING_WORDS, SEXES
from kderm.data.sites import SITES, coarse_site
from kderm.errors import UserError, unknown_name

METADATA_COLUMNS = ("age", "sex", "site")
VOCABULARIES = {"sex": ("female", "male"), "site": SITES}
# A word of fewer images has no place: the folds that train on few or none of them would answer with
# weights as random as they began.
FEWEST_IMAGES = 10
_NAMES_TOLD = 8

# Puts ages around 0 with a spread around 1; any constants would do, and constants leak nothing.
_MIDDLE_AGE, _AGE_SPREAD = 50.0, 25.0
_OLDEST = 120


@dataclass(frozen=True)
class MetadataColumn:
    """How one column becomes numbers.

    Attributes:
        name: one of `METADATA_COLUMNS`.
        values: words with a place of their own, in order; () for age. Some of `VOCABULARIES`; those
            of a source's own spelling, as bundles of before held them, keep their meaning.
    """

    name: str
    values: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Numbers an image: one for the age or each word, and the last for "not known"."""
        return 1 + max(1, len(self.values))

    def encode(self, column: pd.Series) -> np.ndarray:
        """float32 (n, width); a word without a place of its own counts as not known."""
        encoded = np.zeros((len(column), self.width), np.float32)
        if self.name == "age":
            ages = _ages(column)
            known = ~np.isnan(ages)
            encoded[known, 0] = (ages[known] - _MIDDLE_AGE) / _AGE_SPREAD
        else:
            words = _words(column, self.values).to_numpy()
            encoded[:, : len(self.values)] = words[:, None] == np.array(self.values, dtype=object)
            known = encoded.any(axis=1)
        encoded[:, -1] = ~known
        return encoded


@dataclass(frozen=True)
class MetadataSpec:
    """The columns that a member sees beside the image, in order.

    Attributes:
        columns: at least one.
    """

    columns: tuple[MetadataColumn, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)

    @property
    def width(self) -> int:
        """Numbers an image, d."""
        return sum(column.width for column in self.columns)

    def encode(self, table: pd.DataFrame) -> np.ndarray:
        """float32 (n, d), one row an image.

        Args:
            table: has the columns, as in a manifest or as text that a table file holds.
        """
        return np.concatenate([item.encode(table[item.name]) for item in self.columns], axis=1)

    def known(self, encoded: np.ndarray) -> np.ndarray:
        """bool (n, columns): of which columns the rows, float32 (n, d), know something."""
        last = np.cumsum([column.width for column in self.columns]) - 1
        return encoded[:, last] == 0

    def hide(self, encoded: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
        """`encoded` (n, d) with each column of each image set to "not known" at random; a copy.

        Args:
            encoded: what `encode` gave.
            rng: source of randomness; one number an image and column, whatever the share.
            share: probability.
        """
        hidden = encoded.copy()
        chosen = rng.random((len(encoded), len(self.columns))) < share
        start = 0
        for column, rows in zip(self.columns, chosen.T, strict=True):
            end = start + column.width
            hidden[rows, start:end] = np.eye(column.width, dtype=np.float32)[-1]
            start = end
        return hidden

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it."""
        columns = [{"name": item.name, "values": list(item.values)} for item in self.columns]
        return {"columns": columns}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MetadataSpec":
        """What `to_dict` gave."""
        return cls(
            tuple(MetadataColumn(item["name"], tuple(item["values"])) for item in values["columns"])
        )


def fit_metadata(table: pd.DataFrame, columns: Sequence[str]) -> MetadataSpec:
    """The encoding of `columns`: the words of `VOCABULARIES` that enough images of `table` have.

    That `table` holds the held-out images too gives nothing away: no label is looked at and no
    statistic taken. All that is learned is which words at least `FEWEST_IMAGES` images have, and it
    must be the same for every fold of an ensemble. Words that count as not known because they are
    rarer, or are no spelling that kderm knows, are told in a warning, once a process.
    Where all images of a word are one patient's, the one fold that holds them out is left with a
    word that it never trained on; the others are not.

    Args:
        table: a manifest's table.
        columns: some of `METADATA_COLUMNS`.

    Raises:
        UserError: a column that gives the label away, is unknown, is named twice, or of which the
            table knows too little.
    """
    check_columns(columns)
    found = [MetadataColumn(name, _frequent(table[name])) for name in columns]
    for item in found:
        known = item.encode(table[item.name])[:, -1] == 0
        if item.name in VOCABULARIES:
            _tell_left_out(table[item.name][~known])
        if known.sum() < FEWEST_IMAGES:
            words = ", ".join(VOCABULARIES.get(item.name, ()))
            raise UserError(
                f"model.metadata names {item.name!r}, of which the data set knows too little. "
                f"Expected: at least {FEWEST_IMAGES} images with "
                f"{f'the same of {words}' if words else 'an age in years'}. "
                f"Received: {known.sum()}. "
                "Leave it out, or fill in that column of the data set's table."
            )
    return MetadataSpec(tuple(found))


def check_columns(columns: Sequence[str]) -> None:
    """Refuse a column that gives the label away, is unknown or is named twice; sees no table."""
    refuse_leaking(columns)
    for name in columns:
        if name not in METADATA_COLUMNS:
            raise unknown_name(
                "column in model.metadata",
                name,
                METADATA_COLUMNS,
                f"Those that a member can see are {', '.join(METADATA_COLUMNS)}.",
            )
        if columns.count(name) > 1:
            raise UserError(
                f"Expected each column of model.metadata once. Received: {', '.join(columns)}."
            )


def _ages(column: pd.Series) -> np.ndarray:
    """Years, float64 (n,), NaN where not known or not an age. 0 is an age."""
    # A decimal comma comes with semicolon-separated files.
    numbers = pd.to_numeric(column.astype(str).str.replace(",", "."), errors="coerce")
    return numbers.where(numbers.between(0, _OLDEST)).to_numpy(np.float64)


def _frequent(column: pd.Series) -> tuple[str, ...]:
    """The words of the column's vocabulary that enough images have, in its order; () for age."""
    vocabulary = VOCABULARIES.get(column.name, ())
    counts = _words(column, vocabulary).value_counts() if vocabulary else {}
    return tuple(word for word in vocabulary if counts.get(word, 0) >= FEWEST_IMAGES)


def _tell_left_out(column: pd.Series) -> None:
    """Warn of the spellings in `column`, which got no place, with the number of their images."""
    text = _text(column)
    counts = text[text != ""].value_counts()
    if counts.empty:
        return
    told = [f"{word!r} ({count})" for word, count in counts.head(_NAMES_TOLD).items()]
    if len(counts) > _NAMES_TOLD:
        told.append(f"and {len(counts) - _NAMES_TOLD} more")
    _warn_once(
        f"model.metadata: of {counted(counts.sum(), 'image')} the {column.name} counts as not "
        "known, since kderm does not know the word or too few images have it: "
        f"{', '.join(told)}."
    )


@functools.cache
def _warn_once(text: str) -> None:
    """Every fold encodes the same table; one warning does for all."""
    console.warn(text)


def _words(column: pd.Series, values: Sequence[str]) -> pd.Series:
    """Words of `values` where a spelling means one of them, "" where not known, else others."""
    text = _text(column)
    if column.name == "sex":
        return text.replace(SEXES)
    return text.map(lambda word: word if word in values else coarse_site(word) or word)


def _text(column: pd.Series) -> pd.Series:
    """Lower-case spellings, "" where not known."""
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip().str.lower()
    return text.where(~text.isin(MISSING_WORDS), "")
