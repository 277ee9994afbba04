"""The words of a comparison: compare.md, and the table that is printed on a terminal.

Takes the dict of `compare.compare_runs`, returns text. Counts nothing anew.
"""

from kderm import console
from kderm.evaluation.comparison.compare import LOWER_IS_BETTER

UNDEFINED = "n/a"
# In the order of the page; what a scorecard does not hold is left out.
HEADLINE = {
    "malignant_auc": "malignant AUC",
    "auc/mel": "melanoma AUC",
    "macro_auc": "macro AUC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "malignant_average_precision": "malignant average precision",
    "macro_average_precision": "macro average precision",
    "kappa": "Cohen's kappa",
    "mcc": "Matthews correlation",
    "log_loss": "log-loss",
    "brier": "Brier score",
}
# What a row a run is about, where there are many runs.
GLANCE = ("malignant_auc", "auc/mel", "macro_auc", "balanced_accuracy", "log_loss")
# The same where the width of a terminal is all there is.
NARROW = ("malignant_auc", "macro_auc", "balanced_accuracy")
STARRED = "* the 95 % interval of the difference leaves out zero"
DISCLAIMER = (
    "The intervals and p-values hold for other images of the "
    "same kind, but not for other trainings: the same recipe with another seed differs too, and by "
    "how much only a run of its own shows."
)


