"""How large conformal sets are, and whether they hold what they promise, as plain numbers.

Reads a `Predictions` table; the sets come from `conformal`. Every image is judged by thresholds
that were fitted without its fold, or by frozen ones. Draws and writes nothing.
"""

from collections.abc import Sequence

import numpy as np

from kderm.errors import UserError
from kderm.evaluation.intervals import (
    RESAMPLES,
    Interval,
    exact_shares,
    group_intervals,
    groups_among,
)
from kderm.evaluation.measure import without_nan
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.uncertainty.conformal import (
    METHODS,
    ConformalSets,
    check_choice,
    cross_conformal,
    fit_conformal,
    images_needed,
)

LEVEL = 0.95


def conformal_report(
    predictions: Predictions,
    coverage: float = 0.9,
    *,
    methods: Sequence[str] = METHODS,
    frozen: ConformalSets | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict:
    """Coverage and size of the sets, over all images and in each class.

    Args:
        predictions: labelled predictions, out-of-fold or external.
        coverage: the promised share of each class; that of `frozen` where given.
        methods: which ways of scoring.
        frozen: sets fitted elsewhere, applied unchanged; then `methods` is its method.
        resamples: bootstrap resamples of whole groups.
        seed: of the draws, and of the division of a table without folds.

    Returns:
        Plain data without NaN (None instead):
        coverage (promised), how (what the thresholds were fitted on), images_needed, resamples,
        level, reason (why there is nothing, else None);
        methods: {method: {
            coverage, mean_size, single, single_right, empty: {value, low, high}: share of sets
                with the true class, classes a set, share of sets with one class, share of those
                that are right, share of sets with none;
            sizes: [images with a set of 0, 1, ... k classes];
            least_coverage: {code, value}: the class that fares worst;
            per_class: {code: {n, coverage, mean_size: {value, low, high}, in_sets: share of all
                sets that hold the class, always, never: its threshold is out of reach}};
            cleared: sets without a malignant class: {share, malignant_missed: {value, low, high}},
                the latter the share of malignant images among the malignant; None without such;
            thresholds: `ConformalSets.to_dict` of the fit on all images, for the bundle}}.
    """
    methods = (frozen.method,) if frozen else tuple(methods)
    coverage = frozen.coverage if frozen else coverage
    check_choice(coverage, methods)
    _check_classes(predictions, frozen)
    result = {
        "coverage": coverage,
        "how": _how(predictions, frozen),
        "images_needed": images_needed(coverage),
        "resamples": resamples,
        "level": LEVEL,
        "methods": {},
        "reason": None,
    }
    for method in methods:
        try:
            sets = (
                frozen.sets(predictions.probabilities)
                if frozen
                else cross_conformal(predictions, coverage, method, seed)
            )
        except UserError as error:
            return result | {"reason": str(error)}
        fitted = frozen or fit_conformal(predictions, coverage, method)
        result["methods"][method] = _numbers(predictions, sets, fitted, resamples, seed)
    return without_nan(result)


def _check_classes(predictions: Predictions, frozen: ConformalSets | None) -> None:
    if frozen and frozen.codes != predictions.labels.codes:
        raise UserError(
            f"Conformal sets were fitted over the classes {', '.join(frozen.codes)}. Received "
            f"predictions over {', '.join(predictions.labels.codes)}. Fit them on these classes."
        )


def _how(predictions: Predictions, frozen: ConformalSets | None) -> str:
    if frozen:
        return "frozen thresholds, fitted elsewhere"
    if predictions.has_folds:
        return "thresholds of the other folds"
    return "thresholds of the other parts of this table, divided by groups at random"


def _numbers(
    predictions: Predictions, sets: np.ndarray, fitted: ConformalSets, resamples: int, seed: int
) -> dict:
    statistic = _SetStatistic(predictions, sets)
    values = statistic(np.ones(len(predictions)))
    intervals = group_intervals(
        statistic, predictions.groups, resamples=resamples, seed=seed, level=LEVEL
    )
    intervals = exact_shares(values, intervals, statistic.groups_of_shares(), LEVEL)

    def number(name: str) -> dict[str, float]:
        return _with_interval(values[name], intervals[name])

    k, codes = len(predictions.labels), predictions.labels.codes
    count = np.bincount(predictions.y, minlength=k)
    present = [code for code, n in zip(codes, count, strict=True) if n]
    worst = min(present, key=lambda code: values[f"coverage/{code}"])
    per_class = {}
    for j, code in enumerate(codes):
        per_class[code] = {
            "n": int(count[j]),
            "coverage": number(f"coverage/{code}"),
            "mean_size": number(f"mean_size/{code}"),
            "in_sets": float(sets[:, j].mean()),
            "always": fitted.thresholds[j] == np.inf,
            "never": fitted.thresholds[j] == -np.inf,
        }
    names = ("coverage", "mean_size", "single", "single_right", "empty")
    return {
        **{name: number(name) for name in names},
        "sizes": np.bincount(sets.sum(axis=1), minlength=k + 1).tolist(),
        "least_coverage": {"code": worst, "value": values[f"coverage/{worst}"]},
        "per_class": per_class,
        "cleared": {
            "share": number("cleared"),
            "malignant_missed": number("malignant_missed"),
        }
        if predictions.labels.malignant
        else None,
        "thresholds": fitted.to_dict(),
    }


class _SetStatistic:
    """Shares of images under weights (n,) or (b, n): what is true of how many of which images."""

    batched = True

    def __init__(self, predictions: Predictions, sets: np.ndarray) -> None:
        y, n = predictions.y, len(predictions)
        everyone = np.ones(n)
        size = sets.sum(axis=1).astype(np.float64)
        right = sets[np.arange(n), y].astype(np.float64)
        single = (size == 1).astype(np.float64)
        # Name -> (whose mean, over which images), both as columns of weights.
        parts = {
            "coverage": (right, everyone),
            "mean_size": (size, everyone),
            "single": (single, everyone),
            "single_right": (right * single, single),
            "empty": ((size == 0).astype(np.float64), everyone),
        }
        for j, code in enumerate(predictions.labels.codes):
            own = (y == j).astype(np.float64)
            parts[f"coverage/{code}"] = (right * own, own)
            parts[f"mean_size/{code}"] = (size * own, own)
        malignant = predictions.labels.malignant_indices
        if malignant:
            truth = np.isin(y, malignant).astype(np.float64)
            cleared = (~sets[:, malignant].any(axis=1)).astype(np.float64)
            parts["cleared"] = (cleared, everyone)
            parts["malignant_missed"] = (cleared * truth, truth)
        self._names, self._groups = list(parts), predictions.groups
        self._parts = np.stack([part for part, _ in parts.values()], axis=1)
        self._wholes = np.stack([whole for _, whole in parts.values()], axis=1)

    def groups_of_shares(self) -> dict[str, int]:
        """On how many groups each share stands; sizes of sets are none."""
        return {
            name: groups_among(whole > 0, self._groups)
            for name, whole in zip(self._names, self._wholes.T, strict=True)
            if not name.startswith("mean_size")
        }

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        part, whole = weights @ self._parts, weights @ self._wholes
        share = np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
        return dict(zip(self._names, np.moveaxis(share, -1, 0), strict=True))


def _with_interval(value: float, interval: Interval) -> dict[str, float]:
    return {"value": float(value), "low": interval.low, "high": interval.high}
