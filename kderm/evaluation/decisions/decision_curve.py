"""Decision curves: is acting on the model better than treating everybody, or nobody?

Net benefit counts true positives and takes off false alarms at the price that a threshold implies:
who biopsies at a probability of 5 % holds 19 needless biopsies for one found melanoma to be fair.
It takes probabilities at their word, so it belongs to calibrated ones.
"""

import numpy as np

from kderm.evaluation.calibration.prevalence import implied_prior, stated_prior, to_prevalence
from kderm.evaluation.decisions.operating_points import Target, targets_of
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
        score: float (n,), calibrated probability of the event, at the prevalence if one is stated.
        groups: (n,), the group of each image.
        thresholds: ascending probabilities in (0, 1).
        prevalence: share of the event where the model would be used, in (0, 1), by which either
            side is weighed. None for the images as they are. A stated one needs both sides in
            `truth`.
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
                    shares of lesions are positive, with probabilities corrected for it as
                    `ensemble-predict --prevalence` does, from the shares that they stand for. Those
                    can be found on out-of-fold answers alone: empty for a table without folds}},
            "skipped": [{"target", "reason"}],
        }
    """
    y, probabilities = predictions.y, predictions.probabilities
    answered = implied_prior(probabilities, y) if predictions.has_folds else None
    curves, skipped = {}, []
    for target in targets_of(predictions.labels):
        truth = target.truth(y)
        if truth.all() or not truth.any():
            reason = f"no image is {'negative' if truth.all() else 'positive'}"
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
            "useful": _useful(curve["gain"]),
            "at_prevalence": [
                _elsewhere(predictions, target, answered, prevalence, resamples)
                for prevalence in PREVALENCES[:2]
                if answered is not None
            ],
        }
    return {"thresholds": list(THRESHOLDS), "targets": curves, "skipped": skipped}


def _elsewhere(
    predictions: Predictions,
    target: Target,
    answered: np.ndarray,
    prevalence: float,
    resamples: int,
) -> dict:
    """The gain where `prevalence` of the lesions are positive.

    Args:
        predictions: labelled predictions.
        target: what is treated.
        answered: float (k,), the shares of the classes that the probabilities stand for.
        prevalence: in (0, 1).
        resamples: bootstrap resamples of whole groups.
    """
    images = np.bincount(predictions.y, minlength=len(predictions.labels)) / len(predictions)
    there = stated_prior(images, [(target.indices, prevalence)])
    score = target.score(to_prevalence(predictions.probabilities, answered, there))
    curve = decision_curve(
        target.truth(predictions.y),
        score,
        predictions.groups,
        prevalence=prevalence,
        resamples=resamples,
    )
    return {"prevalence": prevalence, "gain": curve["gain"], "useful": _useful(curve["gain"])}


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
