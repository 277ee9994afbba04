"""The report's first pictures: how well classes are told apart, how sure the answers are, training.

Drawn from tables, in the style of `style`. Every function takes the path of the PNG to write; the
same drawing goes beside it as SVG.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kderm.evaluation import metrics
from kderm.evaluation.calibration import reliability as calibration
from kderm.evaluation.decisions.operating_points import malignant_score, malignant_truth
from kderm.evaluation.intervals import Interval
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report.style import (
    FAINT,
    HELD_OUT,
    INK,
    SEEN,
    class_style,
    drawn,
    drawn_panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap

# Not quite white: on dark pages the paper's white becomes dark, the words on full cells do not.
PAPER = "#FDFDFD"
# Of the smallest and the largest point of a reliability diagram.
_AREAS = (3.0, 90.0)
METRIC_NAMES = {
    "val_macro_auc": "macro AUC",
    "val_balanced_accuracy": "balanced accuracy",
    "val_macro_f1": "macro F1",
}


def plot_roc(
    path: Path, predictions: Predictions, intervals: dict[str, Interval] | None = None
) -> None:
    """ROC curve of each class against the rest, with its AUC and interval in the legend.

    Args:
        path: PNG to write.
        predictions: labelled predictions.
        intervals: the AUC's interval by class code.
    """
    with drawn(path, _curve_size(predictions)) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, zorder=1)
        curves = []
        for j, code, positive, score in _classes(predictions):
            if positive.all():
                continue
            text = f"{metrics.binary_auc(positive, score):.3f}"
            label = _legend_row(predictions, code, text, (intervals or {}).get(code))
            curves.append((*metrics.roc_curve(positive, score), class_style(j)))
            axes.plot(*curves[-1][:2], label=label, **curves[-1][2])
        _enlarge_corner(axes, curves)
        _unit_square(axes, "1 - specificity", "sensitivity", "ROC, one class against the rest")
        _legend_below(axes, "AUC (95 % interval)" if intervals else "AUC")


def plot_precision_recall(
    path: Path, predictions: Predictions, intervals: dict[str, Interval] | None = None
) -> None:
    """Precision-recall curve of each class against the rest; the legend also gives prevalence.

    Args:
        path: PNG to write.
        predictions: labelled predictions.
        intervals: the average precision's interval by class code.
    """
    with drawn(path, _curve_size(predictions)) as figure:
        axes = figure.add_subplot()
        for j, code, positive, score in _classes(predictions):
            _, true, false = metrics.threshold_counts(positive, score)
            text = f"{metrics.average_precision(positive, score):.3f}"
            label = _legend_row(predictions, code, text, (intervals or {}).get(code))
            label += f"  {positive.mean():.3f}"
            recall = np.append(0, true) / true[-1]
            precision = true / (true + false)
            style = class_style(j)
            # Steps, as the average precision sums them: no straight line between two thresholds.
            axes.step(recall, np.append(precision[0], precision), where="pre", label=label, **style)
        _unit_square(axes, "recall (sensitivity)", "precision (PPV)", "Precision and recall")
        shown = "average precision (95 % interval)" if intervals else "average precision"
        _legend_below(axes, f"{shown}, prevalence")


def plot_confusion(path: Path, predictions: Predictions) -> None:
    """Confusion matrix: the count in each cell, shaded by the share of the true class.

    Args:
        path: PNG to write.
        predictions: labelled predictions.
    """
    codes = predictions.labels.codes
    count = metrics.confusion_matrix(predictions.y, predictions.probabilities)
    total = np.bincount(predictions.y, minlength=len(codes))[:, None]
    share = np.divide(count, total, out=np.zeros(count.shape), where=total > 0)
    side = max(4.4, 0.62 * len(codes) + 0.9)
    with drawn(path, (side, side)) as figure:
        axes = figure.add_subplot()
        # Each cell is see-through by its share, so that the page behind it may be light or dark.
        edges = np.arange(len(codes) + 1) - 0.5
        axes.pcolormesh(edges, edges, share, cmap=_see_through(HELD_OUT), vmin=0, vmax=1)
        axes.set(aspect="equal", ylim=(len(codes) - 0.5, -0.5))
        for (row, column), value in np.ndenumerate(share):
            colour = PAPER if value > 0.55 else INK
            axes.text(
                column, row - 0.15, f"{100 * value:.0f} %", ha="center", va="center",
                color=colour, fontsize=10, fontweight="bold" if row == column else "normal",
            )  # fmt: skip
            axes.text(
                column, row + 0.22, f"{count[row, column]:,}", ha="center", va="center",
                color=colour, fontsize=8.5,
            )  # fmt: skip
        axes.set_xticks(range(len(codes)), codes, rotation=35 if len(codes) > 7 else 0)
        axes.set_yticks(range(len(codes)), codes)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.grid(False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)


def plot_training_curves(
    path: Path, histories: dict[int, pd.DataFrame], monitor: str | None = None
) -> None:
    """Loss and held-out metric of every fold by epoch, with the epochs chosen.

    Args:
        path: PNG to write.
        histories: fold to history (epoch, phase, loss, val_loss, val_<metric>, chosen).
        monitor: the metric shown, macro_auc by default.
    """
    column = f"val_{monitor or 'macro_auc'}"
    with drawn_panels(path, 2, (4.7, 3.9)) as parts:
        left, right = (part.subplots() for part in parts)
        for fold, history in sorted(histories.items()):
            style = class_style(fold)
            chosen = history[history["chosen"] == 1]
            left.plot(history["epoch"], history["loss"], **style | {"linewidth": 1, "alpha": 0.6})
            for axes, name in ((left, "val_loss"), (right, column)):
                axes.plot(history["epoch"], history[name], label=f"fold {fold}", **style)
                axes.scatter(
                    chosen["epoch"], chosen[name], s=58, color=style["color"], edgecolor="white",
                    linewidth=1.2, zorder=4,
                )  # fmt: skip
        for axes, end in ((left, "bottom"), (right, "top")):
            _epoch_axis(axes, histories)
            _shade_frozen(axes, histories, end)
        left.set_title("Loss")
        left.legend(
            handles=[
                *left.plot([], [], color=INK, linewidth=1, alpha=0.6, label="training (augmented)"),
                *left.plot([], [], color=INK, label="held-out fold"),
            ]
        )
        right.set_title(f"Held-out {METRIC_NAMES.get(column, column)}")
        right.scatter([], [], s=58, color=INK, label="epoch kept")
        right.legend(loc="lower right", ncols=1 + (len(histories) > 6))


def plot_reliability(path: Path, predictions: Predictions) -> None:
    """Reliability of the top class and, with malignant classes, of the malignant score.

    Args:
        path: PNG to write.
        predictions: labelled predictions.
    """
    y, probabilities, labels = predictions.y, predictions.probabilities, predictions.labels
    panels = [("Top class", *calibration.top_label(y, probabilities), HELD_OUT)]
    if labels.malignant:
        truth, score = malignant_truth(y, labels), malignant_score(probabilities, labels)
        panels.append(("Malignant", truth, score, "#D55E00"))
    with drawn_panels(path, len(panels), (4.4, 4.9)) as parts:
        for part, (name, event, confidence, colour) in zip(parts, panels, strict=True):
            above, below = part.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
            bins = calibration.reliability_bins(event, confidence)
            used = bins.count > 0
            above.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, zorder=1)
            above.plot(
                bins.confidence[used], bins.frequency[used], color=colour, linewidth=0.8, alpha=0.35
            )
            area = point_areas(bins.count)
            above.scatter(
                bins.confidence[used], bins.frequency[used], area[used], color=colour, zorder=3
            )
            above.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that came true")
            above.set_title(f"{name}: calibration error {bins.expected_error:.3f}")
            below.bar(
                bins.edges[:-1], bins.count, width=np.diff(bins.edges), align="edge", color=colour,
                alpha=0.55, edgecolor="white",
            )  # fmt: skip
            below.set(yscale="log", ylim=(0.7, max(10, 2 * bins.count.max())))
            below.set(xlabel="predicted probability", ylabel="images")
            below.yaxis.set_major_formatter("{x:,.0f}")
            below.yaxis.set_minor_formatter("")
            below.grid(False)


def point_areas(count: np.ndarray) -> np.ndarray:
    """Areas of points (square points of print) for bins of so many images; still seen with one.

    Args:
        count: int (bins,), not all 0.
    """
    return np.maximum(_AREAS[1] * count / count.max(), _AREAS[0])


def _see_through(colour: str) -> "LinearSegmentedColormap":
    """Colours from nothing at 0 to `colour` at 1."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    ends = [(*to_rgb(colour), 0.0), (*to_rgb(colour), 1.0)]
    return LinearSegmentedColormap.from_list("see-through", ends)


