"""What deciding by the probabilities would bring: operating points and net benefit."""

from functools import partial

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

TARGETS = {"mel": "melanoma"}


def operating_section(predictions: Predictions, found: dict) -> Section:
    """The balanced threshold, then every frozen or chosen point."""
    if not predictions.labels.malignant and not found["operating_points"]["points"]:
        return Section("Operating points", [])
    points = found["operating_points"]
    blocks: list[Block] = [_score(predictions)] if predictions.labels.malignant else []
    if points["points"]:
        blocks += [Text(_origin(points)), *_figure(predictions, points), _table(points)]
        blocks += [Heading("At other prevalences"), Text(_PREVALENCE), _prevalence_table(points)]
    missing = [
        f"{_target(entry['target'])}, {points['rules'].get(entry['rule'], 'all rules')}: "
        f"{entry['reason']}."
        for entry in points["not_chosen"]
    ]
    blocks += [Heading("No threshold for"), Bullets(missing)] if missing else []
    return Section("Operating points", blocks)


_PREVALENCE = (
    "The images at hand hold more malignant lesions than a practice sees. With the same "
    "sensitivity and specificity, Bayes' rule gives these values where fewer are malignant."
)


def _score(predictions: Predictions) -> Text:
    codes = " + ".join(predictions.labels.malignant)
    return Text(f"The malignant score is the probability of {codes}.")


def _origin(points: dict) -> str:
    needed = (
        " Needed is the number of flagged images for each true one among them, 1 / PPV: how many "
        "lesions would be biopsied to find one."
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
            "; beside them stands what each fold gets from a threshold of the other folds."
            if honest
            else ", so the numbers are a little optimistic."
        )
        + " They are on the calibrated scale."
        + needed
    )


def _target(name: str) -> str:
    return TARGETS.get(name, name)


def _table(points: dict) -> Table:
    honest = any(point.get("cross_fitted") for point in points["points"])
    header = ["target", "rule", "threshold", "sensitivity", "specificity", "PPV", "needed"]
    header += ["flagged"] + ["sensitivity, other folds", "specificity, other folds"] * honest
    rows = []
    for point in points["points"]:
        row = [
            _target(point["target"]),
            points["rules"].get(point["rule"], point["rule"]),
            f"{point['threshold']:.4f}",
            Estimate.of(point["sensitivity"]),
            Estimate.of(point["specificity"]),
            point["ppv"]["value"],
            Estimate.of(point["number_needed_to_biopsy"], digits=1),
            Share(point["flagged_share"]["value"]),
        ]
        if honest:
            other = point.get("cross_fitted") or {}
            row += [
                other[name]["value"] if name in other else None
                for name in ("sensitivity", "specificity")
            ]
        rows.append(row)
    return Table(header, rows, "operating_points")


def _prevalence_table(points: dict) -> Table:
    header = ["target", "rule", "prevalence", "PPV", "NPV", "needed"]
    rows = [
        [
            _target(point["target"]),
            points["rules"].get(point["rule"], point["rule"]),
            Share(at["prevalence"]),
            at["ppv"],
            at["npv"],
            Estimate(at["number_needed_to_biopsy"], digits=1),
        ]
        for point in points["points"]
        for at in point["at_prevalence"]
        if point["rule"] in ("youden", "sensitivity_95")
    ]
    return Table(header, rows, "prevalence", "All numbers")


def _figure(predictions: Predictions, points: dict) -> list[Figure]:
    """The ROC curves; none where no target has images of both sides."""
    if not any(point["n_positive"] and point["n_negative"] for point in points["points"]):
        return []
    draw = partial(decision_figures.plot_points, predictions=predictions, points=points["points"])
    return [Figure("operating_points", "ROC curves with the operating points", draw, 860)]


def benefit_section(found: dict) -> Section:
    """Decision curves with treat-all and treat-none."""
    curves = found["net_benefit"]
    if not curves["targets"]:
        return Section("Net benefit", [])
    words = (
        "Net benefit counts found cases and takes off false alarms at the price that the threshold "
        "implies: who would biopsy at 10 % holds nine needless biopsies for one found case to be "
        "fair. A model is worth using at a threshold where its curve lies above both treating "
        "everybody and treating nobody. Probabilities are calibrated by the other folds."
    )
    useful = [_useful(name, curve) for name, curve in curves["targets"].items()]
    draw = partial(decision_figures.plot_decision_curves, curves=curves)
    caption = "Decision curves, with pointwise 95 % intervals"
    return Section(
        "Net benefit",
        [
            Text(words),
            Bullets(useful),
            Figure("net_benefit", caption, draw, 900),
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
