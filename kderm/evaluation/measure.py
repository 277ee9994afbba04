"""All numbers of the report, as the plain nested dict that becomes metrics.json.

Reads a `Predictions` table, returns data for `report` and `compare`. Draws and writes nothing.
Every key of the result is described, with its formula and source, in docs/metrics.md.
"""

import math
from collections.abc import Callable

import numpy as np

from kderm.evaluation.calibration import reliability as calibration
from kderm.evaluation.decisions.operating_points import (
    malignant_score,
    malignant_truth,
)
from kderm.evaluation.intervals import (
    RESAMPLES,
    Interval,
    exact_shares,
    group_intervals,
    groups_among,
)
from kderm.evaluation.metrics import Scorecard, confusion_matrix, decided_class, summarise
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.scores.isic import isic_scores

LEVEL = 0.95
# Below this many positives a class's numbers say little, whatever their intervals.
FEW_POSITIVES = 10
PER_CLASS = (
    "auc",
    "average_precision",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "auc_sens_80",
    "pauc_80",
)


def measure(
    predictions: Predictions,
    *,
    checkpoint: str | None,
    resamples: int = RESAMPLES,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Everything that can be counted in a predictions table.

    Args:
        predictions: labelled predictions, out-of-fold or external.
        checkpoint: "best", "last" or "stopped", how each fold's checkpoint was chosen; or None.
        resamples: bootstrap resamples of whole groups.
        progress: called with (resamples done, resamples).

    Returns:
        Plain data without NaN (None instead), a part of metrics.json: n_images, n_groups, pooled,
        folds, fold_mean, per_class, confusion, calibration, isic_scorer, ... A number
        with an interval is {value, low, high}; docs/metrics.md tells all keys.
    """
    summary = _flat_summary(predictions)
    intervals = _intervals(predictions, summary, resamples, progress)
    folds = _folds(predictions) if predictions.has_folds else []
    codes = predictions.labels.codes
    overall = [name for name, value in summary.items() if isinstance(value, float)]
    result = {
        "n_images": len(predictions),
        "n_groups": len(set(predictions.groups)),
        "groups_in_several_folds": _groups_in_several_folds(predictions),
        "classes": list(codes),
        "pooled": {
            name: _with_interval(summary[name], intervals.get(_interval_name(name)))
            for name in overall
        },
        "folds": folds,
        "fold_mean": _fold_mean(folds, overall),
        "per_class": {
            code: _class_numbers(code, summary["per_class"][code], intervals) for code in codes
        },
        "confusion": confusion_matrix(predictions.y, predictions.probabilities).tolist(),
        "undecided": summary["undecided"],
        "absent_classes": summary["absent"],
        "few_positives": [
            code for code in codes if 0 < summary["per_class"][code]["n"] < FEW_POSITIVES
        ],
        "calibration": _calibration(predictions, summary),
        "isic_scorer": isic_scores(predictions),
        "checkpoint_saw_scored_fold": _saw_scored_fold(predictions, checkpoint),
        "resamples": resamples,
        "level": LEVEL,
    }
    return without_nan(result)


def _intervals(
    predictions: Predictions,
    summary: dict,
    resamples: int,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Interval]:
    """Those of a `Scorecard`'s metrics, shares with exact ends."""
    intervals = group_intervals(
        Scorecard(predictions.y, predictions.probabilities, predictions.labels),
        predictions.groups,
        resamples=resamples,
        level=LEVEL,
        progress=progress,
    )
    values = {"accuracy": summary["accuracy"]} | {
        f"{name}/{code}": numbers[name]
        for code, numbers in summary["per_class"].items()
        for name in PER_CLASS
    }
    return exact_shares(values, intervals, groups_of_shares(predictions), LEVEL)


def without_nan(value: object) -> object:
    """`value` with NaN and infinities as None, all the way down: JSON knows neither."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _flat_summary(predictions: Predictions) -> dict:
    summary = summarise(predictions.y, predictions.probabilities, predictions.labels)
    if "mel" in summary["per_class"]:
        summary["mel_auc"] = summary["per_class"]["mel"]["auc"]
    return summary


def _interval_name(name: str) -> str:
    return "auc/mel" if name == "mel_auc" else name


def _with_interval(value: float, interval: Interval | None) -> dict[str, float]:
    interval = interval or Interval(math.nan, math.nan)
    return {"value": value, "low": interval.low, "high": interval.high}


def groups_of_shares(predictions: Predictions) -> dict[str, int]:
    """On how many groups each metric of a `Scorecard` that is a share stands, by its name."""
    decided, groups = decided_class(predictions.probabilities), predictions.groups
    counted = {"accuracy": len(set(groups))}
    for j, code in enumerate(predictions.labels.codes):
        truth, called = predictions.y == j, decided == j
        wholes = {"sensitivity": truth, "specificity": ~truth, "ppv": called, "npv": ~called}
        counted |= {f"{name}/{code}": groups_among(of, groups) for name, of in wholes.items()}
    return counted


def _class_numbers(code: str, numbers: dict, intervals: dict[str, Interval]) -> dict:
    estimates = {
        name: _with_interval(numbers[name], intervals[f"{name}/{code}"]) for name in PER_CLASS
    }
    return {"n": numbers["n"], **estimates}


def _folds(predictions: Predictions) -> list[dict]:
    """One dict a fold: its number, images, groups and overall metrics."""
    rows = []
    for fold in np.unique(predictions.folds).tolist():
        part = Predictions(predictions.table[predictions.folds == fold], predictions.labels)
        summary = _flat_summary(part)
        numbers = {name: value for name, value in summary.items() if isinstance(value, float)}
        size = {"n_images": len(part), "n_groups": len(set(part.groups))}
        rows.append({"fold": fold, **size, **numbers, "absent_classes": summary["absent"]})
    return rows


def _fold_mean(folds: list[dict], names: list[str]) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation over the folds in which the metric is defined."""
    result = {}
    for name in names if folds else []:
        values = np.array([fold[name] for fold in folds])
        values = values[~np.isnan(values)]
        result[name] = {
            "mean": float(values.mean()) if len(values) else math.nan,
            "sd": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        }
    return result


def _calibration(predictions: Predictions, summary: dict) -> dict:
    right, confidence = calibration.top_label(predictions.y, predictions.probabilities)
    result = {
        "ece": summary["ece"],
        "bins": calibration.BINS,
        "mean_confidence": float(confidence.mean()),
        "share_right": float(right.mean()),
        "brier": summary["brier"],
        "log_loss": summary["log_loss"],
    }
    if predictions.labels.malignant:
        truth = malignant_truth(predictions.y, predictions.labels)
        score = malignant_score(predictions.probabilities, predictions.labels)
        result["malignant_ece"] = calibration.reliability_bins(truth, score).expected_error
    return result


def _groups_in_several_folds(predictions: Predictions) -> int | None:
    if not predictions.has_folds:
        return None
    folds_of = predictions.table.groupby("group_id", sort=False)["fold"].nunique()
    return int((folds_of > 1).sum())


def _saw_scored_fold(predictions: Predictions, checkpoint: str | None) -> bool | None:
    if checkpoint is None or not predictions.has_folds:
        return None
    return checkpoint in ("best", "stopped")
