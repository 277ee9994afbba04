"""Operating points: thresholds chosen once, frozen, and applied unchanged to anything later.

`choose_points` looks at out-of-fold predictions, the bundle keeps what it found, and `apply_points`
says what the same thresholds give on other images. A threshold belongs to the scale that its
probabilities were on: choose and apply on probabilities of the same calibration.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import sparse

from kderm.evaluation.calibration.prevalence import predictive_values
from kderm.evaluation.decisions.operating_points import (
    RULES,
    Rule,
    Target,
    choose_threshold,
    target_named,
    targets_of,
)
from kderm.evaluation.decisions.tally import (
    Estimate,
    estimate,
    estimates,
    ratio,
    tally,
    with_exact_ends,
)
from kderm.evaluation.intervals import RESAMPLES, groups_among
from kderm.evaluation.predictions import Predictions

# Malignant lesions are rarer where lesions are looked at than where they are collected: about a
# screening, a general practice and a specialist's referrals.
PREVALENCES = (0.01, 0.05, 0.20)


@dataclass(frozen=True)
class FrozenPoint:
    """A chosen threshold and what it gave on the images it was chosen on.

    Attributes:
        name: target and rule, `malignant_sensitivity_95`.
        target: a class code, or "malignant".
        rule: name of the rule, `sensitivity_95`.
        value: the threshold; flagged from here upwards.
        sensitivity: value, low and high; the interval holds the threshold fixed.
        specificity: the same.
    """

    name: str
    target: str
    rule: str
    value: float
    sensitivity: Estimate
    specificity: Estimate

    def to_dict(self) -> dict:
        """Plain data for JSON; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> "FrozenPoint":
        """The point that `to_dict` described."""
        return cls(**data)


def choose_points(
    predictions: Predictions, rules: Sequence[Rule] = RULES, *, resamples: int = RESAMPLES
) -> list[FrozenPoint]:
    """The threshold of every rule for every target that the images can decide.

    Left out are targets with images of one side only, and rules that nothing but flagging nobody
    would fulfil; `operating_report` names them.

    Args:
        predictions: out-of-fold predictions, on the scale that the thresholds are meant for.
        rules: what to choose by.
        resamples: bootstrap resamples of whole groups.
    """
    chosen, _ = _chosen_and_not(predictions, rules)
    return _with_rates(predictions, chosen, resamples)


def apply_points(
    points: Sequence[FrozenPoint], predictions: Predictions, *, resamples: int = RESAMPLES
) -> list[dict]:
    """What frozen thresholds give on `predictions`; nothing is chosen here.

    Args:
        points: from `choose_points` or a bundle.
        predictions: labelled predictions over a label space with the points' targets.
        resamples: bootstrap resamples of whole groups.

    Returns:
        One dict a point: name, target, rule, threshold, n_positive, n_negative, flagged (images);
        sensitivity, specificity, ppv, npv, flagged_share and number_needed_to_biopsy (flagged
        images for each true positive among them, 1 / ppv), each {value, low, high} (a share of all
        or none has the exact binomial end over groups, which a bootstrap cannot see); and
        at_prevalence: for each of `PREVALENCES` the ppv, npv and number_needed_to_biopsy that
        Bayes' rule gives with the same sensitivity and specificity. None where undefined: no image
        of a side, nothing flagged.

    Raises:
        UserError: the label space has not the points' targets.
    """
    targets = [target_named(point.target, predictions.labels) for point in points]
    y, probabilities = predictions.y, predictions.probabilities
    truth = [target.truth(y) for target in targets]
    flags = [
        target.score(probabilities) >= point.value
        for target, point in zip(targets, points, strict=True)
    ]
    numbers = _rates(truth, flags, predictions.groups, resamples)
    return [
        {
            "name": point.name,
            "target": point.target,
            "rule": point.rule,
            "threshold": point.value,
            "n_positive": int(positive.sum()),
            "n_negative": int((~positive).sum()),
            "flagged": int(flagged.sum()),
            **found,
            "at_prevalence": _at_prevalences(found),
        }
        for point, positive, flagged, found in zip(points, truth, flags, numbers, strict=True)
    ]


def operating_report(
    predictions: Predictions,
    frozen: Sequence[FrozenPoint] | None = None,
    *,
    resamples: int = RESAMPLES,
) -> dict:
    """Operating points for the report: frozen ones applied, or else chosen on these images.

    Args:
        predictions: labelled predictions; with `frozen`, on the scale those were chosen on (a
            bundle's points: probabilities calibrated by the bundle's calibration).
        frozen: points chosen elsewhere. None chooses them here, which flatters; then the table's
            folds give honest numbers beside them.
        resamples: bootstrap resamples of whole groups.

    Returns:
        {
            "chosen_here": bool, whether thresholds were chosen on these same images,
            "points": [as `apply_points`; if chosen here on a table with two folds or more, also
                "cross_fitted": {"sensitivity", "specificity", "ppv", "npv", "flagged_share",
                "number_needed_to_biopsy"} with each fold flagged by a threshold of the other folds,
                {value, low, high}],
            "rules": {rule: what it asks for, in words},
            "not_chosen": [{"target", "rule" (None for all of them), "reason"}],
        }
    """
    if frozen is not None:
        found = apply_points(frozen, predictions, resamples=resamples)
        rules = _words(point.rule for point in frozen)
        return {"chosen_here": False, "points": found, "rules": rules, "not_chosen": []}
    chosen, missing = _chosen_and_not(predictions, RULES)
    points = _with_rates(predictions, chosen, resamples)
    found = apply_points(points, predictions, resamples=resamples)
    if predictions.has_folds and len(np.unique(predictions.folds)) > 1 and chosen:
        for point, honest in zip(found, _cross_fitted(predictions, chosen, resamples), strict=True):
            point["cross_fitted"] = honest
    rules = _words(rule.name for rule in RULES)
    return {"chosen_here": True, "points": found, "rules": rules, "not_chosen": missing}


