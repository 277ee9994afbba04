"""Intervals of what one answer gains over another on the same images, where resampling is blind.

If one run is right on all images and the other on none, every draw gives the same difference, and a
percentile interval would call it certain. Here is what such a difference may say instead; `compare`
and `lesions` ask. Plain numbers in and out.
"""

import numpy as np

from kderm.evaluation.intervals import Interval, difference_ends, edge, exact_ends

# Ends that are nearer to each other differ by rounding alone.
NO_WIDTH = 1e-12


def paired_share_ends(
    first: tuple[float, Interval],
    second: tuple[float, Interval],
    interval: Interval,
    *,
    groups_counted: float,
    groups_differing: int,
    same_whole: bool = True,
    level: float = 0.95,
) -> Interval:
    """Interval of `second - first`, two shares of the same images; `interval` where it will do.

    Where the two differ in no group, each may yet be the better one in as many groups as a share of
    0 allows (`exact_ends`). Where one of them is 0 or 1, or draws do not vary, both shares' own
    intervals are put together (`difference_ends`). These take the two for independent, which is
    too sure where one is right just where the other is wrong: so zero is inside wherever McNemar's
    exact test over the groups that differ, which then all point one way, does not exclude it.

    Args:
        first: a share, and its interval with exact ends.
        second: the same of the other answer.
        interval: of the difference, from resampling pairs; NaN stays NaN.
        groups_counted: groups with an image in the whole.
        groups_differing: groups with an image on which the two answers differ.
        same_whole: whether both are shares of the same images, as McNemar's test needs. What a run
            calls melanoma is another whole than what the other run does.
        level: coverage.
    """
    if np.isnan(interval.low):
        return interval
    if groups_differing == 0:
        most = exact_ends(0.0, interval, groups_counted, level).high
        return Interval(-most, most)
    if not (edge(first[0]) or edge(second[0]) or _without_width(interval)):
        return interval
    ends = difference_ends(*second, *first)
    if not same_whole:
        return ends
    # Of the groups that differ, at most this share would point the other way.
    other_way = exact_ends(0.0, interval, groups_differing, level).high
    least = (second[0] - first[0]) * (1 - 2 * other_way)
    return Interval(min(ends.low, least), max(ends.high, least))


def told_spread(first: float, second: float, interval: Interval) -> Interval:
    """`interval` of a difference of metrics that are no shares, or none where it has no width.

    It stays where both are the same value between 0 and 1 in all draws, as for runs that rank
    images alike.
    """
    alike = abs(second - first) <= NO_WIDTH and not edge(first)
    if _without_width(interval) and not alike:
        return Interval(np.nan, np.nan)
    return interval


def _without_width(interval: Interval) -> bool:
    return interval.high - interval.low <= NO_WIDTH
