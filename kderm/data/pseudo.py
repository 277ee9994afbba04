"""Pseudo-labelled images: they train beside a data set's own and are never held out.

Reads the table that `kderm.ensemble.pseudo` wrote, decodes its images into a store of their own,
and lays that behind the data set's frames. They are in no manifest and in no fold.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kderm import console, run_dir
from kderm.data.datasets.columns import FACTS
from kderm.data.images import ImageSpec
from kderm.data.store import build_store, store_digest
from kderm.errors import UserError
from kderm.labels import LabelSpace


@dataclass(frozen=True, eq=False)
class PseudoLabelled:
    """Images that train only.

    Attributes:
        table: image_id, label (code) and `FACTS`, one row an image.
        images: uint8 (N, H, W, 3), a store's frames.
        rows: int64 (n,), the row of each image of the table in it.
        digest: of ids, labels and files, hex.
    """

    table: pd.DataFrame
    images: np.ndarray
    rows: np.ndarray
    digest: str


def read_pseudo_labelled(path: Path, labels: LabelSpace, spec: ImageSpec) -> PseudoLabelled:
    """The images of a pseudo-label table, decoded; unreadable ones are left out with a warning.

    Args:
        path: CSV with the columns image_id, path and label.
        labels: the label space.
        spec: the frame, that of the data set.

    Raises:
        UserError: no such table, missing columns, labels of another space, or no image.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Expected a table of pseudo-labels at {path} (data.pseudo_labels). Received: {error}. "
            "cv --unlabelled writes one."
        ) from None
    missing = {"image_id", "path", "label"} - set(table.columns)
    strangers = sorted(set(table.get("label", [])) - set(labels.codes))
    if missing or strangers or table.empty:
        wrong = ", ".join([*sorted(missing), *strangers]) or "none"
        raise UserError(
            f"Expected rows with image_id, path and label (one of {', '.join(labels.codes)}) in "
            f"{path}. Received {len(table)} rows; missing columns or other labels: {wrong}. "
            "Write the table again with cv --unlabelled."
        )
    ids, paths = table["image_id"].tolist(), [Path(name) for name in table["path"]]
    directory = run_dir.store_dir(store_digest(ids, paths, spec))
    with console.progress("decoding pseudo-labelled images") as report:
        store, unreadable = build_store(directory, ids, paths, spec, progress=report)
    if unreadable:
        console.warn(f"{len(unreadable)} pseudo-labelled images cannot be read and are left out")
        table = table[~table["image_id"].isin(list(unreadable))].reset_index(drop=True)
    for fact in FACTS:
        if fact not in table:
            table[fact] = ""
    facts = json.dumps([store.digest, *zip(table["image_id"], table["label"], strict=True)])
    digest = hashlib.sha256(facts.encode()).hexdigest()
    return PseudoLabelled(table, store.images, store.rows(table["image_id"]), digest)


class Frames:
    """A store's frames, and behind them the pseudo-labelled ones, as one array."""

    def __init__(self, own: np.ndarray, pseudo: PseudoLabelled) -> None:
        """Args:
        own: uint8 (N, H, W, 3), the store of the data set.
        pseudo: the further images; row N is their first.
        """
        self.own = own
        self.pseudo = pseudo
        self.shape = (len(own) + len(pseudo.rows), *own.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """uint8 (len(rows), H, W, 3) for an int array of rows."""
        rows = np.asarray(rows)
        behind = rows >= len(self.own)
        frames = np.empty((len(rows), *self.shape[1:]), np.uint8)
        frames[~behind] = self.own[rows[~behind]]
        frames[behind] = self.pseudo.images[self.pseudo.rows[rows[behind] - len(self.own)]]
        return frames
