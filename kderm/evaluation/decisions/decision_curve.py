"""Decision curves: is acting on the model better than treating everybody, or nobody?

Net benefit counts true positives and takes off false alarms at the price that a threshold implies:
who biopsies at a probability of 5 % holds 19 needless biopsies for one found melanoma to be fair.
It takes probabilities at their word, so it belongs to calibrated ones.
"""

import numpy as np

from kderm.evaluation.decisions.operating_points import targets_of
from kderm.evaluation.decisions.tally import Estimate, estimates, indicator, tally
from kderm.evaluation.intervals import RESAMPLES
from kderm.evaluation.predictions import Predictions

THRESHOLDS = tuple(percent / 100 for percent in range(1, 51))
CURVES = ("net_benefit", "treat_all", "gain", "biopsies_avoided_per_100")


def net_benefit(truth: np.ndarray, score: np.ndarray, threshold: float) -> float:
    """Net true positives per image when all images with a score of `threshold` or more are treated.

    TP / n - FP / n * t / (1 - t); 0 for treating nobody.
    Source: Vickers and Elkin 2006, doi:10.1177/0272989X06295361.

    Args:
        truth: bool (n,), n >= 1.
        score: float (n,), calibrated probability of the event.
        threshold: probability from which one would treat, in (0, 1).
    """
    curve = decision_curve(truth, score, np.arange(len(truth)), (threshold,), resamples=1)
    return curve["net_benefit"][0]["value"]


def decision_curve(
    truth: np.ndarray,
    score: np.ndarray,
    groups: np.ndarray,
    thresholds: tuple[float, ...] = THRESHOLDS,
    *,
    resamples: int = RESAMPLES,
) -> dict[str, list[Estimate]]:
    """Net benefit of the model and of treating everybody, with group-bootstrap intervals.

    Args:
        truth: bool (n,), n >= 1.
        score: float (n,), calibrated probability of the event.
        groups: (n,), the group of each image.
        thresholds: ascending probabilities in (0, 1).
        resamples: bootstrap resamples of whole groups.

    Returns:
        By name one {value, low, high} a threshold: "net_benefit" (the model), "treat_all", "gain"
        (the model over the better one of treating everybody and nobody) and
        "biopsies_avoided_per_100" (fewer images treated than all, per 100, at no true positive
        lost on balance). Intervals are pointwise.
    """
    at = np.array(thresholds)
    price = (at / (1 - at))[:, None]
    count = len(at) + 1
    # An image counts at all thresholds up to its score: `reached` of them.
    reached = np.searchsorted(at, np.asarray(score, dtype=np.float64), side="right")
    truth = np.asarray(truth, dtype=bool)
    cells = indicator(reached + count * truth, 2 * count)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        parts = tally(cells, weights).reshape(2, count, -1)
        total = parts.sum(axis=(0, 1))
        # (2, thresholds, b): the images at or above each threshold, negatives and positives.
        flagged = parts[:, ::-1].cumsum(axis=1)[:, -2::-1]
        negatives, positives = parts.sum(axis=1)
        model = (flagged[1] - price * flagged[0]) / total
        everybody = (positives - price * negatives) / total
        values = {
            "net_benefit": model,
            "treat_all": everybody,
            "gain": model - np.maximum(everybody, 0),
            "biopsies_avoided_per_100": 100 * (model - everybody) / price,
        }
        return {f"{name}/{j}": rows[j] for name, rows in values.items() for j in range(len(at))}

    found = estimates(statistic, groups, resamples)
    return {name: [found[f"{name}/{j}"] for j in range(len(at))] for name in CURVES}


def decision_report(predictions: Predictions, *, resamples: int = RESAMPLES) -> dict:
    """Decision curves for melanoma and for malignant, as far as the label space has them.

    Args:
        predictions: labelled predictions, best with calibrated probabilities.
        resamples: bootstrap resamples of whole groups.

    Returns:
        {
            "thresholds": [0.01 ... 0.50],
            "targets": {target: {"n_positive", "n_negative", "treat_none": 0.0,
                "net_benefit", "treat_all", "gain", "biopsies_avoided_per_100": as
                `decision_curve`, one {value, low, high} a threshold,
                "useful": [[from, to], ...] thresholds whose whole interval of "gain" is above 0}},
            "skipped": [{"target", "reason"}],
        }
    """
    y, probabilities = predictions.y, predictions.probabilities
    curves, skipped = {}, []
    for target in targets_of(predictions.labels):
        truth = target.truth(y)
        if truth.all() or not truth.any():
            side = "positive" if truth.all() else "negative"
            reason = f"all {len(truth)} image(s) are {side}"
            skipped.append({"target": target.name, "reason": reason})
            continue
        curve = decision_curve(
            truth, target.score(probabilities), predictions.groups, resamples=resamples
        )
        curves[target.name] = {
            "n_positive": int(truth.sum()),
            "n_negative": int((~truth).sum()),
            "treat_none": 0.0,
            **curve,
            "useful": _ranges(
                [point["low"] is not None and point["low"] > 0 for point in curve["gain"]]
            ),
        }
    return {"thresholds": list(THRESHOLDS), "targets": curves, "skipped": skipped}


def _ranges(useful: list[bool]) -> list[list[float]]:
    """Runs of thresholds that are useful, first and last of each."""
    edges = np.flatnonzero(np.diff([False, *useful, False]))
    return [
        [THRESHOLDS[start], THRESHOLDS[end - 1]]
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]
