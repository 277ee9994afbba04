"""Pictures of decisions: ROC curves with their operating points, decision curves."""

from pathlib import Path

import numpy as np

from kderm.evaluation import metrics
from kderm.evaluation.decisions.operating_points import target_named
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report.style import COLOURS, FAINT, INK, SEEN, drawn_panels
from kderm.evaluation.report.wording import rule_name

TITLES = {"malignant": "Malignant", "mel": "Melanoma"}
MARKERS = "osD^v<>P"
_MODEL = "#0072B2"


def plot_points(path: Path, predictions: Predictions, points: list[dict]) -> None:
    """One ROC curve a target in a panel of its own, its operating points marked.

    Args:
        path: PNG to write.
        predictions: labelled predictions, on the scale of the points.
        points: of `operating_report`.
    """
    names = list(dict.fromkeys(point["target"] for point in points))
    rules = list(dict.fromkeys(point["rule"] for point in points))
    with drawn_panels(path, len(names), (4.4, 4.4)) as panels:
        for panel, name in zip(panels, names, strict=True):
            axes = panel.subplots()
            target = target_named(name, predictions.labels)
            truth = target.truth(predictions.y)
            axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, zorder=1)
            if truth.any() and not truth.all():
                curve = metrics.roc_curve(truth, target.score(predictions.probabilities))
                axes.plot(*curve[:2], color=_MODEL)
            for point in (point for point in points if point["target"] == name):
                _mark(axes, point, rules.index(point["rule"]))
            axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
            axes.set(xlabel="1 - specificity", ylabel="sensitivity")
            axes.set_title(TITLES.get(name, name))
            # A target without images of either side has no marks to name.
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="lower right", title="threshold for")


def _mark(axes, point: dict, j: int) -> None:
    sensitivity, specificity = point["sensitivity"]["value"], point["specificity"]["value"]
    if sensitivity is None or specificity is None:
        return
    axes.scatter(
        [1 - specificity], [sensitivity], s=56, marker=MARKERS[j % len(MARKERS)], zorder=4,
        color=COLOURS[j % len(COLOURS)], edgecolor="white", linewidth=1,
        label=rule_name(point["rule"]),
    )  # fmt: skip


def plot_decision_curves(path: Path, curves: dict) -> None:
    """Net benefit by threshold, one panel a target.

    Args:
        path: PNG to write.
        curves: of `decision_report`.
    """
    thresholds, targets = np.array(curves["thresholds"]), curves["targets"]
    with drawn_panels(path, len(targets), (4.4, 3.9)) as panels:
        for panel, (name, curve) in zip(panels, targets.items(), strict=True):
            axes = panel.subplots()
            model, low, high = _band(curve["net_benefit"])
            everybody = _band(curve["treat_all"])[0]
            axes.axhline(0, color=INK, linewidth=1.2, label="treat nobody")
            axes.plot(
                thresholds, everybody, color=SEEN, linestyle="--", linewidth=1.4,
                label="treat everybody",
            )  # fmt: skip
            axes.fill_between(thresholds, low, high, color=_MODEL, alpha=0.2, linewidth=0)
            axes.plot(thresholds, model, color=_MODEL, label="the ensemble")
            top = max(np.nanmax(model), 0.01)
            axes.set(xlim=(0, thresholds[-1]), ylim=(-0.25 * top, 1.12 * top))
            axes.set(xlabel="threshold probability", ylabel="net benefit")
            axes.set_title(TITLES.get(name, name))
            axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
            axes.legend(loc="upper right")


def _band(entries: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values and interval ends of {value, low, high} entries, NaN for None: float (n,) each."""
    ends = ("value", "low", "high")
    return tuple(np.array([entry[end] for entry in entries], dtype=np.float64) for end in ends)
