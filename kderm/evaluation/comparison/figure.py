"""The picture of a comparison: a forest plot of the differences to the first run.

Takes the dict of `compare.compare_runs`. A few runs: a row a metric, with panels for what is better
when higher, for the AUC of each class and for losses, because they have other scales. Many runs: a
row a run, a panel a metric.
"""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kderm.evaluation.comparison.compare import LOWER_IS_BETTER
from kderm.evaluation.comparison.page import GLANCE, known_headline, title
from kderm.evaluation.report.style import COLOURS, FAINT, INK, SEEN, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue first, as in the report's other pictures of one thing.
ORDER = (1, 4, 2, 3, 5)
FEW_RUNS = len(ORDER)
# Inches: a difference, the room between two metrics, what a panel needs besides, the whole width.
ROW, GAP, HEAD, WIDTH = 0.24, 0.1, 0.8, 8.6
LEGEND = "Filled: the interval leaves out zero."


def plot_differences(path: Path, found: dict) -> None:
    """Draw the differences of each run to the first, with their intervals.

    Args:
        path: PNG to write, with an SVG beside it; an earlier picture goes where nothing can be
            drawn now.
        found: from `compare_runs`.
    """
    few = len(found["comparisons"]) <= FEW_RUNS
    panels = [(words, metrics) for words, metrics in panels_of(found, few) if metrics]
    if not panels:
        for old in (path, path.with_suffix(".svg")):
            old.unlink(missing_ok=True)
        return
    (_draw_metrics if few else _draw_runs)(path, found, panels)


def panels_of(found: dict, few: bool) -> list[tuple[str, dict[str, str]]]:
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

    names = known_headline(found)
    if not few:
        return [
            (names[metric] + _direction(metric), shown({metric: names[metric]}))
            for metric in GLANCE
            if metric in names
        ]
    overall = {k: v for k, v in names.items() if k not in LOWER_IS_BETTER and "/" not in k}
    classes = {f"auc/{code}": f"{code} ({n:,})" for code, n in found["classes"].items()}
    losses = {k: v for k, v in names.items() if k in LOWER_IS_BETTER}
    return [
        ("All classes: better to the right", shown(overall)),
        ("AUC of a class against the rest (images): better to the right", shown(classes)),
        ("Losses: better to the left", shown(losses)),
    ]


def _direction(metric: str) -> str:
    return "\nbetter to the left" if metric in LOWER_IS_BETTER else "\nbetter to the right"


def _draw_metrics(path: Path, found: dict, panels: list[tuple[str, dict[str, str]]]) -> None:
    runs = len(found["comparisons"])
    heights = [len(metrics) * (runs * ROW + GAP) + HEAD for _, metrics in panels]
    with drawn(path, (WIDTH, sum(heights) + HEAD + ROW * runs)) as figure:
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (words, metrics) in zip(grid, panels, strict=True):
            rows = [
                [row["differences"][metric] for metric in metrics] for row in found["comparisons"]
            ]
            _panel(axes, list(metrics.values()), rows)
            axes.set_title(words)
            axes.set_xlabel(_axis(found))
        if runs > 1:
            names = [row["run"] for row in found["comparisons"]]
            handles = [
                grid[0].plot([], [], "o", color=COLOURS[ORDER[j]], markersize=6)[0]
                for j in range(runs)
            ]
            place = {"loc": "outside lower left", "ncols": min(3, runs), "alignment": "left"}
            figure.legend(handles, names, title=LEGEND, **place)
        else:
            _explain(figure)
        _head(figure, found, letters=70)


def _draw_runs(path: Path, found: dict, panels: list[tuple[str, dict[str, str]]]) -> None:
    names = [row["run"] for row in found["comparisons"]]
    height = len(names) * (ROW + GAP * 0.5) + 2 * HEAD
    with drawn(path, (2.4 * len(panels) + 2, height)) as figure:
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (words, metrics) in zip(grid, panels, strict=True):
            (metric,) = metrics
            _panel(axes, names, [[row["differences"][metric] for row in found["comparisons"]]])
            axes.set_title(words, fontsize=10)
            axes.tick_params(axis="x", labelsize=8.5)
            axes.locator_params(axis="x", nbins=4)
        figure.supxlabel(_axis(found), fontsize=10)
        _explain(figure)
        _head(figure, found, letters=110)


def _axis(found: dict) -> str:
    return f"difference to {found['reference']}, resampled 95 % interval"


def _head(figure: "Figure", found: dict, letters: int) -> None:
    words = textwrap.fill(title(found), letters)
    figure.suptitle(words, x=0.01, ha="left", fontweight="bold", fontsize=13)


def _explain(figure: "Figure") -> None:
    figure.text(0.99, 0.0, LEGEND, ha="right", va="top", fontsize=9, color=SEEN)


def _panel(axes: "Axes", names: list[str], rows: list[list[dict]]) -> None:
    """Intervals of each name, one below the other; a colour a list of `rows`."""
    pitch = len(rows) * ROW + GAP
    middles = -pitch * np.arange(len(names))
    axes.axvline(0, color=INK, linewidth=1)
    for j, entries in enumerate(rows):
        offset = ROW * ((len(rows) - 1) / 2 - j)
        for middle, entry in zip(middles, entries, strict=True):
            _difference(axes, entry, middle + offset, COLOURS[ORDER[j]])
    for between in (middles[:-1] + middles[1:]) / 2:
        axes.axhline(between, color=FAINT, linewidth=0.8)
    axes.set_yticks(middles, names)
    axes.set_ylim(middles[-1] - pitch / 2, middles[0] + pitch / 2)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.06)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:+.3g}" if abs(x) > 1e-12 else "0")


def _difference(axes: "Axes", entry: dict, y: float, colour: str) -> None:
    """A point and its interval; filled where the interval leaves out zero."""
    if entry["low"] is None:
        return
    axes.plot([entry["low"], entry["high"]], [y, y], color=colour, linewidth=1.8)
    face = colour if entry["better"] else "white"
    axes.plot(
        entry["value"], y, "o", color=colour, markersize=6, markerfacecolor=face,
        markeredgewidth=1.6,
    )  # fmt: skip
