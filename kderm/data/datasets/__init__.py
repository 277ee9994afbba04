"""Adapters: each turns a raw data set on disk into rows of one shape. First stage of the flow.

An adapter is a row of `DATASETS` and a file of this folder. It reads tables and lists files; it
checks nothing that the manifest checks, and never opens an image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kderm.data.datasets.class_folders import read_class_folders
from kderm.data.datasets.ham10000 import read_demo, read_ham10000
from kderm.data.datasets.table import read_table
from kderm.data.manifest import RawRows
from kderm.errors import UserError, unknown_name
from kderm.labels import LabelSpace

__all__ = ["DATASETS", "DatasetAdapter", "RawRows", "read_dataset"]


@dataclass(frozen=True)
class DatasetAdapter:
    """What the registry knows about a kind of data set.

    Attributes:
        layout: what is expected below data.root, in words.
        read: (root, labels, table) -> RawRows.
    """

    layout: str
    read: Callable[[Path, LabelSpace, Path | None], RawRows]


DATASETS: dict[str, DatasetAdapter] = {
    "demo": DatasetAdapter("a folder that kderm generated, laid out as HAM10000", read_demo),
    "ham10000": DatasetAdapter(
        "HAM10000_metadata.csv (or without .csv) and the images, in any folder", read_ham10000
    ),
    "class_folders": DatasetAdapter("one folder a class, <class>/*.jpg", read_class_folders),
    "table": DatasetAdapter("a CSV with an image and a label column, and the images", read_table),
}


def read_dataset(
    dataset: str, root: Path, labels: LabelSpace, table: Path | None = None
) -> RawRows:
    """Read the raw data set below `root` with the adapter called `dataset`.

    Args:
        dataset: a key of `DATASETS`.
        root: folder of the data set.
        labels: the label space the labels will be resolved in.
        table: the metadata CSV, absolute, relative to `root`, or relative to the current folder.

    Raises:
        UserError: unknown adapter, no such folder, or a table that cannot be read at all.
    """
    if dataset not in DATASETS:
        raise unknown_name("data set kind", dataset, DATASETS, do="Set data.dataset.")
    adapter = DATASETS[dataset]
    root = Path(root)
    if not root.is_dir():
        received = "a file" if root.exists() else "no such folder"
        raise UserError(
            f"Expected a folder at data.root={root} with {adapter.layout}. Received: {received}."
        )
    if table is not None and (root / table).exists():
        table = root / table
    return adapter.read(root, labels, table)
