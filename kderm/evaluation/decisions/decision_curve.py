"""Decision curves: is acting on the model better than treating everybody, or nobody?

Net benefit counts true positives and takes off false alarms at the price that a threshold implies:
who biopsies at a probability of 5 % holds 19 needless biopsies for one found melanoma to be fair.
It takes probabilities at their word, so it belongs to calibrated ones.
"""

import numpy as np

from kderm.evaluation.calibration.prevalence import to_prevalence
from kderm.evaluation.decisions.operating_points import targets_of
from kderm.evaluation.decisions.points import PREVALENCES
from kderm.evaluation.decisions.tally import Estimate, estimates, indicator, ratio, tally
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
    prevalence: float | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, list[Estimate]]:
    """Net benefit of the model and of treating everybody, with group-bootstrap intervals.

    Args:
        truth: bool (n,), n >= 1.
        score: float (n,), calibrated probability of the event.
        groups: (n,), the group of each image.
        thresholds: ascending probabilities in (0, 1).
        prevalence: share of the event where the model would be used, in (0, 1): probabilities are
            corrected to it (see `to_prevalence`) and either side is weighed by its share there.
            None for the images as they are. A stated one needs both sides in `truth`.
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
    truth = np.asarray(truth, dtype=bool)
    if prevalence is not None:
        score = _corrected(np.asarray(score, dtype=np.float64), truth.mean(), prevalence)
    # An image counts at all thresholds up to its score: `reached` of them.
    reached = np.searchsorted(at, np.asarray(score, dtype=np.float64), side="right")
    cells = indicator(reached + count * truth, 2 * count)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        parts = tally(cells, weights).reshape(2, count, -1)
        total = parts.sum(axis=(0, 1))
        # (2, thresholds, b): the images at or above each threshold, negatives and positives.
        flagged = parts[:, ::-1].cumsum(axis=1)[:, -2::-1]
        negatives, positives = parts.sum(axis=1)
        if prevalence is not None:
            flagged = flagged * _shares_of_sides(negatives, positives, prevalence)
            negatives, positives, total = 1 - prevalence, np.full(len(total), prevalence), 1.0
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
                "useful": [[from, to], ...] thresholds whose whole interval of "gain" is above 0,
                "at_prevalence": [{"prevalence", "gain", "useful"}, ...] the same where other
                    shares of lesions are positive, with probabilities corrected for it}},
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
        images = truth, target.score(probabilities), predictions.groups
        curve = decision_curve(*images, resamples=resamples)
        curves[target.name] = {
            "n_positive": int(truth.sum()),
            "n_negative": int((~truth).sum()),
            "treat_none": 0.0,
            **curve,
            "useful": _useful(curve["gain"]),
            "at_prevalence": [
                _elsewhere(images, prevalence, resamples) for prevalence in PREVALENCES[:2]
            ],
        }
    return {"thresholds": list(THRESHOLDS), "targets": curves, "skipped": skipped}


def _elsewhere(
    images: tuple[np.ndarray, np.ndarray, np.ndarray], prevalence: float, resamples: int
) -> dict:
    gain = decision_curve(*images, prevalence=prevalence, resamples=resamples)["gain"]
    return {"prevalence": prevalence, "gain": gain, "useful": _useful(gain)}


def _corrected(score: np.ndarray, share: float, prevalence: float) -> np.ndarray:
    """float (n,): the probability of the event where it has another share than in the images."""
    both = np.stack([1 - score, score], axis=1)
    here, there = np.array([1 - share, share]), np.array([1 - prevalence, prevalence])
    return to_prevalence(both, here, there)[:, 1]


def _shares_of_sides(negatives: np.ndarray, positives: np.ndarray, prevalence: float) -> np.ndarray:
    """float (2, 1, b): what turns counts of either side into shares of all at `prevalence`."""
    shares = np.array([[1 - prevalence], [prevalence]])
    return ratio(shares, np.stack([negatives, positives]))[:, None]


def _useful(gain: list[Estimate]) -> list[list[float]]:
    """Runs of thresholds whose whole interval is above 0, first and last of each."""
    useful = [point["low"] is not None and point["low"] > 0 for point in gain]
    edges = np.flatnonzero(np.diff([False, *useful, False]))
    return [
        [THRESHOLDS[start], THRESHOLDS[end - 1]]
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]
