"""What deciding by the probabilities would bring: operating points and net benefit."""

import math
from functools import partial

from kderm.evaluation.calibration.prevalence import predictive_values
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report import decision_figures
from kderm.evaluation.report.document import (
    Block,
    Bullets,
    Estimate,
    Figure,
    Heading,
    Section,
    Share,
    Table,
    Text,
)
from kderm.evaluation.report.wording import rule_name

TARGETS = {"mel": "melanoma"}
NEEDED = "number needed to biopsy"
# Rules whose predictive values are told at other prevalences.
_RULES_ELSEWHERE = ("youden", "sensitivity_95")


def operating_section(predictions: Predictions, found: dict) -> Section:
    """The balanced threshold, then every frozen or chosen point."""
    if not predictions.labels.malignant and not found["operating_points"]["points"]:
        return Section("Operating points", [])
    points = found["operating_points"]
    blocks: list[Block] = [_score(predictions)] if predictions.labels.malignant else []
    if points["points"]:
        blocks += [
            Text(_origin(points, found["scaling"])),
            *_figure(predictions, points),
            _table(points),
        ]
        blocks += [Text(_rules(points), soft=True)]
        blocks += [
            Heading("At other prevalences"),
            Text(_prevalence(points)),
            _prevalence_table(points),
        ]
    missing = [
        f"{_target(entry['target'])}, {points['rules'].get(entry['rule'], 'all rules')}: "
        f"{entry['reason']}."
        for entry in points["not_chosen"]
    ]
    blocks += [Heading("No threshold for"), Bullets(missing)] if missing else []
    return Section("Operating points", blocks)


def _prevalence(points: dict) -> str:
    """What the numbers at other prevalences start from."""
    said = (
        "The images at hand hold more malignant lesions than a practice sees. With the same "
        "sensitivity and specificity, Bayes' rule gives these values where fewer are malignant."
    )
    if any(point.get("cross_fitted") for point in points["points"]):
        said += (
            " They start from the sensitivity and specificity at the thresholds of the other folds."
        )
    return said


def _rules(points: dict) -> str:
    """What the short names of the rules stand for."""
    used = list(dict.fromkeys(point["rule"] for point in points["points"]))
    told = []
    for one, other in (("sensitivity", "specificity"), ("specificity", "sensitivity")):
        if any(rule.startswith(one) for rule in used):
            told.append(f"{one} ≥: of the thresholds that reach it, the one of highest {other}")
    told += [
        f"{rule_name(rule)}: {points['rules'].get(rule, rule)}"
        for rule in used
        if not rule.startswith(("sensitivity", "specificity"))
    ]
    words = "; ".join(told)
    return f"{words[:1].upper()}{words[1:]}."


def _score(predictions: Predictions) -> Text:
    codes = " + ".join(predictions.labels.malignant)
    return Text(f"The malignant score is the probability of {codes}.")


def _origin(points: dict, scaling: str | None) -> str:
    """Where the thresholds are from, and on which scale; `scaling` is that of new images."""
    needed = (
        " The number needed to biopsy is that of flagged images for each true positive among them "
        "(1 / PPV)."
    )
    if not points["chosen_here"]:
        return (
            "These thresholds were chosen before, on out-of-fold predictions, and are applied here "
            "unchanged." + needed
        )
    honest = any(point.get("cross_fitted") for point in points["points"])
    return (
        "These thresholds were chosen on these images"
        + (
            "; the columns “other folds” say what each fold gets from a threshold that the other "
            "folds chose, which is the honest expectation for new images of this kind."
            if honest
            else ", so the numbers are a little optimistic."
        )
        + (" They are on the calibrated scale." if scaling else "")
        + needed
    )


def _target(name: str) -> str:
    return TARGETS.get(name, name)


def _table(points: dict) -> Table:
    honest = any(point.get("cross_fitted") for point in points["points"])
    # What matters most comes first: a phone shows the first columns.
    rates = ("sensitivity", "specificity", "number_needed_to_biopsy")
    names = ("sensitivity", "specificity", NEEDED)
    header = ["target", "threshold for", *names]
    header += [f"{name}, other folds" for name in names] * honest
    header += ["PPV", "flagged", "threshold"]
    rows = []
    for point in points["points"]:
        sensitivity, specificity, needed = (point[name] for name in rates)
        row = [
            _target(point["target"]),
            rule_name(point["rule"]),
            Estimate.of(sensitivity),
            Estimate.of(specificity),
            Estimate.of(needed, digits=1),
        ]
        if honest:
            other = point.get("cross_fitted")
            values = [other[name]["value"] if other else None for name in rates]
            row += [*values[:2], Estimate(values[2], digits=1)]
        row += [
            point["ppv"]["value"],
            Share(point["flagged_share"]["value"]),
            f"{point['threshold']:.4f}",
        ]
        rows.append(row)
    return Table(header, rows, "operating_points")


