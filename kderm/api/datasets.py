"""A data set and its folds, in Python: what `prepare` reads and makes, before anything is trained.

First of the three steps load_dataset -> make_folds -> cross_validate (`kderm.api.runs`).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kderm import console
from kderm.api.arguments import in_arguments
from kderm.config.reading import as_overrides, changed_config, load_config
from kderm.config.schema import Config
from kderm.data import folds as fold_tables
from kderm.data.checked import check_data, check_places, data_sources
from kderm.data.datasets import DATASETS, check_dataset
from kderm.data.folds import FoldTable, read_duplicates, write_folds
from kderm.data.join import check_sources, read_sources
from kderm.data.manifest import Manifest, raise_problems
from kderm.labels import LabelSpace, label_space

_ARGUMENTS = {f"data.{name}": name for name in ("dataset", "root", "table", "labels")}
# What cannot be mended by any split, and so is said of every one.
UNGROUPED = (
    "There are no lesion or patient ids, so each image is a group of its own: photographs of one "
    "lesion may lie in different folds, and leakage cannot be ruled out. Known duplicates can be "
    "listed in data.duplicates."
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set whose table was read and checked; its images are decoded when they are needed.

    Attributes:
        config: how it is read, and every other option of a run on it.
        manifest: one row an image; see `kderm.data.manifest`.
    """

    config: Config
    manifest: Manifest

    @property
    def table(self) -> pd.DataFrame:
        """One row an image: image_id, path, lesion_id, patient_id, label, age, sex, site, source.

        Not known is NaN for ids and age, "unknown" for the others.
        """
        return self.manifest.table

    @property
    def labels(self) -> LabelSpace:
        """The label space; its order is that of all probabilities."""
        return self.manifest.labels

    @property
    def counts(self) -> dict[str, int]:
        """Images of each class, in label-space order."""
        found = self.table["label"].value_counts()
        return {code: int(found.get(code, 0)) for code in self.labels.codes}

    def __len__(self) -> int:
        return len(self.manifest)

    def __repr__(self) -> str:
        counts = ", ".join(f"{code} {count}" for code, count in self.counts.items())
        return f"Dataset({self.config.data.title}: {len(self)} images; {counts})"


def load_dataset(
    dataset: str | None = None,
    root: str | os.PathLike | None = None,
    *,
    table: str | os.PathLike | None = None,
    labels: str | None = None,
    config: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Dataset:
    """Read and check the table of a data set. Rows that are left out are told as a warning.

    Args:
        dataset: an adapter: ham10000, isic2019, table, class_folders, ...; None for what `config`
            says, else for the demo, which is drawn now.
        root: folder of the raw data set.
        table: its CSV, for dataset "table"; relative to `root` or to the current folder.
        labels: the label space; None for what `config` says, else for the data set's own.
        config: a YAML file with options; the defaults without one.
        settings: other options by their keys: {"data.classes": ["naevus", "melanoma"]}.

    Raises:
        UserError: all that is wrong with the table, in one message.
    """
    given = {"data.dataset": dataset, "data.root": root, "data.table": table, "data.labels": labels}
    given = {key: value for key, value in given.items() if value is not None}
    # A config has its own names for what it says.
    with in_arguments(_ARGUMENTS if config is None else {}):
        if dataset is not None and labels is None and config is None:
            check_dataset(dataset)
            native = DATASETS[dataset].native
            given |= {"data.labels": native[0]} if native else {}
        overrides = as_overrides(given | dict(settings or {}))
        found = load_config(None if config is None else os.fspath(config), overrides)
        return read_data(found)


def read_data(config: Config) -> Dataset:
    """The data set that a config names, its table checked; warns of rows that are left out."""
    check_places(config)
    space = label_space(config.data.labels, config.data.classes, config.data.malignant)
    sources = data_sources(config.data)
    raw = read_sources(sources, space)
    manifest, problems = check_sources(raw, space, [source.name for source in sources])
    raise_problems(problems)
    for warning in dropped_words(manifest.dropped):
        console.warn(warning)
    return Dataset(config, manifest)


def make_folds(
    data: Dataset, k: int = 5, *, seed: int = 42, path: str | os.PathLike | None = None
) -> FoldTable:
    """Split into `k` folds: lesions and patients whole, every class in every fold where it can be.

    The same split as that of the command `prepare`, for the same `k` and `seed`. Without any lesion
    or patient ids there is nothing to keep whole, which is told as a warning.

    Args:
        data: of `load_dataset`. Joined data sets are decoded and searched for the same picture.
        k: number of folds.
        seed: of the split.
        path: a CSV to freeze the folds in, for `folds.file`; None writes nothing.

    Raises:
        UserError: fewer lesions and patients than folds, or images that cannot be read.
    """
    with in_arguments({"folds.k": "k", "folds.seed": "seed"}):
        manifest, found = split(data, k, seed)
    new = {why: n for why, n in manifest.dropped.items() if why not in data.manifest.dropped}
    for warning in dropped_words(new):
        console.warn(warning)
    if is_ungrouped(manifest.table, found):
        console.warn(UNGROUPED)
    if path is not None:
        write_folds(Path(path), found, f"kderm.make_folds, data.dataset={data.config.data.title}")
    return found


def split(data: Dataset, k: int, seed: int) -> tuple[Manifest, FoldTable]:
    """The images that are dealt and the folds, without a word; see `make_folds`."""
    config = changed_config(data.config, {"folds.k": k, "folds.seed": seed}).data
    manifest, linked = data.manifest, []
    if len(data_sources(config)) > 1:
        checked = check_data(data.config, data.labels)
        raise_problems(checked.problems)
        manifest, linked = checked.manifest, checked.linked
    ids = data.table["image_id"]
    listed = read_duplicates(config.duplicates, ids) if config.duplicates else []
    pairs = [*listed, *linked]
    return manifest, fold_tables.make_folds(manifest.table, data.labels, k, seed, pairs)


def dropped_words(dropped: Mapping[str, int]) -> list[str]:
    """A warning for each reason to leave images out."""
    return [f"{count} images dropped: {reason}" for reason, count in dropped.items()]


def is_ungrouped(table: pd.DataFrame, folds: FoldTable) -> bool:
    """Whether nothing is known of which images belong together."""
    known = table[["lesion_id", "patient_id"]].notna().to_numpy().any()
    return not known and not folds.table["group_id"].duplicated().any()
