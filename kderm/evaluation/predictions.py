"""The predictions table: one row an image, its label, and one probability a class, validated.

Training and `ensemble-predict` write it, everything else in this room reads it. An out-of-fold
table carries the fold that scored each image; an external table has no folds. Rows are only ever
matched by `image_id`. Must stay free of Keras.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kderm import atomic
from kderm.counting import counted
from kderm.errors import UserError
from kderm.labels import MALIGNANT, UNCORRECTED, LabelSpace

# Before pandas 3.1 numbers are a last bit off unless one asks; since then asking is deprecated.
PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])
EXACTLY = {} if PANDAS >= (3, 1) else {"float_precision": "round_trip"}

NO_FOLD = -1
# A sum of rounded float16 probabilities is off by less than this; a table of logits by far more.
SUM_TOLERANCE = 1e-3
# Averages of float32 softmax outputs may leave [0, 1] by a rounding error.
RANGE_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Predictions:
    """A validated predictions table; made by `make_predictions` or `read_predictions`.

    Attributes:
        table: columns image_id, group_id, fold, label, p_<code> in label-space order, then any
            others (lesion_id, patient_id, age, sex, site, source, ...).
        labels: the label space; its order is the order of the probability columns.
    """

    table: pd.DataFrame
    labels: LabelSpace

    def __len__(self) -> int:
        return len(self.table)

    @property
    def y(self) -> np.ndarray:
        """int64 (n,), the true class as an index into the label space."""
        position = {code: index for index, code in enumerate(self.labels.codes)}
        return self.table["label"].map(position).to_numpy(dtype=np.int64)

    @property
    def probabilities(self) -> np.ndarray:
        """float64 (n, k), rows sum to 1, columns in label-space order."""
        return self.table[self.labels.columns].to_numpy(dtype=np.float64)

    @property
    def groups(self) -> np.ndarray:
        """object (n,), the group id (lesion, patient and duplicates) of each image."""
        return self.table["group_id"].to_numpy(dtype=object)

    @property
    def folds(self) -> np.ndarray:
        """int64 (n,), the held-out fold of each image; all -1 for external predictions."""
        return self.table["fold"].to_numpy(dtype=np.int64)

    @property
    def has_folds(self) -> bool:
        """Whether this is an out-of-fold table rather than external predictions."""
        return bool((self.folds != NO_FOLD).all())


def class_columns(table: pd.DataFrame) -> list[str]:
    """The columns p_<code> of classes, without what `ensemble-predict` adds up from them.

    p_malignant is a class where the rows sum to 1 only with it.
    """
    total, uncorrected = f"p_{MALIGNANT}", f"p_{UNCORRECTED}"
    found = [name for name in table if str(name).startswith("p_") and name != uncorrected]
    others = [name for name in found if name != total]
    if total not in found or not others:
        return others
    values = table[found].apply(pd.to_numeric, errors="coerce").dropna()
    without, with_it = (
        (values[names].sum(axis="columns") - 1).abs().median() for names in (others, found)
    )
    return found if with_it < without else others


def make_predictions(table: pd.DataFrame, labels: LabelSpace) -> Predictions:
    """Validate `table` and put its columns in order.

    A table without folds (no `fold` column, or -1 throughout) holds external predictions; its
    `group_id` defaults to the image id. An out-of-fold table must name its groups.

    Raises:
        UserError: what is wrong, with the offending image ids. All problems are told at once.
    """
    _require_columns(table, labels)
    table = table.reset_index(drop=True).copy()
    table["image_id"] = table["image_id"].astype(str)
    problems = _id_problems(table["image_id"])
    table["fold"], fold_problems = _folds(table)
    problems += fold_problems
    table["group_id"], group_problems = _groups(table)
    problems += group_problems
    label = table["label"].astype(object).where(table["label"].notna(), "")
    table["label"] = label.astype(str)
    problems += _label_problems(table, labels)
    problems += _probability_problems(table, labels)
    if problems:
        listing = "\n".join(f"  {problem}" for problem in problems)
        raise UserError(f"{counted(len(problems), 'problem')} in the predictions table:\n{listing}")
    for column in labels.columns:
        table[column] = pd.to_numeric(table[column]).astype(np.float64)
    first = ["image_id", "group_id", "fold", "label", *labels.columns]
    return Predictions(table[[*first, *(c for c in table.columns if c not in first)]], labels)


def read_predictions(path: str | os.PathLike, labels: LabelSpace) -> Predictions:
    """Read and validate a predictions CSV.

    Raises:
        UserError: the file is absent or not a table, or `make_predictions` refuses it.
    """
    path = Path(path)
    try:
        table = _read_table(path, labels.columns)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"Expected a predictions table (CSV). Received: {path} ({reason}). "
            "Train or predict first, or give the path of an existing table."
        ) from None
    exact = {"image_id", "label"}
    for column in table.columns:
        if column not in exact and not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = table[column].astype(object).where(table[column] != "", np.nan)
    if "age" in table:
        table["age"] = pd.to_numeric(table["age"], errors="coerce")
    try:
        return make_predictions(table, labels)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read_table(path: Path, numbers: Sequence[str]) -> pd.DataFrame:
    """The CSV as text, so that ids such as "007" and "NA" survive, but for `numbers`.

    As text, those would take a kilobyte a row. Where they are no numbers everything stays text, for
    `make_predictions` to say which.
    """
    kinds = dict.fromkeys(numbers, np.float64)
    try:
        return pd.read_csv(
            path,
            dtype=defaultdict(lambda: str, kinds),
            keep_default_na=False,
            **EXACTLY,
        )
    except ValueError:
        return pd.read_csv(path, dtype=str, keep_default_na=False)


def write_predictions(path: str | os.PathLike, predictions: Predictions) -> None:
    """Write the table as CSV, atomically; probabilities with seven significant digits."""

    def as_text(rows: pd.DataFrame) -> pd.DataFrame:
        columns = predictions.labels.columns
        text = {column: [f"{value:.7g}" for value in rows[column]] for column in columns}
        return rows.assign(**text)

    atomic.write_csv(path, predictions.table, render=as_text)


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """One table of all `parts`, sorted by image id, so the order of the parts does not matter.

    Raises:
        UserError: no parts, different label spaces, or an image id in two parts.
    """
    if not parts:
        raise UserError("Expected at least one predictions table to join. Received: none.")
    labels = parts[0].labels
    for part in parts[1:]:
        if part.labels.codes != labels.codes:
            raise UserError(
                "Predictions can only be joined over one label space. Received: "
                f"{list(labels.codes)} and {list(part.labels.codes)}."
            )
    table = pd.concat([part.table for part in parts], ignore_index=True)
    twice = table.loc[table["image_id"].duplicated(), "image_id"]
    if len(twice):
        raise UserError(
            "Each image may be predicted in one part only. Received in two parts: "
            f"{_some(twice)}. Was one fold saved twice, or trained with another fold table?"
        )
    return make_predictions(table.sort_values("image_id", kind="stable"), labels)


def _require_columns(table: pd.DataFrame, labels: LabelSpace) -> None:
    missing = [c for c in ("image_id", "label", *labels.columns) if c not in table.columns]
    if missing:
        raise UserError(
            f"A predictions table over {labels.name} needs the columns image_id, label, "
            f"{', '.join(labels.columns)}. Missing: {', '.join(missing)}. "
            f"Received: {', '.join(map(str, table.columns))}."
        )
    if len(table) == 0:
        raise UserError("Expected predictions for at least one image. Received: an empty table.")


def _id_problems(ids: pd.Series) -> list[str]:
    problems = []
    if (ids.str.strip() == "").any():
        unnamed = int((ids.str.strip() == "").sum())
        problems.append(f"image_id is empty in {counted(unnamed, 'row')}")
    twice = ids[ids.duplicated()]
    if len(twice):
        problems.append(f"image_id must be unique; more than once: {_some(twice)}")
    return problems


def _folds(table: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    if "fold" not in table.columns:
        return np.full(len(table), NO_FOLD), []
    missing = table["fold"].isna()
    value = pd.to_numeric(table["fold"], errors="coerce").astype(np.float64)
    wrong = ~missing & ~((value >= NO_FOLD) & (value == value.round()))
    if wrong.any():
        return np.full(len(table), NO_FOLD), [
            "fold must be a whole number from 0 (or -1 for no fold); otherwise for: "
            f"{_some(table.loc[wrong, 'image_id'])}"
        ]
    folds = value.fillna(NO_FOLD).to_numpy().astype(np.int64)
    without = folds == NO_FOLD
    if without.any() and not without.all():
        return folds, [
            "either every image has a fold (out-of-fold table) or none has (external); "
            f"no fold for: {_some(table.loc[without, 'image_id'])}"
        ]
    return folds, []


def _groups(table: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    if "group_id" not in table.columns:
        missing = pd.Series(True, index=table.index)
        groups = table["image_id"].astype(object)
    else:
        missing = table["group_id"].isna() | (table["group_id"].astype(str).str.strip() == "")
        groups = table["group_id"].astype(object).where(~missing, table["image_id"].astype(object))
    if missing.any() and (table["fold"] != NO_FOLD).any():
        return groups, [
            "an out-of-fold table needs the group_id (lesion or patient) of every image; "
            f"missing for: {_some(table.loc[missing, 'image_id'])}"
        ]
    return groups.astype(str), []


def _label_problems(table: pd.DataFrame, labels: LabelSpace) -> list[str]:
    unknown = table[~table["label"].isin(labels.codes)]
    if unknown.empty:
        return []
    rows = (f"{row.image_id} ({row.label!r})" for row in unknown.itertuples())
    return [f"label must be one of {', '.join(labels.codes)}; otherwise for: {_some(rows)}"]


def _probability_problems(table: pd.DataFrame, labels: LabelSpace) -> list[str]:
    columns = [
        pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
        for column in labels.columns
    ]
    values = np.stack(columns, axis=1)
    ids = table["image_id"]
    unusable = ~np.isfinite(values).all(axis=1)
    outside = ((values < -RANGE_TOLERANCE) | (values > 1 + RANGE_TOLERANCE)).any(axis=1)
    off = np.abs(values.sum(axis=1) - 1) > SUM_TOLERANCE
    problems = []
    if unusable.any():
        problems.append(f"probabilities must be finite numbers; not for: {_some(ids[unusable])}")
    if (outside & ~unusable).any():
        problems.append(
            "probabilities must lie in [0, 1] (are these logits?); "
            f"not for: {_some(ids[outside & ~unusable])}"
        )
    if (off & ~outside & ~unusable).any():
        problems.append(
            "the probabilities of an image must sum to 1 (within 0.001); "
            f"not for: {_some(ids[off & ~outside & ~unusable])}"
        )
    return problems


def _some(ids: Iterable[object], most: int = 5) -> str:
    names = [str(item) for item in ids]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
