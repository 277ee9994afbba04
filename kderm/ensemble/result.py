"""What a prediction leaves behind: predictions.csv, lesions.csv, the report, a summary.

The last step of `ensemble-predict`. Sees arrays and tables, no model, and images only to show the
worst mistakes.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import kderm
from kderm.atomic import write_csv, write_json
from kderm.counting import counted
from kderm.data.folds import group_ids
from kderm.data.images import UnreadableImage, read_image
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.cautions import all_warnings, count_seen
from kderm.ensemble.inputs import Inputs
from kderm.ensemble.lesion_table import LesionTable, lesion_table
from kderm.ensemble.place import PREDICTIONS, record_sources, told_clearly
from kderm.ensemble.prevalence import Prevalence
from kderm.ensemble.result_table import as_text, calibrated_answer, result_table
from kderm.ensemble.settings import Settings
from kderm.evaluation.predictions import make_predictions

LESIONS = "lesions.csv"
# What the answers were corrected to; absent where they were not.
PREVALENCE = "prevalence.json"


@dataclass(frozen=True)
class Summary:
    """What one call of `ensemble_predict` did; `str()` of it is for people.

    Attributes:
        predictions: the table that was written.
        report: the report, or None where no label is known.
        images: rows of the table.
        unreadable: rows without an answer; their `error` says why.
        skipped: files passed over because they are no images.
        repeated: further mentions of a file, predicted once.
        resumed: images whose answers an interrupted call had left.
        predicted: images by predicted class, in label-space order.
        flagged: images at or above the malignant threshold; None without a threshold.
        lesions: what became of the images' lesions; None where no lesion is named.
        prevalence: what the answers were corrected to, or None.
        early_exit: what an early exit saved, in words; "" where every image got every pass.
        labelled: images in the report.
        seen: images whose ids are in the run's out-of-fold table; None if that table is gone.
        metrics: content of metrics.json, or None.
        notes: what was done about the images before they were predicted; see `Inputs`.
        warnings: what makes the answers worth less than they look.
    """

    predictions: Path
    report: Path | None
    images: int
    unreadable: int
    skipped: int
    repeated: int
    resumed: int
    predicted: dict[str, int]
    flagged: int | None
    lesions: LesionTable | None
    prevalence: Prevalence | None
    early_exit: str
    labelled: int
    seen: int | None
    metrics: dict | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        counts = ", ".join(f"{code} {count:,}" for code, count in self.predicted.items() if count)
        notes = [
            what
            for count, what in (
                (self.unreadable, f"{self.unreadable:,} unreadable (see the column 'error')"),
                (self.skipped, f"{counted(self.skipped, 'other file')} skipped"),
                (self.repeated, f"{counted(self.repeated, 'repeated mention')} ignored"),
                (self.resumed, f"{self.resumed:,} already done by an interrupted call"),
            )
            if count
        ]
        answered = f"{self.images - self.unreadable:,} of {counted(self.images, 'image')} predicted"
        lines = [f"{answered}: {counts}" if counts else answered]
        lines += ["; ".join(notes)] if notes else []
        if self.flagged is not None:
            lines.append(f"flagged as malignant: {self.flagged:,}")
        lines += [self.early_exit] if self.early_exit else []
        lines += [str(self.lesions)] if self.lesions else []
        lines += [correction_note(self.prevalence)] if self.prevalence else []
        if self.metrics is not None:
            pooled = self.metrics["pooled"]
            names = ("macro_auc", "balanced_accuracy", "macro_f1")
            known = [
                f"{name} {pooled[name]['value']:.3f}"
                for name in names
                if name in pooled and pooled[name]["value"] is not None
            ]
            which = " (answers before the correction)" if self.prevalence else ""
            lines.append(
                f"on {counted(self.labelled, 'labelled image')}{which}: {', '.join(known)}"
            )
        lines += self.notes
        lines += [f"WARNING: {warning}" for warning in self.warnings]
        lines.append(f"Predictions: {self.predictions}")
        lines += [f"Lesions: {self.predictions.parent / LESIONS}"] if self.lesions else []
        lines += [f"Report: {self.report}"] if self.report else []
        return "\n".join(lines)


def passes_words(passes: np.ndarray, settings: Settings) -> str:
    """How many forward passes an image had, for people.

    Args:
        passes: float (n,), NaN without an answer.
        settings: how the answers were made.
    """
    known = passes[np.isfinite(passes)]
    return passes_told(known.mean(), known.max(), settings) if len(known) else "none"


def passes_told(mean: float, most: float, settings: Settings) -> str:
    """The same of `mean` passes an image that has an answer, and `most`; 0 where none has."""
    if not most:
        return "none"
    if not settings.early_exit:
        return f"{most:.0f}"
    return (
        f"{mean:.1f} on average, {most:.0f} at most (early exit at a standard error of "
        f"{settings.early_exit:g})"
    )


def correction_note(prevalence: Prevalence) -> str:
    """What a reader of corrected answers must know."""
    return (
        f"corrected to a prevalence of {prevalence.words}, the other classes in the proportions of "
        "the run's images; the malignant flag, operating points and sets are those of the answers "
        "before: the correction leaves them as they are, and whether the run's sensitivity, "
        "specificity and coverage hold here only labelled images show"
    )


def write_result(
    bundle: Bundle,
    inputs: Inputs,
    answers: dict[str, np.ndarray],
    directory: Path,
    *,
    settings: Settings,
    resumed: int,
    prevalence: Prevalence | None = None,
) -> Summary:
    """Calibrate, write predictions.csv, lesions.csv where lesions are named, the report; sum up.

    Args:
        bundle: the ensemble that answered.
        inputs: the images, in the order of the answers.
        answers: what `Ensemble.answer` gives, of all n images.
        directory: where to write.
        settings: how the answers were made.
        resumed: images that an interrupted call had predicted.
        prevalence: what the calibrated answers are corrected to; None for no correction. The report
            is of the answers before: its thresholds and sets were frozen on their scale.
    """
    before = calibrated_answer(bundle, answers["probabilities"])
    table = result_table(bundle, inputs, answers, prevalence)
    lesions = lesion_table(bundle, inputs, table, before)
    readable = (table["error"] == "").to_numpy()
    seen = count_seen(bundle.trained_on(), inputs, readable)
    warnings = all_warnings(bundle, inputs, table, settings, seen)
    scored = readable & (inputs.table["label"] != "").to_numpy()
    metrics = None
    with told_clearly(directory):
        _write_tables(directory, inputs, table, lesions, prevalence)
        if scored.any():
            facts = _facts(bundle, inputs, table, scored, settings, seen)
            facts["warnings"] = [*warnings, *_not_corrected(prevalence)]
            uncorrected = dict(zip(bundle.labels.columns, before.T, strict=True))
            rows = table.assign(**uncorrected)
            metrics = _report(bundle, inputs, rows, scored, directory, facts, seen)
    counts = table["predicted"].value_counts()
    return Summary(
        predictions=directory / PREDICTIONS,
        report=directory / "report.html" if scored.any() else None,
        images=len(table),
        unreadable=int((~readable).sum()),
        skipped=inputs.skipped,
        repeated=inputs.repeated,
        resumed=resumed,
        predicted={code: int(counts.get(code, 0)) for code in bundle.labels.codes},
        flagged=None if bundle.threshold is None else int((table["malignant"] == 1).sum()),
        lesions=lesions,
        prevalence=prevalence,
        early_exit=_early_exit_note(table, settings),
        labelled=int(scored.sum()),
        seen=seen,
        metrics=metrics,
        notes=inputs.notes,
        warnings=warnings,
    )


def _early_exit_note(table: pd.DataFrame, settings: Settings) -> str:
    passes = table["passes"].to_numpy()
    return (
        f"forward passes an image: {passes_words(passes, settings)}" if settings.early_exit else ""
    )


def _write_tables(
    directory: Path,
    inputs: Inputs,
    table: pd.DataFrame,
    lesions: LesionTable | None,
    prevalence: Prevalence | None,
) -> None:
    """Replace predictions.csv, and remove what would speak of other answers than those in it."""
    clear_result(directory, inputs, prevalence)
    if lesions is not None:
        write_csv(directory / LESIONS, as_text(lesions.table))
    write_csv(directory / PREDICTIONS, table, render=as_text)


def clear_result(directory: Path, inputs: Inputs, prevalence: Prevalence | None) -> None:
    """Remove what speaks of the answers of before; note where the new ones come from."""
    if (directory / PREDICTIONS).exists():
        from kderm.evaluation.report.write import remove_report

        remove_report(directory)
    for name in (LESIONS, PREVALENCE):
        (directory / name).unlink(missing_ok=True)
    record_sources(directory, inputs)
    if prevalence is not None:
        write_json(directory / PREVALENCE, prevalence.to_dict())


def _not_corrected(prevalence: Prevalence | None) -> tuple[str, ...]:
    """What a reader of the report must know where predictions.csv is corrected."""
    if prevalence is None:
        return ()
    return (
        "this report is of the answers before their correction to a prevalence of "
        f"{prevalence.words}: the thresholds and sets are frozen on that scale, and the labelled "
        "images have shares of their own. predictions.csv holds the corrected ones.",
    )


def _report(
    bundle: Bundle,
    inputs: Inputs,
    table: pd.DataFrame,
    scored: np.ndarray,
    directory: Path,
    facts: dict[str, object],
    seen: int | None,
) -> dict:
    """Write the report of the labelled images, at the thresholds that the bundle froze."""
    # Not at the top: a prediction without labels should not wait for the report's imports.
    from kderm.evaluation.report.reproduction import Background
    from kderm.evaluation.report.write import write_report

    known = inputs.table[scored].reset_index(drop=True)
    extra = known.drop(columns=["path", "problem", "image_id", "label"]).replace("", np.nan)
    extra["age"] = pd.to_numeric(extra["age"], errors="coerce")
    rows = table[scored].reset_index(drop=True)
    told = ["image_id", "label", *bundle.labels.columns, "mutual_information", "disagreement"]
    rows = pd.concat([rows[told], extra], axis=1)
    rows["group_id"] = group_ids(rows)
    title = f"Predictions of the ensemble {bundle.facts.run}"
    if seen:
        title += " (NOT A TEST: training images among them)"
    return write_report(
        make_predictions(rows, bundle.labels),
        directory,
        title=title,
        histories=None,
        facts=facts,
        checkpoint=None,
        monitor=None,
        background=Background(
            digests={"the ensemble": bundle.digest}, pictures=_picture_reader(bundle, inputs)
        ),
        frozen=bundle.operating_points or None,
        frozen_sets=bundle.conformal,
    )


def _picture_reader(
    bundle: Bundle, inputs: Inputs
) -> Callable[[Sequence[str]], dict[str, np.ndarray]]:
    """Brings predicted images by id, uint8 (h, w, 3) each, as many as are still readable."""
    paths = dict(zip(inputs.table["image_id"], inputs.table["path"], strict=True))

    def read(ids: Sequence[str]) -> dict[str, np.ndarray]:
        found = {}
        for image_id in ids:
            with contextlib.suppress(UnreadableImage):  # such a picture costs itself alone
                found[image_id] = read_image(paths[image_id], bundle.spec)
        return found

    return read


def _facts(
    bundle: Bundle,
    inputs: Inputs,
    table: pd.DataFrame,
    scored: np.ndarray,
    settings: Settings,
    seen: int | None,
) -> dict[str, object]:
    """The facts table of the report."""
    facts: dict[str, object] = {
        "ensemble": f"{bundle.facts.run}, {len(bundle.facts.members)} members",
        "bundle digest": bundle.digest[:12],
        "views": settings.views,
        "combine": settings.combine,
        "engine": f"{settings.engine}, {settings.precision}",
        "forward passes an image": passes_words(table["passes"].to_numpy(), settings),
        "images": len(table),
        "unreadable images": int((table["error"] != "").sum()),
        "images without a label, left out": int((inputs.table["label"] == "").sum()),
        "images that the members were trained on": "unknown" if seen is None else seen,
        "kderm": kderm.__version__,
    }
    if bundle.calibration is not None:
        facts["calibration, fitted on out-of-fold predictions"] = bundle.calibration.words
    if inputs.notes:
        facts["before prediction"] = "; ".join(inputs.notes)
    if bundle.threshold is not None:
        rows = table[scored]
        positive = rows["label"].isin(bundle.labels.malignant).to_numpy()
        flagged = (rows["malignant"] == 1).to_numpy()
        facts["malignant threshold, frozen on out-of-fold predictions"] = bundle.threshold
        if positive.any():
            facts["sensitivity at the frozen threshold"] = float(flagged[positive].mean())
        if not positive.all():
            facts["specificity at the frozen threshold"] = float((~flagged[~positive]).mean())
    return facts