def _classes(predictions: Predictions) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
    """Position, code, truth bool (n,) and score float (n,) of each class that has an image."""
    y, probabilities = predictions.y, predictions.probabilities
    for j, code in enumerate(predictions.labels.codes):
        if (y == j).any():
            yield j, code, y == j, probabilities[:, j]


def _enlarge_corner(axes: "Axes", curves: list[tuple[np.ndarray, np.ndarray, dict]]) -> None:
    """Show the upper left of ROC curves larger, where the lower right is empty to do it in."""
    if not curves or any(np.interp(0.36, false, true) < 0.72 for false, true, _ in curves):
        return
    corner = axes.inset_axes((0.4, 0.09, 0.57, 0.57), xlim=(0, 0.3), ylim=(0.7, 1.005))
    axes.indicate_inset_zoom(corner, edgecolor=SEEN)
    corner.tick_params(labelsize=8)
    for false, true, style in curves:
        corner.plot(false, true, **style)


def _legend_row(predictions: Predictions, code: str, text: str, interval: Interval | None) -> str:
    """Code, number and interval in columns that line up in a fixed-width font."""
    row = f"{code:<{max(map(len, predictions.labels.codes))}}  {text}"
    known = interval is not None and not np.isnan(interval.low)
    return f"{row} ({interval.low:.3f} to {interval.high:.3f})" if known else row


