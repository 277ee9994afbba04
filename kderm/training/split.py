"""The rows of one fold: who trains, who is held out, and what is known of them beside the image."""

from dataclasses import dataclass

import numpy as np

from kderm.data.metadata import MetadataSpec
from kderm.data.prepare import Prepared


@dataclass(frozen=True)
class FoldData:
    """The images of one fold.

    Attributes:
        train, held_out: int64 (n,), rows of the frames.
        train_labels, held_out_labels: int32 (n,), class indices.
        train_shares: float32 (n, k), the share of each class in each image where a teacher has a
            say in it; None: the label is all of it.
        train_metadata, held_out_metadata: float32 (n, d), or None where the member sees images
            alone.
        held_out_ids: image ids of `held_out`.
    """

    train: np.ndarray
    train_labels: np.ndarray
    train_metadata: np.ndarray | None
    held_out: np.ndarray
    held_out_labels: np.ndarray
    held_out_metadata: np.ndarray | None
    held_out_ids: list[str]
    train_shares: np.ndarray | None = None


def split(
    data: Prepared,
    fold: int,
    metadata: MetadataSpec | None = None,
    shares: np.ndarray | None = None,
) -> FoldData:
    """The rows that train and the rows that are held out when `fold` is left out.

    Pseudo-labelled images train in every fold; their rows come behind those of the store.

    Args:
        data: the prepared data set.
        fold: the one that is held out.
        metadata: how they are encoded, for members that take them.
        shares: float32 (rows of the fold table, k), see `kderm.training.teacher.soft_targets`.
    """
    table = data.folds.table
    labels = table["label"].map({code: i for i, code in enumerate(data.labels.codes)})
    labels = labels.to_numpy(dtype=np.int32)
    rows = data.store.rows(table["image_id"].tolist())
    known = None
    if metadata is not None:
        facts = data.manifest.table.set_index("image_id").loc[table["image_id"]]
        known = metadata.encode(facts.reset_index())
    held_out = (table["fold"] == fold).to_numpy()
    if data.pseudo is not None:
        further = data.pseudo.table
        rows = np.concatenate([rows, len(data.store) + np.arange(len(further))])
        labels = np.concatenate([labels, further["label"].map(data.labels.index)]).astype(np.int32)
        held_out = np.concatenate([held_out, np.zeros(len(further), bool)])
        if metadata is not None:
            known = np.concatenate([known, metadata.encode(further)])
        if shares is not None:
            own = np.eye(len(data.labels), dtype=np.float32)[labels[len(table) :]]
            shares = np.concatenate([shares, own])
    return FoldData(
        train=rows[~held_out],
        train_labels=labels[~held_out],
        train_metadata=None if known is None else known[~held_out],
        held_out=rows[held_out],
        held_out_labels=labels[held_out],
        held_out_metadata=None if known is None else known[held_out],
        held_out_ids=table["image_id"][held_out[: len(table)]].tolist(),
        train_shares=None if shares is None else shares[~held_out],
    )
