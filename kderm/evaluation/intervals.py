"""Confidence intervals that resample groups (lesions or patients), never single images.

Images of one lesion are near-copies; resampling them one by one gives intervals that are up to
2.4 times too narrow. A resample is a weight for each image, so any weighted statistic will do.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from kderm.runtime import core_count

# An interval stands only if the statistic is defined in nearly all resamples.
LEAST_DEFINED = 0.9
RESAMPLES = 2000
# A share this close to 0 or 1 is that: weights need not be whole numbers.
ROUNDING = 1e-12
# Weights handed over at once (8 bytes each): they and what is made of them stay in the caches.
CHUNK = 500_000
# Chunks at once; beyond that they wait for memory.
MOST_THREADS = 4

Statistic = Callable[[np.ndarray], dict[str, float]] | Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Interval:
    """A percentile interval; both ends NaN where the data cannot carry one."""

    low: float
    high: float


def group_intervals(
    statistic: Statistic,
    groups: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Interval]:
    """Group-bootstrap percentile intervals of every value of `statistic`.

    Each resample draws as many groups as there are, with replacement; an image's weight is how
    often its group was drawn. Source: Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x
    (the cluster bootstrap); percentile method of Efron and Tibshirani 1993, ch. 13.

    Args:
        statistic: image weights float (n,) to values by name, NaN where undefined. One with an
            attribute `batched = True` gets weights (b, n) and answers with arrays (b,), in several
            threads; that is many times faster. The draws are the same for both.
        groups: (n,), the group of each image.
        resamples: number of resamples.
        seed: seed of the draws; the same seed gives the same intervals.
        level: coverage, in (0, 1).
        progress: called with (resamples done, resamples).

    Returns:
        An interval a name. It is NaN with fewer than two groups, or where a tenth or more of the
        resamples leave the value undefined (a class in very few groups).
    """
    _, membership = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    groups_in_all = int(membership.max()) + 1
    in_batches = getattr(statistic, "batched", False)
    ones = np.ones((1, len(membership)))
    names = list(statistic(ones if in_batches else ones[0]))
    if groups_in_all < 2:
        return dict.fromkeys(names, Interval(np.nan, np.nan))
    values = np.empty((resamples, len(names)))
    batch = max(1, CHUNK // len(membership)) if in_batches else 1
    drawn = _drawn_weights(membership, groups_in_all, resamples, batch, seed)
    done = 0
    for rows in _answered(statistic, names, drawn, in_batches):
        values[done : done + len(rows)] = rows
        done += len(rows)
        if progress is not None:
            progress(done, resamples)
    return {name: _percentiles(values[:, j], level) for j, name in enumerate(names)}


def exact_ends(
    value: float, interval: Interval, groups_counted: float, level: float = 0.95
) -> Interval:
    """`interval`, or a binomial one where all or none of the groups are counted.

    The one rule for every share of this room.

    A bootstrap of nothing but hits knows no misses, and would call 3 of 3 certain. Source: Clopper
    and Pearson 1934, doi:10.1093/biomet/26.4.404, over groups instead of images.

    Args:
        value: a share; 0 or 1 up to rounding, as fractional weights leave it.
        interval: of the share, from `group_intervals`; NaN stays NaN.
        groups_counted: groups that have an image in the share's whole.
        level: coverage.
    """
    if not edge(value) or np.isnan(interval.low):
        return interval
    reach = ((1 - level) / 2) ** (1 / groups_counted)
    return Interval(reach, 1.0) if round(value) else Interval(0.0, 1 - reach)


def edge(value: float) -> bool:
    """Whether a share is 0 or 1, up to rounding."""
    return abs(value) <= ROUNDING or abs(value - 1) <= ROUNDING


def snapped(value: float) -> float:
    """A share without the rounding that fractional weights leave at 0 and 1."""
    return float(round(value)) if edge(value) else float(value)


def exact_shares(
    values: Mapping[str, float],
    intervals: Mapping[str, Interval],
    groups_counted: Mapping[str, float],
    level: float = 0.95,
) -> dict[str, Interval]:
    """`intervals` with `exact_ends` for those that are of a share.

    Args:
        values: by name.
        intervals: by name, from `group_intervals`.
        groups_counted: by the names of the shares alone, groups with an image in the whole.
        level: coverage.
    """
    exact = {
        name: exact_ends(float(values[name]), intervals[name], counted, level)
        for name, counted in groups_counted.items()
    }
    return {**intervals, **exact}


def groups_among(chosen: np.ndarray, groups: np.ndarray) -> int:
    """How many groups have an image among the `chosen` ones, bool (n,)."""
    return len(np.unique(groups[chosen].astype(str)))


def difference_ends(
    first: float,
    first_interval: Interval,
    second: float,
    second_interval: Interval,
) -> Interval:
    """Interval of `first - second` from the two shares' own intervals.

    For where one of them is 0 or 1: a bootstrap of the difference would take it for certain. Each
    end is as far away as both shares can be towards it, squared and added. Source: method 10 of
    Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, for any
    intervals Zou and Donner 2008, doi:10.1002/sim.3095. It takes the two for independent, which
    shares of different images are but for groups with images in both.
    """
    low = np.hypot(first - first_interval.low, second_interval.high - second)
    high = np.hypot(first_interval.high - first, second - second_interval.low)
    return Interval(float(first - second - low), float(first - second + high))


def batched(statistic: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Statistic:
    """Mark a function as taking weights (b, n) and answering with arrays (b,); a decorator."""
    statistic.batched = True
    return statistic


def _drawn_weights(
    membership: np.ndarray, groups: int, resamples: int, batch: int, seed: int
) -> Iterator[np.ndarray]:
    """Image weights float (b, n), `resamples` rows in all, at most `batch` at once."""
    random = np.random.default_rng(seed)
    for start in range(0, resamples, batch):
        drawn = np.empty((min(batch, resamples - start), groups))
        for row in drawn:
            row[:] = np.bincount(random.integers(0, groups, groups), minlength=groups)
        # Kept with a row an image, of which a transposed view is free; see `scores.weights`.
        yield np.ascontiguousarray(drawn.T)[membership].T


def _answered(
    statistic: Statistic, names: list[str], drawn: Iterator[np.ndarray], in_batches: bool
) -> Iterator[np.ndarray]:
    """float (b, names) of each chunk of weights, in their order.

    Chunks are computed side by side: numpy lets go of the interpreter while it adds up rows.
    """

    def answer(weights: np.ndarray) -> np.ndarray:
        result = statistic(weights if in_batches else weights[0])
        return np.transpose([result[name] for name in names]).reshape(len(weights), len(names))

    if not in_batches:  # plain statistics hold the interpreter, so that threads only wait
        yield from map(answer, drawn)
        return
    workers = min(MOST_THREADS, core_count())
    # One thread a chunk: the threads of BLAS beside them would wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future] = deque()
        for weights in drawn:
            waiting.append(pool.submit(answer, weights))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _percentiles(values: np.ndarray, level: float) -> Interval:
    defined = values[~np.isnan(values)]
    if len(defined) == 0 or len(defined) <= LEAST_DEFINED * len(values):
        return Interval(np.nan, np.nan)
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high))
