"""`select RUN RUN ...`: which runs are worth mixing, from their out-of-fold tables alone.

Each run's own answers are out of fold, so their mixture is too, whatever the folds were; only the
choice of the mixture has to be kept from the images that score it. Opens no model and no image.
"""

from collections.abc import Sequence

import numpy as np

from kderm.counting import counted
from kderm.ensemble.group_parts import group_parts
from kderm.ensemble.selection import Truth, greedy_rows
from kderm.ensemble.selection_files import Selection
from kderm.errors import UserError
from kderm.evaluation.comparison.join import merged_groups
from kderm.evaluation.intervals import RESAMPLES
from kderm.evaluation.predictions import Predictions


def select_runs(
    tables: Sequence[tuple[str, Predictions]], *, most: int = 10, resamples: int = RESAMPLES
) -> Selection:
    """Greedy ensemble selection among runs, on the images that all of them have.

    Args:
        tables: name and out-of-fold table of each run, at least two.
        most: the most picks; a run may be picked several times.
        resamples: of the groups, for the intervals.

    Raises:
        UserError: fewer than two runs, one twice, different label spaces, no image or fewer than
            two folds in common, or an image with two labels.
    """
    names = [name for name, _ in tables]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"Expected two different runs or more. Received: {', '.join(names)}.")
    first = tables[0][1]
    common = _common(tables)
    candidates, shared = [], []
    for name, table in tables:
        rows = table.table.set_index("image_id").loc[common]
        _refuse_other_labels(first, tables[0][0], rows["label"].to_numpy(), common, name)
        candidates.append(rows[first.labels.columns].to_numpy(np.float64))
        shared.append(Predictions(rows.reset_index(), table.labels))
    folds, groups = [each.folds for each in shared], merged_groups(shared)
    truth = Truth(shared[0].y, groups, first.labels)
    if len(np.unique(folds[0])) < 2:
        raise UserError(
            f"Expected images of two folds or more of {names[0]}, to choose on some and score on "
            f"the others. Received: {counted(len(common), 'image')} of one fold."
        )
    parts, honest = _parts(folds[0], groups, names[0])
    rows = greedy_rows(names, np.stack(candidates), truth, parts, most=most, resamples=resamples)
    notes = [
        f"On {len(common)} images that all {len(names)} runs have, out of fold in each; "
        f"{len(first) - len(common)} of {names[0]}'s are not in all.",
        f"The last row is the honest one: {honest}",
    ]
    if any(_finer(each.groups, groups) for each in shared):
        notes.append(
            "The runs group images differently; images that any of them puts together count as "
            "one lesion or patient."
        )
    if any((one != folds[0]).any() for one in folds[1:]):
        notes.append(
            "The runs have different folds. Each answer is still out of fold in its own run; "
            "members of one run may have been trained on images that another's are scored on."
        )
    title = "Greedy selection among runs, by macro AUC, on out-of-fold answers"
    return Selection("runs", title, rows, tuple(notes))


def _parts(folds: np.ndarray, groups: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """Parts of whole groups for the honest estimate, and how they came about.

    The first run's folds, unless another run knows of images in two of them to be one lesion.
    """
    pairs = len(np.unique(np.stack([folds, groups]), axis=1).T)
    if pairs == len(np.unique(groups)):
        return folds, f"each fold of {name} by runs chosen on the others."
    parts = group_parts(groups)
    if len(np.unique(parts)) < 2:
        raise UserError(
            "Expected images of two lesions or patients or more, to choose on some and score on "
            "the others. Received: runs that together put all images into one group."
        )
    return parts, "each fifth of the groups by runs chosen on the others."


def _finer(own: np.ndarray, merged: np.ndarray) -> bool:
    """Whether `own` parts images that `merged` holds together, both (n,)."""
    return len(np.unique(own.astype(str))) > len(np.unique(merged))


def _common(tables: Sequence[tuple[str, Predictions]]) -> list[str]:
    """Ids of the images that all tables have, in the first one's order."""
    name, first = tables[0]
    shared = set(first.table["image_id"])
    for other, table in tables:
        if table.labels.codes != first.labels.codes:
            raise UserError(
                f"Runs can only be mixed over one label space. Received: {name} with "
                f"{', '.join(first.labels.codes)}; {other} with {', '.join(table.labels.codes)}."
            )
        shared &= set(table.table["image_id"])
    if not shared:
        raise UserError(
            f"Expected runs over the same images. Received: no image id that all of "
            f"{', '.join(each for each, _ in tables)} have."
        )
    return [image_id for image_id in first.table["image_id"] if image_id in shared]


def _refuse_other_labels(
    first: Predictions, first_name: str, labels: np.ndarray, common: Sequence[str], name: str
) -> None:
    own = first.table.set_index("image_id").loc[list(common), "label"].to_numpy()
    differ = np.flatnonzero(own != labels)
    if len(differ):
        image = common[int(differ[0])]
        raise UserError(
            f"Expected one label an image. Received {counted(len(differ), 'image')} that "
            f"{first_name} and {name} label differently, {image} among them ({own[differ[0]]} and "
            f"{labels[differ[0]]}). Train both on one table."
        )
