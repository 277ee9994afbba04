"""A table of predictions in, numbers with intervals out, and the report if it is asked for.

For out-of-fold tables, predictions.csv with labels, and tables of other programs alike. No Keras.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from kderm import console
from kderm.counting import counted
from kderm.data.folds import group_ids
from kderm.errors import UserError
from kderm.evaluation.intervals import RESAMPLES
from kderm.evaluation.measure import measure
from kderm.evaluation.predictions import Predictions, class_columns, make_predictions
from kderm.labels import LABEL_SPACES, LabelSpace, label_space


def evaluate(
    table: str | os.PathLike | pd.DataFrame,
    labels: str | LabelSpace | None = None,
    *,
    report: str | os.PathLike | None = None,
    title: str = "Evaluation of predictions",
    resamples: int = RESAMPLES,
) -> dict:
    """All numbers of a table of predictions, each with its 95 % interval over lesions.

    Args:
        table: a CSV or a DataFrame with the columns image_id, label and p_<code>; group_id, or
            lesion_id and patient_id, tell which images belong together; fold where there is one.
            Rows without a label or with an `error` are left out, with a warning.
        labels: the label space, or its name; None for the one that has the table's codes.
        report: a folder for report.html, metrics.json, tables/ and figures/; None writes nothing.
        title: heading of the report.
        resamples: bootstrap resamples of whole groups.

    Returns:
        as metrics.json: {"pooled": {"macro_auc": {"value", "low", "high"}, ...}, "per_class", ...};
        docs/metrics.md tells all keys. With a report the same and what its chapters measure.

    Raises:
        UserError: no such file, or a table that is no table of predictions, with all problems.
    """
    rows = _read(table)
    space = _label_space(rows, labels)
    predictions = _predictions(rows, space)
    if report is None:
        return measure(predictions, checkpoint=None, resamples=resamples)
    from kderm.evaluation.report.write import write_report

    return write_report(
        predictions,
        Path(report),
        title=title,
        histories=None,
        facts={"images": len(predictions)},
        checkpoint=None,
        monitor=None,
        resamples=resamples,
    )


def _read(table: str | os.PathLike | pd.DataFrame) -> pd.DataFrame:
    if isinstance(table, pd.DataFrame):
        return table.reset_index(drop=True)
    try:
        # As text: ids such as "007" and "NA" must survive as they are.
        return pd.read_csv(table, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"Expected a table of predictions, a CSV. Received: {os.fspath(table)} ({reason})."
        ) from None


def _label_space(rows: pd.DataFrame, labels: str | LabelSpace | None) -> LabelSpace:
    if isinstance(labels, LabelSpace):
        return labels
    if labels == "custom":
        raise UserError(
            "Expected the label space itself for classes of your own: "
            "labels=kderm.LabelSpace('custom', codes, names, malignant). Received: the name "
            "'custom' alone. Where the columns p_<code> are those of a registered label space "
            f"({', '.join(LABEL_SPACES)}), leave labels out."
        )
    if labels is not None:
        return label_space(labels)
    columns = class_columns(rows)
    for space in LABEL_SPACES.values():
        if sorted(space.columns) == sorted(columns):
            return space
    raise UserError(
        "Expected columns p_<code> for the codes of a registered label space "
        f"({', '.join(LABEL_SPACES)}), or the label space itself in labels=. "
        f"Received: {', '.join(columns) or 'no such column'}. For classes "
        "of your own give labels=kderm.LabelSpace('custom', codes, names, malignant)."
    )


def _predictions(rows: pd.DataFrame, labels: LabelSpace) -> Predictions:
    """The rows that can be scored, validated."""
    if "label" not in rows:
        raise UserError(
            "Expected a column 'label' with the true class of each image. Received: "
            f"{', '.join(map(str, rows.columns))}."
        )
    known = rows["label"].notna() & (rows["label"].astype(str).str.strip() != "")
    if "error" in rows:
        known &= rows["error"].fillna("") == ""
    if not known.all():
        out = counted(int((~known).sum()), "row")
        console.warn(f"{out} without a label or an answer left out")
    rows = rows[known].reset_index(drop=True)
    for column in ("lesion_id", "patient_id", "age", "sex", "site", "source"):
        if column in rows:
            rows[column] = rows[column].astype(object).where(rows[column] != "", np.nan)
    if "age" in rows:
        rows["age"] = pd.to_numeric(rows["age"], errors="coerce")
    named = [column for column in ("lesion_id", "patient_id") if column in rows]
    if "group_id" not in rows and named and len(rows):
        missing = {column: None for column in ("lesion_id", "patient_id") if column not in rows}
        rows["group_id"] = group_ids(rows.assign(**missing))
    return make_predictions(rows, labels)
