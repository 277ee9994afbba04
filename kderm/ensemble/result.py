"""What a prediction leaves behind: predictions.csv, the report where labels are known, a summary.

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
from kderm.atomic import write_csv
from kderm.data.folds import group_ids
from kderm.data.images import UnreadableImage, read_image
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.inputs import Inputs
from kderm.ensemble.place import PREDICTIONS, record_sources, told_clearly
from kderm.ensemble.result_table import as_text, result_table
from kderm.ensemble.unlike import expected_warnings
from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.report.reproduction import Background
from kderm.evaluation.report.write import remove_report, write_report


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
    labelled: int
    seen: int | None
    metrics: dict | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        counts = ", ".join(f"{code} {count}" for code, count in self.predicted.items() if count)
        notes = [
            f"{count} {what}"
            for count, what in (
                (self.unreadable, "unreadable (see the column 'error')"),
                (self.skipped, "other file(s) skipped"),
                (self.repeated, "repeated mention(s) ignored"),
                (self.resumed, "already done by an interrupted call"),
            )
            if count
        ]
        answered = f"{self.images - self.unreadable} of {self.images} image(s) predicted"
        lines = [f"{answered}: {counts}" if counts else answered]
        lines += ["; ".join(notes)] if notes else []
        if self.flagged is not None:
            lines.append(f"flagged as malignant: {self.flagged}")
        if self.metrics is not None:
            pooled = self.metrics["pooled"]
            names = ("macro_auc", "balanced_accuracy", "macro_f1")
            known = [
                f"{name} {pooled[name]['value']:.3f}"
                for name in names
                if name in pooled and pooled[name]["value"] is not None
            ]
            lines.append(f"on {self.labelled} labelled image(s): {', '.join(known)}")
        lines += self.notes
        lines += [f"WARNING: {warning}" for warning in self.warnings]
        lines.append(f"Predictions: {self.predictions}")
        lines += [f"Report: {self.report}"] if self.report else []
        return "\n".join(lines)


def write_result(
    bundle: Bundle,
    inputs: Inputs,
    answers: dict[str, np.ndarray],
    directory: Path,
    *,
    views: str,
    combine: str,
    resumed: int,
) -> Summary:
    """Calibrate, write predictions.csv and, where labels are known, the report; sum up.

    Args:
        bundle: the ensemble that answered.
        inputs: the images, in the order of the answers.
        answers: "probabilities" (n, k) as the members gave them, "fold_sd", "malignant_sd",
            "mutual_information", "disagreement", "unlike" (n,), NaN where unreadable, and "error"
            str (n,).
        directory: where to write.
        views: test-time views used.
        combine: way of combining used.
        resumed: images that an interrupted call had predicted.
    """
    table = result_table(bundle, inputs, answers)
    readable = (table["error"] == "").to_numpy()
    seen = count_seen(bundle, inputs, readable)
    warnings = (
        *inputs.warnings,
        *synthetic_warnings(bundle),
        *metadata_warnings(bundle, inputs),
        *unlike_warnings(table),
        *seen_warnings(seen, int(readable.sum()), bundle),
        *settings_warnings(bundle, views, combine),
    )
    scored = readable & (inputs.table["label"] != "").to_numpy()
    metrics = None
    with told_clearly(directory):
        _write_table(directory, inputs, table)
        if scored.any():
            facts = _facts(bundle, inputs, table, scored, views, combine, seen)
            facts["warnings"] = warnings
            metrics = _report(bundle, inputs, table, scored, directory, facts, seen)
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
        labelled=int(scored.sum()),
        seen=seen,
        metrics=metrics,
        notes=inputs.notes,
        warnings=warnings,
    )


def _write_table(directory: Path, inputs: Inputs, table: pd.DataFrame) -> None:
    """Replace predictions.csv, and remove a report that would speak of other images than it."""
    path = directory / PREDICTIONS
    if path.exists():
        remove_report(directory)
    record_sources(directory, inputs)
    write_csv(path, as_text(table))


def count_seen(bundle: Bundle, inputs: Inputs, readable: np.ndarray) -> int | None:
    """Readable images whose id or file name is in the run's out-of-fold table; None without it."""
    trained_on = bundle.trained_on()
    if trained_on is None:
        return None
    rows = inputs.table[readable]
    return sum(
        image_id in trained_on or Path(path).stem in trained_on
        for image_id, path in zip(rows["image_id"], rows["path"], strict=True)
    )


def synthetic_warnings(bundle: Bundle) -> tuple[str, ...]:
    """What to say of an ensemble that never saw a photograph."""
    if not bundle.facts.synthetic:
        return ()
    return (
        "SYNTHETIC: the ensemble learnt from images drawn by a program; its answers say nothing "
        "medical.",
    )


def metadata_warnings(bundle: Bundle, inputs: Inputs) -> tuple[str, ...]:
    """What a reader must know about images without the metadata that the members look at."""
    spec = bundle.metadata
    if spec is None:
        return ()
    known = spec.known(spec.encode(inputs.table))  # bool (n, columns)
    none = int((~known.any(axis=1)).sum())
    part = int((~known.all(axis=1)).sum()) - none
    if not none and not part:
        return ()
    asked = ", ".join(spec.names)
    return (
        f"the members look at {asked} beside the image; {none} of {len(known)} image(s) had none "
        f"of them and {part} only a part. A CSV with these columns gives them.",
    )


def unlike_warnings(table: pd.DataFrame) -> tuple[str, ...]:
    """What a reader must know about images such as the members never saw."""
    count = int((table["unlike_training"] == 1).sum())
    answered = int((table["error"] == "").sum())
    if count <= expected_warnings(answered):
        return ()
    return (
        f"{count} of {answered} image(s) look unlike what the ensemble was trained on (column "
        "'unlike_training'; about 1 % of images like those of training do too): what is said about "
        "them is a guess, however sure it looks.",
    )


def seen_warnings(seen: int | None, images: int, bundle: Bundle) -> tuple[str, ...]:
    """What a reader must know about images that the members were trained on."""
    members = len(bundle.facts.members)
    if seen is None:
        return (
            "the run's out-of-fold table is not beside the bundle, so it is unknown whether the "
            "ensemble was trained on these images.",
        )
    if not seen:
        return ()
    share = "ALL" if seen == images else f"{seen} of"
    return (
        f"{share} {images} image(s) have the id of an image of the run, on which {members - 1} of "
        f"{members} members were trained: what is said about them is memory, not a test. The "
        f"run's out-of-fold table is the honest word on them.",
    )


def settings_warnings(bundle: Bundle, views: str, combine: str) -> tuple[str, ...]:
    """What a reader must know about answers of another kind than those that the run measured."""
    own = bundle.facts.views, bundle.facts.combine
    if (views, combine) == own:
        return ()
    of_run = "the run's out-of-fold report speaks of views {} and combine {}".format(*own)
    if bundle.threshold is not None:
        of_run += ", and its calibration and malignant threshold were fitted with them"
    return (
        f"these answers were made with views {views} and combine {combine}; {of_run}. How well it "
        "holds here is not known.",
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
    views: str,
    combine: str,
    seen: int | None,
) -> dict[str, object]:
    """The facts table of the report."""
    facts: dict[str, object] = {
        "ensemble": f"{bundle.facts.run}, {len(bundle.facts.members)} members",
        "bundle digest": bundle.digest[:12],
        "views": views,
        "combine": combine,
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
