"""What is decided against what is true: counts of images, and the rates made of them.

Takes plain arrays. Everything here works on one table of counts, or on a batch of them under the
weights of a bootstrap. A tied top class is an answer to no class: it counts as wrong everywhere.
"""

import numpy as np

from kderm.evaluation.scores.weights import mean_of_defined, ratio, summing, weight_columns

UNDECIDED = -1


def decided_class(probabilities: np.ndarray) -> np.ndarray:
    """int (n,): the class of the highest probability, or UNDECIDED where several share it.

    Args:
        probabilities: float (n, k).
    """
    top = probabilities.max(axis=1, keepdims=True)
    tied = (probabilities == top).sum(axis=1) > 1
    return np.where(tied, UNDECIDED, probabilities.argmax(axis=1))


class DecisionCounts:
    """Counts images by true and decided class, under any weights.

    Args:
        y: int (n,), index into the label space's codes.
        decided: int (n,), from `decided_class`.
        k: number of classes.
    """

    def __init__(self, y: np.ndarray, decided: np.ndarray, k: int) -> None:
        self._k = k
        self._sums = summing(y * (k + 1) + np.where(decided == UNDECIDED, k, decided), k * (k + 1))

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """float (b, k, k + 1) under weights (b, n), (k, k + 1) under weights (n,)."""
        counts = (self._sums @ weight_columns(weights)).T.reshape(-1, self._k, self._k + 1)
        return counts if np.ndim(weights) == 2 else counts[0]


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
    return DecisionCounts(y, decided, k)(np.ones(len(y)) if weights is None else weights)


def confusion_matrix(y: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """int (k, k): images by true class (rows) and predicted class (columns); ties are left out."""
    k = probabilities.shape[1]
    return decision_counts(y, decided_class(probabilities), k)[:, :k].astype(np.int64)


def class_rates(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Sensitivity, specificity, PPV, NPV and F1 of each class, one against the rest.

    Args:
        counts: float (..., k, k + 1), from `decision_counts`.

    Returns:
        Arrays (..., k); NaN where the rate has no image to stand on.
    """
    k = counts.shape[-2]
    total = counts.sum(axis=-1)
    called = counts[..., :k].sum(axis=-2)
    true = np.diagonal(counts, axis1=-2, axis2=-1)
    everything = total.sum(axis=-1, keepdims=True)
    rest = everything - total
    true_negative = rest - (called - true)
    return {
        "sensitivity": ratio(true, total),
        "specificity": ratio(true_negative, rest),
        "ppv": ratio(true, called),
        "npv": ratio(true_negative, everything - called),
        # 2 TP / (2 TP + FP + FN); a class without images has none, whatever was called it.
        "f1": np.where(total > 0, ratio(2 * true, total + called), np.nan),
    }


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of images whose decided class is the true one: (...,) of counts (..., k, k + 1)."""
    return ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def cohen_kappa(counts: np.ndarray) -> np.ndarray:
    """Agreement of decision and truth beyond chance, in [-1, 1]: (...,) of counts (..., k, k + 1).

    Undecided is an answer of its own that is never right. NaN where chance alone would agree
    always (truth and decisions all of one class).
    Source: Cohen 1960, doi:10.1177/001316446002000104.
    """
    k = counts.shape[-2]
    return _kappa(counts, np.ones((k, k + 1)) - np.eye(k, k + 1))


def quadratic_kappa(counts: np.ndarray) -> np.ndarray:
    """Kappa that forgives near misses: a disagreement weighs its squared distance in class order.

    Of use only where the order of the classes is one of degree. For two classes it equals
    `cohen_kappa`. Undecided is as far off as the farthest class.
    Source: Cohen 1968, doi:10.1037/h0026256.

    Args:
        counts: float (..., k, k + 1), from `decision_counts`.
    """
    step = np.arange(counts.shape[-2])
    distance = (step[:, None] - step) ** 2
    return _kappa(counts, np.column_stack([distance, distance.max(axis=1)]))


def _kappa(counts: np.ndarray, disagreement: np.ndarray) -> np.ndarray:
    """1 - observed / expected disagreement; expected under independence of the margins."""
    truth, decided = counts.sum(axis=-1), counts.sum(axis=-2)
    observed = (counts * disagreement).sum(axis=(-2, -1)) * truth.sum(axis=-1)
    expected = np.einsum("...i,ij,...j->...", truth, disagreement, decided)
    return 1 - ratio(observed, expected)


def matthews_correlation(counts: np.ndarray) -> np.ndarray:
    """Multi-class correlation of decision and truth, in [-1, 1]: (...,) of counts (..., k, k + 1).

    Undecided is an answer of its own. NaN where truth or decisions are all of one class.
    Source: Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006 (the R_K statistic).
    """
    truth, decided = counts.sum(axis=-1), counts.sum(axis=-2)
    total = truth.sum(axis=-1)
    agreed = np.trace(counts, axis1=-2, axis2=-1) * total
    chance = (truth * decided[..., :-1]).sum(axis=-1)
    spread = (total**2 - (truth**2).sum(axis=-1)) * (total**2 - (decided**2).sum(axis=-1))
    return ratio(agreed - chance, np.sqrt(np.maximum(spread, 0)))


def balanced_accuracy(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean recall over the classes present in the truth (ISIC 2018; ties count as wrong).

    Args:
        y: int (n,), index into the label space's codes.
        probabilities: float (n, k), rows sum to 1, columns in label-space order.
    """
    counts = decision_counts(y, decided_class(probabilities), probabilities.shape[1])
    return mean_of_defined(class_rates(counts)["sensitivity"])
