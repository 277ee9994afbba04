"""Parts of the population, and whole lesions instead of single pictures."""

from functools import partial

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
_NOTED = 12
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
    rows = _rows(report)
    if not rows:
        return Section("Subgroups", [Text(_absent(report))])
    return Section(
        "Subgroups",
        [
            Text(_words(report)),
            *_notable(report),
            *_forest(report),
            Table(_header(report), rows, "subgroups", "All numbers of all subgroups"),
            Bullets([line for line in [*_left_out(report), _absent(report)] if line]),
        ],
    )


def _words(report: dict) -> str:
    gaps = report["gaps"]
    return (
        "A gap is the subgroup less all other images with a recorded value. Of "
        f"{gaps['intervals']} gaps with an interval {gaps['excluding_zero']} leave out zero, where "
        f"{gaps['by_chance']:.0f} would by chance alone. Numbers that would stand on fewer than "
        f"{report['least_positives']} images of a class are left out. Sensitivity and specificity "
        "are those of one threshold for everybody: the operating point for 90 % sensitivity, or "
        "Youden's where there is none."
    )


def _notable(report: dict) -> list[Block]:
    rows = [
        [
            gap["attribute"],
            gap["level"],
            METRICS.get(gap["metric"], gap["metric"]),
            Estimate(gap["gap"], gap["low"], gap["high"]),
        ]
        for gap in report["notable"]
    ]
    if not rows:
        return []
    named = f"Gaps whose interval leaves out zero, worst first ({len(rows)})"
    if len(rows) > _NOTED:
        named += f"; the first {_NOTED}"
    header = ["by", "subgroup", "metric", "gap to the rest"]
    return [Heading(named), Table(header, rows[:_NOTED])]


def _forest(report: dict) -> list[Block]:
    metric = next((name for name in ("malignant_auc", "macro_auc") if _shown(report, name)), None)
    if metric is None:
        return []
    return [
        Heading("By subgroup"),
        Figure(
            "subgroups",
            f"{METRICS[metric]} by subgroup with 95 % intervals; grey: all other images",
            partial(
                subgroup_figures.plot_subgroups, report=report, metric=metric, name=METRICS[metric]
            ),
            720,
        ),
    ]


def _shown(report: dict, metric: str) -> bool:
    return any(
        level["metrics"].get(metric, {}).get("low") is not None
        for attribute in report["attributes"]
        for level in attribute["levels"]
    )


def _header(report: dict) -> list[str]:
    names = [METRICS.get(name, name) for name in report["metrics"]]
    return ["by", "subgroup", "images", *["malignant"] * _has_malignant(report), *names]


def _has_malignant(report: dict) -> bool:
    return any(
        level["malignant"] is not None
        for attribute in report["attributes"]
        for level in attribute["levels"]
    )


def _rows(report: dict) -> list[list]:
    return [
        [
            attribute["title"],
            level["level"],
            level["images"],
            *([level["malignant"]] if _has_malignant(report) else []),
            *(_estimate(level["metrics"].get(name)) for name in report["metrics"]),
        ]
        for attribute in report["attributes"]
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
        f"Not recorded in this table, so nothing can be said: {', '.join(report['not_recorded'])}."
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
            f" {left_out['lesions']} lesion(s) with contradictory labels ({left_out['images']} "
            "images) are left out."
        )
    poolings = list(report["lesions"])
    first, *others = [f"{_POOLINGS.get(how, how)} of photos" for how in poolings]
    header = ["metric", "images", "one photo", first, f"difference, {first}", *others]
    rows = [
        [
            METRICS.get(name, name),
            Estimate.of(report["images"][name]),
            Estimate.of(report["one_photo"][name]),
            Estimate.of(report["lesions"][poolings[0]][name]),
            Estimate.of(report["difference"][poolings[0]][name]),
            *(Estimate.of(report["lesions"][how][name]) for how in poolings[1:]),
        ]
        for name in report["metrics"]
    ]
    return Section("Lesions", [Text(words), Table(header, rows, "lesions")])
