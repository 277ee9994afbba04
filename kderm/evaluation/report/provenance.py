"""Where a report's numbers come from, and what makes them weaker than they look, in plain words."""

from collections.abc import Mapping

from kderm.counting import counted
from kderm.evaluation.attributes import UNKNOWN
from kderm.evaluation.measure import FEW_POSITIVES
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report.document import Bullets, Note

FOLD_COLUMNS = {
    "macro_auc": "macro AUC",
    "mel_auc": "mel AUC",
    "malignant_auc": "malignant AUC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "accuracy": "accuracy",
}
CHOSEN_BY = FOLD_COLUMNS | {"loss": "loss"}
SYNTHETIC = "synthetic data"
WARNINGS = "warnings"
# How the images were taken, as far as the kind of data set tells.
PICTURES = "pictures"
DERMOSCOPIC = "dermoscopic pictures"
# Of images that an ensemble predicted: how many its members knew ("unknown" if nobody can tell),
# and what was found and left out before, the overlap with the run's own images first of all.
SEEN = "images that the members were trained on"
BEFORE = "before prediction"


def warning_notes(predictions: Predictions, found: dict, facts: Mapping[str, object]) -> list[Note]:
    """One note for each thing that makes a number weaker than it looks."""
    bad, said = [], []
    if facts.get(SYNTHETIC):
        bad.append(
            "**Synthetic data.** These images were drawn by a program. The numbers show that the "
            "software works; they say nothing about skin lesions."
        )
    said += [f"**Warning:** {sentence}" for sentence in facts.get(WARNINGS, ())]
    if found["groups_in_several_folds"]:
        bad.append(
            f"**Leak.** {counted(found['groups_in_several_folds'], 'group')} with images in more "
            "than one fold, so models were scored on lesions they had trained on. The numbers "
            "below are too good."
        )
    said += [f"**Leakage cannot be ruled out.** {words}"] if (words := unruled(predictions)) else []
    if found["absent_classes"]:
        said.append(
            f"**No image** of {', '.join(found['absent_classes'])}: these classes have no AUC, "
            "sensitivity or F1, and the macro means leave them out."
        )
    if found["few_positives"]:
        counts = (f"{code} ({found['per_class'][code]['n']})" for code in found["few_positives"])
        said.append(
            f"**Fewer than {FEW_POSITIVES} images** of {', '.join(counts)}: what is said of these "
            "classes, and the macro means that contain them, hangs on single images."
        )
    if found["n_groups"] < 2:
        said.append("**One group only**: nothing can be resampled, so there are no intervals.")
    if found["undecided"]:
        said.append(
            f"**{counted(found['undecided'], 'image')} without a decision**: several classes share "
            "the top probability. That counts as wrong and is in no column of the confusion matrix."
        )
    return [*(Note("bad", words) for words in bad), *(Note("warn", words) for words in said)]


def images_without_ids(predictions: Predictions) -> int:
    """Images that nothing ties to others: no lesion id, no patient id, alone in their group."""
    table = predictions.table
    tied = table["group_id"].duplicated(keep=False)
    for column in ("lesion_id", "patient_id"):
        if column in table:
            tied |= table[column].notna() & (table[column].astype(str).str.strip() != "")
    return int((~tied).sum())


def sources_of(predictions: Predictions) -> list[str]:
    """The recorded sources of the images."""
    table = predictions.table
    names = table["source"].dropna().astype(str).unique() if "source" in table else []
    return sorted(name for name in names if name.strip().lower() not in UNKNOWN)


def unruled(predictions: Predictions) -> str:
    """Why images of one lesion may lie in several folds; "" where ids keep them together."""
    alone = images_without_ids(predictions)
    if not predictions.has_folds or not alone:
        return ""
    if alone == len(predictions):
        which = "No image has a"
    else:
        which = f"{counted(alone, 'image')} {'has' if alone == 1 else 'have'} no"
    return (
        f"{which} lesion or patient id, so images of one lesion may lie in several folds, and "
        "models may have been scored on lesions that they had trained on."
    )


def resampled(found: dict) -> str:
    """What the bootstrap draws."""
    alone = found["n_groups"] == found["n_images"]
    return "images (each is its own group)" if alone else "whole groups, not images"


def on_other_images(predictions: Predictions, facts: Mapping[str, object]) -> bool:
    """Whether a report is known to be of other images than those that members were trained on."""
    seen = facts.get(SEEN)
    return not predictions.has_folds and isinstance(seen, int) and seen == 0


