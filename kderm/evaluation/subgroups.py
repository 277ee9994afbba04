"""How the classifier does in parts of the population, and how far each part is from the rest.

Reads a `Predictions` table, returns plain numbers for the report. `attributes` says what the images
are divided by, `blocks` counts; here is decided what has enough images to be shown. A number that
would stand on fewer than ten positives is not there, and the report says so.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kderm.errors import UserError
from kderm.evaluation.attributes import LEAST_IMAGES, Attribute, attributes_of
from kderm.evaluation.blocks import BlockStatistic
from kderm.evaluation.decisions.operating_points import Target, target_named, targets_of
from kderm.evaluation.intervals import (
    RESAMPLES,
    Interval,
    difference_ends,
    exact_ends,
    group_intervals,
    groups_among,
)
from kderm.evaluation.measure import without_nan
from kderm.evaluation.predictions import Predictions

LEAST_POSITIVES = 10
LEVEL = 0.95
NOT_RECORDED = "not recorded"


def subgroup_report(
    predictions: Predictions,
    *,
    thresholds: Mapping[str, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict:
    """Metrics by sex, age band, site, source, skin tone and image quality, as far as recorded.

    Args:
        predictions: labelled predictions, out-of-fold or external.
        thresholds: frozen threshold by target ("malignant" or a class code), on the scale of the
            probabilities; adds sensitivity and specificity.
        resamples: bootstrap resamples of whole groups.
        seed: seed of the draws.

    Returns:
        Plain data without NaN (None instead):
        least_positives, resamples, level;
        metrics: names of the metrics below, in order;
        not_recorded: titles of the attributes that the table does not have;
        attributes: [{name, title, not_recorded (images), not_shown ({value: images} with too few
            images to be shown alone), reason (why there is nothing to compare, else None),
            levels: [{level, images, groups, recorded (False for the images without a value),
                positives: {code: images}, malignant (images, None without malignant classes),
                metrics: {metric: {value, low, high, rest, gap, gap_low, gap_high, classes,
                    suppressed, gap_suppressed}}}]}]:
            rest is the metric over all other images with a recorded value, gap is value - rest.
            classes are those that the two means are over, None for other metrics: those with ten
            positives here and in the rest, so that both sides are means of the same things.
            suppressed says why there is no value, gap_suppressed why there is no gap;
        gaps: {intervals, excluding_zero, by_chance}: how many gaps have an interval, in how many it
            leaves out zero, in how many it would by chance alone were there no gap (of two levels
            that are each other's rest, the worse one counts);
        notable: [{attribute, level, metric, gap, low, high}]: those intervals, worst for the
            subgroup first.

    Raises:
        UserError: a threshold of an unknown target.
    """
    thresholds = dict(thresholds or {})
    found, absent = attributes_of(predictions.table)
    rows = [_divided(predictions, attribute, thresholds, resamples, seed) for attribute in found]
    result = {
        "least_positives": LEAST_POSITIVES,
        "resamples": resamples,
        "level": LEVEL,
        "metrics": list(_metrics(_targets(predictions, thresholds), thresholds)),
        "not_recorded": absent,
        "attributes": rows,
    }
    return without_nan(result | _gaps(rows))


def _divided(
    predictions: Predictions,
    attribute: Attribute,
    thresholds: Mapping[str, float],
    resamples: int,
    seed: int,
) -> dict:
    """One attribute's entry of the report."""
    parts = _Parts(predictions, attribute, thresholds)
    result = {
        "name": attribute.name,
        "title": attribute.title,
        "not_recorded": attribute.not_recorded,
        "not_shown": attribute.not_shown,
        "reason": _nothing_to_compare(attribute),
        "levels": [],
    }
    if result["reason"]:
        return result
    statistic = BlockStatistic(
        predictions,
        attribute.level,
        parts.own,
        parts.rest,
        auc_classes=parts.classes["macro_auc"],
        recall_classes=parts.classes["balanced_accuracy"],
        thresholds=thresholds,
    )
    values = statistic(np.ones(len(predictions)))
    intervals = group_intervals(
        statistic, predictions.groups, resamples=resamples, seed=seed, level=LEVEL
    )
    for part in range(len(parts.names)):
        metrics = {name: _entry(parts, part, name, values, intervals) for name in parts.reasons}
        result["levels"].append(parts.described(part) | {"metrics": metrics})
    return result


class _Parts:
    """The shown parts of an attribute, the images in each, and which metrics those carry.

    Attributes:
        codes: of the classes, in label-space order.
        names: the levels, and "not recorded" where there are enough such images.
        own, rest: bool (parts, blocks).
        classes: metric -> bool (parts, k), the classes of the two means.
        reasons: metric -> [(why no value, why no gap)] a part; None where there is one.
    """

    def __init__(
        self, predictions: Predictions, attribute: Attribute, thresholds: Mapping[str, float]
    ) -> None:
        self._predictions, self._attribute = predictions, attribute
        self.codes = predictions.labels.codes
        levels = len(attribute.levels)
        shown = list(range(levels))
        self.names = list(attribute.levels)
        if attribute.not_recorded >= LEAST_IMAGES:
            shown.append(levels + 1)
            self.names.append(NOT_RECORDED)
        blocks = levels + 2
        self.own = np.eye(blocks, dtype=bool)[shown]
        recorded = np.arange(blocks) <= levels
        self.rest = recorded & ~self.own
        k = len(predictions.labels)
        of_class = np.zeros((blocks, k))
        np.add.at(of_class, (attribute.level, predictions.y), 1)
        self._own, self._rest = self.own @ of_class, self.rest @ of_class
        self.classes = {
            "macro_auc": _both(_enough_sides(self._own), _enough_sides(self._rest)),
            "balanced_accuracy": _both(self._own >= LEAST_POSITIVES, self._rest >= LEAST_POSITIVES),
        }
        self._needed = _metrics(_targets(predictions, thresholds), thresholds)
        self.reasons = {
            name: [self._reasons(part, name, needed) for part in range(len(self.names))]
            for name, needed in self._needed.items()
        }

    def described(self, part: int) -> dict:
        """Name and counts of a part."""
        own = self.own[part][self._attribute.level]
        labels = self._predictions.labels
        counts = dict(zip(labels.codes, self._own[part].astype(int).tolist(), strict=True))
        return {
            "level": self.names[part],
            "images": int(own.sum()),
            "groups": len(set(self._predictions.groups[own])),
            "recorded": not (self.own[part, -1]),
            "positives": counts,
            "malignant": sum(counts[c] for c in labels.malignant) if labels.malignant else None,
        }

    def groups_of_share(self, part: int, metric: str) -> tuple[int, int] | None:
        """Groups that a share stands on, in the part and in its rest; None for other metrics."""
        target, sides = self._needed[metric]
        if target is None or sides not in ("positives", "negatives"):
            return None
        truth = target.truth(self._predictions.y) == (sides == "positives")
        own, rest = (
            groups_among(truth & side[part][self._attribute.level], self._predictions.groups)
            for side in (self.own, self.rest)
        )
        return own, rest

    def _reasons(
        self, part: int, metric: str, needed: tuple[Target | None, str]
    ) -> tuple[str | None, str | None]:
        own, rest = self._own[part], self._rest[part]
        target, sides = needed
        if metric in self.classes:
            least = 1 if metric == "macro_auc" else 2
            own_classes, both = self.classes[metric][part], self._shared(part, metric)
            if own_classes.sum() < least:
                return f"fewer than {least} class(es) with {LEAST_POSITIVES} images here", None
            return None, None if both else "too few images of the same classes in the rest"
        return (
            _too_few(own, target, sides, "here"),
            _too_few(rest, target, sides, "in the rest"),
        )

    def _shared(self, part: int, metric: str) -> bool:
        """Whether the part's classes are those that the rest has enough images of, too."""
        enough = _enough_sides if metric == "macro_auc" else lambda n: n >= LEAST_POSITIVES
        chosen = self.classes[metric][part]
        return bool((enough(self._rest)[part] | ~chosen).all())


def _both(own: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """bool (parts, k): classes that both sides carry; where there are none, those of the part."""
    both = own & rest
    return np.where(both.sum(axis=1, keepdims=True) >= 2, both, own)


def _enough_sides(counts: np.ndarray) -> np.ndarray:
    """bool (parts, k): at least ten images of the class, and ten of other classes."""
    others = counts.sum(axis=1, keepdims=True) - counts
    return (counts >= LEAST_POSITIVES) & (others >= LEAST_POSITIVES)


def _too_few(counts: np.ndarray, target: Target, sides: str, where: str) -> str | None:
    """Why the counts (k,) do not carry a metric that needs positives, negatives or both."""
    positives = counts[list(target.indices)].sum()
    for side, count in (("positives", positives), ("negatives", counts.sum() - positives)):
        if side in sides and count < LEAST_POSITIVES:
            return f"{int(count)} {side} {where}, fewer than {LEAST_POSITIVES}"
    return None


def _metrics(
    targets: list[Target], thresholds: Mapping[str, float]
) -> dict[str, tuple[Target | None, str]]:
    """Metric -> what it is of (None: the mean over classes) and which sides of that it needs."""
    metrics = {"macro_auc": (None, ""), "balanced_accuracy": (None, "")}
    for target in targets:
        metrics[f"{target.name}_auc"] = (target, "positives negatives")
        if target.name in thresholds:
            metrics[f"{target.name}_sensitivity"] = (target, "positives")
            metrics[f"{target.name}_specificity"] = (target, "negatives")
    return metrics


def _targets(predictions: Predictions, thresholds: Mapping[str, float]) -> list[Target]:
    targets = {target.name: target for target in targets_of(predictions.labels)}
    targets |= {name: target_named(name, predictions.labels) for name in thresholds}
    return list(targets.values())


def _entry(
    parts: _Parts, part: int, metric: str, values: Mapping, intervals: Mapping[str, Interval]
) -> dict:
    suppressed, no_gap = parts.reasons[metric][part]
    own, rest, gap = (f"{metric}|{part}|{side}" for side in ("own", "rest", "gap"))
    ends = {side: intervals[side] for side in (own, rest, gap)}
    if (counted := parts.groups_of_share(part, metric)) is not None:
        ends |= _exact(own, rest, gap, values, ends, counted)
    entry = dict.fromkeys(("value", "low", "high", "rest", "gap", "gap_low", "gap_high"))
    classes = None
    if suppressed is None:
        entry |= {"value": values[own], "low": ends[own].low, "high": ends[own].high}
        if metric in parts.classes:
            classes = [parts.codes[j] for j in np.flatnonzero(parts.classes[metric][part])]
        if no_gap is None:
            entry |= {"rest": values[rest], "gap": values[gap]}
            entry |= {"gap_low": ends[gap].low, "gap_high": ends[gap].high}
    entry = {name: None if value is None else float(value) for name, value in entry.items()}
    no_gap = no_gap if suppressed is None else suppressed
    return entry | {"classes": classes, "suppressed": suppressed, "gap_suppressed": no_gap}


def _exact(
    own: str,
    rest: str,
    gap: str,
    values: Mapping,
    ends: Mapping[str, Interval],
    groups_counted: tuple[int, int],
) -> dict[str, Interval]:
    """The intervals again, where a share of 0 or 1 leaves the bootstrap without a spread."""
    exact = {
        side: exact_ends(values[side], ends[side], counted, LEVEL)
        for side, counted in zip((own, rest), groups_counted, strict=True)
    }
    if np.isnan(ends[gap].low) or all(exact[side] == ends[side] for side in exact):
        return exact
    return exact | {gap: difference_ends(values[own], exact[own], values[rest], exact[rest])}


def _nothing_to_compare(attribute: Attribute) -> str | None:
    if not attribute.levels:
        return f"no value has {LEAST_IMAGES} images"
    if len(attribute.levels) + len(attribute.not_shown) + (attribute.not_recorded > 0) < 2:
        return f"all images have the same value ({attribute.levels[0]})"
    return None


def _gaps(rows: list[dict]) -> dict:
    """How many gaps have intervals, and those that leave out zero."""
    every, notable = 0, []
    for row in rows:
        recorded = [level["level"] for level in row["levels"] if level["recorded"]]
        # Of two levels each is the other's rest: one gap, told of the level that fares worse.
        mirrored = len(recorded) == 2 and not row["not_shown"]
        for level in row["levels"]:
            for metric, entry in level["metrics"].items():
                low, high = entry["gap_low"], entry["gap_high"]
                if low is None or np.isnan(low):
                    continue
                if mirrored and level["recorded"] and entry["gap"] > 0:
                    continue
                every += 1
                if low > 0 or high < 0:
                    place = {"attribute": row["title"], "level": level["level"], "metric": metric}
                    notable.append(place | {"gap": entry["gap"], "low": low, "high": high})
    return {
        "gaps": {
            "intervals": every,
            "excluding_zero": len(notable),
            "by_chance": round((1 - LEVEL) * every, 2),
        },
        "notable": sorted(notable, key=lambda gap: gap["gap"]),
    }


def with_columns(predictions: Predictions, further: pd.DataFrame) -> Predictions:
    """The predictions with what else is known of the images.

    Args:
        predictions: where both tables have a column, this one's counts.
        further: columns by `image_id`, such as `inspect`'s quality.csv or a table of skin tones.

    Raises:
        UserError: `further` has no image_id, or an image twice.
    """
    check_further(further)
    own = [name for name in further.columns if name not in predictions.table.columns]
    joined = further[own].set_axis(further["image_id"].astype(str), axis=0)
    return replace(predictions, table=predictions.table.join(joined, on="image_id"))


def with_found_columns(predictions: Predictions, path: Path) -> tuple[Predictions, list[str]]:
    """The predictions with the columns of a CSV that nobody named, if it can be joined.

    A table that lies in the run by itself (`inspect`'s quality.csv) must not cost the report: one
    that cannot be read or joined costs the subgroups that it would have made, and a warning.

    Args:
        predictions: where both tables have a column, this one's counts.
        path: the CSV; without one nothing changes.

    Returns:
        The predictions, and what must be said: a sentence, or none.
    """
    if not path.exists():
        return predictions, []
    try:
        further = pd.read_csv(path, dtype=str, keep_default_na=False)
        return with_columns(predictions, further), []
    except (OSError, ValueError, UserError) as error:
        reason = f"no subgroups are made of {path.name}, which cannot be joined ({error})"
        return predictions, [reason]


def check_further(further: pd.DataFrame, name: str = "the table") -> None:
    """Refuse a table that cannot be joined by image_id.

    Args:
        further: the table.
        name: how it is called when it is refused, such as its path.

    Raises:
        UserError: no image_id, or an image twice.
    """
    expected = "What else is known of the images is joined by the column image_id, each image once."
    if "image_id" not in further:
        raise UserError(f"{expected} Received: {name} with {', '.join(map(str, further.columns))}.")
    ids = further["image_id"].astype(str)
    twice = ids[ids.duplicated()].unique()
    if len(twice):
        more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
        raise UserError(
            f"{expected} Received: {name} with {', '.join(twice[:3])}{more}, each several times. "
            "Keep one row of each."
        )
