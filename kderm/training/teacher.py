"""Distillation: a run learns from another run's out-of-fold answers beside its labels.

The teacher's answers are copied into the student's run when it starts (`teacher.csv`), so that
every fold learns the same lesson. They are out of fold: no answer is from a member that was trained
on its image, so they hold what the images look like and not what was learnt by heart.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from kderm.atomic import write_csv
from kderm.errors import UserError
from kderm.evaluation.predictions import read_predictions
from kderm.labels import LabelSpace
from kderm.run_dir import RunDir, open_run

CAUTION = (
    "Its teacher's members have together seen the labels of every fold, so the out-of-fold scores "
    "may be a little too good. Compare teacher and student on images from elsewhere (evaluate "
    "--external)."
)


def find_teacher(name: str) -> Path:
    """The out-of-fold table of the run `name`.

    Raises:
        UserError: no such run, or it is not finished.
    """
    teacher = open_run(name)
    if teacher.is_bundle_alone or not teacher.oof.is_file():
        raise UserError(
            f"distil.teacher must be a finished run, with an {teacher.oof.name} of its own. "
            f"Received: {teacher.path}. "
            + (
                "A bundle that shrink wrote has none: name the run that it came from."
                if teacher.is_bundle_alone
                else "Finish it first, by the cv command that began it."
            )
        )
    return teacher.oof


def freeze_teacher(name: str, run: RunDir, labels: LabelSpace, image_ids: list[str]) -> int:
    """Copy the answers of the run `name` into `run`; later folds read the copy.

    Args:
        name: the teacher's run, finished.
        run: the student's.
        labels: the label space of both.
        image_ids: the student's images.

    Returns:
        How many of the student's images the teacher has no answer to; they learn by label alone.

    Raises:
        UserError: no such run, another label space, or no image in common.
    """
    answers = read_predictions(find_teacher(name), labels)
    known = answers.table["image_id"].isin(image_ids)
    if not known.any():
        raise UserError(
            f"distil.teacher={name} must have answered the images that the student learns from. "
            f"Received: {len(answers)} out-of-fold answers, none to one of the {len(image_ids)} "
            "images here. Train teacher and student on the same data set."
        )
    write_csv(run.teacher, answers.table.loc[known, ["image_id", *labels.columns]])
    return len(image_ids) - int(known.sum())


def soft_targets(
    run: RunDir,
    labels: LabelSpace,
    image_ids: list[str],
    classes: np.ndarray,
    *,
    weight: float,
    temperature: float,
) -> np.ndarray:
    """The share of each class in each image: its label's and, by `weight`, the teacher's.

    Source: Hinton et al. 2015, arXiv:1503.02531. Differs: the softened answers are mixed into the
    target of one loss, and the student's own logits are not softened.

    Args:
        run: the student's, with the frozen answers.
        labels: the label space.
        image_ids: n ids.
        classes: int (n,), their labels as indices.
        weight: share of the teacher in [0, 1].
        temperature: exponent 1 / temperature on the teacher's probabilities, before they are
            normalised again; above 1 softens.

    Returns:
        float32 (n, k), rows sum to 1; of images that the teacher does not know the label alone.
    """
    hard = np.eye(len(labels), dtype=np.float64)[classes]
    table = pd.read_csv(run.teacher, dtype={"image_id": str}, keep_default_na=False)
    answers = table.set_index("image_id")[labels.columns].reindex(image_ids).to_numpy(np.float64)
    known = ~np.isnan(answers).any(axis=1)
    softened = np.power(np.maximum(answers[known], 1e-12), 1.0 / temperature)
    softened /= softened.sum(axis=1, keepdims=True)
    hard[known] = (1.0 - weight) * hard[known] + weight * softened
    return hard.astype(np.float32)
