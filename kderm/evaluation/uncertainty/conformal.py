"""Sets of classes that hold the truth with a stated probability, class by class.

Split conformal prediction with a threshold for each true class (Mondrian): of the images of every
class, rare ones too, at least the stated share gets a set with the true class in it. Thresholds are
fitted on out-of-fold predictions; `ConformalSets.to_dict` goes into the bundle. Here only the sets;
`conformal_report` says how they do. Numpy only.

The promise holds for images exchangeable with those of the fit. Photos of one lesion are
near-copies, so with few lesions it is looser than the count of images suggests. A threshold belongs
to the scale of its probabilities: fit and apply on the same calibration. Out-of-fold answers are
those of single members; whether their thresholds keep the promise for the ensemble is for an
external table to show (`conformal_report` with `frozen`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kderm.counting import counted
from kderm.errors import UserError, unknown_name
from kderm.evaluation.predictions import Predictions
from kderm.labels import LabelSpace

# Folds of an external table, which has none of its own.
PARTS = 5
# Rounding must not turn the 9th of 10 scores into the 10th.
ROUNDING = 1e-9


def lac_scores(probabilities: np.ndarray) -> np.ndarray:
    """How ill each class fits: one minus its probability. Gives the smallest sets on average.

    Source: Sadinle, Lei and Wasserman 2019, arXiv:1609.00451.

    Args:
        probabilities: float (n, k), rows sum to 1.

    Returns:
        float64 (n, k) in [0, 1].
    """
    return 1 - np.asarray(probabilities, dtype=np.float64)


def aps_scores(probabilities: np.ndarray) -> np.ndarray:
    """How ill each class fits: the probability of all classes that are more probable than it.

    The sets grow with the difficulty of the image, and the most probable class is always in them.
    Source: Romano, Sesia and Candes 2020, arXiv:2006.02544, eq. 4 with u = 0, that is without
    their randomisation, so that an image always gets the same set. Classes whose top answers are
    right more often than promised are therefore covered more often than promised.

    Args:
        probabilities: float (n, k), rows sum to 1.

    Returns:
        float64 (n, k) in [0, 1]; 0 for the most probable class.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    above = probabilities[:, None, :] > probabilities[:, :, None]  # (n, k, k): other above this
    return np.einsum("nij,nj->ni", above, probabilities)


SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"lac": lac_scores, "aps": aps_scores}
METHODS: tuple[str, ...] = tuple(SCORES)


