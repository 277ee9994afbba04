"""Pseudo-labels: what a finished run's ensemble is sure of among images without labels.

The teacher's half of `cv --unlabelled`: predicts, keeps the sure answers, and writes the table that
a student run trains on beside its own images. Trains nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kderm import console
from kderm.atomic import write_csv
from kderm.data.datasets.columns import FACTS
from kderm.ensemble.bundle import Bundle, read_bundle
from kderm.ensemble.comparison import compare
from kderm.ensemble.inputs import Inputs, find_inputs
from kderm.ensemble.predictor import ensemble_predict
from kderm.errors import UserError
from kderm.evaluation.predictions import Predictions, read_predictions
from kderm.labels import LabelSpace
from kderm.run_dir import RunDir

# From which probability an answer is sure, unless the user says otherwise.
THRESHOLD = 0.95
# What a reader of a student's report must know.
CAUTION = (
    "The teacher's members have together seen the labels of every fold, so where the unlabelled "
    "images resemble held-out ones, the student's out-of-fold scores are a little too good. "
    "Compare teacher and student on images from elsewhere (evaluate --external)."
)


@dataclass(frozen=True)
class PseudoLabels:
    """What a teacher is sure of; `str()` of it is for people.

    Attributes:
        table: a row for each sure image, sorted by image id: image_id, path (absolute), label (the
            predicted code), probability (of it), p_<code> in label-space order, and lesion_id,
            patient_id, age, sex, site and source where the input told them ("" elsewhere).
        by_class: a row a class (index: the code): predicted (unlabelled images whose likeliest
            class it is), kept (of those, the sure ones), trained (the class's share of the images
            that the teacher learnt from), oof (out-of-fold images as surely taken for it), right
            (the share of those that are it; NaN for none).
        threshold: from which probability an answer is sure.
        images: unlabelled images that were predicted.
        known: images left out because they, or their lesion or patient, are the run's own.
        compared: by what that was found out, in words.
        unreadable: images that gave no picture.
        path: the table on disk.
        notes: what `find_inputs` had to say.
    """

    table: pd.DataFrame
    by_class: pd.DataFrame
    threshold: float
    images: int
    known: int
    compared: str
    unreadable: int
    path: Path
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        kept = len(self.table)
        lines = [
            f"{kept} of {self.images} unlabelled images ({kept / self.images:.0%}) have a class "
            f"with a probability of at least {self.threshold:g}"
        ]
        lines.append(f"{self.known} left out as the run's own images, compared {self.compared}")
        lines += self.notes
        if self.unreadable:
            lines.append(f"{self.unreadable} could not be read")
        header = ["class", "predicted", "kept", "of kept", "of training", "right out of fold"]
        rows = [
            [
                code,
                row.predicted,
                row.kept,
                f"{row.kept / kept:.1%}",
                f"{row.trained:.1%}",
                f"{row.right:.1%} of {row.oof}" if row.oof else "-",
            ]
            for code, row in zip(self.by_class.index, self.by_class.itertuples(), strict=True)
        ]
        lines.append(console.table(rows, header))
        return "\n".join([*lines, f"Pseudo-labels: {self.path}", f"WARNING: {CAUTION}"])


def pseudo_label(
    run: RunDir,
    sources: Sequence[str],
    *,
    threshold: float = THRESHOLD,
    batch_size: int = 32,
    progress: console.Progress | None = None,
) -> PseudoLabels:
    """Label what the run's ensemble is sure of, and write `runs/<run>/pseudo_labels.csv`.

    The run's own images (by id, and by file and picture where its store is there) and further ones
    of its lesions and patients are left out before they are predicted; labels that the sources tell
    are not looked at. An interrupted call goes on after its last finished chunk.

    Source: Lee 2013, "Pseudo-Label". Differs: labels come once, from an ensemble, and only where it
    is sure.

    What that costs in honesty is said in `CAUTION`.

    Args:
        run: a finished run, the teacher.
        sources: folders, images, CSVs and patterns, as for `find_inputs`.
        threshold: the lowest probability of the likeliest class that counts as sure.
        batch_size: images a forward pass.
        progress: called with (images done, images).

    Raises:
        UserError: a threshold outside of what k classes can give, a run that is not finished, no
            image that is not the run's own or is readable, or none that the ensemble is sure of.
    """
    bundle = read_bundle(run.path)
    check_threshold(threshold, len(bundle.labels))
    oof = bundle.calibrated(read_predictions(run.oof, bundle.labels))
    inputs = find_inputs(sources, bundle.labels)
    unlabelled, compared = without_known(run, bundle, inputs)
    place = run.unlabelled  # keeps the answers to all of them
    summary = ensemble_predict(bundle, unlabelled, place, batch_size=batch_size, progress=progress)
    answered = _read_answers(summary.predictions, bundle).dropna()
    found = sure_answers(answered, bundle.labels, threshold)
    if found.empty:
        raise UserError(_nobody_sure(answered, bundle.labels, threshold))
    found = found.merge(unlabelled.table[["image_id", "path", *FACTS]], on="image_id")
    found["path"] = [str(Path(path).absolute()) for path in found["path"]]
    found = found[["image_id", "path", "label", "probability", *bundle.labels.columns, *FACTS]]
    write_csv(run.pseudo_labels, found)
    return PseudoLabels(
        table=found,
        by_class=class_shares(answered, oof, threshold),
        threshold=threshold,
        images=len(unlabelled),
        known=len(inputs) - len(unlabelled),
        compared=compared,
        unreadable=summary.unreadable,
        path=run.pseudo_labels,
        notes=inputs.notes,
    )


def without_known(run: RunDir, bundle: Bundle, inputs: Inputs) -> tuple[Inputs, str]:
    """`inputs` without the run's own images, lesions and patients, and without any labels.

    The second thing returned says in words what was compared. The same id or file name is enough
    here, even where elsewhere it might mean another picture: an image too few costs little, and a
    held-out image would be learnt from.

    Raises:
        UserError: nothing is left.
    """
    own = set(read_predictions(run.oof, bundle.labels).table["image_id"])
    table = inputs.table
    stems = table["path"].map(lambda path: Path(path).stem)
    inputs = _keep(inputs, ~(table["image_id"].isin(own) | stems.isin(own)))
    found = compare(run, bundle, inputs)
    inputs = _keep(inputs, ~inputs.table["image_id"].isin(set(found.table["image_id"])))
    return inputs, found.how + (f" ({'; '.join(found.warnings)})" if found.warnings else "")


def _keep(inputs: Inputs, rows: pd.Series) -> Inputs:
    if not rows.any():
        raise UserError(
            f"Expected images that the run was not trained on. Received {len(inputs)}, all of "
            "them the run's own. Name a folder of other images."
        )
    return replace(inputs, table=inputs.table[rows].reset_index(drop=True).assign(label=""))


def sure_answers(answers: pd.DataFrame, labels: LabelSpace, threshold: float) -> pd.DataFrame:
    """The rows of `answers` whose likeliest class has at least the probability `threshold`.

    Args:
        answers: has image_id and p_<code>, no number missing.
        labels: the classes.
        threshold: lowest probability.

    Returns:
        Those rows, sorted by image_id, with `label` (code) and `probability` of that class.
    """
    probabilities = answers[labels.columns].to_numpy(np.float64)
    best = probabilities.argmax(axis=1)
    labelled = answers.assign(
        label=np.array(labels.codes, dtype=object)[best], probability=probabilities.max(axis=1)
    )
    sure = labelled[labelled["probability"] >= threshold]
    return sure.sort_values("image_id", kind="stable").reset_index(drop=True)


def class_shares(answers: pd.DataFrame, oof: Predictions, threshold: float) -> pd.DataFrame:
    """`PseudoLabels.by_class`, from the answers to unlabelled images and the out-of-fold table.

    Out of fold a single member answers, so `right` is what the ensemble's sure answers are worth on
    images like the run's own, told with some caution.
    """
    labels = oof.labels
    columns, y = labels.columns, oof.y
    everything, sure = answers[columns].to_numpy(np.float64), oof.probabilities
    predicted, highest = everything.argmax(axis=1), everything.max(axis=1)
    held_out, certain = sure.argmax(axis=1), sure.max(axis=1) >= threshold
    rows = []
    for index in range(len(labels)):
        taken = certain & (held_out == index)
        rows.append(
            {
                "predicted": int((predicted == index).sum()),
                "kept": int(((predicted == index) & (highest >= threshold)).sum()),
                "trained": float((y == index).mean()),
                "oof": int(taken.sum()),
                "right": float((y[taken] == index).mean()) if taken.any() else np.nan,
            }
        )
    return pd.DataFrame(rows, index=pd.Index(labels.codes, name="class"))


def _read_answers(path: Path, bundle: Bundle) -> pd.DataFrame:
    """image_id and probabilities of predictions.csv, NaN where an image could not be read."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    numbers = table[bundle.labels.columns].apply(pd.to_numeric)
    return pd.concat([table[["image_id"]], numbers], axis=1)


def check_threshold(threshold: float, classes: int) -> None:
    """Refuse a threshold that every answer reaches, or none.

    Raises:
        UserError: not above 1/k and at most 1.
    """
    if not 1 / classes < threshold <= 1:
        raise UserError(
            f"With {classes} classes the likeliest has at least a probability of 1/{classes}, so a "
            f"threshold must lie above that, and not above 1. Received: {threshold}. A usual one "
            f"is {THRESHOLD}."
        )


def _nobody_sure(answers: pd.DataFrame, labels: LabelSpace, threshold: float) -> str:
    if answers.empty:
        return "Not one of the unlabelled images can be read, so there is nothing to learn from."
    highest = answers[labels.columns].to_numpy(np.float64).max()
    return (
        f"The ensemble is sure of none of the {len(answers)} unlabelled images: the highest "
        f"probability is {highest:.3f}, and the threshold {threshold:g}. Lower the threshold, or "
        "do without these images."
    )
