"""Metrics of a multi-class classifier with rare classes, as plain numbers from plain arrays.

Every statistic takes image weights, so the bootstrap of `intervals` runs the same code as the
point estimates. A class absent from the truth has no AUC, sensitivity or F1: it is NaN and left
out of the macro means. A tied top class is an answer to no class: it counts as wrong everywhere.
"""

from functools import cached_property

import numpy as np

from kderm.evaluation.calibration.reliability import expected_calibration_error
from kderm.labels import LabelSpace

UNDECIDED = -1
# Log-loss of a probability of exactly zero stays finite, as in scikit-learn for float64.
SMALLEST = float(np.finfo(np.float64).eps)


class RankedScores:
    """Scores of one class against the rest, sorted once; then weighted AUCs cost a cumulative sum.

    Args:
        positive: bool (n,).
        score: float (n,), higher means more likely positive.
    """

    def __init__(self, positive: np.ndarray, score: np.ndarray) -> None:
        positive = np.asarray(positive, dtype=bool)
        order = np.argsort(score, kind="stable")
        self._positives = order[positive[order]]
        self._negatives = order[~positive[order]]
        ours, theirs = score[self._positives], score[self._negatives]
        self._below = np.searchsorted(theirs, ours, side="left")
        self._not_above = np.searchsorted(theirs, ours, side="right")
        self._tied_from = np.searchsorted(ours, ours, side="left")

    def areas(self, weights: np.ndarray) -> tuple[float, float]:
        """Area under the ROC curve and average precision under image weights (n,).

        The AUC is the Mann-Whitney form: the share of (positive, negative) pairs in the right
        order, ties counting half. Average precision is the step-wise sum over distinct thresholds.
        Either is NaN where a side it needs has no weight.
        """
        ours = weights[self._positives]
        ours_below = np.concatenate([[0.0], np.cumsum(ours)])
        theirs_below = np.concatenate([[0.0], np.cumsum(weights[self._negatives])])
        positives, negatives = float(ours_below[-1]), float(theirs_below[-1])
        if positives == 0:
            return np.nan, np.nan
        beaten = theirs_below[self._below]
        true = positives - ours_below[self._tied_from]
        flagged = true + negatives - beaten
        precision = np.divide(true, flagged, out=np.zeros_like(true), where=flagged > 0)
        average_precision = float(ours @ precision) / positives
        if negatives == 0:
            return np.nan, average_precision
        pairs = float(ours @ (beaten + theirs_below[self._not_above])) / 2
        return pairs / (positives * negatives), average_precision


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


