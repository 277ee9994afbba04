"""Adapters: each turns a raw data set on disk into rows of one shape. First stage of the flow.

An adapter is a row of `DATASETS` and a file of this folder. It reads tables and lists files; it
checks nothing that the manifest checks, and never opens an image.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kderm.data.datasets.challenge import read_isic2018, read_isic2019
from kderm.data.datasets.class_folders import read_class_folders
from kderm.data.datasets.ham10000 import read_demo, read_ham10000
from kderm.data.datasets.isic2020 import read_isic2020
from kderm.data.datasets.isic2024 import read_isic2024
from kderm.data.datasets.isic_archive import read_isic_archive
from kderm.data.datasets.pad_ufes20 import read_pad_ufes20
from kderm.data.datasets.table import read_table
from kderm.data.datasets.translation import (
    check_mapping,
    native_space,
    reading_space,
    translate,
)
from kderm.data.manifest import RawRows
from kderm.errors import UserError, unknown_name
from kderm.labels import LABEL_SPACES, LabelSpace

__all__ = ["DATASETS", "DatasetAdapter", "RawRows", "read_dataset", "recognised"]


@dataclass(frozen=True)
class DatasetAdapter:
    """What the registry knows about a kind of data set.

    Attributes:
        layout: what is expected below data.root, in words.
        read: (root, labels, table) -> RawRows; labels is one of `native`, where there are any.
        native: names of the label spaces that its labels are spelled in; () for data sets that may
            be spelled in any.
        signs: patterns (any case) of names in the folder, or in one directly below, that together
            tell the layout; () where no name does.
    """

    layout: str
    read: Callable[[Path, LabelSpace, Path | None], RawRows]
    native: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()


DATASETS: dict[str, DatasetAdapter] = {
    "demo": DatasetAdapter(
        "a folder that kderm generated, laid out as HAM10000", read_demo, ("ham10000",)
    ),
    "ham10000": DatasetAdapter(
        "HAM10000_metadata.csv (or without .csv) and the images, in any folder",
        read_ham10000,
        ("ham10000",),
        (r"ham10000_metadata(\.\w+)?",),
    ),
    "isic2018": DatasetAdapter(
        "ISIC2018_Task3_*_GroundTruth.csv, the lesion groupings and the images",
        read_isic2018,
        ("ham10000",),
        (r"isic2018_task3_\w+_groundtruth\.csv",),
    ),
    "isic2019": DatasetAdapter(
        "ISIC_2019_Training_GroundTruth.csv, _Metadata.csv and the images",
        read_isic2019,
        ("isic2019",),
        (r"isic_2019_training_groundtruth\.csv",),
    ),
    "isic2020": DatasetAdapter(
        "ISIC_2020_Training_GroundTruth.csv (or _v2, or train.csv) and the images",
        read_isic2020,
        ("binary", "isic2019"),
        (r"isic_2020_training_groundtruth(_v2)?\.csv",),
    ),
    "isic2024": DatasetAdapter(
        "train-metadata.csv and train-image.hdf5 (or the JPEG files)",
        read_isic2024,
        ("binary",),
        (r"train[-_]metadata\.csv",),
    ),
    "pad_ufes20": DatasetAdapter(
        "metadata.csv and imgs_part_1 to 3",
        read_pad_ufes20,
        ("pad_ufes20",),
        (r"metadata\.csv", r"imgs_part_\d"),
    ),
    "isic_archive": DatasetAdapter(
        "metadata.csv as the ISIC archive hands it out, and the images",
        read_isic_archive,
        ("isic2019", "ham10000", "binary"),
        (r"metadata\.csv",),
    ),
    "class_folders": DatasetAdapter("one folder a class, <class>/*.jpg", read_class_folders),
    "table": DatasetAdapter("a CSV with an image and a label column, and the images", read_table),
}


def recognised(root: Path) -> str:
    """The adapter for what seems to lie below `root`, by names alone: a guess to propose."""
    names = [path.name for level in ("*", "*/*") for path in Path(root).glob(level)]
    for dataset, adapter in DATASETS.items():
        patterns = [re.compile(sign, re.IGNORECASE) for sign in adapter.signs]
        if patterns and all(any(map(pattern.fullmatch, names)) for pattern in patterns):
            return dataset
    return "table" if any(Path(root).glob("*.csv")) else "class_folders"


def check_dataset(dataset: str) -> None:
    """Refuse an unknown adapter.

    Raises:
        UserError: with the nearest names.
    """
    if dataset not in DATASETS:
        raise unknown_name("data set kind", dataset, DATASETS, do="Set data.dataset.")


def check_place(dataset: str, root: Path) -> None:
    """Refuse an unknown adapter or a folder that is not there.

    Raises:
        UserError: either.
    """
    check_dataset(dataset)
    if not Path(root).is_dir():
        received = "a file" if Path(root).exists() else "no such folder"
        raise UserError(
            f"Expected a folder at data.root={root} with {DATASETS[dataset].layout}. Received: "
            f"{received}."
        )


def read_dataset(
    dataset: str,
    root: Path,
    labels: LabelSpace,
    table: Path | None = None,
    mapping: Mapping[str, str] | None = None,
) -> RawRows:
    """Read the raw data set below `root` with the adapter called `dataset`.

    A data set that is not labelled in `labels` is read in a label space of its own and translated;
    see `kderm.label_maps`.

    Args:
        dataset: a key of `DATASETS`.
        root: folder of the data set.
        labels: the label space the labels will be resolved in.
        table: the metadata CSV, absolute, relative to `root`, or relative to the current folder.
        mapping: the user's decisions (data.map): a code or spelling of the data set to a code of
            `labels`, or to "drop", which leaves those images out.

    Raises:
        UserError: unknown adapter, no such folder, a table that cannot be read at all, or a
            decision for a label that `labels` does not have.
    """
    check_place(dataset, root)
    adapter = DATASETS[dataset]
    decisions = check_mapping(mapping or {}, labels)
    root = Path(root)
    if table is not None and (root / table).exists():
        table = root / table
    name = native_space(adapter.native, labels)
    if name is None or name == labels.name:
        raw = adapter.read(root, reading_space(labels, decisions), table)
        return translate(raw, labels, labels, decisions) if decisions else raw
    spelled = LABEL_SPACES[name]
    return translate(adapter.read(root, spelled, table), spelled, labels, decisions)
