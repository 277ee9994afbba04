"""lesions.csv: one answer a lesion, where the CSV that names the images says which show the same.

Between the table of images (`kderm.ensemble.result_table`) and what is left behind
(`kderm.ensemble.result`). A lesion's row is made from its own images alone. Sees tables only.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kderm.counting import counted
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.inputs import Inputs
from kderm.ensemble.result_table import flags, malignant_or_nothing
from kderm.ensemble.rounding import significant
from kderm.evaluation.lesions import pool

POOLING = "mean"


@dataclass(frozen=True)
class LesionTable:
    """The answers to lesions; `str()` of it is for people.

    Attributes:
        table: one row a lesion, in the order in which their first images are named; see
            `lesion_table`.
        codes: the class codes, in label-space order.
        alone: of them, images without a lesion id, each a lesion of its own.
        unreadable: images left out because they have no answer.
        lost: lesions without a row because none of their images has an answer.
        contradictory: lesions whose images carry different labels, so that they have none.
    """

    table: pd.DataFrame
    codes: tuple[str, ...]
    alone: int
    unreadable: int
    lost: int
    contradictory: int

    def __str__(self) -> str:
        counts = self.table["predicted"].value_counts()
        predicted = ", ".join(f"{code} {counts[code]:,}" for code in self.codes if code in counts)
        answered = f"{counted(len(self.table), 'lesion')}, the {POOLING} of each one's images"
        lines = [f"{answered}: {predicted}" if predicted else answered]
        if self.table["malignant"].notna().any():
            flagged = int((self.table["malignant"] == 1).sum())
            lines.append(f"lesions flagged as malignant: {flagged:,}")
        told = []
        for count, noun, what in (
            (self.alone, "image", "without a lesion id, each a lesion of its own"),
            (self.unreadable, "unreadable image", "left out"),
            (self.lost, "lesion", "without a readable image"),
            (self.contradictory, "lesion", "of images with different labels"),
        ):
            told += [f"{counted(count, noun)} {what}"] if count else []
        lines += ["; ".join(told)] if told else []
        return "\n".join(lines)


def lesion_table(
    bundle: Bundle, inputs: Inputs, table: pd.DataFrame, before: np.ndarray
) -> LesionTable | None:
    """The answers to the lesions that the inputs name; None where they name none.

    - lesion_id: of an image without one its image_id
    - images: those with an answer
    - p_<code>...: the mean of its images' probabilities
    - predicted (code), predicted_name
    - p_malignant, p_malignant_uncorrected, malignant: as in predictions.csv, of the means; the
      threshold was chosen on single images
    - images_agree: share of its images whose own answer is `predicted`
    - vote_agreement, disagreement: of the members, the mean over its images
    - label where any is known: the one that its labelled images share, else ""

    Args:
        bundle: holds the classes and the malignant threshold.
        inputs: the images, in the order of `table`.
        table: of `result_table`.
        before: float (n, k), the calibrated answers before any correction to a prevalence.
    """
    named = inputs.table["lesion_id"] != ""
    if not named.any():
        return None
    answered = (table["error"] == "").to_numpy()
    ids = _lesion_names(inputs)
    rows, known = table[answered].reset_index(drop=True), ids[answered]
    lesion, names = pd.factorize(known)
    grouped = rows.groupby(lesion, sort=True)
    columns = {"lesion_id": names, "images": grouped.size().to_numpy()}
    columns |= _answers(bundle, rows, before[answered], lesion)
    same = rows["predicted"].to_numpy() == columns["predicted"][lesion]
    columns["images_agree"] = significant(pd.Series(same, dtype=float).groupby(lesion).mean())
    for name in ("vote_agreement", "disagreement"):
        columns[name] = significant(grouped[name].mean().to_numpy())
    contradictory = 0
    if inputs.labelled:
        labels = [sorted(set(each) - {""}) for _, each in grouped["label"]]
        columns["label"] = [each[0] if len(each) == 1 else "" for each in labels]
        contradictory = sum(len(each) > 1 for each in labels)
    return LesionTable(
        pd.DataFrame(columns),
        bundle.labels.codes,
        alone=int((~named & answered).sum()),
        unreadable=int((~answered).sum()),
        lost=len(set(ids) - set(known)),
        contradictory=contradictory,
    )


def _answers(
    bundle: Bundle, rows: pd.DataFrame, before: np.ndarray, lesion: np.ndarray
) -> dict[str, np.ndarray]:
    """The columns p_<code> to malignant of the lesions numbered by `lesion` (n,)."""
    labels = bundle.labels
    probabilities = significant(_pooled(rows[labels.columns].to_numpy(np.float64), lesion))
    best = probabilities.argmax(axis=1)
    columns = dict(zip(labels.columns, probabilities.T, strict=True))
    columns |= {
        "predicted": np.array(labels.codes, dtype=object)[best],
        "predicted_name": np.array(labels.names, dtype=object)[best],
    }
    columns.setdefault("p_malignant", malignant_or_nothing(bundle, probabilities))
    score = malignant_or_nothing(bundle, significant(_pooled(before, lesion)))
    if "p_malignant_uncorrected" in rows:
        columns["p_malignant_uncorrected"] = score
    return columns | {"malignant": flags(score, bundle.threshold)}


def _pooled(probabilities: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    return pool(probabilities, lesion, POOLING) if len(lesion) else probabilities


def _lesion_names(inputs: Inputs) -> np.ndarray:
    """object (n,): the lesion of each image; of one without an id a name that no lesion has."""
    lesions, images = inputs.table["lesion_id"], inputs.table["image_id"]
    taken = set(lesions)
    own = [f"{name}#image" if name in taken else name for name in images]
    return np.where(lesions != "", lesions, own).astype(object)
