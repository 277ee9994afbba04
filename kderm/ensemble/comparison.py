"""Which of some images a run has already: by id, file, picture, and by lesion or patient.

`evaluate --external` leaves them out of a score, `cv --unlabelled` out of what a student learns
from. Sees ids, tables and fingerprints; predicts nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kderm import console
from kderm.counting import counted
from kderm.data.fingerprints import file_fingerprints, store_fingerprints
from kderm.data.folds import group_ids
from kderm.data.join import GLOBAL_GROUP
from kderm.data.overlap import COLUMNS, find, same_ids
from kderm.data.run_store import open_run_store
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.inputs import Inputs
from kderm.run_dir import RunDir

_WORDS = {
    "id": "by id",
    "digest": "by file",
    "picture": "by picture",
    "group": "of a lesion or patient of the run",
}
_GROUPS = ["lesion_id", "patient_id"]


@dataclass(frozen=True)
class Comparison:
    """What is known of the overlap of some images with those of a run.

    Attributes:
        table: a row an image that is in both, or that shows a lesion or patient of the run:
            image_id, path, label, training_image_id, training_label, by, similarity; the best
            evidence only.
        training_images: how many images of the run were compared.
        how: by what they were compared, in words.
        warnings: what could not be compared, a sentence each.
    """

    table: pd.DataFrame
    training_images: int
    how: str
    warnings: tuple[str, ...]

    def found(self, images: int) -> str:
        """How many of `images` images are in both, and by what that was seen."""
        counts = self.table["by"].value_counts()
        kinds = ", ".join(f"{counts[by]} {words}" for by, words in _WORDS.items() if by in counts)
        return (
            f"overlap with the {self.training_images:,} images of the run ({self.how}): "
            f"{len(self.table):,} of {counted(images, 'image')}{f': {kinds}' if kinds else ''}"
        )

    def contradictions(self) -> tuple[str, ...]:
        """A sentence where the same image has another label here than in the run."""
        same = self.table[self.table["by"] != "group"]
        both = same[(same["label"] != "") & (same["training_label"] != "")]
        differ = both[both["label"] != both["training_label"]]
        if differ.empty:
            return ()
        first = differ.iloc[0]
        return (
            f"labelled otherwise here than in the run: {counted(len(differ), 'image')} of the "
            f"overlap, {first['image_id']} is {first['label']}, there {first['training_label']}",
        )


def compare(run: RunDir, bundle: Bundle, inputs: Inputs) -> Comparison:
    """Find the inputs that are among a run's images, or show a lesion or patient of them.

    Files and pictures are compared if the run's image store is there. Lesions and patients are one
    where their ids are an archive's (`kderm.data.join`), or where another image of theirs is in
    both. Other ids that are equal are counted and believed to be chance.
    """
    training = _training_table(run, bundle)
    names, known = inputs.table["image_id"].tolist(), training["image_id"].tolist()
    store = open_run_store(run, bundle.spec)
    pairs, how, warnings = _by_id(known, inputs), "by id", []
    if store is None:
        warnings.append(_no_store(run, bool(known)))
    else:
        paths = dict(zip(training["image_id"], training["path"], strict=True))
        with console.progress("reading the run's files for their digests") as report:
            prints = store_fingerprints(store, paths, progress=report).of(paths)
        with console.progress("comparing with the run's images") as report:
            files = inputs.table["path"].tolist()
            mine = file_fingerprints(names, files, bundle.spec, progress=report)
        pairs = pd.concat([pairs, find(prints, mine)], ignore_index=True)
        how += ", file and picture"
        gone = int((~prints.has_digest).sum())
        if gone:
            warnings.append(
                f"{gone} of the run's image files are gone; those were compared by picture"
            )
    if not _any_archive_id(training):
        how += "; the run's images tell no lesion or patient by an archive's ids"
    elif not _any_archive_id(inputs.table):
        how += (
            "; these images tell no lesion or patient by an archive's ids, as a CSV with the "
            "columns lesion_id and patient_id would"
        )
    else:
        how += ", by lesion and by patient"
    pairs = pd.concat([pairs, _by_group(training, inputs, pairs)], ignore_index=True)
    table = _described(pairs, inputs, training)
    warnings += _equal_elsewhere(training, inputs, table)
    return Comparison(table, len(known), how, tuple(warnings))


def _any_archive_id(table: pd.DataFrame) -> bool:
    return any(_is_global(table[column]).any() for column in _GROUPS)


def _by_id(known: list[str], inputs: Inputs) -> pd.DataFrame:
    """Pairs of a training id with an input of that id or that file name."""
    names = inputs.table["image_id"].tolist()
    by_stem = {
        Path(path).stem: name for name, path in zip(names, inputs.table["path"], strict=True)
    }
    by_file = same_ids(known, list(by_stem))
    by_file["image_id_2"] = by_file["image_id_2"].map(by_stem)
    return pd.concat([same_ids(known, names), by_file], ignore_index=True)


def _by_group(training: pd.DataFrame, inputs: Inputs, pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of a training image with each input that is joined to it by lesion or patient.

    Joined is also the second photograph of a lesion whose first one is in both, whatever the lesion
    is called here: the inputs' own ids hold among themselves.
    """
    own = training[["image_id", *_GROUPS]].copy()
    for column in _GROUPS:
        own[column] = own[column].where(_is_global(own[column]), "")
    mine = inputs.table[["image_id", *_GROUPS]]
    # Two images of one id may be different pictures, so the two sides' ids are kept apart.
    both = pd.concat(
        [
            own.assign(image_id="a/" + own["image_id"]),
            mine.assign(image_id="b/" + mine["image_id"]),
        ],
        ignore_index=True,
    )
    links = zip("a/" + pairs["image_id_1"], "b/" + pairs["image_id_2"], strict=True)
    groups = group_ids(both, list(links)).to_numpy()
    first = pd.Series(own["image_id"].to_numpy(), groups[: len(own)])
    first = first[~first.index.duplicated()]
    found = pd.Series(groups[len(own) :]).map(first)
    table = pd.DataFrame({"image_id_1": found, "image_id_2": mine["image_id"].to_numpy()})
    return table.dropna().assign(by="group", similarity=np.nan)