def comparison_page(found: dict) -> str:
    """The whole of compare.md.

    Args:
        found: from `compare_runs`.
    """
    several = len(found["comparisons"]) > 1
    parts = [
        f"# {title(found)}",
        _glance(found) if several else verdict(found, found["comparisons"][0]),
        f"{_images(found)} {DISCLAIMER}",
        _notes(found),
        _picture(found),
        *(_one(found, comparison, several) for comparison in found["comparisons"]),
        _method(found, several),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def title(found: dict) -> str:
    """Who is held against whom."""
    others = [comparison["run"] for comparison in found["comparisons"]]
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return f"{shown} against {found['reference']}"


def verdict(found: dict, comparison: dict) -> str:
    """One sentence: in what the run is better, in what worse, and where nothing is shown."""
    sides = {comparison["run"]: [], found["reference"]: [], None: []}
    for metric, name in known_headline(found).items():
        entry = comparison["differences"][metric]
        if entry["low"] is None:
            continue
        words = name if entry["better"] is None else f"{name} {_signed(entry)}"
        sides[entry["better"]].append(words)
    clauses = [
        f"{words} in {', '.join(names)}"
        for words, names in (
            ("better", sides[comparison["run"]]),
            ("worse", sides[found["reference"]]),
            ("no difference shown", sides[None]),
        )
        if names
    ]
    told = "; ".join(clauses) or "too few groups to tell any difference"
    return f"{comparison['run']} against {found['reference']}: {told}."


def terminal_table(found: dict) -> str:
    """What is printed: metrics by rows for two runs, runs by rows for more."""
    if len(found["comparisons"]) > 1:
        header, rows = _glance_cells(found, NARROW)
        return f"{console.table(rows, header)}\n\n{STARRED}"
    header, rows = _metric_cells(found, found["comparisons"][0])
    return console.table(rows, header)


def _picture(found: dict) -> str:
    drawable = any(
        entry["low"] is not None
        for comparison in found["comparisons"]
        for entry in comparison["differences"].values()
    )
    return f"![Differences to {found['reference']}](differences.png)" * drawable


def _images(found: dict) -> str:
    return (
        f"Compared on the {found['n_images']:,} images of {found['n_groups']:,} lesions or "
        "patients that all runs answered."
    )


def _notes(found: dict) -> str:
    return "\n".join(f"> {note}\n>" for note in found["notes"]).removesuffix("\n>")


def _glance(found: dict) -> str:
    words = (
        f"Difference to {found['reference']} (first row: its own values) with 95 % interval; "
        f"{STARRED}. Log-loss is better when lower."
    )
    return words + "\n\n" + _table(*_glance_cells(found, GLANCE))


def _glance_cells(found: dict, chosen: tuple[str, ...]) -> tuple[list[str], list[list[str]]]:
    names = known_headline(found)
    metrics = [metric for metric in chosen if metric in names]
    own = found["values"][found["reference"]]
    rows = [[found["reference"], *(_number(own[metric]["value"]) for metric in metrics)]]
    rows += [
        [row["run"], *(_marked(row["differences"][metric]) for metric in metrics)]
        for row in found["comparisons"]
    ]
    return ["run", *(names[metric] for metric in metrics)], rows


def _one(found: dict, comparison: dict, several: bool) -> str:
    name, reference = comparison["run"], found["reference"]
    sections = [f"## {name} against {reference}"]
    sections += [verdict(found, comparison)] * several
    sections += ["### Metrics", _table(*_metric_cells(found, comparison))]
    sections += ["### AUC of each class", _auc(found, comparison, several)]
    sections += ["### Sensitivity of each class", _sensitivity(found, comparison)]
    sections += ["### Right and wrong", _answers(found, comparison, several)]
    return "\n\n".join(sections)


def _metric_cells(found: dict, comparison: dict) -> tuple[list[str], list[list[str]]]:
    name, reference = comparison["run"], found["reference"]
    ours, theirs = found["values"][reference], found["values"][name]
    rows = []
    for metric, words in known_headline(found).items():
        entry = comparison["differences"][metric]
        rows.append(
            [
                words + (" (lower is better)" if metric in LOWER_IS_BETTER else ""),
                _number(ours[metric]["value"]),
                _number(theirs[metric]["value"]),
                _signed(entry),
                _side(entry),
            ]
        )
    return ["metric", reference, name, "difference (95 % interval)", "better"], rows


def _auc(found: dict, comparison: dict, several: bool) -> str:
    header = ["AUC of", "images", found["reference"], comparison["run"]]
    header += ["difference (95 % interval)", "DeLong's interval", "DeLong p"]
    header += ["p, Holm"] * several
    rows, unsure = [], []
    for metric, test in comparison["auc"].items():
        code = metric.removeprefix("auc/")
        codes = found["malignant"] if metric == "malignant_auc" else [code]
        outcome = " + ".join(codes) if metric == "malignant_auc" else code
        entry = comparison["differences"][metric]
        row = [outcome, f"{sum(found['classes'][each] for each in codes):,}"]
        row += [_number(test["first"]), _number(test["second"]), _signed(entry), _bounds(test)]
        rows.append([*row, p_value(test["p"]), *[p_value(test["p_holm"])] * several])
        if _disagree(entry, test):
            unsure.append(outcome)
    words = "The interval beside the difference is the resampled one, which the picture draws."
    if unsure:
        words += (
            f" For {', '.join(unsure)} it and DeLong's do not agree on whether zero is inside; "
            "take that as not shown."
        )
    return _table(header, rows) + "\n\n" + words


def _disagree(entry: dict, test: dict) -> bool:
    """Whether one of the two intervals of a difference of areas leaves out zero and one not."""
    if entry["low"] is None or test["low"] is None:
        return False
    resampled, delong = (each["low"] > 0 or each["high"] < 0 for each in (entry, test))
    return resampled != delong


def _bounds(test: dict) -> str:
    return UNDEFINED if test["low"] is None else _signed(test | {"value": 0}).partition("(")[2][:-1]


def _sensitivity(found: dict, comparison: dict) -> str:
    ours, theirs = found["values"][found["reference"]], found["values"][comparison["run"]]
    rows = [
        [
            code,
            f"{images:,}",
            _number(ours[f"sensitivity/{code}"]["value"]),
            _number(theirs[f"sensitivity/{code}"]["value"]),
            _signed(comparison["differences"][f"sensitivity/{code}"]),
        ]
        for code, images in found["classes"].items()
    ]
    header = ["class", "images", found["reference"], comparison["run"]]
    return _table([*header, "difference (95 % interval)"], rows)


def _answers(found: dict, comparison: dict, several: bool) -> str:
    name, reference, counts = comparison["run"], found["reference"], comparison["accuracy"]
    rows = [
        [f"**{name} right**", f"{counts['both_right']:,}", f"{counts['only_second']:,}"],
        [f"**{name} wrong**", f"{counts['only_first']:,}", f"{counts['both_wrong']:,}"],
    ]
    table = _table(["images", f"{reference} right", f"{reference} wrong"], rows)

    def both(key: str) -> str:
        holm = f" ({p_value(counts[key + '_holm'])} by Holm)" if several else ""
        return f"p {p_value(counts[key])}{holm}"

    words = (
        f"Accuracy differs by {counts['difference']:+.4f}. McNemar's exact test: "
        f"{both('p_exact')}; it takes each image for independent of all others, which several "
        "images of a lesion are not. The test that knows of lesions and patients: "
        f"{both('p_groups')}."
    )
    return table + "\n\n" + words


def _method(found: dict, several: bool) -> str:
    lines = [
        f"- Intervals: percentiles of {found['resamples']:,} resamples of whole lesions or "
        f"patients (seed {found['seed']}), the same draws for all runs, of the difference itself.",
        "- AUC of each class: DeLong et al. 1988, with the variance of groups of images "
        "(Obuchowski 1997). Its interval is from normal theory and stands beside the resampled "
        "one; by the resampled one, which the picture draws, a run is called better.",
        "- Accuracy: McNemar 1947, exact; with groups Obuchowski 1998. A tied top class is wrong.",
        "- A run is called better where the 95 % interval of the difference leaves out zero. That "
        "is said of each metric by itself: of twenty that do not differ one is expected to look as "
        "if it did.",
    ]
    if several:
        lines.append(
            "- p by Holm: adjusted for the number of runs, one metric at a time. The intervals are "
            "not adjusted."
        )
    return "## How\n\n" + "\n".join(lines)


def known_headline(found: dict) -> dict[str, str]:
    """Headline metrics that the runs have; nothing twice where melanoma alone is malignant."""
    own = found["values"][found["reference"]]
    known = {metric: words for metric, words in HEADLINE.items() if metric in own}
    if found["malignant"] == ["mel"]:
        known.pop("auc/mel", None)
    return known


def p_value(p: float | None) -> str:
    """A p-value as papers print it."""
    if p is None:
        return UNDEFINED
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _side(entry: dict) -> str:
    return UNDEFINED if entry["low"] is None else entry["better"] or "not shown"


def _marked(entry: dict) -> str:
    """A difference, starred where its interval leaves out zero."""
    return _signed(entry) + (" *" if entry["better"] else "")


def _signed(entry: dict) -> str:
    if entry["value"] is None:
        return UNDEFINED
    numbers = [entry[name] for name in ("value", "low", "high") if entry[name] is not None]
    # A bound of 0.0002 is not zero: one more decimal says on which side it is.
    digits = 4 if any(0 < abs(number) < 0.0005 for number in numbers) else 3
    value, *bounds = (f"{number:+.{digits}f}" for number in numbers)
    return f"{value} ({bounds[0]} to {bounds[1]})" if bounds else value


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.3f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    escaped = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)