def _unit_square(axes: "Axes", x: str, y: str, title: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xlabel=x, ylabel=y)
    axes.set_title(title)


def _curve_size(predictions: Predictions) -> tuple[float, float]:
    """Inches of a square of curves with a row a class below it; narrow, so that a phone fits it."""
    return 4.7, 5.0 + 0.19 * len(predictions.labels)


def _legend_below(axes: "Axes", title: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        legend = axes.legend(
            title=title,
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.14),
            prop={"family": "DejaVu Sans Mono", "size": 9},
        )
        legend.set_alignment("left")


def _epoch_axis(axes: "Axes", histories: dict[int, pd.DataFrame]) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = np.concatenate([history["epoch"] for history in histories.values()])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", xlim=(epochs.min() - 0.5, epochs.max() + 0.5))


def _shade_frozen(axes: "Axes", histories: dict[int, pd.DataFrame], end: str) -> None:
    """Grey behind the epochs in which every fold trained its head alone, named at one end."""
    frozen = [history.loc[history["phase"] == "frozen", "epoch"] for history in histories.values()]
    if all(len(epochs) for epochs in frozen):
        first = min(epochs.min() for epochs in frozen)
        last = min(epochs.max() for epochs in frozen)
        axes.axvspan(first - 0.5, last + 0.5, color="#F4F4F4", zorder=0)
        axes.text(
            (first + last) / 2, 0.02 if end == "bottom" else 0.98, "backbone frozen", rotation=90,
            fontsize=8.5, color=SEEN, ha="center", va=end, transform=axes.get_xaxis_transform(),
        )  # fmt: skip
