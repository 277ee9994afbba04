"""CHECKLIST.md: TRIPOD+AI and CLAIM, filled in as far as the run knows.

An answer says what was done and where the report shows it. Everything else is marked as the
author's: a checklist that a program fills in alone would be a lie.
"""

from collections.abc import Mapping

from kderm.counting import counted
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report.checklist_items import CLAIM, TRIPOD_AI
from kderm.evaluation.report.decision_sections import TARGETS
from kderm.evaluation.report.document import Estimate
from kderm.evaluation.report.markdown import table
from kderm.evaluation.report.probabilities import scaling_words
from kderm.evaluation.report.provenance import (
    PICTURES,
    checkpoint_words,
    images_without_ids,
    resampled,
    sources_of,
    unruled,
)
from kderm.evaluation.report.wording import fact, ranged

_UNANSWERED = "**For the author**"
_ABOUT = ("age", "sex", "site")


def checklist(
    name: str,
    predictions: Predictions,
    found: dict,
    facts: Mapping[str, object],
    *,
    checkpoint: str | None,
    monitor: str | None,
) -> str:
    """The text of CHECKLIST.md; arguments as those of `model_card`."""
    known = answers(predictions, found, facts, checkpoint_words(checkpoint, monitor))
    parts = [
        f"# Reporting checklists of {name}",
        "Filled in by kderm from the tables of the run, as far as they know; the rest is the "
        f"author's and marked so ({_UNANSWERED}). Topics are in our own short "
        "words: the published checklists hold the exact wording.",
    ]
    for heading, items in (
        ("TRIPOD+AI (doi:10.1136/bmj-2023-078378)", TRIPOD_AI),
        ("CLAIM, 2024 update (doi:10.1148/ryai.240300)", CLAIM),
    ):
        rows = [[item, topic, known.get(key) or _UNANSWERED] for item, topic, key in items]
        answered = sum(bool(known.get(key)) for _, _, key in items)
        parts += [
            f"## {heading}",
            f"{answered} of {len(items)} items have an answer from the run.",
            table(["item", "topic", "answer"], rows),
        ]
    return "\n\n".join(parts) + "\n"


def answers(
    predictions: Predictions, found: dict, facts: Mapping[str, object], choice: str
) -> dict[str, str]:
    """Name of an answer -> its words; what the run does not know is left out or "".

    Args:
        predictions: out-of-fold predictions.
        found: the content of metrics.json.
        facts: those of the report.
        choice: how the checkpoints were chosen, in words.
    """
    said = {key: fact(value) for key, value in facts.items() if value is not None}
    known = _of_the_study(predictions, found, facts) | _of_the_numbers(predictions, found)
    known |= {
        "data": _told(said, "data set", "{}; where it comes from is the author's to tell."),
        "preparation": _told(said, "input", "Input: {}. Every step is in the config (report, "
                             "Facts)."),
        "model": _told(said, "backbone", "{}, convolutional network; hyperparameters in the config "
                       "(report, Facts). Internal validation by cross-validation."),
        "initialisation": _told(said, "weights", "Weights of the backbone: {}; the classifying "
                                "layer starts at random values, seeded by the config."),
        "subsets": _told(said, "input", "Of each image the member sees its centre ({}); no part is "
                         "picked by hand or by segmentation") + _told(said, "views", "; test-time "
                         "views: {}") + ". Which images the data set holds is the author's to "
                         "tell.",
        "training": "Augmentation, optimizer and schedule are in the config (report, Facts). "
        + _told(said, "epochs", "Epochs: {}. ") + _told(said, "loss", "Loss: {}. ")
        + _told(said, "device", "Device: {}. ") + _told(said, "training time", "Time: {}."),
        "imbalance": _told(said, "balancing", "Balancing: {}. ")
        + "What it does to the probabilities is in the report (Prior of the predictions).",
        "choice": choice.replace("**", ""),
        "predictions": "Out-of-fold: each image by the member that held it out"
        + _told(said, "views", ", averaged over the test-time views {}")
        + ". New images: the mean over all members.",
        "code": _told(said, "versions", "{}; all versions are in the report (Facts)."),
        "specification": "The members (model.keras), the config and their SHA-256 digests are in "
        "the run's folder and in the report (Facts).",
    }  # fmt: skip
    return known


