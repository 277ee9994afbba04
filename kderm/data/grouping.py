"""Dealing groups of images to folds: a greedy pass, then a repair of missing classes.

Knows counts only, no ids and no files; `kderm.data.folds` is its one caller. scikit-learn's
StratifiedGroupKFold is not used: it can leave folds empty and its shuffle was broken for years.
"""

from collections.abc import Sequence

import numpy as np


def deal_groups(counts: np.ndarray, keys: Sequence[str], k: int) -> np.ndarray:
    """A fold for each group.

    Args:
        counts: int array (g, k classes), images of each class in each group.
        keys: a distinct string a group, the order in which groups of equal size are dealt.
        k: number of folds, at most g.

    Returns:
        int array (g,), folds 0..k-1, each of them used.
    """
    folds = _deal(counts, keys, k)
    return _repair(counts, folds, k)


def _deal(counts: np.ndarray, keys: Sequence[str], k: int) -> np.ndarray:
    """Largest groups first, rarest class first, each to the fold that needs it most.

    The cost of a fold is what the group would add to the sum over classes of (images of the class
    in the fold / all images of the class) squared, which is least when all are spread evenly.
    """
    totals = counts.sum(axis=0)
    weights = [1.0 / total**2 if total else 0.0 for total in totals.tolist()]
    rarest = np.where(counts > 0, totals, np.iinfo(np.int64).max).min(axis=1)
    mixed = (counts > 0).sum(axis=1) > 1
    sizes = counts.sum(axis=1)
    # Mixed groups first: they fit worst, and groups of one class even out what they leave.
    order = np.lexsort((np.asarray(keys), -sizes, rarest, -np.where(mixed, sizes, 0)))
    filled = [[0] * counts.shape[1] for _ in range(k)]
    images = [0] * k
    folds = np.empty(len(counts), dtype=np.int64)
    columns, group_of = np.nonzero(counts)[::-1]
    bounds = np.searchsorted(group_of, np.arange(len(counts) + 1)).tolist()
    classes, amounts = columns.tolist(), counts[group_of, columns].tolist()
    size_of = sizes.tolist()
    for group in order.tolist():
        entries = range(bounds[group], bounds[group + 1])
        best, least = 0, (float("inf"), 0)
        for fold in range(k):
            row = filled[fold]
            cost = 0.0
            for e in entries:
                c = classes[e]
                cost += weights[c] * amounts[e] * (2 * row[c] + amounts[e])
            if (cost, images[fold]) < least:
                best, least = fold, (cost, images[fold])
        for e in entries:
            filled[best][classes[e]] += amounts[e]
        images[best] += size_of[group]
        folds[group] = best
    return folds


def _repair(counts: np.ndarray, folds: np.ndarray, k: int) -> np.ndarray:
    """Move or swap groups until every class that `k` groups have is in every fold, if it can be.

    Each step lowers the number of (class, fold) pairs without an image, so it ends.
    """
    has = counts > 0
    wanted = np.flatnonzero(has.sum(axis=0) >= k)
    if not len(wanted):
        return folds
    folds = folds.copy()
    # Groups of each class in each fold; the last column counts all, so that no fold runs empty.
    present = np.zeros((k, len(wanted) + 1), dtype=np.int64)
    member = np.concatenate([has[:, wanted], np.ones((len(counts), 1), dtype=bool)], axis=1)
    np.add.at(present, folds, member.astype(np.int64))
    sizes = counts.sum(axis=1)
    while True:
        step = _best_step(present, member, folds, sizes)
        if step is None:
            return folds
        for group, target in step:
            present[folds[group]] -= member[group]
            present[target] += member[group]
            folds[group] = target


def _best_step(
    present: np.ndarray, member: np.ndarray, folds: np.ndarray, sizes: np.ndarray
) -> list[tuple[int, int]] | None:
    """The move, or else the swap, that fills the most gaps; of equal ones that of small groups."""
    gaps = int((present == 0).sum())
    best, least = None, (gaps, 0)
    for target, column in zip(*np.nonzero(present == 0), strict=True):
        givers = np.flatnonzero(member[:, column])
        for group in givers[np.argsort(sizes[givers], kind="stable")][:200].tolist():
            home = folds[group]
            moved = present.copy()
            moved[home] -= member[group]
            moved[target] += member[group]
            cost = (int((moved == 0).sum()), int(sizes[group]))
            if cost[0] < gaps and cost < least:
                best, least = [(group, int(target))], cost
            if (moved == 0).sum() < gaps:
                continue
            # Handing a group back may mend what the move broke; look at one of each kind.
            back = np.flatnonzero(folds == target)
            _, first = np.unique(member[back], axis=0, return_index=True)
            for other in back[first].tolist():
                swapped = moved.copy()
                swapped[target] -= member[other]
                swapped[home] += member[other]
                cost = (int((swapped == 0).sum()), int(sizes[group] + sizes[other]))
                if cost[0] < gaps and cost < least:
                    best, least = [(group, int(target)), (other, int(home))], cost
    return best