def auc_sens_80(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the part of the ROC curve with sensitivity of at least 0.8, in [0, 1].

    Integrates the true positive rate, down to zero, from the interpolated point where it reaches
    0.8 to a false positive rate of 1. NaN unless both sides are present.
    Source: AUC_SENS_80 of the ISIC 2018 challenge scorer.
    """
    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        return np.nan
    false_rate, true_rate = roc_curve(positive, score)
    reached = int(np.searchsorted(true_rate, 0.8, side="left"))
    rise = true_rate[reached] - true_rate[reached - 1]
    share = (0.8 - true_rate[reached - 1]) / rise
    start = false_rate[reached - 1] + share * (false_rate[reached] - false_rate[reached - 1])
    height, along = np.append(0.8, true_rate[reached:]), np.append(start, false_rate[reached:])
    return float(np.sum(np.diff(along) * (height[1:] + height[:-1]) / 2))


def decided_class(probabilities: np.ndarray) -> np.ndarray:
    """int (n,): the class of the highest probability, or UNDECIDED where several share it.

    Args:
        probabilities: float (n, k).
    """
    top = probabilities.max(axis=1, keepdims=True)
    tied = (probabilities == top).sum(axis=1) > 1
    return np.where(tied, UNDECIDED, probabilities.argmax(axis=1))


def decision_counts(
    y: np.ndarray, decided: np.ndarray, k: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """float (k, k + 1): images by true class (rows) and decided class; the last column: undecided.

    Args:
        y: int (n,).
        decided: int (n,), from `decided_class`.
        k: number of classes.
        weights: float (n,), one each by default.
    """
    cell = y * (k + 1) + np.where(decided == UNDECIDED, k, decided)
    return np.bincount(cell, weights=weights, minlength=k * (k + 1)).reshape(k, k + 1).astype(float)


def confusion_matrix(y: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """int (k, k): images by true class (rows) and predicted class (columns); ties are left out."""
    k = probabilities.shape[1]
    return decision_counts(y, decided_class(probabilities), k)[:, :k].astype(np.int64)


def class_rates(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Sensitivity, specificity, PPV, NPV and F1 of each class, one against the rest.

    Args:
        counts: float (k, k + 1), from `decision_counts`.

    Returns:
        Arrays (k,); NaN where the rate has no image to stand on.
    """
    k = len(counts)
    total = counts.sum(axis=1)
    called = counts[:, :k].sum(axis=0)
    true = np.diagonal(counts)
    rest = total.sum() - total
    true_negative = rest - (called - true)
    return {
        "sensitivity": _ratio(true, total),
        "specificity": _ratio(true_negative, rest),
        "ppv": _ratio(true, called),
        "npv": _ratio(true_negative, total.sum() - called),
        # 2 TP / (2 TP + FP + FN); a class without images has none, whatever was called it.
        "f1": np.where(total > 0, _ratio(2 * true, total + called), np.nan),
    }


def balanced_accuracy(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean recall over the classes present in the truth (ISIC 2018; ties count as wrong).

    Args:
        y: int (n,), index into the label space's codes.
        probabilities: float (n, k), rows sum to 1, columns in label-space order.
    """
    counts = decision_counts(y, decided_class(probabilities), probabilities.shape[1])
    return mean_of_defined(class_rates(counts)["sensitivity"])


def image_log_loss(y: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """float (n,): minus the log of the probability given to the true class."""
    return -np.log(np.clip(probabilities[np.arange(len(y)), y], SMALLEST, 1))


def image_brier(y: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """float (n,) in [0, 2]: squared distance to the one-hot truth (Brier 1950, summed over k)."""
    truth = np.eye(probabilities.shape[1])[y]
    return ((probabilities - truth) ** 2).sum(axis=1)


def mean_of_defined(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else np.nan


class Scorecard:
    """All weighted statistics of one set of predictions; call it with image weights.

    Args:
        y: int (n,), index into the label space's codes.
        probabilities: float (n, k), rows sum to 1, columns in label-space order.
        labels: names the per-class statistics and says which classes are malignant.
    """

    def __init__(self, y: np.ndarray, probabilities: np.ndarray, labels: LabelSpace) -> None:
        _check_shapes(y, probabilities)
        self.y, self.probabilities, self.labels = y, probabilities, labels
        self._decided = decided_class(probabilities)
        self._log_loss = image_log_loss(y, probabilities)
        self._brier = image_brier(y, probabilities)

    @cached_property
    def _ranked(self) -> list[RankedScores]:
        return [
            RankedScores(self.y == j, self.probabilities[:, j]) for j in range(len(self.labels))
        ]

    @cached_property
    def _malignant(self) -> RankedScores | None:
        if not self.labels.malignant:
            return None
        return RankedScores(
            np.isin(self.y, self.labels.malignant_indices),
            self.probabilities[:, self.labels.malignant_indices].sum(axis=1),
        )

    def __call__(self, weights: np.ndarray) -> dict[str, float]:
        """Statistics under weights (n,): overall by name, per class by `name/code`."""
        counts = decision_counts(self.y, self._decided, len(self.labels), weights)
        rates = class_rates(counts)
        areas = np.array([ranked.areas(weights) for ranked in self._ranked])
        rates["auc"], rates["average_precision"] = areas[:, 0], areas[:, 1]
        total = weights.sum()
        share = counts.sum(axis=1) / total
        result = {
            "macro_auc": mean_of_defined(rates["auc"]),
            "balanced_accuracy": mean_of_defined(rates["sensitivity"]),
            "macro_f1": mean_of_defined(rates["f1"]),
            "weighted_f1": float(np.nansum(rates["f1"] * share)),
            "accuracy": float(np.trace(counts) / total),
            "macro_average_precision": mean_of_defined(rates["average_precision"]),
            "log_loss": float(self._log_loss @ weights / total),
            "brier": float(self._brier @ weights / total),
        }
        if self._malignant is not None:
            areas = self._malignant.areas(weights)
            result["malignant_auc"], result["malignant_average_precision"] = areas
        for name, values in rates.items():
            for code, value in zip(self.labels.codes, values.tolist(), strict=True):
                result[f"{name}/{code}"] = value
        return result


def summarise(y: np.ndarray, probabilities: np.ndarray, labels: LabelSpace) -> dict:
    """Every metric as plain numbers.

    Args:
        y: int (n,), index into the label space's codes.
        probabilities: float (n, k), rows sum to 1, columns in label-space order.
        labels: the label space.

    Returns:
        Overall metrics by name, `absent` (codes without an image, left out of the macro means),
        `undecided` (images with a tied top class) and `per_class` (code -> metrics, `n` among
        them). Undefined values are NaN.
    """
    flat = Scorecard(y, probabilities, labels)(np.ones(len(y)))
    count = np.bincount(y, minlength=len(labels))
    per_class = {}
    for j, code in enumerate(labels.codes):
        parts = [(*name.partition("/"), value) for name, value in flat.items()]
        own = {name: value for name, _, of, value in parts if of == code}
        own["auc_sens_80"] = auc_sens_80(y == j, probabilities[:, j])
        per_class[code] = {"n": int(count[j]), **own}
    return {
        "n": len(y),
        **{name: value for name, value in flat.items() if "/" not in name},
        "ece": expected_calibration_error(y, probabilities),
        "undecided": int((decided_class(probabilities) == UNDECIDED).sum()),
        "absent": [code for j, code in enumerate(labels.codes) if count[j] == 0],
        "per_class": per_class,
    }


def epoch_metrics(y: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Macro AUC, balanced accuracy and macro F1, for the end of every epoch.

    All three are NaN if a probability is not finite, as after a diverged epoch.

    Args:
        y: int (n,), index into the label space's codes.
        probabilities: float (n, k), rows sum to 1, columns in label-space order.
    """
    _check_shapes(y, probabilities)
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(("macro_auc", "balanced_accuracy", "macro_f1"), np.nan)
    k = probabilities.shape[1]
    rates = class_rates(decision_counts(y, decided_class(probabilities), k))
    auc = np.array([binary_auc(y == j, probabilities[:, j]) for j in range(k)])
    return {
        "macro_auc": mean_of_defined(auc),
        "balanced_accuracy": mean_of_defined(rates["sensitivity"]),
        "macro_f1": mean_of_defined(rates["f1"]),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _check_shapes(y: np.ndarray, probabilities: np.ndarray) -> None:
    if probabilities.ndim != 2 or y.shape != probabilities.shape[:1] or len(y) == 0:
        raise ValueError(
            "Expected y (n,) and probabilities (n, k) with n >= 1. "
            f"Received: {y.shape} and {probabilities.shape}"
        )
