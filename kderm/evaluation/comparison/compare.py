"""All numbers of a comparison, as the plain nested dict that becomes comparison.json.

Takes the joined tables of `join`, returns data for `page`, `tables` and `figure`. Draws and writes
nothing. Must stay free of Keras.
"""

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np

from kderm.evaluation.comparison.delong import compare_areas
from kderm.evaluation.comparison.join import Joined
from kderm.evaluation.comparison.paired import compare_answers, holm
from kderm.evaluation.decisions.operating_points import malignant_score, malignant_truth
from kderm.evaluation.differences import paired_share_ends, told_spread
from kderm.evaluation.intervals import (
    RESAMPLES,
    Interval,
    exact_shares,
    group_intervals,
    groups_among,
)
from kderm.evaluation.measure import groups_of_shares, without_nan
from kderm.evaluation.metrics import Scorecard, decided_class
from kderm.evaluation.predictions import Predictions

LEVEL = 0.95
LOWER_IS_BETTER = frozenset({"log_loss", "brier"})


def compare_runs(
    joined: Joined,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Hold each run against the first, on the same images.

    Args:
        joined: the runs' answers to the images that all have.
        resamples: bootstrap resamples of whole groups; the same draws for all runs.
        seed: seed of the draws.
        progress: called with (resamples done, resamples).

    Returns:
        Plain data, None where undefined:
        reference, runs (names, the reference first), n_images, n_groups,
        classes {code: images}, malignant (codes), left_out {run: images}, notes, level, resamples,
        seed;
        values {run: {metric: {value, low, high}}}, each run by itself;
        comparisons, a dict for each run but the first:
            run;
            differences {metric: {value, low, high, better}}: this run minus the reference,
            resampled in pairs, see `differences` for where draws alone would call it certain;
            better is the name of the run whose interval is all on its side, or None;
            auc {malignant_auc or auc/<code>: {first, second, difference, standard_error, low,
            high, z, p, p_holm, clustered}}: as `delong.AucDifference`, first is the reference;
            accuracy {both_right, only_first, only_second, both_wrong, difference, p_exact,
            p_exact_holm, z_groups, p_groups, p_groups_holm}: as `paired.PairedAnswers`.
        A metric's name is that of `metrics.Scorecard`; p_holm is adjusted over the runs that are
        held against the reference, for one metric at a time.
    """
    first = joined.tables[joined.reference]
    values, differences = _measured(joined, resamples, seed, progress)
    comparisons = [_against_reference(joined, name, differences[name]) for name in joined.others]
    _adjust(comparisons)
    count = np.bincount(first.y, minlength=len(first.labels))
    return without_nan(
        {
            "reference": joined.reference,
            "runs": list(joined.tables),
            "n_images": len(first),
            "n_groups": len(np.unique(joined.groups)),
            "classes": dict(zip(first.labels.codes, count.tolist(), strict=True)),
            "malignant": list(first.labels.malignant),
            "left_out": joined.left_out,
            "notes": list(joined.notes),
            "level": LEVEL,
            "resamples": resamples,
            "seed": seed,
            "values": values,
            "comparisons": comparisons,
        }
    )


def _against_reference(joined: Joined, name: str, differences: dict[str, dict]) -> dict:
    """One of the comparisons, before p-values are adjusted."""
    first, second = joined.tables[joined.reference], joined.tables[name]
    return {
        "run": name,
        "differences": {
            metric: found | {"better": _better(metric, found, joined.reference, name)}
            for metric, found in differences.items()
        },
        "auc": _auc_tests(first, second, joined.groups),
        "accuracy": asdict(compare_answers(_right(first), _right(second), joined.groups)),
    }


def auc_outcomes(predictions: Predictions) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metric name to (truth bool (n,), score float (n,)) of each AUC that can be tested.

    The malignant classes together, and each class against the rest. Of two classes the one is the
    other's mirror image, and of a single malignant class there is nothing to add up: such an
    outcome is named once.
    """
    y, probabilities, labels = predictions.y, predictions.probabilities, predictions.labels
    outcomes = {}
    if labels.malignant:
        score = malignant_score(probabilities, labels)
        outcomes["malignant_auc"] = malignant_truth(y, labels), score
    for j, code in enumerate(labels.codes):
        mirrored = len(labels) == 2 and (outcomes or j == 0)
        if not mirrored and labels.malignant != (code,):
            outcomes[f"auc/{code}"] = y == j, probabilities[:, j]
    return outcomes


def _measured(
    joined: Joined, resamples: int, seed: int, progress: Callable[[int, int], None] | None
) -> tuple[dict, dict]:
    """Each run's metrics, and their differences to the reference, with intervals."""
    statistic = _paired_statistic(joined)
    found = statistic(np.ones(len(joined.groups)))
    intervals = group_intervals(
        statistic, joined.groups, resamples=resamples, seed=seed, level=LEVEL, progress=progress
    )
    values, differences = {}, {}
    counted = {}
    for j, (name, run) in enumerate(joined.tables.items()):
        own = _numbered(found, f"value:{j}:")
        counted[name] = groups_of_shares(
            replace(run, table=run.table.assign(group_id=joined.groups))
        )
        ends = exact_shares(own, _numbered(intervals, f"value:{j}:"), counted[name], LEVEL)
        values[name] = {metric: (float(own[metric]), ends[metric]) for metric in own}
        if j:
            resampled = _numbered(intervals, f"difference:{j}:")
            differences[name] = _differences(joined, name, values, resampled, counted)
    return {
        name: {metric: _with_interval(*found) for metric, found in own.items()}
        for name, own in values.items()
    }, differences


def _differences(
    joined: Joined,
    name: str,
    values: dict[str, dict[str, tuple[float, Interval]]],
    resampled: dict[str, Interval],
    counted: dict[str, dict[str, int]],
) -> dict[str, dict[str, float]]:
    """The run `name` minus the reference, by metric, with intervals that no draw can see through.

    Args:
        joined: the runs.
        name: of the run.
        values: run to metric to value and interval.
        resampled: by metric, the interval of the difference from resampling pairs.
        counted: run to share to the groups it stands on.
    """
    first, second = joined.tables[joined.reference], joined.tables[name]
    ours, theirs = values[joined.reference], values[name]
    same = np.array_equal(first.probabilities, second.probabilities)
    differing = _groups_differing(first, second, joined.groups)
    result = {}
    for metric, interval in resampled.items():
        if same:  # an answer and its copy do not differ, on other images neither
            ends = interval
        elif metric in differing:
            ends = paired_share_ends(
                ours[metric],
                theirs[metric],
                interval,
                groups_counted=min(counted[joined.reference][metric], counted[name][metric]),
                groups_differing=differing[metric],
                same_whole=not metric.startswith(("ppv", "npv")),
                level=LEVEL,
            )
        else:
            ends = told_spread(ours[metric][0], theirs[metric][0], interval)
        result[metric] = _with_interval(theirs[metric][0] - ours[metric][0], ends)
    return result


def _groups_differing(
    first: Predictions, second: Predictions, groups: np.ndarray
) -> dict[str, int]:
    """In how many groups an image counts in one run's share and not in the other's, by share."""
    ours, theirs = (decided_class(run.probabilities) for run in (first, second))
    result = {"accuracy": groups_among((ours == first.y) != (theirs == first.y), groups)}
    for j, code in enumerate(first.labels.codes):
        moved, own = (ours == j) != (theirs == j), first.y == j
        images = {"sensitivity": moved & own, "specificity": moved & ~own}
        images |= {"ppv": moved, "npv": moved}
        result |= {f"{name}/{code}": groups_among(of, groups) for name, of in images.items()}
    return result


def _numbered(found: dict, prefix: str) -> dict:
    """What stands under the names that begin with `prefix`, by the rest of the name."""
    return {
        name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)
    }


