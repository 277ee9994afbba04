"""Joining: several raw data sets become one, each row still knowing where it came from.

Stands between the adapters and the manifest. Ids are kept, so that what is known of an image by its
id stays true; only an id that two sources use for different things is set apart. What the images
show is looked at by `kderm.data.overlap`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kderm.counting import counted
from kderm.data.datasets import read_dataset
from kderm.data.folds import group_ids
from kderm.data.manifest import MISSING_WORDS, Manifest, Problem, RawRows, build_manifest
from kderm.errors import UserError
from kderm.labels import LabelSpace

# Lesion and patient ids that mean the same in every data set: those of the ISIC archive and its
# contributors (HAM10000, BCN20000, MSK) and of PAD-UFES-20. A bare number does not.
GLOBAL_GROUP = re.compile(r"(ham|bcn|msk\d*|il|ip|isic|pat)_\d+.*", re.IGNORECASE)

# Columns of the table of images left out because an earlier source has them.
REMOVED = ["image_id", "source", "kept", "kept_source", "by"]


@dataclass(frozen=True)
class Source:
    """One raw data set.

    Attributes:
        name: what `source` says in a joined data set.
        dataset: a key of `datasets.DATASETS`.
        root: its folder.
        table: its CSV, or None.
        mapping: the user's decisions about its labels; see `read_dataset`.
    """

    name: str
    dataset: str
    root: Path
    table: Path | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)


def read_sources(sources: Sequence[Source], labels: LabelSpace) -> RawRows:
    """The rows of all sources.

    One source is given as its adapter reads it. Of several, `source` says the name, and an image,
    lesion or patient id that an earlier source has for something else becomes `name/id`.

    Raises:
        UserError: as `read_dataset`, or two sources of one name.
    """
    names = [source.name for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            "Expected a different name for each of data.sources. Received more than once: "
            f"{', '.join(twice)}. Give each a name, for example "
            f"{{dataset: {sources[0].dataset}, root: ..., name: {twice[0]}_2}}."
        )
    parts = [_read(source, labels, alone=len(sources) == 1) for source in sources]
    if len(parts) == 1:
        return parts[0]
    tables = [part.table.assign(source=name) for name, part in zip(names, parts, strict=True)]
    table = pd.concat([each.astype({"row": np.int64}) for each in tables], ignore_index=True)
    notes = [note for part in parts for note in part.notes]
    for column in ("image_id", "lesion_id", "patient_id"):
        table[column], renamed = _set_apart(table, column)
        for name, count in renamed.items():
            notes.append(
                f"{counted(count, column.replace('_', ' '))} of {name} in use by an earlier "
                f"source, so called {name}/... here."
            )
    return RawRows(table, [problem for part in parts for problem in part.problems], notes)


def check_sources(
    raw: RawRows, labels: LabelSpace, names: Sequence[str]
) -> tuple[Manifest, list[Problem]]:
    """`build_manifest` for each source by itself, so that a line number says which file it is of.

    A lesion with different labels in different sources is no problem but a note: neither source is
    wrong by itself.

    Args:
        raw: what `read_sources` gave.
        labels: the label space.
        names: the sources' names, in order.

    Raises:
        UserError: a source without rows, or without a single image file.
    """
    if len(names) == 1:
        return build_manifest(raw, labels)
    manifests, problems = [], list(raw.problems)
    for name in names:
        rows = raw.table[raw.table["source"] == name]
        try:
            manifest, found = build_manifest(RawRows(rows.reset_index(drop=True)), labels)
        except UserError as error:
            raise UserError(f"Source {name!r} of data.sources: {error}") from None
        manifests.append(manifest)
        problems += [_named(problem, name) for problem in found]
    table = pd.concat([manifest.table for manifest in manifests], ignore_index=True)
    dropped: dict[str, int] = {}
    for name, manifest in zip(names, manifests, strict=True):
        for reason, count in manifest.dropped.items():
            dropped[f"{reason} ({name})"] = count
    notes = (*raw.notes, *_torn_lesions(table))
    rows = np.concatenate([manifest.rows for manifest in manifests])
    return Manifest(table, labels, rows, dropped, notes), problems


def without_overlap(
    raw: RawRows, pairs: pd.DataFrame
) -> tuple[RawRows, pd.DataFrame, list[tuple[str, str]]]:
    """Leave out each image that an earlier source has.

    Args:
        raw: rows of several sources, in their order.
        pairs: from `overlap.find` on these images.

    Returns:
        The rows that stay; the removed ones as columns image_id, source, kept (the image that
        stands for it), kept_source, by; and pairs of ids that must share a fold all the same: what
        was joined through a removed image (by its lesion, say) stays joined.
    """
    source = raw.table.drop_duplicates("image_id").set_index("image_id")["source"]
    order = {name: number for number, name in enumerate(raw.table["source"].unique())}
    first, second = pairs["image_id_1"], pairs["image_id_2"]
    across = (first.map(source) != second.map(source)).to_numpy()
    crossing = pairs[across]
    # `find` keeps the images' order, and sources come one after the other, so the first stays.
    removed = pd.DataFrame(
        {
            "image_id": crossing["image_id_2"],
            "source": crossing["image_id_2"].map(source),
            "kept": crossing["image_id_1"],
            "kept_source": crossing["image_id_1"].map(source),
            "by": crossing["by"],
        }
    )
    removed = removed.sort_values("kept_source", key=lambda names: names.map(order), kind="stable")
    removed = removed.drop_duplicates("image_id", ignore_index=True)
    for _ in order:  # an image that stands for another may be removed for a third
        stands_for = removed.set_index("image_id")["kept"]
        removed["kept"] = removed["kept"].map(stands_for).fillna(removed["kept"])
    removed["kept_source"] = removed["kept"].map(source)
    stays = ~raw.table["image_id"].isin(set(removed["image_id"]))
    kept = replace(raw, table=raw.table[stays].reset_index(drop=True))
    return kept, removed, _still_joined(raw.table, stays.to_numpy(), pairs)


def label_conflicts(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs whose images have different labels.

    Args:
        table: columns image_id and label (codes).
        pairs: from `overlap.find`; images that the table does not have are passed over.

    Returns:
        The pairs' columns and label_1, label_2.
    """
    label = table.drop_duplicates("image_id").set_index("image_id")["label"]
    both = pairs.assign(
        label_1=pairs["image_id_1"].map(label), label_2=pairs["image_id_2"].map(label)
    )
    both = both.dropna(subset=["label_1", "label_2"])
    return both[both["label_1"] != both["label_2"]].reset_index(drop=True)


