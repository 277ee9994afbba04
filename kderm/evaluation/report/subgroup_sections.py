"""Parts of the population, and whole lesions instead of single pictures."""

from functools import partial

from kderm.counting import counted
from kderm.evaluation.report import subgroup_figures
from kderm.evaluation.report.document import (
    Block,
    Bullets,
    Estimate,
    Figure,
    Heading,
    Section,
    Table,
    Text,
)

METRICS = {
    "macro_auc": "macro AUC",
    "balanced_accuracy": "balanced accuracy",
    "malignant_auc": "malignant AUC",
    "malignant_sensitivity": "malignant sensitivity",
    "malignant_specificity": "malignant specificity",
    "mel_auc": "melanoma AUC",
    "mel_sensitivity": "melanoma sensitivity",
    "mel_specificity": "melanoma specificity",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_average_precision": "macro average precision",
    "log_loss": "log-loss",
    "brier": "Brier score",
}
# The rule whose threshold subgroups are flagged at, first one found.
RULES = ("sensitivity_90", "youden")
_NOTED = 10
_POOLINGS = {"mean": "mean", "max": "highest", "noisy_or": "noisy-or"}


def subgroup_thresholds(operating_points: dict) -> dict[str, float]:
    """Target -> the threshold that subgroups are flagged at."""
    found = {}
    for rule in reversed(RULES):
        for point in operating_points["points"]:
            if point["rule"] == rule:
                found[point["target"]] = point["threshold"]
    return found


def subgroup_section(found: dict) -> Section:
    """Metrics by subgroup, the notable gaps, and what is not shown and why."""
    report = found["subgroups"]
    tables = _tables(report)
    if not tables:
        return Section("Subgroups", [Text(_absent(report))])
    return Section(
        "Subgroups",
        [
            Text(_words(report)),
            *_notable(report),
            *_forest(report),
            *tables,
            Bullets([line for line in [*_left_out(report), _absent(report)] if line]),
        ],
    )


def subgroup_name(title: str, level: str) -> str:
    """What people call a subgroup: "Body site: ear", "Image quality: hair"."""
    if ": " in title:  # says yes or no to what stands behind the colon
        return title if level == "yes" else f"{title} ({level})"
    return f"{title}: {level}"


def weakest(report: dict, metric: str) -> dict | None:
    """The subgroup with the worst gap of those whose interval leaves out zero; None without one.

    Returns:
        its entry in the report's metrics, and besides "name" and "images".
    """
    for gap in report["notable"]:  # worst first
        level = _level(report, gap)
        if gap["metric"] == metric and gap["gap"] < 0 and level["recorded"]:
            name = subgroup_name(gap["attribute"], gap["level"])
            return {**level["metrics"][metric], "name": name, "images": level["images"]}
    return None


def largest_gap(report: dict) -> str:
    """The metric and subgroup of the largest gap to the worse that leaves out zero; "" if none."""
    worse = next((gap for gap in report["notable"] if gap["gap"] < 0), None)  # worst first
    if worse is None:
        return ""
    name = subgroup_name(worse["attribute"], worse["level"])
    return f"{METRICS.get(worse['metric'], worse['metric'])} in {name}"


def _level(report: dict, gap: dict) -> dict:
    return next(
        level
        for attribute in report["attributes"]
        for level in attribute["levels"]
        if (attribute["title"], level["level"]) == (gap["attribute"], gap["level"])
    )


def gaps_sentence(report: dict) -> str:
    """How many gaps differ from zero, beside what chance alone gives; the same on every page."""
    gaps = report["gaps"]
    count = gaps["excluding_zero"]
    excluding = f"{count or 'none'} {'leave' if count > 1 else 'leaves'} out zero"
    worse = sum(gap["gap"] < 0 for gap in report["notable"])
    sides = f" ({worse} worse than the rest, {count - worse} better)" if count else ""
    chance = f"about {gaps['by_chance']:.0f}" if gaps["by_chance"] >= 1 else "fewer than 1"
    return (
        f"Of the 95 % intervals of {_gaps(gaps['intervals'])} to the rest, {excluding}{sides}; by "
        f"chance alone {chance} would."
    )


def _gaps(count: int) -> str:
    return f"{count} {'gap' if count == 1 else 'gaps'}"


def _words(report: dict) -> str:
    return (
        "A gap is a subgroup's number less that of all other images with a recorded value. "
        f"{gaps_sentence(report)} Numbers that would stand on fewer than "
        f"{report['least_positives']} images of a class are left out. Sensitivity and specificity "
        "are those of one threshold for everybody: the operating point for 90 % sensitivity, or "
        "Youden's where there is none. Where one of the two is lower and the other higher, the "
        "subgroup is flagged more or less readily; that its images are harder to tell apart, only "
        "the AUC can say."
    )


def _notable(report: dict) -> list[Block]:
    """The gaps whose interval leaves out zero: those to the worse, then those to the better."""
    worse = [gap for gap in report["notable"] if gap["gap"] < 0]
    better = [gap for gap in reversed(report["notable"]) if gap["gap"] >= 0]
    # The gap comes early: a phone shows the first columns.
    header = ["subgroup", "metric", "gap", "here", "in all others", "images"]
    blocks: list[Block] = []
    for words, gaps in (("Worse", worse), ("Better", better)):
        if gaps:
            told = f"{words} than the rest: {_gaps(len(gaps))}"
            told += f", the {_NOTED} largest" * (len(gaps) > _NOTED)
            blocks += [Heading(told), Table(header, [_gap(report, gap) for gap in gaps[:_NOTED]])]
    if len(worse) > _NOTED or len(better) > _NOTED:
        every = [_gap(report, gap) for gap in report["notable"]]
        blocks.append(Table(header, every, "subgroup_gaps", f"All {len(every)} of these gaps"))
    return blocks


