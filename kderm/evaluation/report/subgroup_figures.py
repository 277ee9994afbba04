"""Pictures of subgroups and of uncertainty: a forest plot, abstain curves."""

from pathlib import Path

import numpy as np

from kderm.evaluation.report.style import FAINT, HELD_OUT, INK, SEEN, class_style, drawn

_ROW, _MOST_ROWS = 0.27, 60


def plot_subgroups(path: Path, report: dict, metric: str, name: str) -> None:
    """A row a subgroup: one metric with its interval, and the rest's value as a grey tick.

    Args:
        path: PNG to write.
        report: of `subgroup_report`.
        metric: a key of its metrics.
        name: what people call it.
    """
    rows = _forest_rows(report, metric)[:_MOST_ROWS]
    with drawn(path, (7.2, 1.1 + _ROW * len(rows))) as figure:
        axes = figure.add_subplot()
        for y, (_, entry) in enumerate(rows):
            if entry is None:
                continue
            axes.plot([entry["low"], entry["high"]], [y, y], color=HELD_OUT, linewidth=2)
            axes.scatter([entry["value"]], [y], color=HELD_OUT, s=30, zorder=3)
            if entry["rest"] is not None:
                axes.plot([entry["rest"]] * 2, [y - 0.3, y + 0.3], color=SEEN, linewidth=1.6)
        axes.plot([], [], color=SEEN, linewidth=1.6, label="all other images")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        for tick, (_, entry) in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_fontweight("bold" if entry is None else "normal")
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"{name} (95 % interval)")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)


def _forest_rows(report: dict, metric: str) -> list[tuple[str, dict | None]]:
    """A heading (None) an attribute, then label and entry of subgroups that have an interval."""
    rows: list[tuple[str, dict | None]] = []
    for attribute in report["attributes"]:
        own = [
            (f"{level['level']} ({level['images']:,})", level["metrics"][metric])
            for level in attribute["levels"]
            if level["metrics"].get(metric, {}).get("low") is not None
        ]
        if own:
            rows += [(attribute["title"], None), *own]
    return rows


def plot_abstain(path: Path, report: dict) -> None:
    """Accuracy and balanced accuracy against the share of images answered.

    Args:
        path: PNG to write.
        report: of `abstain_report`.
    """
    with drawn(path, (9.2, 4.0)) as figure:
        panels = figure.subplots(1, 2)
        for axes, metric in zip(panels, ("accuracy", "balanced_accuracy"), strict=True):
            for j, (ranking, found) in enumerate(report["by"].items()):
                shares, values = found["curve"]["share"], found["curve"][metric]
                numbers = [np.nan if value is None else value for value in values]
                label = ranking.replace("_", " ")
                axes.plot(shares, numbers, label=label, **class_style(j + 1))
                if j == 0:
                    _marked(axes, found, metric)
            if metric == "accuracy":
                axes.axhline(report["accuracy"], color=FAINT, linewidth=1.2, zorder=1)
            axes.set(xlabel="share answered", ylabel=metric.replace("_", " "), xlim=(0, 1.02))
            axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
            axes.set_title(metric.replace("_", " ").capitalize())
        panels[0].legend(title="surest first by", loc="lower left")


def _marked(axes, found: dict, metric: str) -> None:
    """Intervals at the marked shares of the first ranking."""
    for share, at in found["at"].items():
        entry = at[metric]
        if entry["low"] is not None:
            axes.plot([float(share)] * 2, [entry["low"], entry["high"]], color=INK, linewidth=1.2)
