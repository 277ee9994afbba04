"""Weighted counts of images, and values with their group-bootstrap intervals as plain data.

What the reports of calibration and decisions share. Arrays in, JSON-able numbers out.
"""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from kderm.evaluation.intervals import (
    RESAMPLES,
    Interval,
    batched,
    exact_ends,
    group_intervals,
)
from kderm.evaluation.measure import LEVEL, without_nan

Estimate = dict[str, float | None]


def indicator(columns: np.ndarray, count: int) -> sparse.csr_array:
    """Sparse float (count, n) with a 1 where image i counts in cell `columns[i]`.

    Args:
        columns: int (n,), the cell of each image.
        count: number of cells.
    """
    n = len(columns)
    return sparse.csr_array((np.ones(n), (columns, np.arange(n))), shape=(count, n))


def tally(cells: sparse.csr_array, weights: np.ndarray) -> np.ndarray:
    """float (cells, b): the weight of the images in each cell, for weights (b, n)."""
    return cells @ weights.T


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, broadcast, NaN where there is no whole."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def estimates(
    statistic: Callable[[np.ndarray], dict[str, np.ndarray]],
    groups: np.ndarray,
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Every value of `statistic` as {"value", "low", "high"}, None where undefined.

    Args:
        statistic: image weights (b, n) to arrays (b,) by name.
        groups: (n,), the group of each image.
        resamples: bootstrap resamples of whole groups; 95 % percentile intervals.
    """
    at_hand = statistic(np.ones((1, len(groups))))
    found = group_intervals(batched(statistic), groups, resamples=resamples, level=LEVEL)
    return {
        name: estimate(value[0], found[name].low, found[name].high)
        for name, value in at_hand.items()
    }


def estimate(value: float, low: float = np.nan, high: float = np.nan) -> Estimate:
    """A number with its interval as plain data; None for NaN and infinity."""
    return without_nan({"value": float(value), "low": float(low), "high": float(high)})


def with_exact_ends(found: Estimate, groups: int) -> Estimate:
    """`found`, with a binomial interval where all or none are counted: see `exact_ends`.

    Args:
        found: a share with its interval.
        groups: groups that have an image in the share's whole.
    """
    if found["low"] is None:
        return found
    ends = exact_ends(found["value"], Interval(found["low"], found["high"]), groups, LEVEL)
    return estimate(found["value"], ends.low, ends.high)
