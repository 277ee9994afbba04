"""What each view, member or run adds, and what it costs: tables from saved answers.

Takes arrays of probabilities, gives plain rows. Every gain stands beside its interval from
resampling groups, and every greedy choice beside its score on images that had no say in it. Numpy
and `kderm.evaluation` only: no model, no image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from kderm.ensemble.combine import average_members
from kderm.evaluation.differences import told_spread
from kderm.evaluation.intervals import RESAMPLES, batched, group_intervals
from kderm.evaluation.metrics import Scorecard, epoch_metrics
from kderm.labels import LabelSpace
from kderm.models.averaging import How, average_views

METRICS = ("macro_auc", "balanced_accuracy")
# Members are mixed in every way up to this many mixtures of a size, then in as many drawn ones.
MOST_MIXTURES = 60


@dataclass(frozen=True)
class Truth:
    """What the answers are scored against.

    Attributes:
        y: int (n,), index into the label space's codes.
        groups: (n,), lesion or patient of each image.
        labels: the label space.
    """

    y: np.ndarray
    groups: np.ndarray
    labels: LabelSpace


def view_rows(
    answers: np.ndarray,
    sets: Mapping[str, Sequence[int]],
    truth: Truth,
    how: How,
    seconds: float,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict]:
    """Each view set: its scores, its gain over the plain view with interval, its cost.

    Args:
        answers: float (n, v, k), one member's answer to each view of each image.
        sets: view set -> positions of its views; has "none", the plain view.
        truth: labels and groups.
        how: how views are averaged.
        seconds: of one view of one image, by one member.
        resamples: of the groups, for the intervals.
        seed: of the draws.

    Returns:
        Rows with views (the set), count, seconds_per_image, and for each of `METRICS` its value,
        `<metric>_gain`, `<metric>_gain_low` and `<metric>_gain_high`; None where undefined.
    """
    averaged = {name: average_views(answers[:, list(of)], how) for name, of in sets.items()}
    gains = _gains(averaged, "none", truth, resamples, seed)
    return [
        {
            "views": name,
            "count": len(sets[name]),
            **_scores(averaged[name], truth),
            **gains[name],
            "seconds_per_image": seconds * len(sets[name]),
        }
        for name in sets
    ]


def member_rows(
    answers: np.ndarray,
    sets: Mapping[str, Sequence[int]],
    truth: Truth,
    how: How,
    seconds: float,
    *,
    seed: int = 0,
) -> list[dict]:
    """Each number of members under each view set, averaged over which members these are.

    Args:
        answers: float (m, n, v, k), of images that no member was trained on.
        sets: view set -> positions of its views.
        truth: labels and groups.
        how: how views and members are averaged; "oof" is taken as "probability", because weights
            of members say nothing about which are left out.
        seconds: of one view of one image, by one member.
        seed: of the drawn mixtures, where there are more than `MOST_MIXTURES`.

    Returns:
        Rows with members, views, mixtures (how many choices of that many members), and for each of
        `METRICS` the mean, `<metric>_lowest` and `<metric>_highest` over them, seconds_per_image.
    """
    how = "probability" if how == "oof" else how
    rows = []
    for name, of in sets.items():
        each = average_views(answers[:, :, list(of)], how)  # (m, n, k)
        for count in range(1, len(each) + 1):
            chosen = _mixtures(len(each), count, seed)
            scored = [
                _scores(average_members(each[list(one)].swapaxes(0, 1), how), truth)
                for one in chosen
            ]
            row = {"members": count, "views": name, "mixtures": len(chosen)}
            for metric in METRICS:
                row |= _spread(metric, [scores[metric] for scores in scored])
            rows.append(row | {"seconds_per_image": seconds * len(of) * count})
    return rows


def greedy_picks(
    candidates: np.ndarray, truth: Truth, *, metric: str = "macro_auc", most: int = 10
) -> list[int]:
    """Greedy ensemble selection: add whichever candidate helps the average most, until none does.

    A candidate may be picked again, which gives it weight; the first is the best single one. Ties
    go to the candidate that comes first, and so does the pick where the metric is undefined (images
    of one class). Source: Caruana et al. 2004, doi:10.1145/1015330.1015432. Differs: stops at the
    first step without gain, instead of taking the best of all steps.

    Args:
        candidates: float (c, n, k), rows sum to 1.
        truth: labels and groups.
        metric: one of `METRICS`, which is to be high.
        most: the most picks.

    Returns:
        Positions of the picks, in order, repeated ones too.
    """
    candidates = np.asarray(candidates, np.float64)
    picks: list[int] = []
    total, best = np.zeros(candidates.shape[1:]), -np.inf
    while len(picks) < most:
        mixed = [(total + one) / (len(picks) + 1) for one in candidates]
        scores = [_value(one, truth, metric) for one in mixed]
        step = int(np.argmax(scores))
        if picks and not scores[step] > best + 1e-9:
            break
        picks.append(step)
        total, best = total + candidates[step], scores[step]
    return picks


def nested_greedy(
    candidates: np.ndarray,
    truth: Truth,
    parts: np.ndarray,
    *,
    metric: str = "macro_auc",
    most: int = 10,
) -> tuple[np.ndarray, list[list[int]]]:
    """Greedy selection whose score is honest: each part is answered by picks made on the others.

    Args:
        candidates: float (c, n, k).
        truth: labels and groups.
        parts: int (n,), the part of each image, groups whole; at least two.
        metric: see `greedy_picks`.
        most: the most picks.

    Returns:
        The answers float64 (n, k), and each part's picks, in the order of the parts.
    """
    names = np.unique(parts)
    if len(names) < 2:
        raise ValueError(f"Expected images in two parts or more. Received: {names.tolist()}")
    answers, picks = np.empty(candidates.shape[1:], np.float64), []
    for part in names:
        out = parts == part
        others = Truth(truth.y[~out], truth.groups[~out], truth.labels)
        chosen = greedy_picks(candidates[:, ~out], others, metric=metric, most=most)
        answers[out] = np.mean(candidates[chosen][:, out], axis=0)
        picks.append(chosen)
    return answers, picks


def greedy_rows(
    names: Sequence[str],
    candidates: np.ndarray,
    truth: Truth,
    parts: np.ndarray,
    *,
    metric: str = "macro_auc",
    most: int = 10,
    each: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict]:
    """Every candidate alone, all alike, the greedy choice, and what that is worth on new images.

    Args:
        names: c names.
        candidates: float (c, n, k), out-of-fold answers or answers to images from elsewhere.
        truth: labels and groups.
        parts: int (n,), parts of whole groups, for the nested estimate.
        metric: what the choice is for.
        most: the most picks.
        each: whether every candidate gets a row, or the best alone.
        resamples: of the groups, for the intervals.
        seed: of the draws.

    Returns:
        Rows with choice, for each of `METRICS` its value and the gain over the best single
        candidate with its interval, and of (the weights by name, as text).
    """
    picks = greedy_picks(candidates, truth, metric=metric, most=most)
    nested, _ = nested_greedy(candidates, truth, parts, metric=metric, most=most)
    best = f"best alone: {names[picks[0]]}"
    answers = {best: candidates[picks[0]]}
    texts = {best: names[picks[0]]}
    for number, name in enumerate(names):
        if each and number != picks[0]:
            answers[f"alone: {name}"] = candidates[number]
            texts[f"alone: {name}"] = name
    rules = {
        "all alike": (np.mean(candidates, axis=0), list(range(len(names)))),
        "greedy, scored on the images that it chose by": (
            np.mean(candidates[picks], axis=0),
            picks,
        ),
        "greedy, scored on images not used to choose": (nested, picks),
    }
    for rule, (answer, chosen) in rules.items():
        answers[rule], texts[rule] = answer, _weights(names, chosen)
    gains = _gains(answers, best, truth, resamples, seed)
    return [
        {"choice": rule, **_scores(answer, truth), **gains[rule], "of": texts[rule]}
        for rule, answer in answers.items()
    ]


def soup_rows(
    names: Sequence[str],
    members: np.ndarray,
    ensemble: np.ndarray,
    soup: np.ndarray,
    truth: Truth,
    resamples: int = RESAMPLES,
) -> list[dict]:
    """The mean of the weights beside the mean of the answers and beside each member alone.

    Args:
        names: m names.
        members: float (m, n, k), of images that no member was trained on.
        ensemble: float (n, k), the members' average.
        soup: float (n, k), the answers of the model of averaged weights.
        truth: labels and groups.
        resamples: of the groups, for the intervals.

    Returns:
        Rows with model, passes (what it costs, in members), and for each of `METRICS` its value
        and the gain over the ensemble with its interval.
    """
    answers = {"ensemble": ensemble, "soup": soup}
    answers |= {f"alone: {name}": one for name, one in zip(names, members, strict=True)}
    gains = _gains(answers, "ensemble", truth, resamples, seed=0)
    return [
        {
            "model": name,
            "passes": len(names) if name == "ensemble" else 1,
            **_scores(answer, truth),
            **gains[name],
        }
        for name, answer in answers.items()
    ]


def _weights(names: Sequence[str], picks: Sequence[int]) -> str:
    if sorted(picks) == list(range(len(names))):
        return f"each of {len(names)}"
    counts = {names[pick]: list(picks).count(pick) for pick in dict.fromkeys(picks)}
    return " + ".join(f"{count} x {name}" for name, count in counts.items())


def _mixtures(members: int, count: int, seed: int) -> list[tuple[int, ...]]:
    """Choices of `count` among `members`: all, or `MOST_MIXTURES` different drawn ones."""
    if comb(members, count) <= MOST_MIXTURES:
        return list(combinations(range(members), count))
    random = np.random.default_rng(seed)
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < MOST_MIXTURES:
        drawn[tuple(sorted(random.choice(members, count, replace=False).tolist()))] = None
    return list(drawn)


def _value(probabilities: np.ndarray, truth: Truth, metric: str) -> float:
    value = epoch_metrics(truth.y, probabilities)[metric]
    return -np.inf if np.isnan(value) else value


def _scores(probabilities: np.ndarray, truth: Truth) -> dict[str, float | None]:
    found = epoch_metrics(truth.y, probabilities)
    return {metric: _number(found[metric]) for metric in METRICS}


def _spread(metric: str, values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return dict.fromkeys((metric, f"{metric}_lowest", f"{metric}_highest"))
    return {
        metric: float(np.mean(known)),
        f"{metric}_lowest": min(known),
        f"{metric}_highest": max(known),
    }


def _gains(
    answers: Mapping[str, np.ndarray], base: str, truth: Truth, resamples: int, seed: int
) -> dict[str, dict[str, float | None]]:
    """For each answer the gain of each of `METRICS` over the one called `base`, with interval."""
    cards = {name: Scorecard(truth.y, one, truth.labels) for name, one in answers.items()}

    @batched
    def gain(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores = {name: card(weights) for name, card in cards.items()}
        return {
            f"{name}/{metric}": scores[name][metric] - scores[base][metric]
            for name in cards
            for metric in METRICS
        }

    points = {name: card(np.ones(len(truth.y))) for name, card in cards.items()}
    intervals = group_intervals(gain, truth.groups, resamples=resamples, seed=seed)
    rows: dict[str, dict[str, float | None]] = {name: {} for name in answers}
    for name in answers:
        for metric in METRICS:
            own, other = points[name][metric], points[base][metric]
            interval = told_spread(other, own, intervals[f"{name}/{metric}"])
            rows[name] |= {
                f"{metric}_gain": _number(own - other),
                f"{metric}_gain_low": _number(interval.low),
                f"{metric}_gain_high": _number(interval.high),
            }
    return rows


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
