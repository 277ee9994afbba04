"""A run's own images, each for the member that held it out: what can be measured without leakage.

Reads the bundle, the run's out-of-fold table and its image store or, where that is gone, the files.
Selection of views and the score of unlike images are fitted on what comes from here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kderm.data.manifest import read_manifest
from kderm.data.run_store import open_run_store
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.read_ahead import decoded_chunks
from kderm.errors import UserError
from kderm.evaluation.predictions import Predictions, read_predictions
from kderm.run_dir import RunDir


@dataclass(frozen=True)
class HeldOut:
    """One member and the images that it was not trained on.

    Attributes:
        fold: the member's fold; None for a member of averaged weights.
        member: its file.
        sha256: of that file, from the bundle.
        table: its rows of the out-of-fold table: image_id, group_id, label, age, sex, site, ...
    """

    fold: int | None
    member: Path
    sha256: str
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    @property
    def image_ids(self) -> list[str]:
        """Ids of the n images, in the table's order."""
        return self.table["image_id"].tolist()


def read_oof(bundle: Bundle) -> Predictions:
    """The out-of-fold table beside a bundle.

    Raises:
        UserError: it is not there, or is not a table of this label space.
    """
    return read_predictions(RunDir(bundle.directory).oof, bundle.labels)


def held_out(bundle: Bundle, oof: Predictions) -> list[HeldOut]:
    """Each member with its images, in the bundle's order.

    Raises:
        UserError: the table and the bundle do not speak of the same folds.
    """
    of_table, of_bundle = set(oof.folds.tolist()), {one.fold for one in bundle.facts.members}
    if None in of_bundle:
        raise UserError(
            "A member of averaged weights has held out no image, so nothing can be measured on the "
            f"run's own. Received: {bundle.directory}. Give the run itself."
        )
    if not (of_bundle <= of_table if bundle.facts.smaller else of_bundle == of_table):
        raise UserError(
            f"Expected an out-of-fold table of the folds {sorted(of_bundle)}, those of the "
            f"bundle's members. Received: {sorted(of_table)}, in {RunDir(bundle.directory).oof}. "
            "Copy the whole folder of the run, or run evaluate on it."
        )
    return _with_images(bundle, {fold: oof.folds == fold for fold in of_bundle}, oof)


def own_images(bundle: Bundle, oof: Predictions) -> list[HeldOut]:
    """As `held_out`; a member of averaged weights, which held out none, gets all. Not for scores.

    Raises:
        UserError: as `held_out`.
    """
    if [member.fold for member in bundle.facts.members] == [None]:
        return _with_images(bundle, {None: np.ones(len(oof), bool)}, oof)
    return held_out(bundle, oof)


def _with_images(
    bundle: Bundle, rows: Mapping[int | None, np.ndarray], oof: Predictions
) -> list[HeldOut]:
    return [
        HeldOut(
            member.fold,
            bundle.directory / member.path,
            member.sha256,
            oof.table[rows[member.fold]].reset_index(drop=True),
        )
        for member in bundle.facts.members
    ]


class RunFrames:
    """The frames of a run's images, as its training saw them."""

    def __init__(self, run: RunDir, bundle: Bundle) -> None:
        """Args:
        run: a run with its manifest.
        bundle: its bundle, which says how files become frames.
        """
        self._run, self._bundle = run, bundle
        self._store = open_run_store(run, bundle.spec)
        self._paths: dict[str, str] | None = None

    def chunks(self, image_ids: Sequence[str], size: int) -> Iterator[np.ndarray]:
        """uint8 arrays (up to `size`, H, W, 3), together the frames of `image_ids` in order.

        Raises:
            UserError: the store is gone and a file cannot be read.
        """
        parts = [list(image_ids[start : start + size]) for start in range(0, len(image_ids), size)]
        if self._store is not None and set(image_ids) <= set(self._store.image_ids):
            for part in parts:
                yield self._store.images[self._store.rows(part)]
            return
        numbered = [
            (number, [(self._path(name), "") for name in part]) for number, part in enumerate(parts)
        ]
        for decoded in decoded_chunks(numbered, self._bundle.spec):
            if not decoded.readable.all():
                row = int(np.flatnonzero(~decoded.readable)[0])
                path = numbered[decoded.number][1][row][0]
                raise UserError(
                    f"The image {path} cannot be read ({decoded.errors[row]}; looked from "
                    f"{Path.cwd()}), and the image store of the run {self._run.name!r} is gone. "
                    "Work in the folder that the run was started from, with the images in their "
                    f"place, or build the store again with: {self._run.command('prepare')}"
                )
            yield decoded.frames

    def _path(self, image_id: str) -> str:
        if self._paths is None:
            table = read_manifest(self._run.manifest, self._bundle.labels).table
            self._paths = dict(zip(table["image_id"], table["path"], strict=True))
        if image_id not in self._paths:
            raise UserError(
                "The out-of-fold table and the manifest of a run must speak of the same images. "
                f"Received the id {image_id!r}, which {self._run.manifest} lacks. Copy the run "
                "again."
            )
        return self._paths[image_id]
