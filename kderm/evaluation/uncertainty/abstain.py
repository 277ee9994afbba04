"""What is gained by not answering the images that the ensemble is least sure of.

Ranks images by how sure the answer is and scores the surest ones alone: accuracy against the share
answered. Reads a `Predictions` table, returns plain numbers; `report` draws them. Numpy only.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import pandas as pd

from kderm.evaluation.intervals import (
    RESAMPLES,
    Interval,
    exact_shares,
    group_intervals,
    groups_among,
)
from kderm.evaluation.measure import without_nan
from kderm.evaluation.metrics import decided_class
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.uncertainty.disagreement import COLUMNS, entropy

# Shares of the curve, and those that get an interval.
SHARES = tuple(round(0.05 * i, 2) for i in range(1, 21))
MARKED = (0.5, 0.7, 0.8, 0.9, 1.0)
LEVEL = 0.95


def certainties(predictions: Predictions) -> dict[str, np.ndarray]:
    """Ways of ranking images, each float (n,), higher is surer.

    max_probability and entropy follow from the probabilities; of two classes both rank alike, so
    there is no entropy. mutual_information and disagreement are there if the table has these
    columns for every image (`ensemble-predict` writes them).
    """
    probabilities = predictions.probabilities
    found = {"max_probability": probabilities.max(axis=1)}
    if probabilities.shape[1] > 2:
        found["entropy"] = -entropy(probabilities)
    for name in COLUMNS:
        if name != "entropy" and name in predictions.table:
            values = pd.to_numeric(predictions.table[name], errors="coerce").to_numpy(np.float64)
            if np.isfinite(values).all():
                found[name] = -values
    return found


class AbstainCurve:
    """Scores of the surest images under image weights.

    Images of equal certainty are answered together; between two distinct certainties everything
    runs in a straight line, which is what answering a random part of the tied images gives. So
    neither the order of rows nor repeating every image changes a number.

    Args:
        y: int (n,), index into the label space's codes.
        probabilities: float (n, k), rows sum to 1.
        certainty: float (n,), higher is surer.
        of_interest: bool (n,), images that should not be passed over (malignant ones); none by
            default.
    """

    batched = True

    def __init__(
        self,
        y: np.ndarray,
        probabilities: np.ndarray,
        certainty: np.ndarray,
        of_interest: np.ndarray | None = None,
    ) -> None:
        order = np.lexsort((np.arange(len(y)), -certainty))
        self.certainty = certainty[order]
        self._order, self._k = order, probabilities.shape[1]
        self._ends = np.flatnonzero(np.append(np.diff(self.certainty) != 0, True))
        self._right = (decided_class(probabilities) == y)[order]
        self._y = y[order]
        interest = np.zeros(len(y), dtype=bool) if of_interest is None else of_interest
        self._interest = interest[order]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Area, error AUC and the marked shares under weights (n,) or (b, n).

        Returns:
            area: mean accuracy over all shares answered, from none to all;
            error_auc: chance that a right answer is surer than a wrong one (AUC);
            accuracy@s, balanced_accuracy@s, interest@s for every s of `MARKED`, see `at`. The mean
            recall is over the same classes under all weights, NaN where these leave one out.
        """
        rows = np.atleast_2d(weights)[:, self._order]
        answered, right = self._steps(rows), self._steps(rows * self._right)
        result = {"area": _area_below(answered, right), "error_auc": _error_auc(answered, right)}
        points = self._at(rows, answered, MARKED, self._marked_classes)
        for i, share in enumerate(MARKED):
            for name in ("accuracy", "balanced_accuracy", "interest"):
                result[f"{name}@{share:g}"] = points[name][:, i]
        if np.ndim(weights) == 1:
            return {name: values[0] for name, values in result.items()}
        return result

    def at(self, shares: tuple[float, ...]) -> dict[str, np.ndarray]:
        """Scores when the given shares of the images are answered, every image counting alike.

        Args:
            shares: in (0, 1].

        Returns:
            Arrays (s,): accuracy; balanced_accuracy, the mean recall over the classes with an
            answered image; classes, how many these are; interest, the share of the images of
            interest that is answered; errors, the share of all wrong answers that is given. NaN
            where there is nothing to divide by.
        """
        rows = np.ones((1, len(self._y)))
        points = self._at(rows, self._steps(rows), shares, self._classes(shares))
        return {name: values[0] for name, values in points.items()}

    def groups_of_shares(self, groups: np.ndarray) -> dict[str, float]:
        """On how many groups each share of `MARKED` stands, by its name.

        Of images that are answered in part, because they are tied, their groups count in part. All
        images of interest are among all images by definition: nothing is uncertain there.

        Args:
            groups: (n,), the group of each image, in the order of the arguments.
        """
        ordered = groups[self._order].astype(str)
        new = np.zeros(len(ordered))
        new[np.unique(ordered, return_index=True)[1]] = 1
        images, among = np.append(0, self._ends + 1), np.append(0, np.cumsum(new)[self._ends])
        marked = np.asarray(MARKED)
        found = np.interp(marked * len(ordered), images, among)
        result = {f"accuracy@{share:g}": float(n) for share, n in zip(marked, found, strict=True)}
        if self._interest.any():
            of_interest = groups_among(self._interest, ordered)
            result |= {f"interest@{share:g}": of_interest for share in MARKED if share < 1}
        return result

    @cached_property
    def _marked_classes(self) -> np.ndarray:
        return self._classes(MARKED)

    def _classes(self, shares: tuple[float, ...]) -> np.ndarray:
        """bool (k, s): the classes with an answered image, every image counting alike."""
        rows = np.ones((1, len(self._y)))
        answered = self._steps(rows)
        cut = _Cut(rows, answered, np.asarray(shares) * answered[:, -1:], self._ends)
        return np.concatenate([cut.sums(self._y == j)[0] for j in range(self._k)]) > 0

    def _at(
        self,
        rows: np.ndarray,
        answered: np.ndarray,
        shares: tuple[float, ...],
        classes: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """`at` under weights (b, n) in the order of `certainty`, arrays (b, s).

        Args:
            rows: the weights.
            answered: from `_steps`.
            shares: in (0, 1].
            classes: bool (k, s), those that the mean recall is over.
        """
        wanted = np.asarray(shares) * answered[:, -1:]
        cut = _Cut(rows, answered, wanted, self._ends)
        correct, errors = cut.sums(self._right)[0], cut.sums(~self._right)
        interest = cut.sums(self._interest)
        recall = np.full((self._k, *wanted.shape), np.nan)
        for j in range(self._k):
            own = self._y == j
            recall[j] = _share(cut.sums(own & self._right)[0], cut.sums(own)[0])
        counted = np.broadcast_to(classes.sum(axis=0), wanted.shape)
        recalled = np.where(classes[:, None], recall, 0).sum(axis=0)
        return {
            "accuracy": _share(correct, wanted),
            "balanced_accuracy": _share(recalled, counted),
            "classes": counted,
            "interest": _share(*interest),
            "errors": _share(*errors),
        }

    def _steps(self, rows: np.ndarray) -> np.ndarray:
        """float (b, t + 1): sums over the images at or above each distinct certainty, from 0."""
        return np.pad(np.cumsum(rows, axis=1)[:, self._ends], ((0, 0), (1, 0)))


class _Cut:
    """Sums over the surest images up to given amounts of weight, in straight lines between steps.

    Args:
        rows: float (b, n), weights, surest image first.
        answered: float (b, t + 1), the weight up to each step, from 0.
        wanted: float (b, s), the amounts.
        ends: int (t,), the last image of each step.
    """

    def __init__(
        self, rows: np.ndarray, answered: np.ndarray, wanted: np.ndarray, ends: np.ndarray
    ) -> None:
        # The first step that reaches the amount; resampled weights leave steps of no width.
        reached = [
            np.searchsorted(steps, amounts - 1e-9, side="left")
            for steps, amounts in zip(answered, wanted, strict=True)
        ]
        after = np.stack(reached).clip(1, len(ends))
        self._rows, self._row = rows, np.arange(len(rows))[:, None]
        before = answered[self._row, after - 1]
        width = answered[self._row, after] - before
        part = np.divide(wanted - before, width, out=np.ones_like(width), where=width > 0)
        self._part = part.clip(0, 1)
        images = np.append(0, ends + 1)
        self._low, self._high = images[after - 1], images[after]

    def sums(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight of the chosen images, bool (n,): up to the amounts (b, s), and in all (b, 1)."""
        places = np.flatnonzero(chosen)
        summed = np.pad(np.cumsum(self._rows[:, places], axis=1), ((0, 0), (1, 0)))
        low = summed[self._row, np.searchsorted(places, self._low)]
        high = summed[self._row, np.searchsorted(places, self._high)]
        return low + self._part * (high - low), summed[:, -1:]


def abstain_curve(
    predictions: Predictions, certainty: np.ndarray, shares: tuple[float, ...] = SHARES
) -> pd.DataFrame:
    """The curve as a table: one row a share answered.

    Args:
        predictions: labelled predictions.
        certainty: float (n,), higher is surer.
        shares: of the images, in (0, 1].

    Returns:
        Columns share, least_certainty (that of the last image answered), accuracy,
        balanced_accuracy, classes, interest (share of the malignant images that is answered),
        errors (share of all errors that is made); NaN where undefined.
    """
    curve = _curve(predictions, certainty)
    n = len(predictions)
    points = curve.at(shares)
    last = np.ceil(np.asarray(shares) * n - 1e-9).astype(int).clip(1, n) - 1
    table = pd.DataFrame({"share": shares, "least_certainty": curve.certainty[last]})
    return table.assign(**points)


def abstain_report(predictions: Predictions, *, resamples: int = RESAMPLES, seed: int = 0) -> dict:
    """Abstain curves by every way of ranking that the table allows.

    Args:
        predictions: labelled predictions, out-of-fold or external.
        resamples: bootstrap resamples of whole groups.
        seed: seed of the draws.

    Returns:
        Plain data without NaN (None instead):
        shares, marked: the shares of the curves, and those with intervals; resamples, level;
        accuracy: of all images, which is also the area of a ranking that knows nothing;
        best_area: of the ranking that puts all right answers first;
        best: name of the ranking with the largest area;
        by: {ranking: {
            area: {value, low, high}, gain: (area - accuracy) / (best_area - accuracy), None where
                there is no error or no right answer;
            error_auc: {value, low, high}: chance that a right answer is surer than a wrong one;
            curve: {column: [value a share]}, the columns of `abstain_curve`;
            at: {share as text, "0.8": {accuracy, balanced_accuracy, interest: {value, low, high}}},
                interest being the share of the malignant images that is answered}}.
    """
    right = (decided_class(predictions.probabilities) == predictions.y).astype(np.float64)
    accuracy = float(right.mean())
    best_area = float(_curve(predictions, right)(np.ones(len(right)))["area"])
    by = {}
    for name, certainty in certainties(predictions).items():
        curve = _curve(predictions, certainty)
        values = curve(np.ones(len(predictions)))
        intervals = group_intervals(
            curve, predictions.groups, resamples=resamples, seed=seed, level=LEVEL
        )
        counted = curve.groups_of_shares(predictions.groups)
        intervals = exact_shares(values, intervals, counted, LEVEL)
        by[name] = _numbers(values, intervals, accuracy, best_area)
        by[name]["curve"] = abstain_curve(predictions, certainty).to_dict("list")
    return without_nan(
        {
            "shares": list(SHARES),
            "marked": list(MARKED),
            "resamples": resamples,
            "level": LEVEL,
            "accuracy": accuracy,
            "best_area": best_area,
            "best": max(by, key=lambda name: by[name]["area"]["value"]),
            "by": by,
        }
    )


def _curve(predictions: Predictions, certainty: np.ndarray) -> AbstainCurve:
    of_interest = np.isin(predictions.y, predictions.labels.malignant_indices)
    return AbstainCurve(predictions.y, predictions.probabilities, certainty, of_interest)


def _numbers(
    values: Mapping[str, float],
    intervals: Mapping[str, Interval],
    accuracy: float,
    best_area: float,
) -> dict:
    def number(name: str) -> dict[str, float]:
        interval = intervals[name]
        return {"value": float(values[name]), "low": interval.low, "high": interval.high}

    room = best_area - accuracy
    area = number("area")
    return {
        "area": area,
        "gain": (area["value"] - accuracy) / room if room > 1e-12 else None,
        "error_auc": number("error_auc"),
        "at": {
            f"{share:g}": {
                name: number(f"{name}@{share:g}")
                for name in ("accuracy", "balanced_accuracy", "interest")
            }
            for share in MARKED
        },
    }


def _area_below(answered: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Integral of right / answered over the share answered; straight lines between steps.

    Between two steps right = r + g (a - a0), so the integral of right / a over a is
    g (a1 - a0) + (r - g a0) ln(a1 / a0); up to the first step accuracy is constant. The mean of
    the accuracies of the 1, 2, ... n surest images (Geifman and El-Yaniv 2017, arXiv:1705.08500)
    tends to the same as n grows.

    Args:
        answered: float (b, t + 1), from 0.
        right: float (b, t + 1), from 0.

    Returns:
        float64 (b,), in [0, 1].
    """
    width, rise = np.diff(answered, axis=1), np.diff(right, axis=1)
    # A step of no width has no rise either; before the first step the offset is 0.
    slope = rise / np.maximum(width, np.finfo(np.float64).tiny)
    offset = right[:, :-1] - slope * answered[:, :-1]
    log = np.log(answered, out=np.zeros_like(answered), where=answered > 0)
    area = right[:, -1] + np.einsum("bt,bt->b", offset, np.diff(log, axis=1))
    return (area / answered[:, -1]).clip(0.0, 1.0)


def _error_auc(answered: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Share of pairs of a right and a wrong answer in which the right one is surer, ties half.

    Args:
        answered, right: float (b, t + 1), sums up to each step, from 0.

    Returns:
        float64 (b,); NaN without a right or without a wrong answer.
    """
    wrong = answered - right
    less_sure = wrong[:, -1:] - (wrong[:, 1:] + wrong[:, :-1]) / 2
    pairs = (np.diff(right, axis=1) * less_sure).sum(axis=1)
    return _share(pairs, right[:, -1] * wrong[:, -1])


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    whole = np.broadcast_to(whole, part.shape).astype(np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