def _paired_statistic(joined: Joined) -> Callable[[np.ndarray], dict[str, float]]:
    """Weights to "value:<run number>:<metric>" and "difference:<run number>:<metric>"."""
    cards = [Scorecard(run.y, run.probabilities, run.labels) for run in joined.tables.values()]

    def statistic(weights: np.ndarray) -> dict[str, float]:
        measured = [card(weights) for card in cards]
        result = {}
        for j, values in enumerate(measured):
            for metric, value in values.items():
                result[f"value:{j}:{metric}"] = value
                if j:
                    result[f"difference:{j}:{metric}"] = value - measured[0][metric]
        return result

    # Where the scorecard takes a batch of resamples at a time, so does what is made of it.
    statistic.batched = getattr(cards[0], "batched", False)
    return statistic


def _with_interval(value: float, interval: Interval) -> dict[str, float]:
    return {"value": value, "low": interval.low, "high": interval.high}


def _better(metric: str, found: dict, reference: str, run: str) -> str | None:
    """The run whose side of zero holds the whole interval."""
    if found["low"] > 0:
        return reference if metric in LOWER_IS_BETTER else run
    if found["high"] < 0:
        return run if metric in LOWER_IS_BETTER else reference
    return None


def _right(predictions: Predictions) -> np.ndarray:
    """bool (n,): whether the top class is the true one; a tied top class is not."""
    return decided_class(predictions.probabilities) == predictions.y


def _auc_tests(first: Predictions, second: Predictions, groups: np.ndarray) -> dict[str, dict]:
    theirs = auc_outcomes(second)
    return {
        metric: asdict(compare_areas(positive, score, theirs[metric][1], groups, LEVEL))
        for metric, (positive, score) in auc_outcomes(first).items()
    }


def _adjust(comparisons: list[dict]) -> None:
    """Add Holm's adjustment over the runs to every p-value."""
    for metric in comparisons[0]["auc"]:
        rows = [comparison["auc"][metric] for comparison in comparisons]
        _adjust_rows(rows, "p")
    for name in ("p_exact", "p_groups"):
        _adjust_rows([comparison["accuracy"] for comparison in comparisons], name)


def _adjust_rows(rows: list[dict], name: str) -> None:
    for row, adjusted in zip(rows, holm([row[name] for row in rows]), strict=True):
        row[f"{name}_holm"] = adjusted
