"""The charts of the inspection pages, each as two PNG files: for light and for dark pages.

Drawn from tables. The style and the colour of a class are those of the report's figures.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kderm import atomic
from kderm.evaluation.report.style import STYLE, class_style
from kderm.font_list import make_font_list
from kderm.inspection.association import known

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 6.4  # inches: a phone shows the text at two thirds of its size
_DARK_INK, _DARK_PAGE = "#E4E4E7", "#18181B"
_DARK = {
    **{key: _DARK_INK for key in ("axes.edgecolor", "axes.labelcolor", "text.color")},
    **{key: _DARK_INK for key in ("xtick.color", "ytick.color")},
    **{key: _DARK_PAGE for key in ("figure.facecolor", "axes.facecolor", "savefig.facecolor")},
    "grid.color": "#34343A",
}
# On dark pages the report's black class would vanish.
_FOR_DARK = {"#000000": "#F4F4F5", "#0072B2": "#4BA3DA"}
SEXES = (("female", "#CC79A7"), ("male", "#56B4E9"))


def class_colour(j: int, dark: bool) -> str:
    """Colour of the class at position `j` of its label space."""
    colour = class_style(j)["color"]
    return _FOR_DARK.get(colour, colour) if dark else colour


def draw(path: Path, height: float, chart: Callable[["Axes", bool], None]) -> tuple[Path, Path]:
    """Draw a chart for light pages at `path` and for dark ones beside it.

    Args:
        path: PNG to write.
        height: inches.
        chart: draws on the axes it is given, for a dark page or not.

    Returns:
        The two files.
    """
    make_font_list()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    paths = path, path.with_stem(path.stem + "_dark")
    for target, dark in zip(paths, (False, True), strict=True):
        with matplotlib.rc_context({**STYLE, **(_DARK if dark else {})}):
            figure = Figure(figsize=(_WIDTH, height), layout="constrained")
            FigureCanvasAgg(figure)
            chart(figure.add_subplot(), dark)
            with atomic.atomic_path(target) as temporary:
                figure.savefig(temporary)
    return paths


def class_counts(table: pd.DataFrame, codes: Sequence[str]) -> Callable[["Axes", bool], None]:
    """Images of each class."""
    counts = table["label"].value_counts().reindex(list(codes), fill_value=0).to_numpy()

    def chart(axes: "Axes", dark: bool) -> None:
        colours = [class_colour(j, dark) for j in range(len(codes))]
        bars = axes.barh(range(len(codes)), counts, color=colours, height=0.7)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=4, fontsize=10)
        _rows(axes, codes)
        axes.set(xlabel="images", xlim=(0, max(1, counts.max()) * 1.14))

    return chart


def lesion_sizes(table: pd.DataFrame) -> Callable[["Axes", bool], None]:
    """How many lesions have one image, two, and so on; six and more together."""
    sizes = table["lesion_id"].dropna().value_counts()
    counts = np.bincount(np.minimum(sizes.to_numpy(), 6), minlength=7)[1:]

    def chart(axes: "Axes", dark: bool) -> None:
        bars = axes.bar(range(6), counts, color=class_colour(1, dark), width=0.72)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=10)
        axes.set_xticks(range(6), ["1", "2", "3", "4", "5", "6+"])
        axes.grid(axis="x", visible=False)
        axes.set(xlabel="images of a lesion", ylabel="lesions", ylim=(0, counts.max() * 1.12))

    return chart


def age_by_class(table: pd.DataFrame, codes: Sequence[str]) -> Callable[["Axes", bool], None]:
    """Box of the ages of each class: quartiles, and whiskers over the middle 90 %."""
    ages = [table.loc[table["label"] == code, "age"].dropna().to_numpy() for code in codes]

    def chart(axes: "Axes", dark: bool) -> None:
        there = [j for j, values in enumerate(ages) if len(values)]
        boxes = axes.boxplot(
            [ages[j] for j in there], positions=there, orientation="horizontal", widths=0.62,
            whis=(5, 95), showfliers=False, patch_artist=True, manage_ticks=False,
        )  # fmt: skip
        ink = _DARK_INK if dark else "#222222"
        for j, box in zip(there, boxes["boxes"], strict=True):
            box.set(facecolor=class_colour(j, dark), edgecolor=ink, alpha=0.85)
        for line in (*boxes["whiskers"], *boxes["caps"]):
            line.set(color=ink, linewidth=1.2)
        for j, line in zip(there, boxes["medians"], strict=True):
            black_box = class_style(j)["color"] == "#000000"
            line.set(color="#FFFFFF" if black_box and not dark else "#111111", linewidth=2.4)
        _rows(
            axes, [f"{code}  ({len(values):,})" for code, values in zip(codes, ages, strict=True)]
        )
        axes.set(xlabel="age, years (images with a known age)", xlim=(-1, 91))

    return chart


def sex_by_class(table: pd.DataFrame, codes: Sequence[str]) -> Callable[["Axes", bool], None]:
    """Share of each sex among the images of each class whose sex is known."""
    there = table[known(table["sex"])]
    counts = pd.crosstab(there["label"], there["sex"]).reindex(list(codes), fill_value=0)
    names = [name for name, _ in SEXES if name in counts]
    names += [name for name in counts if name not in names]
    totals = counts.sum(axis=1)
    shares = counts.div(totals.where(totals > 0), axis=0).fillna(0.0)

    def chart(axes: "Axes", dark: bool) -> None:
        left = np.zeros(len(codes))
        for name in names:
            share = shares[name].to_numpy()
            colour = dict(SEXES).get(name, "#8C8C8C")
            bars = axes.barh(range(len(codes)), share, left=left, height=0.7, color=colour,
                             label=name)  # fmt: skip
            texts = [f"{100 * value:.0f} %" if value > 0.08 else "" for value in share]
            axes.bar_label(bars, texts, label_type="center", fontsize=10, color="#111111")
            left += share
        _rows(axes, [f"{code}  ({totals[code]:,})" for code in codes])
        axes.grid(visible=False)
        axes.set(xlim=(0, 1), xticks=[])
        axes.spines["bottom"].set_visible(False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(names), borderaxespad=0.2)

    return chart


def site_by_class(table: pd.DataFrame, codes: Sequence[str]) -> Callable[["Axes", bool], None]:
    """Of each class, the share at each body site; the commonest twelve sites."""
    there = table[known(table["site"])]
    counts = pd.crosstab(there["site"], there["label"]).reindex(columns=list(codes), fill_value=0)
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False).index]
    totals = counts.sum()
    shares = counts.div(totals.where(totals > 0), axis=1).fillna(0.0).head(12)

    def chart(axes: "Axes", dark: bool) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        values = shares.to_numpy()
        most = max(0.3, values.max())
        ends = (_DARK_PAGE, "#4BA3DA") if dark else ("#FFFFFF", "#0072B2")
        colours = LinearSegmentedColormap.from_list("share", ends)
        axes.imshow(values, cmap=colours, vmin=0, vmax=most, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            strong = value > 0.55 * most
            ink = ("#111111" if strong else "#F4F4F5") if dark else ("white" if strong else "#222")
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=9.5,
                      color=ink)  # fmt: skip
        axes.set_xticks(range(len(codes)), codes)
        axes.set_yticks(range(len(shares)), shares.index)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.xaxis.tick_top()
        axes.set_xlabel("percent of the class's images with a known site")

    return chart


def quality_by_class(
    quality: pd.Series, labels: pd.Series, codes: Sequence[str], words: str
) -> Callable[["Axes", bool], None]:
    """Distribution of one measure of quality in each class: median, middle half, middle 90 %."""
    values = [quality[(labels == code).to_numpy()].dropna().to_numpy() for code in codes]

    def chart(axes: "Axes", dark: bool) -> None:
        for j, part in enumerate(values):
            if not len(part):
                continue
            low, first, middle, third, high = np.quantile(part, [0.05, 0.25, 0.5, 0.75, 0.95])
            colour = class_colour(j, dark)
            axes.plot([low, high], [j, j], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([first, third], [j, j], color=colour, linewidth=7, solid_capstyle="butt")
            axes.plot(middle, j, "o", color=_DARK_PAGE if dark else "white", markersize=4.5)
        _rows(axes, codes)
        axes.set_title(words, fontsize=11, fontweight="normal")

    return chart


def _rows(axes: "Axes", names: Sequence[str]) -> None:
    """Classes as rows, the first on top, without lines of their own."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
