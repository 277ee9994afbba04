"""What a comparison leaves behind: compare.md, comparison.json, two CSV tables, the picture.

The last step of `compare`; takes numbers and tables, and writes them atomically.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from kderm import atomic
from kderm.evaluation.comparison.figure import plot_differences
from kderm.evaluation.comparison.join import Joined
from kderm.evaluation.comparison.page import comparison_page
from kderm.evaluation.metrics import UNDECIDED, decided_class
from kderm.evaluation.predictions import Predictions

PAGE, PICTURE = "compare.md", "differences.png"


def write_comparison(found: dict, joined: Joined, directory: Path) -> Path:
    """Write a comparison into `directory`.

    Args:
        found: from `compare_runs`.
        joined: the tables that it is about.
        directory: where to write; made if absent.

    Returns:
        The page that people read. Beside it: comparison.json (`found`), differences.csv (a row a
        metric and run), disagreements.csv (images that not all runs answer alike, or none where
        they do), differences.png and .svg.
    """
    atomic.write_csv(directory / "differences.csv", differences_table(found))
    atomic.write_csv(directory / "disagreements.csv", disagreements(joined))
    plot_differences(directory / PICTURE, found)
    atomic.write_json(directory / "comparison.json", found)
    atomic.write_text(directory / PAGE, comparison_page(found))
    return directory / PAGE


def differences_table(found: dict) -> pd.DataFrame:
    """A row a metric and run: both values, the difference, its interval, and the test if any.

    low and high are of the resampled interval, which the picture draws and `better` goes by;
    delong_low and delong_high are those that belong to the p of an AUC.
    """
    rows = []
    for comparison in found["comparisons"]:
        name = comparison["run"]
        for metric, entry in comparison["differences"].items():
            rows.append(
                {
                    "reference": found["reference"],
                    "run": name,
                    "metric": metric.partition("/")[0],
                    "class": metric.partition("/")[2],
                    "reference_value": found["values"][found["reference"]][metric]["value"],
                    "run_value": found["values"][name][metric]["value"],
                    "difference": entry["value"],
                    "low": entry["low"],
                    "high": entry["high"],
                    "better": entry["better"] or "",
                    **_test(comparison, metric),
                }
            )
    return pd.DataFrame(rows)


def disagreements(joined: Joined) -> pd.DataFrame:
    """Images on which the runs' top classes are not all the same; "" for a tied top class.

    Columns image_id, group_id, label, then of each run its top class <run>_answer and its
    probability of the true class <run>_p_true; ordered by how far the latter are apart.
    """
    first = joined.tables[joined.reference]
    table = first.table[["image_id", "group_id", "label"]].copy()
    true = []
    for name, run in joined.tables.items():
        table[f"{name}_answer"] = _answers(run)
        true.append(run.probabilities[np.arange(len(run)), run.y])
        table[f"{name}_p_true"] = true[-1].round(4)
    answers = table[[f"{name}_answer" for name in joined.tables]]
    differ = (answers.nunique(axis=1) > 1).to_numpy()
    order = np.argsort(np.min(true, axis=0) - np.max(true, axis=0), kind="stable")
    return table.iloc[order[differ[order]]]


def _answers(run: Predictions) -> np.ndarray:
    """object (n,): the code of the top class, "" where several share it."""
    codes = np.array([*run.labels.codes, ""], dtype=object)
    decided = decided_class(run.probabilities)
    return codes[np.where(decided == UNDECIDED, len(run.labels), decided)]


def _test(comparison: dict, metric: str) -> dict[str, object]:
    if metric in comparison["auc"]:
        row = comparison["auc"][metric]
        kind = "DeLong, clustered" if row["clustered"] else "DeLong"
        ends = {"delong_low": row["low"], "delong_high": row["high"]}
        return {"test": kind, "p": row["p"], "p_holm": row["p_holm"], **ends}
    if metric == "accuracy":
        row = comparison["accuracy"]
        kind = "McNemar, clustered"
        return {"test": kind, "p": row["p_groups"], "p_holm": row["p_groups_holm"]}
    return {"test": "", "p": None, "p_holm": None}