def _of_the_study(
    predictions: Predictions, found: dict, facts: Mapping[str, object]
) -> dict[str, str]:
    """What the table says of images, people, folds and classes."""
    labels, table_ = predictions.labels, predictions.table
    recorded = [name for name in _ABOUT if name in table_ and table_[name].notna().any()]
    pictures = facts.get(PICTURES) or "how they were taken is the author's to tell"
    sources = sources_of(predictions)
    named = f" ({', '.join(sources)})" if sources else ""
    return {
        "objective": "Development with internal validation: no image from elsewhere is in these "
        "numbers.",
        "outcome": f"One of {len(labels)} diagnoses ({', '.join(labels.codes)}), as the data set "
        "labels them; malignant are "
        f"{', '.join(labels.malignant) or 'none of them'}. How the labels were made is the "
        "author's to tell.",
        "predictors": f"The pixels of one picture ({pictures}); metadata only where the config "
        "says so (report, Facts).",
        "size": f"{_counted(predictions, found)}; all that the data set has, no calculation. "
        "Classes are counted in the report (Data and leakage).",
        "missing": "Images without a file or a label are left out and counted when the data are "
        "read. " + _missing(predictions),
        "partitions": f"{len(found['folds'])} folds. {_disjoint(predictions, found)} Counts by "
        "fold are in the report (Data and leakage).",
        "characteristics": f"Recorded: {', '.join(recorded)} (report, Data and leakage)."
        if recorded
        else "",
        "difference": "Internal validation only: the folds of one collection of images"
        f"{named}, each evaluated by a member that trained on the others.",
        "disjoint": _disjoint(predictions, found),
        "internal": f"Cross-validation with {len(found['folds'])} folds: each image scored once, "
        "by the member that held it out.",
        "external": "None in this report.",
        "characteristics_by_fold": f"Recorded: {', '.join(recorded)}; sex, age and diagnoses by "
        "fold are in the report (Data and leakage)."
        if recorded
        else "",
    }


def _counted(predictions: Predictions, found: dict) -> str:
    """How many images, and of how many groups where anything is known to tie them."""
    images = f"{found['n_images']:,} images"
    if images_without_ids(predictions) == len(predictions):
        return images
    return f"{images} of {found['n_groups']:,} groups (lesions, patients, listed duplicates)"


def _disjoint(predictions: Predictions, found: dict) -> str:
    """What keeps folds apart, and whether it was seen to."""
    said = ""
    if images_without_ids(predictions) < len(predictions):
        said = (
            "Images of one lesion id, of one patient where patients are recorded, and listed "
            "duplicates are a group and belong in one fold"
        )
        clean = found["groups_in_several_folds"] == 0
        said += ", checked: no group is in two." if clean else ", but NOT all do: see the report."
    words = unruled(predictions)
    return f"{said} {f'Leakage cannot be ruled out: {words}' if words else ''}".strip()


def _missing(predictions: Predictions) -> str:
    table_ = predictions.table
    gone = {name: int(table_[name].isna().sum()) for name in _ABOUT if name in table_}
    told = ", ".join(f"{name} in {counted(n, 'image')}" for name, n in gone.items() if n)
    return f"Not recorded: {told}." if told else ""


