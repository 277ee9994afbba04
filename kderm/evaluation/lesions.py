"""One answer a lesion: the answers to its several photos, combined.

`pool` combines them, for `ensemble-predict` too. Reads a `Predictions` table of images, returns a
report with both levels side by side. Must stay free of Keras.
"""

from typing import Literal, get_args

import numpy as np
import pandas as pd

from kderm.errors import unknown_name
from kderm.evaluation.differences import paired_share_ends, told_spread
from kderm.evaluation.intervals import (
    RESAMPLES,
    Interval,
    exact_shares,
    group_intervals,
    groups_among,
    snapped,
)
from kderm.evaluation.measure import without_nan
from kderm.evaluation.metrics import Scorecard, decided_class
from kderm.evaluation.predictions import Predictions

Pooling = Literal["mean", "max", "noisy_or"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
METRICS = (
    *("macro_auc", "balanced_accuracy", "accuracy", "macro_f1", "macro_average_precision"),
    *("log_loss", "brier", "malignant_auc", "mel_auc"),
)
LEVEL = 0.95
# So many ids of contradictory lesions are named.
NAMED = 10


def lesion_ids(predictions: Predictions) -> np.ndarray:
    """object (n,): the lesion that each image shows.

    Its `lesion_id` where that is known. Else its group, unless the patient is known: then the group
    may hold all lesions of that patient, and the image stands for itself.
    """
    table = predictions.table
    group, patient = table["group_id"].astype(object), _known(table, "patient_id")
    fallback = group.where(patient.isna(), table["image_id"].astype(object))
    lesion = _known(table, "lesion_id")
    return lesion.where(lesion.notna(), fallback).astype(str).to_numpy(dtype=object)


def pool(probabilities: np.ndarray, lesion: np.ndarray, how: Pooling) -> np.ndarray:
    """One row a lesion, from the rows of its images.

    "mean" is the arithmetic mean. "max" takes the highest probability that any image gives to a
    class. "noisy_or" takes the probability that at least one image shows the class, were images
    independent: 1 - prod(1 - p). The latter two no longer sum to 1 and are divided by their sum. A
    lesion with one image keeps its row.

    Args:
        probabilities: float (n, k), rows sum to 1.
        lesion: int (n,), every number from 0 to l - 1 at least once.
        how: one of `POOLINGS`.

    Returns:
        float64 (l, k), rows sum to 1.
    """
    if how not in POOLINGS:
        raise unknown_name("way of pooling the images of a lesion", how, POOLINGS)
    order = np.argsort(lesion, kind="stable")
    starts = np.flatnonzero(np.diff(lesion[order], prepend=-1))
    rows = np.clip(probabilities[order], 0.0, 1.0)
    sizes = np.diff(np.append(starts, len(rows)))[:, None]
    if how == "mean":
        pooled = np.add.reduceat(rows, starts) / sizes
    elif how == "max":
        pooled = np.maximum.reduceat(rows, starts)
    else:
        pooled = 1 - np.multiply.reduceat(1 - rows, starts)
    pooled /= pooled.sum(axis=1, keepdims=True)
    single = sizes[:, 0] == 1
    pooled[single] = rows[starts[single]]
    return pooled


def contradictory_lesions(predictions: Predictions) -> list[str]:
    """Ids of the lesions whose images carry different labels, sorted."""
    lesion = lesion_ids(predictions)
    labels = predictions.table["label"].groupby(lesion).nunique()
    return sorted(labels.index[labels > 1].astype(str))


def lesion_report(predictions: Predictions, *, resamples: int = RESAMPLES, seed: int = 0) -> dict:
    """Both levels side by side, over the same lesions.

    Args:
        predictions: labelled predictions of images.
        resamples: bootstrap resamples of whole groups; both levels see the same draws.
        seed: seed of the draws.

    Returns:
        Plain data without NaN (None instead):
        n_images, n_lesions, n_lesions_with_several_images, most_images: over what is scored;
        left_out: {lesions, images, named}: those with contradictory labels;
        images: {metric: {value, low, high}}, each image counts alike;
        one_photo: the same with each lesion counting alike, its images sharing its weight: what
            one photo of a lesion is worth. The step from `images` to it is of case mix only
            (lesions that are photographed more often are harder), so it is what pooling is
            compared with;
        lesions: {how: {metric: {value, low, high}}};
        difference: {how: {metric: {value, low, high}}}, lesions minus one photo, paired; see
            `differences` for where draws alone would call it certain;
        metrics: names in order (those of `METRICS` that the label space has);
        reason: why there is nothing to compare, or None. Then the five above are empty.
    """
    kept, lesion = _consistent(predictions)
    outside = contradictory_lesions(predictions)
    sizes = np.bincount(lesion) if len(lesion) else np.zeros(0, dtype=int)
    result = {
        "n_images": len(lesion),
        "n_lesions": len(sizes),
        "n_lesions_with_several_images": int((sizes > 1).sum()),
        "most_images": int(sizes.max()) if len(sizes) else 0,
        "left_out": {
            "lesions": len(outside),
            "images": len(predictions) - len(lesion),
            "named": outside[:NAMED],
        },
        "resamples": resamples,
        "level": LEVEL,
        "metrics": [],
        "images": {},
        "one_photo": {},
        "lesions": {},
        "difference": {},
        "reason": _nothing_to_compare(sizes),
    }
    if result["reason"]:
        return result
    return without_nan(result | _measured(kept, lesion, resamples, seed))


def _measured(kept: Predictions, lesion: np.ndarray, resamples: int, seed: int) -> dict:
    """The levels and their differences, as `lesion_report` tells them."""
    statistic = _BothLevels(kept, lesion)
    values = statistic(np.ones(len(kept)))
    intervals = group_intervals(statistic, kept.groups, resamples=resamples, seed=seed, level=LEVEL)
    groups = len(np.unique(kept.groups.astype(str)))
    shares = {f"{level}/accuracy": groups for level in ("images", "one_photo", *POOLINGS)}
    values |= {name: snapped(values[name]) for name in shares}
    intervals = exact_shares(values, intervals, shares, LEVEL)

    def block(level: str) -> dict:
        keys = {name: f"{level}/{name}" for name in statistic.metrics}
        return {name: _with_interval(values[key], intervals[key]) for name, key in keys.items()}

    gains = {how: statistic.gains(how, values, intervals, groups) for how in POOLINGS}
    return {
        "metrics": list(statistic.metrics),
        "images": block("images"),
        "one_photo": block("one_photo"),
        "lesions": {how: block(how) for how in POOLINGS},
        "difference": {
            how: {name: _with_interval(*gain) for name, gain in found.items()}
            for how, found in gains.items()
        },
    }


class _BothLevels:
    """Metrics of images, of one photo a lesion, of pooled lesions, and what pooling brings.

    A lesion weighs what its images weigh: they share a group, so they are drawn together.
    """

    def __init__(self, images: Predictions, lesion: np.ndarray) -> None:
        self._first = np.unique(lesion, return_index=True)[1]
        self._one_of = 1 / np.bincount(lesion)[lesion]
        self._images = Scorecard(images.y, images.probabilities, images.labels)
        y = images.y[self._first]
        self._lesions = {
            how: Scorecard(y, pool(images.probabilities, lesion, how), images.labels)
            for how in POOLINGS
        }
        self._lesion, self._groups = lesion, images.groups
        self.batched = bool(getattr(self._images, "batched", False))
        known = _named(self._images(np.ones(len(images))))
        self.metrics = tuple(name for name in METRICS if name in known)

    def __call__(self, weights: np.ndarray) -> dict[str, float]:
        one_photo = _named(self._images(weights * self._one_of))
        levels = {"images": _named(self._images(weights)), "one_photo": one_photo}
        for how, card in self._lesions.items():
            levels[how] = _named(card(weights[..., self._first]))
            levels[f"{how}-"] = {name: levels[how][name] - one_photo[name] for name in self.metrics}
        return {
            f"{level}/{name}": values[name]
            for level, values in levels.items()
            for name in self.metrics
        }

    def gains(
        self, how: Pooling, values: dict, intervals: dict[str, Interval], groups: int
    ) -> dict[str, tuple[float, Interval]]:
        """What pooling adds to one photo, by metric, with intervals; see `differences`.

        Args:
            how: the way of pooling.
            values, intervals: of a call, those of shares with exact ends.
            groups: how many there are.
        """
        answers = self._lesions[how].probabilities[self._lesion]
        same = np.allclose(answers, self._images.probabilities, rtol=0, atol=1e-12)
        alone, pooled = (
            decided_class(p) == self._images.y for p in (self._images.probabilities, answers)
        )
        result = {}
        for name in self.metrics:
            levels = [
                (float(values[f"{level}/{name}"]), intervals[f"{level}/{name}"])
                for level in ("one_photo", how)
            ]
            ends = intervals[f"{how}-/{name}"]
            if name == "accuracy" and not same:
                counted = {
                    "groups_counted": groups,
                    "groups_differing": groups_among(alone != pooled, self._groups),
                }
                ends = paired_share_ends(*levels, ends, **counted, level=LEVEL)
            elif not same:
                ends = told_spread(levels[0][0], levels[1][0], ends)
            result[name] = (levels[1][0] - levels[0][0], ends)
        return result


def _named(values: dict[str, float]) -> dict[str, float]:
    """The scorecard's values, melanoma's AUC under the name that the report has for it."""
    return values | ({"mel_auc": values["auc/mel"]} if "auc/mel" in values else {})


def _with_interval(value: float, interval: Interval) -> dict[str, float]:
    return {"value": float(value), "low": interval.low, "high": interval.high}


def _nothing_to_compare(sizes: np.ndarray) -> str | None:
    if not len(sizes):
        return "no lesion is left: all have images with different labels"
    if sizes.max() == 1:
        return "each lesion has one image, so both levels are the same"
    return None


def _consistent(predictions: Predictions) -> tuple[Predictions, np.ndarray]:
    """The images of lesions with one label, by lesion and image id, and their lesion's number."""
    lesion = lesion_ids(predictions)
    kept = ~np.isin(lesion.astype(str), contradictory_lesions(predictions))
    table = predictions.table[kept].assign(_lesion=lesion[kept])
    table = table.sort_values(["_lesion", "image_id"], kind="stable").reset_index(drop=True)
    number = pd.factorize(table["_lesion"])[0]
    # Groups of a table from elsewhere may be the images themselves; a lesion is never divided.
    table["group_id"] = table.groupby("_lesion", sort=False)["group_id"].transform("first")
    return Predictions(table, predictions.labels), number


def _known(table: pd.DataFrame, column: str) -> pd.Series:
    """The column as text, NaN where it is empty or absent."""
    if column not in table:
        return pd.Series(np.nan, index=table.index, dtype=object)
    values = table[column].astype(object)
    return values.where(values.notna() & (values.astype(str).str.strip() != ""), np.nan)
