"""The images that several runs answered: their tables, row for row on the same image.

The first step of a comparison. Rows meet by image id and by nothing else. Must stay free of Keras.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kderm.counting import counted
from kderm.errors import UserError
from kderm.evaluation.decisions.operating_points import malignant_score, malignant_truth
from kderm.evaluation.predictions import Predictions, make_predictions
from kderm.labels import BINARY

# Fewer groups than this: normal theory and resampling are rough.
FEW_GROUPS = 30


@dataclass(frozen=True)
class Joined:
    """Runs' answers to the images that all of them have.

    Attributes:
        tables: name to predictions, the reference first; the same images in the same order, the
            reference's labels and malignant classes; malignant against benign where the runs tell
            other classes apart.
        groups: int (n,), images that any of the tables puts in one group are in one group.
        left_out: name to images that are not in every table.
        notes: what a reader must know about the tables, a sentence each.
    """

    tables: dict[str, Predictions]
    groups: np.ndarray
    left_out: dict[str, int]
    notes: tuple[str, ...]

    @property
    def reference(self) -> str:
        """Name of the run that the others are held against."""
        return next(iter(self.tables))

    @property
    def others(self) -> list[str]:
        """Names of the runs that are held against it."""
        return list(self.tables)[1:]


def join_runs(runs: Mapping[str, Predictions], notes: Sequence[str] = ()) -> Joined:
    """Put the answers of several runs to the same images side by side.

    Args:
        runs: name to predictions; the first is the reference.
        notes: what is known already of the tables; goes before what is found here.

    Raises:
        UserError: fewer than two runs, other classes of which nobody says which are malignant, no
            image in common, or an image with two labels.
    """
    if len(runs) < 2:
        raise UserError(
            "A comparison needs at least two runs with names of their own. "
            f"Received: {', '.join(runs) or 'none'}."
        )
    runs, class_notes = _of_the_same_classes(runs)
    labels = next(iter(runs.values())).labels
    common = sorted(set.intersection(*(set(run.table["image_id"]) for run in runs.values())))
    if not common:
        raise UserError(
            "A comparison needs images that all runs answered. Received: "
            + ", ".join(f"{name} ({_example(run)}, ...)" for name, run in runs.items())
            + ", with no image id in common. Were they trained on the same data set?"
        )
    tables = {}
    for name, run in runs.items():
        table = run.table.set_index("image_id", drop=False).loc[common].reset_index(drop=True)
        tables[name] = make_predictions(table, labels)
    _refuse_other_labels(tables)
    groups = merged_groups(list(tables.values()))
    left_out = {name: len(run) - len(common) for name, run in runs.items()}
    found = (
        *class_notes,
        *_left_out_notes(left_out),
        *_malignant_notes(runs),
        *_fold_notes(tables),
        *_group_notes(groups, tables),
    )
    return Joined(tables, groups, left_out, (*notes, *found))


def _of_the_same_classes(
    runs: Mapping[str, Predictions],
) -> tuple[Mapping[str, Predictions], list[str]]:
    """The runs as they are, or, where their classes differ, as malignant against benign."""
    classes = {name: ", ".join(run.labels.codes) for name, run in runs.items()}
    if len({frozenset(run.labels.codes) for run in runs.values()}) == 1:
        return runs, []
    told = " and ".join(f"{name} ({codes})" for name, codes in classes.items())
    if not all(run.labels.malignant for run in runs.values()):
        raise UserError(
            "Runs can be compared if they tell the same classes apart, or if all say which of "
            f"theirs are malignant. Received: {told}. Compare runs of one label space."
        )
    note = f"The runs tell other classes apart, {told}; compared is malignant against benign."
    return {name: _two_sided(run) for name, run in runs.items()}, [note]


def _two_sided(run: Predictions) -> Predictions:
    """The same answers as malignant or benign."""
    if (run.labels.codes, run.labels.malignant) == (BINARY.codes, BINARY.malignant):
        return Predictions(run.table, BINARY)
    malignant = malignant_score(run.probabilities, run.labels)
    table = run.table.drop(columns=run.labels.columns)
    side = np.where(malignant_truth(run.y, run.labels), *reversed(BINARY.codes))
    table = table.assign(label=side, p_benign=1 - malignant, p_malignant=malignant)
    return make_predictions(table, BINARY)


def _example(run: Predictions) -> str:
    return str(run.table["image_id"].iloc[0])


def _refuse_other_labels(tables: dict[str, Predictions]) -> None:
    (first, reference), *others = tables.items()
    for name, run in others:
        differ = np.flatnonzero(reference.y != run.y)
        if len(differ):
            ids, ours, theirs = (
                reference.table["image_id"],
                reference.table["label"],
                run.table["label"],
            )
            shown = ", ".join(
                f"{ids[i]} ({ours[i]} in {first}, {theirs[i]} in {name})" for i in differ[:5]
            )
            raise UserError(
                "Runs can be compared if they agree on what each image shows. "
                f"Received: {counted(len(differ), 'image')} with two labels: {shown}. Correct the "
                "table that is wrong, or leave these images out of both."
            )


def merged_groups(tables: Sequence[Predictions]) -> np.ndarray:
    """int (n,): the connected parts of images that share a group in any of the tables.

    Args:
        tables: the same images in the same order.
    """
    n = len(tables[0])
    images, nodes, start = [], [], n
    for run in tables:
        codes, names = pd.factorize(run.table["group_id"])
        images.append(np.arange(n))
        nodes.append(start + codes)
        start += len(names)
    rows, columns = np.concatenate(images), np.concatenate(nodes)
    graph = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(start, start))
    return connected_components(graph, directed=False)[1][:n]


def _left_out_notes(left_out: dict[str, int]) -> list[str]:
    return [
        f"{counted(count, 'image')} of {name} left out, for lack of an answer in every run."
        for name, count in left_out.items()
        if count
    ]


def _malignant_notes(runs: Mapping[str, Predictions]) -> list[str]:
    sets = {name: set(run.labels.malignant) for name, run in runs.items()}
    (first, ours), *others = sets.items()
    return [
        f"{name} counts other classes as malignant ({', '.join(sorted(theirs)) or 'none'}); here "
        f"those of {first} count ({', '.join(sorted(ours)) or 'none'})."
        for name, theirs in others
        if theirs != ours
    ]


def _fold_notes(tables: dict[str, Predictions]) -> list[str]:
    """Where the runs did not learn from the same images."""
    (first, reference), *others = tables.items()
    notes = []
    for name, run in others:
        if reference.has_folds != run.has_folds:
            plain = name if reference.has_folds else first
            folds = first if reference.has_folds else name
            notes.append(
                f"{folds} answered images that it had held out; the table of {plain} has no folds. "
                f"If {plain} learnt from these images, the comparison is worth nothing."
            )
        elif reference.has_folds and not _same_folds(reference.folds, run.folds):
            notes.append(
                f"{name} was cross-validated over other folds than {first}, so that a part of the "
                "difference may be for what each learnt from."
            )
    return notes


def _same_folds(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two fold columns hold out the same images together, whatever the folds' numbers."""
    pairs = len(np.unique(np.stack([first, second], axis=1), axis=0))
    return pairs == len(np.unique(first)) == len(np.unique(second))


def _group_notes(groups: np.ndarray, tables: dict[str, Predictions]) -> list[str]:
    count, notes = len(np.unique(groups)), []
    if count == len(groups) and not any(run.has_folds for run in tables.values()):
        notes.append(
            "No table says which images show one lesion or patient, so each image counts for "
            "independent; where several do, the intervals are too narrow."
        )
    if count < FEW_GROUPS:
        notes.append(f"Only {counted(count, 'group')} of images: intervals and p-values are rough.")
    return notes
