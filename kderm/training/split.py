"""The rows of one fold: who trains, who is held out."""

from dataclasses import dataclass

import numpy as np

from kderm.data.prepare import Prepared


@dataclass(frozen=True)
class FoldData:
    """The images of one fold as rows of the store, with their class indices."""

    train: np.ndarray
    train_labels: np.ndarray
    held_out: np.ndarray
    held_out_labels: np.ndarray
    held_out_ids: list[str]


def split(data: Prepared, fold: int) -> FoldData:
    """The rows that train and the rows that are held out when `fold` is left out."""
    table = data.folds.table
    labels = table["label"].map({code: i for i, code in enumerate(data.labels.codes)})
    labels = labels.to_numpy(dtype=np.int32)
    rows = data.store.rows(table["image_id"].tolist())
    held_out = (table["fold"] == fold).to_numpy()
    return FoldData(
        train=rows[~held_out],
        train_labels=labels[~held_out],
        held_out=rows[held_out],
        held_out_labels=labels[held_out],
        held_out_ids=table["image_id"][held_out].tolist(),
    )