@dataclass(frozen=True)
class ConformalSets:
    """Frozen thresholds, one a class.

    Attributes:
        method: a key of `SCORES`.
        coverage: the promised share, in (0, 1).
        codes: the classes, in label-space order.
        thresholds: float a class: it is in the set while its score is at most this. Infinity: in
            every set, because the fit had too few images to promise anything else. Minus infinity:
            in no set, because the fit had no image of it.
        counts: images of each class in the fit.
    """

    method: str
    coverage: float
    codes: tuple[str, ...]
    thresholds: tuple[float, ...]
    counts: tuple[int, ...]

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """bool (n, k): the classes in each image's set, which may be all or, with "lac", none.

        An empty set says that no class is as probable as it is in most images of that class.

        Args:
            probabilities: float (n, k), rows sum to 1, columns in the order of `codes`.
        """
        return SCORES[self.method](probabilities) <= np.asarray(self.thresholds)

    def named(self, probabilities: np.ndarray, between: str = " ") -> list[str]:
        """Each image's set as text, most probable class first; "" for the empty set."""
        order = np.argsort(-probabilities, axis=1, kind="stable")
        return [
            between.join(self.codes[j] for j in row if chosen[j])
            for row, chosen in zip(order, self.sets(probabilities), strict=True)
        ]

    def to_dict(self) -> dict:
        """Plain data for JSON; `from_dict` is its inverse."""
        return {
            "kind": "conformal",
            "method": self.method,
            "coverage": self.coverage,
            "classes": {
                code: {"threshold": value if math.isfinite(value) else None, "images": count}
                for code, value, count in zip(self.codes, self.thresholds, self.counts, strict=True)
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping) -> "ConformalSets":
        """The sets that `to_dict` described."""
        if data.get("method") not in SCORES:
            raise unknown_name("conformal method", str(data.get("method")), METHODS)
        rows = data["classes"].values()
        never = {True: math.inf, False: -math.inf}
        return cls(
            data["method"],
            float(data["coverage"]),
            tuple(data["classes"]),
            tuple(
                never[row["images"] > 0] if row["threshold"] is None else float(row["threshold"])
                for row in rows
            ),
            tuple(int(row["images"]) for row in rows),
        )


def fit_conformal(
    predictions: Predictions, coverage: float = 0.9, method: str = "lac"
) -> ConformalSets:
    """Thresholds that cover the stated share of every class, from held-out predictions.

    Args:
        predictions: out-of-fold or external predictions; never those of images trained on.
        coverage: the promised share of each class, in (0, 1).
        method: "lac" or "aps".
    """
    return fit_sets(predictions.y, predictions.probabilities, predictions.labels, coverage, method)


def fit_sets(
    y: np.ndarray, probabilities: np.ndarray, labels: LabelSpace, coverage: float, method: str
) -> ConformalSets:
    """`fit_conformal` from arrays.

    The threshold of a class is the score of rank ceil((images + 1) * coverage) among its images.

    Args:
        y: int (n,), index into the label space's codes.
        probabilities: float (n, k), rows sum to 1, columns in label-space order.
        labels: the label space.
        coverage: the promised share of each class, in (0, 1).
        method: "lac" or "aps".
    """
    check_choice(coverage, method)
    scores = SCORES[method](probabilities)
    counts = np.bincount(y, minlength=len(labels))
    thresholds = tuple(_threshold(np.sort(scores[y == j, j]), coverage) for j in range(len(labels)))
    return ConformalSets(method, float(coverage), labels.codes, thresholds, tuple(counts.tolist()))


def images_needed(coverage: float) -> int:
    """The fewest images of a class with which it can ever be left out of a set."""
    return math.ceil(coverage / (1 - coverage) - ROUNDING)


def cross_conformal(
    predictions: Predictions, coverage: float = 0.9, method: str = "lac", seed: int = 0
) -> np.ndarray:
    """Each image's set from thresholds that did not see its fold.

    The scores of an out-of-fold table come from the member that held the image out, the thresholds
    from the other folds. A table without folds is divided into `PARTS` by its groups, at random.
    Source: the fold-wise form of Vovk 2015, arXiv:1208.0806, and Barber et al. 2021,
    arXiv:1905.02928. Differs: an image meets the scores of the other folds only, not its own.

    Args:
        predictions: labelled predictions.
        coverage: the promised share of each class, in (0, 1).
        method: "lac" or "aps".
        seed: of the division of a table without folds.

    Returns:
        bool (n, k).

    Raises:
        UserError: a single fold or group, so that nothing is left to fit on.
    """
    check_choice(coverage, method)
    parts = parts_of(predictions, seed)
    if len(set(parts.tolist())) < 2:
        raise UserError(
            "Conformal sets are checked on images that their thresholds did not see: expected at "
            f"least two folds or groups. Received: one, with {counted(len(predictions), 'image')}."
        )
    y, probabilities = predictions.y, predictions.probabilities
    sets = np.zeros(probabilities.shape, dtype=bool)
    for part in np.unique(parts):
        own = parts == part
        fitted = fit_sets(y[~own], probabilities[~own], predictions.labels, coverage, method)
        sets[own] = fitted.sets(probabilities[own])
    return sets


def parts_of(predictions: Predictions, seed: int = 0) -> np.ndarray:
    """int (n,): the fold of each image, or a part drawn for its group where there are no folds."""
    if predictions.has_folds:
        return predictions.folds
    names, group = np.unique(predictions.groups.astype(str), return_inverse=True)
    return np.random.default_rng(seed).permutation(len(names))[group] % PARTS


def check_choice(coverage: float, methods: str | Sequence[str]) -> None:
    """Refuse a coverage outside of (0, 1) and unknown methods."""
    if not 0 < coverage < 1:
        raise UserError(
            "The coverage of conformal sets is a share above 0 and below 1, such as 0.9. "
            f"Received: {coverage}."
        )
    for method in [methods] if isinstance(methods, str) else methods:
        if method not in SCORES:
            raise unknown_name("conformal method", method, METHODS)


def _threshold(sorted_scores: np.ndarray, coverage: float) -> float:
    count = len(sorted_scores)
    if count == 0:
        return -math.inf
    rank = math.ceil((count + 1) * coverage - ROUNDING)
    return math.inf if rank > count else float(sorted_scores[max(rank, 1) - 1])