def _of_the_numbers(predictions: Predictions, found: dict) -> dict[str, str]:
    """What was measured, and where the report shows it."""
    pooled, sources = found["pooled"], sources_of(predictions)
    by_source = " and by source (report, Discrimination and Data)"
    by = "By fold" + (by_source if len(sources) > 1 else " (report, Discrimination)")
    shown = [
        f"{words} {ranged(Estimate.of(pooled[key]))}"
        for key, words in (("macro_auc", "macro AUC"), ("balanced_accuracy", "balanced accuracy"))
        if pooled[key]["value"] is not None
    ]
    return {
        "performance": f"{'; '.join(shown)}. By class, by fold and by subgroup in the report.",
        "measures": "Discrimination, calibration, operating points, net benefit; "
        f"{100 * found['level']:.0f} % intervals by {found['resamples']:,} bootstrap resamples of "
        f"{resampled(found)}, trained models held fixed.",
        "uncertainty": f"{100 * found['level']:.0f} % intervals by {found['resamples']:,} "
        f"bootstrap resamples of {resampled(found)}: percentiles, but for shares of all or none "
        "(exact), calibration errors and recalibration lines (kderm's docs/metrics.md). Training "
        "is not repeated. Significance of a difference between runs: `compare`.",
        "robustness": f"{by}, and by subgroup with image quality where it is measured (report, "
        "Subgroups). Corrupted images were not tried.",
        "accuracy": _accuracy(found),
        "details": "The config, versions and digests are in the report (Facts).",
        "availability": "The members' digests are in the report (Facts); where software, members "
        "and data can be had is the author's to tell.",
        "clusters": f"{by}; how much another training would differ is seen from the spread over "
        "folds only.",
        "recalibration": _recalibration(found),
        "fairness": _fairness(found["subgroups"]),
        "output": "A probability for each class; thresholds chosen on out-of-fold predictions by "
        "stated rules and frozen (report, Operating points).",
        "failures": "The surest mistakes of every class and the most confused pairs (report, "
        "Errors and Discrimination).",
        "explainability": "Class-activation maps by the members that held an image out: "
        "`explain RUN`.",
        "limitations": f"{_sources_told(sources)}, internal validation, classes closed: see the "
        "model card (Limits). Others are the author's to tell.",
        "poor_input": "Unreadable files are named and left out; conformal sets and disagreement "
        "flag unsure answers (report, Uncertainty). No image is refused for its quality.",
    }


def _sources_told(sources: list[str]) -> str:
    if not sources:
        return "The sources of the images are not recorded"
    named = ", ".join(sources)
    return f"{len(sources)} sources of images ({named})" if sources[1:] else f"One source ({named})"


def _recalibration(found: dict) -> str:
    scaling, kind = found["calibration_report"]["scaling"], found["scaling"]
    if scaling is None:
        return ""
    before, after = scaling["raw"]["log_loss"], scaling[kind]["log_loss"]
    return (
        f"{scaling_words(scaling[kind]['fitted'], found['classes']).replace('**', '')} Log-loss "
        f"{before:.3f} before, {after:.3f} after, by the other folds' fits."
    )


def _accuracy(found: dict) -> str:
    """Sensitivity and specificity at the balanced threshold of each target."""
    told = []
    for point in found["operating_points"]["points"]:
        if point["rule"] == "youden":
            honest = point.get("cross_fitted") or point
            rates = (f"{name} {ranged(honest[name])}" for name in ("sensitivity", "specificity"))
            target = TARGETS.get(point["target"], point["target"])
            told.append(f"{target} at the balanced threshold: {', '.join(rates)}")
    return f"{'; '.join(told)}. Other thresholds: report, Operating points." if told else ""


def _fairness(report: dict) -> str:
    shown = [row["title"].lower() for row in report["attributes"] if len(row["levels"]) > 1]
    absent = report["not_recorded"]
    measured = f"Measured by {', '.join(shown)} (report, Subgroups)." if shown else ""
    missing = f" Not recorded: {', '.join(absent).lower()}." if absent else ""
    return f"{measured}{missing} Nothing was done in training to narrow gaps.".strip()


def _told(said: Mapping[str, str], key: str, words: str) -> str:
    return words.format(said[key]) if key in said else ""
