"""Right or wrong, answered twice: paired tests of two runs' answers to the same images.

Takes plain arrays, returns plain numbers; `compare` asks it for the accuracy. Must stay free of
Keras.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, norm


@dataclass(frozen=True)
class PairedAnswers:
    """How often two runs were right on the same images, and whether that differs.

    Attributes:
        both_right, only_first, only_second, both_wrong: images.
        difference: accuracy of the second minus that of the first.
        p_exact: McNemar's exact test; takes each image for independent of all others.
        z_groups, p_groups: the test that knows of groups; NaN with fewer than two of them, and
            where answers differ but cancel within every group, so that nothing varies.
    """

    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    difference: float
    p_exact: float
    z_groups: float
    p_groups: float


def compare_answers(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> PairedAnswers:
    """Whether two runs are right equally often on the same images.

    The exact test is that of McNemar 1947 (binomial over the images on which one alone is right).
    The other is that of Obuchowski 1998, Statistics in Medicine 17:1495, for pairs in groups: its
    null and its numerator are those of the image-level accuracies that are reported. Durkalski
    2003 gives every group the same weight instead and so speaks of another difference.

    Args:
        first, second: bool (n,), whether each run was right.
        groups: (n,), the group of each image.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    z, p = _group_test(second.astype(int) - first, groups)
    return PairedAnswers(
        both_right=int((first & second).sum()),
        only_first=only_first,
        only_second=only_second,
        both_wrong=int((~first & ~second).sum()),
        difference=(only_second - only_first) / len(first),
        p_exact=exact_mcnemar(only_first, only_second),
        z_groups=z,
        p_groups=p,
    )


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value of McNemar's test; 1 where the two never differ."""
    fewer, together = min(only_first, only_second), only_first + only_second
    return min(1.0, float(2 * binom.cdf(fewer, together, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment for several comparisons; undefined ones (NaN) do not count.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    stepped = p[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted.tolist()


def _group_test(change: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """z and p of the sum of `change` (n,), each of -1, 0 or 1, over groups."""
    if not change.any():
        return 0.0, 1.0
    _, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    total = np.bincount(group, weights=change)
    count, spread = len(total), float((total**2).sum())
    if count < 2 or spread == 0:
        return np.nan, np.nan
    z = float(total.sum() / np.sqrt(spread * count / (count - 1)))
    return z, float(2 * norm.sf(abs(z)))
