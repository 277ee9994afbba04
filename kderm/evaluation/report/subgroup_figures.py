"""Pictures of subgroups and of uncertainty: a forest plot, abstain curves."""

from pathlib import Path

import numpy as np

from kderm.evaluation.report.style import (
    FAINT,
    HELD_OUT,
    INK,
    SEEN,
    class_style,
    drawn,
    drawn_panels,
)

_ROW, _MOST_ROWS = 0.25, 60
# Names of the rankings of `abstain_report`, in tables and pictures alike.
RANKINGS = {"max_probability": "highest probability"}


def plot_subgroups(path: Path, report: dict, metric: str, name: str) -> None:
    """A row a subgroup: one metric with its interval, and the rest's value as a grey tick.

    Args:
        path: PNG to write.
        report: of `subgroup_report`.
        metric: a key of its metrics.
        name: what people call it.
    """
    rows = _forest_rows(report, metric)[:_MOST_ROWS]
    with drawn(path, (4.9, 1.0 + _ROW * len(rows))) as figure:
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
        axes.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=10)
        for tick, (_, entry) in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_fontweight("bold" if entry is None else "normal")
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"{name} (95 % interval)")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)


def _forest_rows(report: dict, metric: str) -> list[tuple[str, dict | None]]:
    """A heading (None) a subject, then label and entry of subgroups that have an interval.

    Attributes such as "Image quality: hair" share the heading before the colon, and of those that
    say yes or no only the yes is drawn: the other images are its grey tick.
    """
    rows: list[tuple[str, dict | None]] = []
    headings = []
    for attribute in report["attributes"]:
        subject, _, flag = attribute["title"].partition(": ")
        own = [
            (f"{flag or level['level']} ({level['images']:,})", level["metrics"][metric])
            for level in attribute["levels"]
            if level["metrics"].get(metric, {}).get("low") is not None
            and (not flag or level["level"] == "yes")
        ]
        if own and subject not in headings:
            headings.append(subject)
            rows.append((subject, None))
        rows += own
    return rows


def plot_abstain(path: Path, report: dict) -> None:
    """Accuracy and balanced accuracy against the share of images answered.

    Args:
        path: PNG to write.
        report: of `abstain_report`.
    """
    with drawn_panels(path, 2, (4.4, 3.8)) as panels:
        for panel, metric in zip(panels, ("accuracy", "balanced_accuracy"), strict=True):
            axes = panel.subplots()
            for j, (ranking, found) in enumerate(report["by"].items()):
                shares, values = found["curve"]["share"], found["curve"][metric]
                numbers = [np.nan if value is None else value for value in values]
                label = RANKINGS.get(ranking, ranking.replace("_", " "))
                axes.plot(shares, numbers, label=label, **class_style(j + 1))
                if j == 0:
                    _marked(axes, found, metric)
            if metric == "accuracy":
                axes.axhline(report["accuracy"], color=FAINT, linewidth=1.2, zorder=1)
            axes.set(xlabel="share answered", ylabel=metric.replace("_", " "), xlim=(0, 1.02))
            axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
            axes.set_title(metric.replace("_", " ").capitalize())
            axes.legend(title="surest first by", loc="lower left")


def _marked(axes, found: dict, metric: str) -> None:
    """Intervals at the marked shares of the first ranking."""
    for share, at in found["at"].items():
        entry = at[metric]
        if entry["low"] is not None:
            axes.plot([float(share)] * 2, [entry["low"], entry["high"]], color=INK, linewidth=1.2)
