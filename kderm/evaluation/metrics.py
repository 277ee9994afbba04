"""Metrics of a multi-class classifier with rare classes, as plain numbers from plain arrays.

Every statistic takes image weights, so the bootstrap of `intervals` runs the same code as the
point estimates. A class absent from the truth has no AUC, sensitivity or F1: it is NaN and left
out of the macro means, which are over the same classes under all weights. A tied top class is an
answer to no class: it counts as wrong everywhere.
"""

from functools import cached_property

import numpy as np

from kderm.evaluation.calibration.reliability import expected_calibration_error
from kderm.evaluation.scores.counting import (
    UNDECIDED,
    DecisionCounts,
    accuracy,
    balanced_accuracy,
    class_rates,
    cohen_kappa,
    confusion_matrix,
    decided_class,
    decision_counts,
    matthews_correlation,
    quadratic_kappa,
)
from kderm.evaluation.scores.ranking import (
    RankedScores,
    auc_sens_80,
    average_precision,
    binary_auc,
    partial_auc,
    roc_curve,
    threshold_counts,
)
from kderm.evaluation.scores.weights import (
    like_weights,
    mean_of_defined,
    mean_over,
    ratio,
    weight_columns,
)
from kderm.labels import LabelSpace

__all__ = [
    "UNDECIDED",
    "DecisionCounts",
    "RankedScores",
    "Scorecard",
    "auc_sens_80",
    "average_precision",
    "balanced_accuracy",
    "binary_auc",
    "class_rates",
    "cohen_kappa",
    "confusion_matrix",
    "decided_class",
    "decision_counts",
    "epoch_metrics",
    "image_brier",
    "image_log_loss",
    "matthews_correlation",
    "mean_of_defined",
    "order_has_meaning",
    "partial_auc",
    "quadratic_kappa",
    "roc_curve",
    "summarise",
    "threshold_counts",
]

# Log-loss of a probability of exactly zero stays finite, as in scikit-learn for float64.
SMALLEST = float(np.finfo(np.float64).eps)
# What a `RankedScores` calls its partial areas, and what they are called here.
AREAS = {
    "auc": "auc",
    "average_precision": "average_precision",
    "auc_above": "auc_sens_80",
    "partial_auc": "pauc_80",
}


def image_log_loss(y: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """float (n,): minus the log of the probability given to the true class."""
    return -np.log(np.clip(probabilities[np.arange(len(y)), y], SMALLEST, 1))


def image_brier(y: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """float (n,) in [0, 2]: squared distance to the one-hot truth (Brier 1950, summed over k)."""
    truth = np.eye(probabilities.shape[1])[y]
    return ((probabilities - truth) ** 2).sum(axis=1)


def order_has_meaning(labels: LabelSpace) -> bool:
    """Whether a distance in class order can mean something: two classes, or the user's own order.

    Diagnoses of the registered label spaces stand in alphabetical order, which is none of degree.
    """
    return len(labels) == 2 or labels.name == "custom"


class Scorecard:
    """All weighted statistics of one set of predictions; call it with image weights.

    Args:
        y: int (n,), index into the label space's codes.
        probabilities: float (n, k), rows sum to 1, columns in label-space order.
        labels: names the per-class statistics and says which classes are malignant.
    """

    # See `intervals.group_intervals`: weights may come as (b, n), answers go as arrays (b,).
    batched = True

    def __init__(self, y: np.ndarray, probabilities: np.ndarray, labels: LabelSpace) -> None:
        _check_shapes(y, probabilities)
        self.y, self.probabilities, self.labels = y, probabilities, labels
        self._losses = np.stack([image_log_loss(y, probabilities), image_brier(y, probabilities)])

        images = np.bincount(y, minlength=len(labels))
        # The classes that the macro means are over, whatever the weights.
        self._present, self._contrasted = images > 0, (images > 0) & (images < len(y))

    @cached_property
    def _counts(self) -> DecisionCounts:
        return DecisionCounts(self.y, decided_class(self.probabilities), len(self.labels))

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

    def __call__(self, weights: np.ndarray) -> dict[str, float] | dict[str, np.ndarray]:
        """Statistics under weights: overall by name, per class by `name/code`.

        Where the weights leave a class out, that class's rates and the means over classes are NaN.

        Args:
            weights: float (n,) for floats, or (b, n) for arrays (b,).
        """
        columns = weight_columns(weights)
        counts = self._counts(columns.T)
        rates = class_rates(counts) | self._class_areas(columns)
        result = self._overall(counts, rates, columns)
        if self._malignant is not None:
            found = self._malignant.scores(columns.T)
            result |= {f"malignant_{AREAS[name]}": value for name, value in found.items()}
        for name, values in rates.items():
            for j, code in enumerate(self.labels.codes):
                result[f"{name}/{code}"] = values[:, j]
        return {name: like_weights(value, weights) for name, value in result.items()}

    def _class_areas(self, columns: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays (b, k) by name."""
        found = [ranked.scores(columns.T) for ranked in self._ranked]
        return {
            ours: np.stack([scores[name] for scores in found], axis=1)
            for name, ours in AREAS.items()
        }

    def _overall(
        self, counts: np.ndarray, rates: dict[str, np.ndarray], columns: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Arrays (b,) by name, of counts (b, k, k + 1), rates (b, k) and weights (n, b)."""
        total = columns.sum(axis=0)
        log_loss, brier = ratio(self._losses @ columns, total)
        share = counts.sum(axis=-1) / total[:, None]
        result = {
            "macro_auc": mean_over(rates["auc"], self._contrasted),
            "balanced_accuracy": mean_over(rates["sensitivity"], self._present),
            "macro_f1": mean_over(rates["f1"], self._present),
            "weighted_f1": np.nansum(rates["f1"] * share, axis=-1),
            "accuracy": accuracy(counts),
            "kappa": cohen_kappa(counts),
            "mcc": matthews_correlation(counts),
            "macro_average_precision": mean_over(rates["average_precision"], self._present),
            "macro_auc_sens_80": mean_over(rates["auc_sens_80"], self._contrasted),
            "macro_pauc_80": mean_over(rates["pauc_80"], self._contrasted),
            "log_loss": log_loss,
            "brier": brier,
        }
        if order_has_meaning(self.labels):
            result["quadratic_kappa"] = quadratic_kappa(counts)
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


def _check_shapes(y: np.ndarray, probabilities: np.ndarray) -> None:
    if probabilities.ndim != 2 or y.shape != probabilities.shape[:1] or len(y) == 0:
        raise ValueError(
            "Expected y (n,) and probabilities (n, k) with n >= 1. "
            f"Received: {y.shape} and {probabilities.shape}"
        )
