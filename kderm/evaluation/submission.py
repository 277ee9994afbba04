"""Submission files of the ISIC challenges, in the formats that their scorers accept.

Reads a table of probabilities (labels are not needed), writes one CSV. Must stay free of Keras.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kderm import atomic
from kderm.counting import counted
from kderm.errors import UserError, unknown_name
from kderm.evaluation.predictions import RANGE_TOLERANCE, SUM_TOLERANCE
from kderm.labels import LabelSpace


@dataclass(frozen=True)
class Challenge:
    """The format of one year.

    Attributes:
        id_column: header of the image ids.
        classes: header to class code, in column order; empty where one target is asked for.
        unknown: the header of what may be none of the classes. A label space without such a class
            gives it 0.
        melanoma: whether the target is melanoma, where the label space has it, else malignancy.
    """

    id_column: str
    classes: dict[str, str]
    unknown: str | None = None
    melanoma: bool = False


_CLASSES_2018 = ("mel", "nv", "bcc", "akiec", "bkl", "df", "vasc")
_CLASSES_2019 = ("mel", "nv", "bcc", "ak", "bkl", "df", "vasc", "scc", "unk")

CHALLENGES: dict[str, Challenge] = {
    "2018": Challenge("image", {code.upper(): code for code in _CLASSES_2018}),
    "2019": Challenge("image", {code.upper(): code for code in _CLASSES_2019}, unknown="UNK"),
    # All malignant lesions of 2020 are melanomas; those of 2024 are carcinomas too.
    "2020": Challenge("image_name", {}, melanoma=True),
    "2024": Challenge("isic_id", {}),
}


def check_challenge(labels: LabelSpace, challenge: str) -> None:
    """Refuse an unknown challenge, or one that asks for other classes than `labels` has.

    Raises:
        UserError: either.
    """
    if challenge not in CHALLENGES:
        raise unknown_name("ISIC challenge", challenge, CHALLENGES)
    _answers(np.zeros((0, len(labels))), labels, challenge)


def write_submission(
    table: pd.DataFrame,
    labels: LabelSpace,
    path: str | os.PathLike,
    challenge: str,
) -> None:
    """Write `table` as a submission, one row an image in the order of the ids.

    2018: image, MEL, NV, BCC, AKIEC, BKL, DF, VASC. 2019: AK for AKIEC, and SCC, UNK behind.
    2020: image_name, target: the probability of melanoma, or of malignancy in a label space
    without melanoma. 2024: isic_id, target: the probability of malignancy.

    Args:
        table: columns image_id and p_<code> of `labels`; others are ignored.
        labels: the label space of the probabilities.
        path: the CSV to write.
        challenge: "2018", "2019", "2020" or "2024".

    Raises:
        UserError: an unknown challenge, a label space that does not answer it, or a table that
            its scorer would refuse; all problems of the table are told at once.
    """
    check_challenge(labels, challenge)
    columns = [c for c in ("image_id", *labels.columns) if c not in table.columns]
    if columns:
        raise UserError(
            f"A submission needs the columns image_id, {', '.join(labels.columns)}. "
            f"Missing: {', '.join(columns)}. Received: {', '.join(map(str, table.columns))}."
        )
    ids = table["image_id"].astype(str).str.replace(r"\.jpe?g$", "", case=False, regex=True)
    probabilities = np.stack(
        [pd.to_numeric(table[c], errors="coerce").to_numpy(np.float64) for c in labels.columns],
        axis=1,
    )
    problems = [*_id_problems(table["image_id"], ids), *_value_problems(ids, probabilities)]
    if problems:
        listing = "\n".join(f"  {problem}" for problem in problems)
        raise UserError(
            f"Expected one valid row an image for ISIC {challenge}. Received a table with "
            f"{counted(len(problems), 'problem')}; nothing was written:\n{listing}"
        )
    answers = _answers(np.clip(probabilities, 0, 1), labels, challenge)
    # Written with a point always: the scorer refuses a column of 0 and 1 as not floating-point.
    text = {name: [repr(float(value)) for value in values] for name, values in answers.items()}
    submission = pd.DataFrame({CHALLENGES[challenge].id_column: list(ids), **text})
    submission = submission.sort_values(CHALLENGES[challenge].id_column, kind="stable")
    atomic.write_csv(Path(path), submission)


def _answers(
    probabilities: np.ndarray, labels: LabelSpace, challenge: str
) -> dict[str, np.ndarray]:
    """Header to values (n,), in column order."""
    rules = CHALLENGES[challenge]
    if not rules.classes:
        codes = ("mel",) if rules.melanoma and "mel" in labels.codes else labels.malignant
        if not codes:
            raise UserError(
                f"ISIC {challenge} asks for the probability of malignancy, so some class must be "
                f"malignant. Received: the label space {labels.name}, {', '.join(labels.codes)}, "
                "with none. Name them with data.malignant when training."
            )
        target = probabilities[:, [labels.index(code) for code in codes]].sum(axis=1)
        return {"target": np.clip(target, 0, 1)}
    missing = [
        name
        for name, code in rules.classes.items()
        if code not in labels.codes and name != rules.unknown
    ]
    further = [code for code in labels.codes if code not in rules.classes.values()]
    if missing or further:
        raise UserError(
            f"ISIC {challenge} asks for the classes {', '.join(rules.classes)}. "
            f"Received: the label space {labels.name} with {', '.join(labels.codes)}"
            + (f"; no class for {', '.join(missing)}" if missing else "")
            + (f"; no column for {', '.join(further)}" if further else "")
            + ". Predict with members that were trained on the classes of this challenge "
            "(data.labels=ham10000 for 2018, isic2019 for 2019)."
        )
    return {
        name: probabilities[:, labels.index(code)]
        if code in labels.codes
        else np.zeros(len(probabilities))
        for name, code in rules.classes.items()
    }


def _id_problems(given: pd.Series, ids: pd.Series) -> list[str]:
    problems = []
    if len(ids) == 0:
        problems.append("there is no image in it")
    unnamed = int((given.isna() | (ids.str.strip() == "")).sum())
    if unnamed:
        problems.append(f"image_id is empty in {counted(unnamed, 'row')}")
    twice = ids[ids.duplicated()].unique()
    if len(twice):
        problems.append(f"more than one row for: {_some(twice)}")
    return problems


def _value_problems(ids: pd.Series, probabilities: np.ndarray) -> list[str]:
    problems = []
    unusable = ~np.isfinite(probabilities).all(axis=1)
    beyond = (probabilities < -RANGE_TOLERANCE) | (probabilities > 1 + RANGE_TOLERANCE)
    outside = beyond.any(axis=1) & ~unusable
    off = (np.abs(probabilities.sum(axis=1) - 1) > SUM_TOLERANCE) & ~outside & ~unusable
    if unusable.any():
        problems.append(f"a probability is missing or no number for: {_some(ids[unusable])}")
    if outside.any():
        problems.append(f"a probability lies outside [0, 1] for: {_some(ids[outside])}")
    if off.any():
        problems.append(f"the probabilities do not sum to 1 for: {_some(ids[off])}")
    return problems


def _some(ids: Iterable[object], most: int = 5) -> str:
    names = [str(item) for item in ids]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
