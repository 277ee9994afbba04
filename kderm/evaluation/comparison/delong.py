"""Areas under correlated ROC curves: their covariance, and whether two of them differ.

Takes plain arrays, returns plain numbers; `compare` asks it for every outcome. Images of one lesion
or patient are near-copies, so the variance is that of groups. Must stay free of Keras.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from kderm.evaluation.intervals import edge

NO_VARIANCE = 1e-18


@dataclass(frozen=True)
class AucDifference:
    """Two areas on the same images, and their difference (second minus first).

    Attributes:
        first, second: the areas; NaN unless both sides are present.
        difference: second minus first.
        standard_error: of the difference; NaN where fewer than two groups carry a side.
        low, high: normal-theory interval of the difference; NaN where there is no z, and where two
            scores that are not the same both have an area of 0 or 1, so that nothing varies.
        z: difference by its standard error; 0 where the two rank alike; NaN where they differ and
            nothing varies (one always right, the other constant), which says nothing of chance.
        p: two-sided p-value; NaN where there is no z.
        clustered: whether a group held several images, so that the variance had to know of groups.
    """

    first: float
    second: float
    difference: float
    standard_error: float
    low: float
    high: float
    z: float
    p: float
    clustered: bool


def auc_covariance(
    positive: np.ndarray, scores: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the ROC curves of several scores of the same images, and their covariance.

    Source: Obuchowski 1997, Biometrics 53:567, eqs. 2 to 4 (groups that may hold positives,
    negatives or both). With one image a group it is DeLong, DeLong and Clarke-Pearson 1988,
    Biometrics 44:837, exactly. The sums over pairs are taken from ranks, as in Sun and Xu 2014.

    Args:
        positive: bool (n,).
        scores: float (n, r), higher means more likely positive; a column a reader.
        groups: (n,), the group of each image.

    Returns:
        Areas float (r,), NaN unless both sides are present; covariance float (r, r), NaN unless
        each side is in two groups at least.
    """
    positive = np.asarray(positive, dtype=bool)
    scores = np.asarray(scores, dtype=np.float64)
    readers = scores.shape[1]
    ours, theirs = int(positive.sum()), int((~positive).sum())
    if not ours or not theirs:
        return np.full(readers, np.nan), np.full((readers, readers), np.nan)
    placed = np.stack([_placements(positive, column) for column in scores.T], axis=1)
    areas = placed[positive].mean(axis=0)
    _, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    among = [np.unique(group[side]).size for side in (positive, ~positive)]
    if min(among) < 2:
        return areas, np.full((readers, readers), np.nan)
    count = int(group.max()) + 1
    centred = placed - areas
    # (groups, r): how far a group's positives, and its negatives, are from the mean, by their share
    above = _group_sums(group[positive], centred[positive], count) / ours
    below = _group_sums(group[~positive], centred[~positive], count) / theirs
    cross = above.T @ below
    return areas, (
        _unbiased(among[0]) * above.T @ above
        + _unbiased(among[1]) * below.T @ below
        + _unbiased(count) * (cross + cross.T)
    )


def compare_areas(
    positive: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray,
    level: float = 0.95,
) -> AucDifference:
    """Whether the areas under the ROC curves of two scores of the same images differ.

    Args:
        positive: bool (n,).
        first, second: float (n,), higher means more likely positive.
        groups: (n,), the group of each image.
        level: coverage of the interval.
    """
    first, second = np.asarray(first), np.asarray(second)
    areas, covariance = auc_covariance(positive, np.stack([first, second], axis=1), groups)
    difference = float(areas[1] - areas[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # Rounding must not make a test of two readers that rank alike; NaN stays NaN.
    error = 0.0 if variance < NO_VARIANCE else float(np.sqrt(variance))
    z, p = _normal_test(difference, error)
    told = not np.isnan(z) and not (error == 0 and edge(areas[0]) and (first != second).any())
    half = float(norm.ppf((1 + level) / 2)) * error if told else np.nan
    return AucDifference(
        first=float(areas[0]),
        second=float(areas[1]),
        difference=difference,
        standard_error=error,
        low=difference - half,
        high=difference + half,
        z=z,
        p=p,
        clustered=len(np.unique(np.asarray(groups, dtype=str))) < len(positive),
    )


def _normal_test(difference: float, error: float) -> tuple[float, float]:
    """z and two-sided p; without any variance only equality can be told."""
    if np.isnan(error):
        return np.nan, np.nan
    if error == 0:
        return (0.0, 1.0) if abs(difference) < 1e-12 else (np.nan, np.nan)
    z = difference / error
    return z, float(2 * norm.sf(abs(z)))


def _placements(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """float (n,): the share of the other side that an image is on the right side of; ties half."""
    ours, theirs = np.sort(score[positive]), np.sort(score[~positive])
    placed = np.empty(len(score))
    placed[positive] = _share_below(theirs, score[positive])
    placed[~positive] = 1 - _share_below(ours, score[~positive])
    return placed


def _share_below(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    under = np.searchsorted(ordered, values, side="left")
    up_to = np.searchsorted(ordered, values, side="right")
    return (under + up_to) / (2 * len(ordered))


def _group_sums(group: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """float (count, r): the sum of `values` (n, r) in each group."""
    return np.stack(
        [np.bincount(group, weights=column, minlength=count) for column in values.T], axis=1
    )


def _unbiased(count: int) -> float:
    return count / (count - 1)