def _gap(report: dict, gap: dict) -> list:
    level = _level(report, gap)
    entry = level["metrics"][gap["metric"]]
    return [
        subgroup_name(gap["attribute"], gap["level"]),
        METRICS.get(gap["metric"], gap["metric"]),
        Estimate(gap["gap"], gap["low"], gap["high"]),
        entry["value"],
        entry["rest"],
        level["images"],
    ]


def _forest(report: dict) -> list[Block]:
    metric = next((name for name in ("malignant_auc", "macro_auc") if _shown(report, name)), None)
    if metric is None:
        return []
    return [
        Heading("By subgroup"),
        Figure(
            "subgroups",
            f"{METRICS[metric][:1].upper()}{METRICS[metric][1:]} by subgroup (images), with 95 % "
            "intervals; grey: all other images with a recorded value",
            partial(
                subgroup_figures.plot_subgroups, report=report, metric=metric, name=METRICS[metric]
            ),
            520,
        ),
    ]


def _shown(report: dict, metric: str) -> bool:
    return any(
        level["metrics"].get(metric, {}).get("low") is not None
        for attribute in report["attributes"]
        for level in attribute["levels"]
    )


def _has_malignant(report: dict) -> bool:
    return any(
        level["malignant"] is not None
        for attribute in report["attributes"]
        for level in attribute["levels"]
    )


def _tables(report: dict) -> list[Table]:
    """All numbers, those of melanoma apart: together they are too wide for paper."""
    melanoma = [name for name in report["metrics"] if name.startswith("mel_")]
    others = [name for name in report["metrics"] if name not in melanoma]
    parts = [("subgroups", "All numbers of all subgroups", others)]
    parts += [("subgroups_melanoma", "The same of melanoma", melanoma)] if melanoma else []
    return [
        Table(_header(report, names), rows, file, words)
        for file, words, names in parts
        if (rows := _rows(report, names))
    ]


def _header(report: dict, names: list[str]) -> list[str]:
    told = [METRICS.get(name, name) for name in names]
    return ["subgroup", "images", *["malignant"] * _has_malignant(report), *told]


def _rows(report: dict, names: list[str]) -> list[list]:
    return [
        [
            subgroup_name(attribute["title"], level["level"]),
            level["images"],
            *([level["malignant"]] if _has_malignant(report) else []),
            *(_estimate(level["metrics"].get(name)) for name in names),
        ]
        for attribute in report["attributes"]
        if len(attribute["levels"]) > 1  # one level alone is everybody, nearly
        for level in attribute["levels"]
    ]


def _estimate(entry: dict | None) -> Estimate:
    return Estimate(None) if entry is None else Estimate.of(entry)


def _left_out(report: dict) -> list[str]:
    lines = []
    for attribute in report["attributes"]:
        if attribute["reason"]:
            lines.append(f"{attribute['title']}: {attribute['reason']}.")
        if attribute["not_shown"]:
            few = ", ".join(f"{value} ({n})" for value, n in attribute["not_shown"].items())
            lines.append(f"{attribute['title']}: not shown alone, too few images: {few}.")
    return lines


def _absent(report: dict) -> str:
    if not report["not_recorded"]:
        return ""
    return (
        "Not recorded in this table, so nothing can be said of: "
        f"{', '.join(report['not_recorded']).lower()}."
    )


def lesion_section(found: dict) -> Section:
    """Image-level and lesion-level numbers side by side."""
    report = found["lesions"]
    if report["reason"]:
        return Section("Lesions", [Text(f"No lesion-level numbers: {report['reason']}.")])
    left_out = report["left_out"]
    words = (
        f"{report['n_images']:,} images show {report['n_lesions']:,} lesions, of which "
        f"{report['n_lesions_with_several_images']:,} have more than one image. One photo: each "
        "lesion counts alike and its photos share its weight. The columns after it pool the photos "
        "of a lesion into one answer; what that brings is told as a difference to one photo."
    )
    if left_out["lesions"]:
        words += (
            f" Left out: {counted(left_out['lesions'], 'lesion')} with contradictory labels "
            f"({counted(left_out['images'], 'image')})."
        )
    poolings = list(report["lesions"])
    first, *others = [f"{_POOLINGS.get(how, how)} of photos" for how in poolings]
    header = ["metric", "images", "one photo", first, f"difference, {first}"]
    rows, further = [], []
    for name in report["metrics"]:
        rows.append(
            [
                METRICS.get(name, name),
                Estimate.of(report["images"][name]),
                Estimate.of(report["one_photo"][name]),
                Estimate.of(report["lesions"][poolings[0]][name]),
                Estimate.of(report["difference"][poolings[0]][name]),
            ]
        )
        entries = (Estimate.of(report["lesions"][how][name]) for how in poolings[1:])
        further.append([METRICS.get(name, name), *entries])
    blocks = [Text(words), Table(header, rows, "lesions")]
    if others:
        blocks.append(
            Table(["metric", *others], further, "lesions_otherwise", "Other ways of pooling")
        )
    return Section("Lesions", blocks)