def _prevalence_table(points: dict) -> Table:
    header = ["target", "threshold for", "prevalence", "PPV", "NPV", NEEDED]
    rows = [
        [
            _target(point["target"]),
            rule_name(point["rule"]),
            Share(at["prevalence"]),
            *_values_at(point, at["prevalence"]),
        ]
        for point in points["points"]
        for at in point["at_prevalence"]
        if point["rule"] in _RULES_ELSEWHERE
    ]
    return Table(header, rows, "prevalence", "All numbers")


def _values_at(point: dict, prevalence: float) -> list:
    """PPV, NPV and the number needed to biopsy, by the other folds' thresholds where there are."""
    rates = point.get("cross_fitted") or point
    sensitivity, specificity = (rates[name]["value"] for name in ("sensitivity", "specificity"))
    if sensitivity is None or specificity is None:
        return [None, None, Estimate(None)]
    ppv, npv = predictive_values(sensitivity, specificity, prevalence)
    ppv, npv = (None if math.isnan(value) else value for value in (ppv, npv))
    return [ppv, npv, Estimate(1 / ppv if ppv else None, digits=1)]


def _figure(predictions: Predictions, points: dict) -> list[Figure]:
    """The ROC curves; none where no target has images of both sides."""
    if not any(point["n_positive"] and point["n_negative"] for point in points["points"]):
        return []
    draw = partial(decision_figures.plot_points, predictions=predictions, points=points["points"])
    count = len({point["target"] for point in points["points"]})
    caption = "ROC curves with the thresholds of the table"
    return [Figure("operating_points", caption, draw, 430 * count, panels=count)]


def benefit_section(found: dict) -> Section:
    """Decision curves with treat-all and treat-none."""
    curves = found["net_benefit"]
    if not curves["targets"]:
        return Section("Net benefit", [])
    words = (
        "Net benefit counts found cases and takes off false alarms at the price that the threshold "
        "implies: who would biopsy at 10 % holds nine needless biopsies for one found case to be "
        "fair. A model is worth using at a threshold where its curve lies above both treating "
        "everybody and treating nobody."
    )
    if found["scaling"]:
        words += " Probabilities are calibrated by the other folds."
    useful = [_useful(name, curve) for name, curve in curves["targets"].items()]
    draw = partial(decision_figures.plot_decision_curves, curves=curves)
    caption = "Decision curves, with pointwise 95 % intervals"
    count = len(curves["targets"])
    return Section(
        "Net benefit",
        [
            Text(words),
            Bullets(useful),
            Figure("net_benefit", caption, draw, 430 * count, panels=count),
            _benefit_table(curves),
        ],
    )


def _useful(name: str, curve: dict) -> str:
    ranges = [f"{100 * low:.0f} to {100 * high:.0f} %" for low, high in curve["useful"]]
    if not ranges:
        return (
            f"**{_target(name).capitalize()}**: at no threshold clearly better than treating "
            "everybody or nobody."
        )
    return (
        f"**{_target(name).capitalize()}**: clearly better than both at thresholds of "
        f"{', '.join(ranges)}."
    )


def _benefit_table(curves: dict) -> Table:
    shown = (0.02, 0.05, 0.10, 0.20, 0.30, 0.50)
    header = ["target", "threshold", "net benefit", "treat all", "gain over both"]
    header += ["biopsies avoided per 100"]
    rows = []
    for name, curve in curves["targets"].items():
        for j, threshold in enumerate(curves["thresholds"]):
            if any(abs(threshold - one) < 1e-9 for one in shown):
                rows.append(
                    [
                        _target(name),
                        f"{threshold:.2f}",
                        Estimate.of(curve["net_benefit"][j]),
                        curve["treat_all"][j]["value"],
                        Estimate.of(curve["gain"][j]),
                        Estimate.of(curve["biopsies_avoided_per_100"][j], digits=1),
                    ]
                )
    return Table(header, rows, "net_benefit", "As a table")