def _newness(predictions: Predictions, facts: Mapping[str, object]) -> str:
    """Whether images without folds are new to the models that scored them."""
    seen = facts.get(SEEN)
    if on_other_images(predictions, facts):
        said = (
            "**Other images than the run's own.** The members were trained on none of these, by id"
        )
    elif isinstance(seen, int):
        said = (
            f"**Not a test.** {seen:,} of the predicted images are among those that members were "
            "trained on, by id"
        )
    else:
        said = "Whether these images are new to the models that scored them is not known here"
    before = facts.get(BEFORE)
    return f"{said}. Before prediction: {before}." if before else f"{said}."


def provenance(
    predictions: Predictions,
    found: dict,
    checkpoint: str | None,
    monitor: str | None,
    facts: Mapping[str, object],
) -> Bullets:
    """Where the numbers come from, in plain words."""
    images, groups = found["n_images"], found["n_groups"]
    lines = []
    grouped = images_without_ids(predictions) < images
    if predictions.has_folds:
        of_groups = f" of {groups:,} groups** (lesions, patients, listed duplicates)"
        lines.append(
            f"**{images:,} images{of_groups if grouped else '**'}, each scored by a model that did "
            f"not train on it. Folds: {len(found['folds'])}."
        )
        lines.append(lesion_ids(predictions))
        if not grouped:
            lines.append("Folds were made image by image.")
        elif not found["groups_in_several_folds"]:
            lines.append("Every group is whole within one fold.")
        lines.append(checkpoint_words(checkpoint, monitor))
    else:
        of_groups = f" of {groups:,} groups" if grouped else ""
        lines.append(_newness(predictions, facts))
        lines.append(f"**{images:,} labelled images{of_groups}**, without folds.")
        lines.append(lesion_ids(predictions))
    percent = f"{found['level']:.0%}".replace("%", " %")
    if groups > 1:
        lines.append(
            f"Intervals are {percent} percentile intervals from {found['resamples']:,} bootstrap "
            f"resamples of {resampled(found)}, but for shares of all or none, calibration errors "
            "and recalibration lines (docs/metrics.md says how those are made). They hold the "
            "trained models fixed: how much another training would differ is not in them."
        )
    return Bullets([line for line in lines if line])


def lesion_ids(predictions: Predictions) -> str:
    """Why there are not as many groups as lesion ids; "" where there are, or where ids are none."""
    table = predictions.table
    if "lesion_id" not in table or table["lesion_id"].isna().all():
        return ""
    lesions, groups = table["lesion_id"].nunique(), table["group_id"].nunique()
    known = table.dropna(subset=["lesion_id"])
    ids = known.groupby("group_id")["lesion_id"].nunique()
    joined, several = int((ids > 1).sum()), int(ids[ids > 1].sum())
    without = int(table["lesion_id"].isna().sum())
    if lesions == groups and not joined and not without:
        return ""
    said = f"By their ids these are {lesions:,} lesions, in {groups:,} groups:"
    patients = "patient_id" in table and table["patient_id"].notna().any()
    why = "one patient's lesions, or duplicates" if patients else "duplicates"
    reasons = []
    if joined:
        reasons.append(
            f"{several:,} of the ids are joined in {counted(joined, 'group')} ({why} listed under "
            "several ids), so that these are never on both sides of a split"
        )
    if without:
        reasons.append(f"{counted(without, 'image')} without a lesion id, and grouped without one")
    if not reasons:
        reasons.append("images of one id are in several groups")
    return f"{said} {'; '.join(reasons)}."


def checkpoint_words(checkpoint: str | None, monitor: str | None) -> str:
    """How the checkpoint was chosen, and whether that flatters the numbers."""
    if checkpoint == "best":
        name = CHOSEN_BY.get(monitor, "its metrics")
        return (
            f"**Checkpoint choice: optimistic.** Each fold's checkpoint was chosen by {name} on "
            "the same held-out fold that is scored here."
        )
    if checkpoint == "stopped":
        return (
            "**Checkpoint choice: optimistic.** Each fold kept its last epoch, but early stopping "
            f"by {CHOSEN_BY.get(monitor, 'its metrics')} on the held-out fold that is scored "
            "here decided which epoch that was."
        )
    if checkpoint == "last":
        return (
            "**Checkpoint choice: clean.** Each fold kept its last epoch; the choice did not see "
            "the held-out fold that is scored here."
        )
    return "How each fold's checkpoint was chosen is not known here."
