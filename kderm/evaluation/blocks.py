"""Metrics of every part of a divided table, and of all other parts, at once.

Scoring a part and its rest for each of twenty parts would pass over the table twenty times a
resample. Here pairs, answers and flags are counted once for every part (or pair of parts), and
parts are added up. Numpy and scipy only; `subgroups` decides what may be shown.
"""

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from kderm.evaluation.decisions.operating_points import target_named, targets_of
from kderm.evaluation.metrics import decided_class
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.scores.weights import running_sum


class BlockedPairs:
    """Correctly ordered (positive, negative) pairs, by the block of each.

    Args:
        positive: bool (n,).
        score: float (n,), higher means more likely positive.
        block: int (n,), from 0 to `blocks` - 1.
        blocks: how many.
    """

    def __init__(
        self, positive: np.ndarray, score: np.ndarray, block: np.ndarray, blocks: int
    ) -> None:
        order = np.lexsort((score, block))
        ours, theirs = order[positive[order]], order[~positive[order]]
        # Sums run over the longer side and are read at the shorter one.
        self._read_positives = len(ours) <= len(theirs)
        read, summed = (ours, theirs) if self._read_positives else (theirs, ours)
        self._read, self._blocks = read, blocks
        self._by_block = sparse.csr_array(
            (np.ones(len(read)), (block[read], np.arange(len(read)))), (blocks, len(read))
        )
        self._sides = []
        for b in range(blocks):
            own = summed[block[summed] == b]
            below = np.searchsorted(score[own], score[read], side="left")
            not_above = np.searchsorted(score[own], score[read], side="right")
            tied = np.flatnonzero(below != not_above)
            self._sides.append((own, below, tied, not_above[tied]))

    def __call__(self, columns: np.ndarray) -> np.ndarray:
        """float (blocks, blocks, b): by the positive's block, the negative's block; ties half.

        Args:
            columns: float (n, b), weights, one resample a column.
        """
        read = columns[self._read]
        pairs = np.zeros((self._blocks, self._blocks, columns.shape[1]))
        for b, (own, below, tied, not_above) in enumerate(self._sides):
            if len(own) == 0 or len(read) == 0:
                continue
            sums = np.concatenate([np.zeros_like(read[:1]), running_sum(columns[own])])
            lower = sums[below]
            lower[tied] = (lower[tied] + sums[not_above]) / 2
            credit = lower if self._read_positives else sums[-1] - lower
            pairs[:, b] = self._by_block @ (credit * read)
        return pairs if self._read_positives else pairs.transpose(1, 0, 2)


