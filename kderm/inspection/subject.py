"""What the inspection pages are about: the checked data set with everything measured on it.

Gathers; `kderm.inspection.sections` shows. The frames are looked at without preprocessing, since
that is what preprocessing is chosen by.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from kderm import console
from kderm.config.schema import Config
from kderm.data.checked import Checked, check_data
from kderm.data.datasets.columns import ALIASES
from kderm.data.datasets.csv_file import open_csv
from kderm.data.datasets.image_index import stem
from kderm.data.folds import group_ids, read_duplicates
from kderm.data.images import ImageSpec
from kderm.data.join import Source
from kderm.errors import UserError
from kderm.inspection.association import telling_columns
from kderm.inspection.quality import file_sizes, flag, measure
from kderm.labels import LabelSpace, label_space
from kderm.runtime import rng_for

# More images than this are measured by a sample, more lines of a raw table are not read.
MOST_MEASURED = 20_000
MOST_LINES = 50_000


@dataclass
class Subject:
    """A data set under inspection.

    Attributes:
        config: the run's config.
        labels: its label space.
        checked: rows, frames and pairs of the same image.
        measured: int (m,), positions in `table` of the images whose quality was measured.
        quality: `quality.MEASURES`, flags: `quality.FLAGS`, sizes: of the files; m rows each.
        listed: pairs of ids that data.duplicates lists.
        columns: name of a raw table -> `association.telling_columns` of it.
    """

    config: Config
    labels: LabelSpace
    checked: Checked
    measured: np.ndarray
    quality: pd.DataFrame
    flags: pd.DataFrame
    sizes: pd.DataFrame
    listed: list[tuple[str, str]] = field(default_factory=list)
    columns: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """The manifest's rows, 0..n-1."""
        return self.checked.manifest.table

    @property
    def codes(self) -> tuple[str, ...]:
        """Class codes, in order."""
        return self.labels.codes

    @cached_property
    def store_rows(self) -> np.ndarray:
        """int64 (n,): where each row's frame is in the store."""
        return self.checked.store.rows(self.table["image_id"])

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Image id -> position in `table`."""
        return {image_id: row for row, image_id in enumerate(self.table["image_id"])}

    @cached_property
    def groups(self) -> np.ndarray:
        """The group of each row, by lesion, patient and the listed duplicates."""
        return group_ids(self.table, [*self.listed, *self.checked.linked]).to_numpy()

    @cached_property
    def ungrouped(self) -> pd.DataFrame:
        """The pairs of the same image whose two images are in different groups."""
        pairs = self.checked.pairs
        first, second = (pairs[name].map(self.row_of) for name in ("image_id_1", "image_id_2"))
        there = (first.notna() & second.notna()).to_numpy()
        i, j = (side[there].astype(np.int64).to_numpy() for side in (first, second))
        return pairs[there][self.groups[i] != self.groups[j]].reset_index(drop=True)

    def frame(self, row: int) -> np.ndarray:
        """The picture of a row of `table`, uint8 (H, W, 3)."""
        return self.checked.store.images[self.store_rows[row]]

    @property
    def spec(self) -> ImageSpec:
        """The frame, without preprocessing."""
        return self.checked.store.spec


def gather(config: Config) -> Subject:
    """Read, check, decode and measure the data set of a config.

    Raises:
        UserError: a source that cannot be read at all; not one image that can be shown.
    """
    labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
    plain = config.model_copy(
        update={
            "data": config.data.model_copy(update={"drop_unreadable": True}),
            "image": config.image.model_copy(update={"preprocess": ()}),
        }
    )
    checked = check_data(plain, labels, compare=True)
    table = checked.manifest.table.reset_index(drop=True)
    checked = replace(checked, manifest=replace(checked.manifest, table=table))
    if table.empty:
        raise UserError(
            "Expected at least one image with a label and a readable file. Received: none. "
            + " ".join(problem.message for problem in checked.problems[:3])
        )
    measured = np.arange(len(table))
    if len(table) > MOST_MEASURED:
        rng = rng_for(config.seed, 0, "inspect")
        measured = np.sort(rng.choice(len(table), MOST_MEASURED, replace=False))
    rows = checked.store.rows(table["image_id"].iloc[measured])
    with console.progress("measuring the images") as report:
        quality = measure(checked.store.images, rows, report)
    sizes = file_sizes(table["path"].iloc[measured].tolist())
    flags = flag(quality, table["source"].to_numpy()[measured])
    ids = checked.everything.table["image_id"]
    listed = read_duplicates(config.data.duplicates, ids) if config.data.duplicates else []
    columns = {}
    for source in checked.sources:
        columns |= raw_columns(source, table, several=len(checked.sources) > 1)
    return Subject(config, labels, checked, measured, quality, flags, sizes, listed, columns)


def raw_columns(source: Source, table: pd.DataFrame, several: bool) -> dict[str, pd.DataFrame]:
    """What the columns of a source's CSV files tell of the class, by file name.

    Args:
        source: one raw data set.
        table: the manifest's rows of all sources.
        several: whether `table` has more sources than this one.
    """
    label_of = dict(zip(table["image_id"].map(stem), table["label"], strict=True))
    if several:
        own = table[table["source"] == source.name]
        ids = own["image_id"].str.removeprefix(f"{source.name}/").map(stem)
        label_of = dict(zip(ids, own["label"], strict=True))
    found = {}
    for path in _csv_files(source):
        try:
            csv = open_csv(path)
        except UserError:  # another kind of file, which no adapter asked for
            continue
        image = csv.first_of((*ALIASES["image_id"], *ALIASES["path"]))
        if image is None:
            continue
        rows = pd.read_csv(
            path, sep=csv.delimiter, encoding=csv.encoding, skiprows=csv.above, header=0,
            names=list(csv.columns), dtype=str, nrows=MOST_LINES, on_bad_lines="skip",
            index_col=False, keep_default_na=False,
        )  # fmt: skip
        label = rows[image].fillna("").map(stem).map(label_of)
        there = label.notna()
        if there.sum() >= max(2, 0.2 * len(rows)) and label.nunique() > 1:
            name = f"{source.name}/{path.name}" if several else path.name
            columns = rows[there].drop(columns=image).reset_index(drop=True)
            found[name] = telling_columns(columns, label[there].to_numpy(dtype=str))
    return found


def _csv_files(source: Source) -> list[Path]:
    if source.table is not None:
        inside = source.root / source.table
        return [inside if inside.exists() else source.table]
    # The Dataverse copy of HAM10000's table has no suffix.
    named = {*source.root.glob("*.csv"), *source.root.glob("*_metadata")}
    return sorted(path for path in named if path.is_file())
