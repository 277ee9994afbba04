"""The picture of a comparison: a forest plot of the differences to the first run.

Takes the dict of `compare.compare_runs`. One panel for what is better when higher, one for the AUC
of each class, one for losses, because they have other scales.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kderm.evaluation.comparison.compare import LOWER_IS_BETTER
from kderm.evaluation.comparison.page import HEADLINE, title
from kderm.evaluation.report.style import COLOURS, FAINT, INK, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX*"
# Blue first, as in the report's other pictures of one thing; the orange one is hard to see on grey.
ORDER = (1, 4, 2, 3, 5, 0, 6, 7)
# Inches: a difference, the room between two metrics, what a panel needs besides, the whole width.
ROW, GAP, HEAD, WIDTH = 0.24, 0.1, 0.8, 8.6


def plot_differences(path: Path, found: dict) -> None:
    """Draw the differences of each run to the first, with their intervals.

    Args:
        path: PNG to write, with an SVG beside it; an earlier picture goes where nothing can be
            drawn now.
        found: from `compare_runs`.
    """
    panels = [(words, metrics) for words, metrics in panels_of(found) if metrics]
    if not panels:
        for old in (path, path.with_suffix(".svg")):
            old.unlink(missing_ok=True)
        return
    runs = len(found["comparisons"])
    heights = [len(metrics) * (runs * ROW + GAP) + HEAD for _, metrics in panels]
    with drawn(path, (WIDTH, sum(heights) + HEAD + ROW * runs)) as figure:
        figure.suptitle(title(found), x=0.01, ha="left", fontweight="bold", fontsize=13)
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (words, metrics) in zip(grid, panels, strict=True):
            _panel(axes, words, metrics, found)
        if runs > 1:
            handles, names = grid[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside lower left", ncols=min(3, runs))


def panels_of(found: dict) -> list[tuple[str, dict[str, str]]]:
    """Title, and metric to words, of each panel; only what has an interval for some run."""

    def shown(metrics: dict[str, str]) -> dict[str, str]:
        return {
            metric: words
            for metric, words in metrics.items()
            if any(
                row["differences"].get(metric, {}).get("low") is not None
                for row in found["comparisons"]
            )
        }

    overall = {k: v for k, v in HEADLINE.items() if k not in LOWER_IS_BETTER and "/" not in k}
    classes = {f"auc/{code}": f"{code} ({n:,})" for code, n in found["classes"].items()}
    losses = {k: v for k, v in HEADLINE.items() if k in LOWER_IS_BETTER}
    return [
        ("All classes: better to the right", shown(overall)),
        ("AUC of a class against the rest (images): better to the right", shown(classes)),
        ("Losses: better to the left", shown(losses)),
    ]


def _panel(axes: "Axes", words: str, metrics: dict[str, str], found: dict) -> None:
    runs = found["comparisons"]
    pitch = len(runs) * ROW + GAP
    middles = -pitch * np.arange(len(metrics))
    axes.axvline(0, color=INK, linewidth=1)
    for j, row in enumerate(runs):
        offset = ROW * ((len(runs) - 1) / 2 - j)
        style = {"color": COLOURS[ORDER[j % len(ORDER)]], "marker": MARKERS[j // 8 % len(MARKERS)]}
        for i, metric in enumerate(metrics):
            _difference(axes, row["differences"][metric], middles[i] + offset, style)
        axes.plot([], [], label=row["run"], linestyle="", markersize=6, **style)
    for between in (middles[:-1] + middles[1:]) / 2:
        axes.axhline(between, color=FAINT, linewidth=0.8)
    axes.set_yticks(middles, metrics.values())
    axes.set_ylim(middles[-1] - pitch / 2, middles[0] + pitch / 2)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.06)
    axes.xaxis.set_major_formatter("{x:+.3g}")
    axes.set_title(words)
    axes.set_xlabel(f"difference to {found['reference']}, 95 % interval")


def _difference(axes: "Axes", entry: dict, y: float, style: dict[str, str]) -> None:
    """A point and its interval; filled where the interval leaves out zero."""
    if entry["low"] is None:
        return
    axes.plot([entry["low"], entry["high"]], [y, y], color=style["color"], linewidth=1.8)
    face = style["color"] if entry["better"] else "white"
    axes.plot(entry["value"], y, markersize=6, markerfacecolor=face, markeredgewidth=1.6, **style)
