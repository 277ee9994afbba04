"""How well a score puts the positives above the negatives: ROC and precision-recall areas.

Takes plain arrays. Weighted areas are made for the bootstrap: the sorting is done once, and what a
resample costs is adding up its weights.
"""

import numpy as np

from kderm.evaluation.scores.weights import (
    like_weights,
    ratio,
    running_sum,
    summing,
    weight_columns,
)

# The sensitivity from which the partial areas of the report count.
LEAST_SENSITIVITY = 0.8
# A sensitivity that is met up to rounding is met: weights need not be whole numbers.
ROUNDING = 1e-12


class RankedScores:
    """Scores of one class against the rest, sorted once, for areas under many weights.

    Args:
        positive: bool (n,).
        score: float (n,), higher means more likely positive.
    """

    def __init__(self, positive: np.ndarray, score: np.ndarray) -> None:
        positive, score = np.asarray(positive, dtype=bool), np.asarray(score)
        thresholds = np.unique(score[positive])
        d = self._thresholds = len(thresholds)
        # A positive stands at its threshold; a negative is tied with one, or lies below it.
        place = np.searchsorted(thresholds, score, side="left")
        tied = ~positive & np.isin(score, thresholds)
        block = np.where(positive, 0, np.where(tied, d, 2 * d))
        self._sums = summing(block + place, 3 * d + 1)

    def areas(self, weights: np.ndarray) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Area under the ROC curve, and average precision; see `scores`."""
        found = self.scores(weights)
        return found["auc"], found["average_precision"]

    def scores(
        self, weights: np.ndarray, min_tpr: float = LEAST_SENSITIVITY
    ) -> dict[str, np.ndarray | float]:
        """Areas under the curves, by image weights.

        Args:
            weights: float (n,) for floats, or (b, n) for arrays (b,).
            min_tpr: the sensitivity in [0, 1) from which the two partial areas count.

        Returns:
            auc: Mann-Whitney, the share of (positive, negative) pairs in the right order, ties
            counting half. average_precision: step-wise sum over distinct thresholds.
            partial_auc: see `partial_auc`. auc_above: see `auc_sens_80`. Each is NaN where a side
            that it needs has no weight.
        """
        d = self._thresholds
        sums = self._sums @ weight_columns(weights)
        ours, tied, between = sums[:d], sums[d : 2 * d], sums[2 * d : 3 * d]
        negatives = sums[d:].sum(axis=0)
        # Per threshold, ascending: positives at or above it, negatives strictly below it.
        true = running_sum(ours[::-1])[::-1]
        beaten = running_sum(between + tied) - tied
        positives = true[0] if d else np.zeros_like(negatives)
        half_tied = beaten + tied / 2
        flagged = true + negatives - beaten
        precision = np.divide(true, flagged, out=np.zeros_like(true), where=flagged > 0)
        area = ours * half_tied
        partial, reached = _above(min_tpr * positives, ours, tied, true, beaten, area)
        pairs = positives * negatives
        partial_auc = ratio(partial, pairs)
        found = {
            "auc": ratio(area.sum(axis=0), pairs),
            "average_precision": ratio(np.einsum("ib,ib->b", ours, precision), positives),
            "partial_auc": partial_auc,
            "auc_above": partial_auc + min_tpr * ratio(reached, negatives),
        }
        return {name: like_weights(value, weights) for name, value in found.items()}


def _above(
    level: np.ndarray,
    ours: np.ndarray,
    tied: np.ndarray,
    true: np.ndarray,
    beaten: np.ndarray,
    area: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What lies above `level` (b,), a weight of positives: see `RankedScores.scores`.

    Returns:
        The area in pairs between the curve and the level, and the weight of the negatives to the
        right of where the curve reaches it: float (b,) each.
    """
    count = (true >= level * (1 - ROUNDING)).sum(axis=0)
    if len(ours) == 0:
        return np.zeros_like(level), np.zeros_like(level)
    column = np.arange(len(level))
    row = np.maximum(count - 1, 0)  # the highest threshold at which the level is reached
    passed = area * (np.arange(len(ours))[:, None] < row)
    step, step_tied = ours[row, column], tied[row, column]
    # Along one threshold's step the curve is a straight line, from its tied negatives inwards.
    share = np.clip(ratio(true[row, column] - level, step), 0, 1)
    share = np.where(np.isnan(share), 0, share)
    right_of = beaten[row, column] + share * step_tied
    within = share * step * (beaten[row, column] + right_of) / 2
    return passed.sum(axis=0) + within, right_of


def binary_auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; NaN unless both sides are present.

    Args:
        positive: bool (n,).
        score: float (n,), higher means more likely positive.
    """
    return RankedScores(positive, score).areas(np.ones(len(score)))[0]


def average_precision(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the step-wise precision-recall curve; NaN without a positive."""
    return RankedScores(positive, score).areas(np.ones(len(score)))[1]


def auc_sens_80(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the part of the ROC curve with sensitivity of at least 0.8, in [0, 1].

    Integrates the true positive rate, down to zero, from the interpolated point where it reaches
    0.8 to a false positive rate of 1. NaN unless both sides are present.
    Source: AUC_SENS_80 of the ISIC 2018 challenge scorer (isic-challenge-scoring 5.6.0).
    """
    return RankedScores(positive, score).scores(np.ones(len(score)), 0.8)["auc_above"]


def partial_auc(positive: np.ndarray, score: np.ndarray, min_tpr: float = 0.8) -> float:
    """Area between the ROC curve and the line of sensitivity `min_tpr`, in [0, 1 - min_tpr].

    NaN unless both sides are present. Source: the pAUC of ISIC 2024, which flips labels and
    scores, and integrates up to a false positive rate of 1 - min_tpr: the same area.

    Args:
        positive: bool (n,).
        score: float (n,), higher means more likely positive.
        min_tpr: in [0, 1).
    """
    if not 0 <= min_tpr < 1:
        raise ValueError(f"Expected min_tpr in [0, 1). Received: {min_tpr}")
    return RankedScores(positive, score).scores(np.ones(len(score)), min_tpr)["partial_auc"]


def threshold_counts(
    positive: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct thresholds, descending, with the images at or above each.

    Args:
        positive: bool (n,).
        score: float (n,).

    Returns:
        thresholds float (t,), true positives int (t,), false positives int (t,).
    """
    positive = np.asarray(positive, dtype=bool)
    order = np.argsort(-score, kind="stable")
    score, positive = score[order], positive[order]
    last_of_tie = np.flatnonzero(np.append(np.diff(score) != 0, True))
    true = np.cumsum(positive)[last_of_tie]
    return score[last_of_tie], true, last_of_tie + 1 - true


def roc_curve(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rate from (0, 0) to (1, 1); both sides must be present."""
    _, true, false = threshold_counts(positive, score)
    return np.append(0, false) / false[-1], np.append(0, true) / true[-1]