def _words(names: Iterable[str]) -> dict[str, str]:
    """What each rule asks for; a rule that this version does not know is told by its name."""
    known = {rule.name: rule.words for rule in RULES}
    return {name: known.get(name, name) for name in names}


_Chosen = tuple[Target, Rule, float]


def _chosen_and_not(
    predictions: Predictions, rules: Sequence[Rule]
) -> tuple[list[_Chosen], list[dict]]:
    """Thresholds that could be chosen, and the reasons for those that could not."""
    chosen, missing = [], []
    y, probabilities = predictions.y, predictions.probabilities
    for target in targets_of(predictions.labels):
        truth, score = target.truth(y), target.score(probabilities)
        if truth.all() or not truth.any():
            reason = f"no image is {'negative' if truth.all() else 'positive'}"
            missing.append({"target": target.name, "rule": None, "reason": reason})
            continue
        for rule in rules:
            threshold = choose_threshold(truth, score, rule)
            if threshold is None:
                reason = f"only flagging no image at all gives the {rule.words}"
                missing.append({"target": target.name, "rule": rule.name, "reason": reason})
            else:
                chosen.append((target, rule, threshold))
    return chosen, missing


def _with_rates(
    predictions: Predictions, chosen: list[_Chosen], resamples: int
) -> list[FrozenPoint]:
    y, probabilities = predictions.y, predictions.probabilities
    truth = [target.truth(y) for target, _, _ in chosen]
    flags = [target.score(probabilities) >= threshold for target, _, threshold in chosen]
    numbers = _rates(truth, flags, predictions.groups, resamples)
    return [
        FrozenPoint(
            name=f"{target.name}_{rule.name}",
            target=target.name,
            rule=rule.name,
            value=threshold,
            sensitivity=found["sensitivity"],
            specificity=found["specificity"],
        )
        for (target, rule, threshold), found in zip(chosen, numbers, strict=True)
    ]


def _cross_fitted(
    predictions: Predictions, chosen: list[_Chosen], resamples: int
) -> list[dict | None]:
    """All rates with each fold flagged by a threshold of the other folds.

    Where the other folds leave a rule nothing but flagging nobody, nobody is flagged; None where
    they hold one side only.
    """
    y, probabilities, folds = predictions.y, predictions.probabilities, predictions.folds
    truth, flags, usable = [], [], []
    for target, rule, _ in chosen:
        positive, score = target.truth(y), target.score(probabilities)
        flagged, possible = np.zeros(len(y), dtype=bool), True
        for fold in np.unique(folds):
            inside = folds == fold
            if positive[~inside].all() or not positive[~inside].any():
                possible = False
                break
            threshold = choose_threshold(positive[~inside], score[~inside], rule)
            flagged[inside] = False if threshold is None else score[inside] >= threshold
        truth.append(positive)
        flags.append(flagged)
        usable.append(possible)
    numbers = _rates(truth, flags, predictions.groups, resamples)
    return [found if possible else None for found, possible in zip(numbers, usable, strict=True)]


RATES = ("sensitivity", "specificity", "ppv", "npv", "flagged_share")


def _rates(
    truth: list[np.ndarray], flags: list[np.ndarray], groups: np.ndarray, resamples: int
) -> list[dict[str, Estimate]]:
    """Rates of several flags, each {value, low, high}, in the order of the flags."""
    if not flags:
        return []
    # float (points, n) each; sparse, because a matrix product with the weights is all it is for.
    of_truth = sparse.csr_array(np.array(truth, dtype=np.float64))
    flagged = sparse.csr_array(np.array(flags, dtype=np.float64))
    hits = sparse.csr_array(np.array(truth, dtype=np.float64) * np.array(flags))

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=1)
        positive, called, true = (tally(cells, weights) for cells in (of_truth, flagged, hits))
        false = called - true
        negative = total - positive
        values = (
            ratio(true, positive),
            ratio(negative - false, negative),
            ratio(true, called),
            ratio(negative - false, total - called),
            called / total,
        )
        return {
            f"{name}/{j}": rows[j]
            for name, rows in zip(RATES, values, strict=True)
            for j in range(len(flags))
        }

    found = estimates(statistic, groups, resamples)
    result = []
    for j in range(len(flags)):
        wholes = dict(zip(RATES, (truth[j], ~truth[j], flags[j], ~flags[j]), strict=False))
        numbers = {name: found[f"{name}/{j}"] for name in RATES} | {
            name: with_exact_ends(found[f"{name}/{j}"], groups_among(whole, groups))
            for name, whole in wholes.items()
        }
        result.append(numbers | {"number_needed_to_biopsy": _needed(numbers["ppv"])})
    return result


def _needed(ppv: Estimate) -> Estimate:
    """1 / PPV with its interval: falling in PPV, so the ends change places."""

    def inverse(value: float | None) -> float:
        return 1 / value if value else np.nan

    return estimate(inverse(ppv["value"]), inverse(ppv["high"]), inverse(ppv["low"]))


def _at_prevalences(found: dict[str, Estimate]) -> list[dict]:
    sensitivity, specificity = found["sensitivity"]["value"], found["specificity"]["value"]
    if sensitivity is None or specificity is None:
        return []
    rows = []
    for prevalence in PREVALENCES:
        ppv, npv = (
            estimate(value)["value"]
            for value in predictive_values(sensitivity, specificity, prevalence)
        )
        needed = 1 / ppv if ppv else None
        rows.append(
            {"prevalence": prevalence, "ppv": ppv, "npv": npv, "number_needed_to_biopsy": needed}
        )
    return rows
