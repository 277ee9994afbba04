"""The malignant score and the threshold that turns it into a flag.

Thresholds are fitted on out-of-fold predictions and frozen in the bundle before any test.
An image is flagged when its score is at or above the threshold.
"""

from dataclasses import dataclass

import numpy as np

from kderm.errors import UserError
from kderm.evaluation.metrics import threshold_counts
from kderm.evaluation.predictions import Predictions
from kderm.labels import LabelSpace


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the malignant score, and what it gives on the data it was fitted on."""

    threshold: float
    sensitivity: float
    specificity: float
    rule: str = "youden"


def malignant_score(probabilities: np.ndarray, labels: LabelSpace) -> np.ndarray:
    """float (n,) in [0, 1]: the probability that the lesion is of any malignant class.

    Args:
        probabilities: float (n, k), rows sum to 1, columns in label-space order.
        labels: names the malignant classes.
    """
    return probabilities[:, labels.malignant_indices].sum(axis=1)


def malignant_truth(y: np.ndarray, labels: LabelSpace) -> np.ndarray:
    """bool (n,): whether the true class is malignant.

    Args:
        y: int (n,), index into the label space's codes.
        labels: names the malignant classes.
    """
    return np.isin(y, labels.malignant_indices)


def youden_threshold(y_binary: np.ndarray, score: np.ndarray) -> float:
    """The threshold with the highest sensitivity + specificity - 1 (Youden 1950).

    Among equals the lowest, that is the most sensitive one. It lies half-way to the next lower
    score, so that rounding a score in a table does not change its flag.

    Args:
        y_binary: bool or 0/1 (n,), with both values present.
        score: float (n,), higher means more likely positive.

    Raises:
        UserError: only one of the two values is present.
    """
    y_binary = _both_sides(y_binary)
    thresholds, true, false = threshold_counts(y_binary, score)
    # J in whole counts, TP N - FP P, so that equal thresholds compare as equal.
    gain = true.astype(np.int64) * false[-1] - false.astype(np.int64) * true[-1]
    best = int(np.flatnonzero(gain == gain.max())[-1])
    chosen = float(thresholds[best])
    if best + 1 == len(thresholds):
        return chosen
    below = float(thresholds[best + 1])
    middle = (chosen + below) / 2
    return middle if middle > below else chosen


def sensitivity_specificity(
    y_binary: np.ndarray, score: np.ndarray, threshold: float
) -> tuple[float, float]:
    """Share of positives at or above `threshold`, and of negatives below it.

    Args:
        y_binary: bool or 0/1 (n,), with both values present.
        score: float (n,).
        threshold: flagged from here upwards.

    Raises:
        UserError: only one of the two values is present.
    """
    y_binary = _both_sides(y_binary)
    flagged = np.asarray(score) >= threshold
    return float(flagged[y_binary].mean()), float((~flagged[~y_binary]).mean())


def malignant_operating_point(predictions: Predictions) -> OperatingPoint | None:
    """Youden's point of the malignant score.

    None where there is nothing to choose: a label space without malignant classes, or a truth
    that is all malignant or all benign.
    """
    positive = malignant_truth(predictions.y, predictions.labels)
    if positive.all() or not positive.any():
        return None
    score = malignant_score(predictions.probabilities, predictions.labels)
    threshold = youden_threshold(positive, score)
    return OperatingPoint(threshold, *sensitivity_specificity(positive, score, threshold))


def _both_sides(y_binary: np.ndarray) -> np.ndarray:
    y_binary = np.asarray(y_binary).astype(bool)
    if y_binary.all() or not y_binary.any():
        side = "positive" if len(y_binary) and y_binary.all() else "negative"
        raise UserError(
            "A threshold needs positive and negative images to choose between. "
            f"Received: {len(y_binary)} image(s), all {side}. Predict images of both kinds first."
        )
    return y_binary