class BlockStatistic:
    """Metrics of each shown part and of its rest, and the gap; call it with weights (n,) or (b, n).

    Values are named "metric|part|side", side being own, rest or gap (own minus rest). Metrics:
    macro_auc and balanced_accuracy over the classes chosen for the part, <target>_auc, and
    <target>_sensitivity and <target>_specificity where a threshold is given.

    Args:
        predictions: labelled predictions.
        block: int (n,), from 0 to blocks - 1.
        own, rest: bool (parts, blocks), the blocks of a part, and those that it is compared with.
        auc_classes, recall_classes: bool (parts, k), over which the two means are taken.
        thresholds: of targets; an image is flagged from there upwards.
    """

    batched = True

    def __init__(
        self,
        predictions: Predictions,
        block: np.ndarray,
        own: np.ndarray,
        rest: np.ndarray,
        *,
        auc_classes: np.ndarray,
        recall_classes: np.ndarray,
        thresholds: Mapping[str, float],
    ) -> None:
        self._k, self._blocks = len(predictions.labels), own.shape[1]
        self._sides = {"own": own.astype(np.float64), "rest": rest.astype(np.float64)}
        self._auc_classes, self._recall_classes = auc_classes, recall_classes
        self._thresholds = dict(thresholds)
        y, p = predictions.y, predictions.probabilities
        targets = {target.name: target for target in targets_of(predictions.labels)}
        targets |= {name: target_named(name, predictions.labels) for name in thresholds}
        self._targets = {
            name: (target.truth(y), target.score(p)) for name, target in targets.items()
        }
        # A target of one class is ranked as that class is.
        alone = {name: t.indices[0] for name, t in targets.items() if len(t.indices) == 1}
        self._ranked = {j: j for j in range(self._k)} | {name: name for name in targets} | alone
        scores = {j: (y == j, p[:, j]) for j in range(self._k)} | self._targets
        self._pairs = {
            name: BlockedPairs(*scores[name], block, self._blocks)
            for name in set(self._ranked.values())
        }
        counted, right = {"all": np.ones(len(y), dtype=bool)}, decided_class(p) == y
        for j in range(self._k):
            counted |= {f"n/{j}": y == j, f"right/{j}": (y == j) & right}
        for target, (truth, score) in self._targets.items():
            counted[f"n/{target}"] = truth
            if target in thresholds:
                flagged = score >= thresholds[target]
                counted |= {f"hit/{target}": truth & flagged, f"clear/{target}": ~truth & ~flagged}
        self._counted = list(counted)
        self._sums = _sums_by_block(list(counted.values()), block, self._blocks)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        columns = np.ascontiguousarray(np.atleast_2d(weights).T)
        sums = (self._sums @ columns).reshape(len(self._counted), self._blocks, -1)
        pairs = {name: count(columns) for name, count in self._pairs.items()}
        found = {
            side: self._metrics(matrix, dict(zip(self._counted, sums, strict=True)), pairs)
            for side, matrix in self._sides.items()
        }
        found["gap"] = {name: found["own"][name] - found["rest"][name] for name in found["own"]}
        one = np.ndim(weights) == 1
        return {
            f"{name}|{part}|{side}": row[0] if one else row
            for side, metrics in found.items()
            for name, rows in metrics.items()
            for part, row in enumerate(rows)
        }

    def _metrics(self, matrix: np.ndarray, sums: dict, pairs: dict) -> dict[str, np.ndarray]:
        """float (parts, b) by metric, on one side of the comparison."""
        total = {name: matrix @ values for name, values in sums.items()}

        def auc(name: int | str) -> np.ndarray:
            inside = np.einsum(
                "pa,abz,pb->pz", matrix, pairs[self._ranked[name]], matrix, optimize=True
            )
            positives = total[f"n/{name}"]
            return _share(inside, positives * (total["all"] - positives))

        result = {
            "macro_auc": _mean_over([auc(j) for j in range(self._k)], self._auc_classes),
            "balanced_accuracy": _mean_over(
                [_share(total[f"right/{j}"], total[f"n/{j}"]) for j in range(self._k)],
                self._recall_classes,
            ),
        }
        for target in self._targets:
            positives = total[f"n/{target}"]
            result[f"{target}_auc"] = auc(target)
            if target in self._thresholds:
                negatives = total["all"] - positives
                result[f"{target}_sensitivity"] = _share(total[f"hit/{target}"], positives)
                result[f"{target}_specificity"] = _share(total[f"clear/{target}"], negatives)
        return result


def _sums_by_block(masks: list[np.ndarray], block: np.ndarray, blocks: int) -> sparse.csr_array:
    """(masks * blocks, n): row i * blocks + b adds up the images of block b in mask i."""
    images = [np.flatnonzero(mask) for mask in masks]
    rows = [i * blocks + block[own] for i, own in enumerate(images)]
    columns = np.concatenate(images)
    return sparse.csr_array(
        (np.ones(len(columns)), (np.concatenate(rows), columns)),
        (len(masks) * blocks, len(block)),
    )


def _mean_over(values: list[np.ndarray], chosen: np.ndarray) -> np.ndarray:
    """float (parts, b): mean of k arrays (parts, b) over the classes chosen, bool (parts, k)."""
    counted = np.where(chosen.T[:, :, None], np.stack(values), 0.0)
    return _share(counted.sum(axis=0), chosen.sum(axis=1)[:, None])


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    whole = np.broadcast_to(whole, part.shape).astype(np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