def _read(source: Source, labels: LabelSpace, *, alone: bool) -> RawRows:
    if alone:
        return read_dataset(
            source.dataset, source.root, labels, source.table, mapping=source.mapping
        )
    try:
        raw = read_dataset(
            source.dataset, source.root, labels, source.table, mapping=source.mapping
        )
    except UserError as error:
        raise UserError(f"Source {source.name!r} of data.sources: {error}") from None
    problems = [_named(problem, source.name) for problem in raw.problems]
    return RawRows(raw.table, problems, [f"{source.name}: {note}" for note in raw.notes])


def _named(problem: Problem, name: str) -> Problem:
    return replace(problem, message=f"{name}: {problem.message}")


def _set_apart(table: pd.DataFrame, column: str) -> tuple[pd.Series, dict[str, int]]:
    """The column with `name/` before ids that an earlier source has, and how many by source."""
    ids = table[column].astype(object)
    ids = ids.where(ids.notna(), "").astype(str).str.strip()
    known = ~ids.str.lower().isin(MISSING_WORDS)
    if column != "image_id":
        known &= ~ids.str.fullmatch(GLOBAL_GROUP)
    owner = table["source"].groupby(ids).transform("first")
    foreign = known & (owner != table["source"])
    renamed = ids.where(~foreign, table["source"] + "/" + ids)
    counts = ids[foreign].groupby(table["source"][foreign], sort=False).nunique()
    return renamed, {str(name): int(count) for name, count in counts.items()}


def _torn_lesions(table: pd.DataFrame) -> list[str]:
    """A note if sources disagree on the label of a lesion that they share."""
    known = table.dropna(subset=["lesion_id"]).drop_duplicates(["lesion_id", "label"])
    torn = known["lesion_id"][known["lesion_id"].duplicated()].unique()
    across = table[table["lesion_id"].isin(torn)].groupby("lesion_id")["source"].nunique()
    torn = across.index[across > 1]
    if not len(torn):
        return []
    return [
        f"sources disagree on the label of {counted(len(torn), 'lesion')} that they share, for "
        f"example {', '.join(map(str, torn[:3]))}; each image keeps its own label"
    ]


def _still_joined(
    table: pd.DataFrame, stays: np.ndarray, pairs: pd.DataFrame
) -> list[tuple[str, str]]:
    """Pairs that hold together, without the removed images, every group that had one."""
    if stays.all():
        return []
    links = list(zip(pairs["image_id_1"], pairs["image_id_2"], strict=True))
    groups = group_ids(table, links)
    touched = groups.isin(set(groups[~stays])).to_numpy() & stays
    ids = table["image_id"][touched]
    first = ids.groupby(groups[touched]).transform("first")
    return [pair for pair in zip(first, ids, strict=True) if pair[0] != pair[1]]