def _is_global(ids: pd.Series) -> pd.Series:
    """bool (n,): lesion or patient ids that mean the same in every collection."""
    return ids.str.fullmatch(GLOBAL_GROUP)


def _equal_elsewhere(
    training: pd.DataFrame, inputs: Inputs, found: pd.DataFrame
) -> tuple[str, ...]:
    """A sentence where lesion or patient ids are equal, but of a kind that means nothing."""
    left = inputs.table[~inputs.table["image_id"].isin(set(found["image_id"]))]
    equal = np.zeros(len(left), bool)
    for column in _GROUPS:
        ids = left[column]
        equal |= (ids.isin(set(training[column])) & (ids != "") & ~_is_global(ids)).to_numpy()
    if not equal.any():
        return ()
    return (
        f"{counted(int(equal.sum()), 'image')} with a lesion or patient id that the run has too, "
        f"for example {left['image_id'][equal].iloc[0]}, of a kind that each collection gives "
        "anew: believed to be others, so kept",
    )


def _described(pairs: pd.DataFrame, inputs: Inputs, training: pd.DataFrame) -> pd.DataFrame:
    """One row an input that is in both, with what is known on both sides."""
    strongest = pairs.assign(rank=pairs["by"].map({by: n for n, by in enumerate(_WORDS)}))
    strongest = strongest.sort_values(["rank", "similarity"], ascending=[True, False])
    strongest = strongest.drop_duplicates("image_id_2").set_index("image_id_2")
    mine = inputs.table[inputs.table["image_id"].isin(strongest.index)]
    table = mine[["image_id", "path", "label"]].reset_index(drop=True)
    match = strongest.loc[table["image_id"]].reset_index(drop=True)
    label = training.drop_duplicates("image_id").set_index("image_id")["label"]
    table["training_image_id"] = match["image_id_1"]
    table["training_label"] = match["image_id_1"].map(label).fillna("")
    table[COLUMNS[2:]] = match[COLUMNS[2:]]
    return table


def _training_table(run: RunDir, bundle: Bundle) -> pd.DataFrame:
    """Columns image_id, path, label, lesion_id, patient_id of the run's images; "" if unknown."""
    columns = ["image_id", "path", "label", *_GROUPS]
    if run.manifest.is_file():
        table = pd.read_csv(run.manifest, dtype=str, keep_default_na=False)
        if set(columns[:3]) <= set(table.columns):
            return table.reindex(columns=columns, fill_value="")
    ids = sorted(bundle.trained_on() or ())
    return pd.DataFrame({"image_id": ids}, dtype=str).reindex(columns=columns, fill_value="")


def _no_store(run: RunDir, ids_known: bool) -> str:
    if not ids_known:
        return (
            f"nothing is left of the run's images (neither {run.manifest.name} nor "
            f"{run.oof.name}), so nobody can tell whether these are among them"
        )
    return (
        "the run's decoded images are gone, so copies under other names cannot be found. Bring "
        f"them back with: {run.command('prepare')}"
    )
