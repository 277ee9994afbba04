"""HAM10000 in both its layouts.

Kaggle: `HAM10000_metadata.csv` and the folders `HAM10000_images_part_1`, `_part_2`. Dataverse: the
metadata without extension (or `.tab`), a further column `dataset`, images in one folder or two.
Source: Tschandl et al. 2018, doi:10.7910/DVN/DBW86T.
"""

from pathlib import Path

from kderm.data.datasets.csv_file import open_csv
from kderm.data.datasets.image_index import index_images
from kderm.data.datasets.layout import find_images
from kderm.data.manifest import RawRows
from kderm.errors import UserError
from kderm.labels import LabelSpace

_METADATA = "ham10000_metadata"
_SUFFIXES = (".csv", "", ".tab", ".tsv", ".txt")
# `dx_type` (histo, follow_up, ...) is never read: how a diagnosis was confirmed gives it away.
_OPTIONAL = {"age": "age", "sex": "sex", "localization": "site", "dataset": "source"}


def read_ham10000(root: Path, labels: LabelSpace, table: Path | None = None) -> RawRows:
    """Rows of the metadata table, with the image files wherever they lie below `root`.

    Args:
        root: the folder that holds metadata and images.
        labels: not needed here; every adapter is asked alike.
        table: the metadata file, if it lies elsewhere.
    """
    source = open_csv(table or find_metadata(root))
    required = [source.require([name], name) for name in ("lesion_id", "image_id", "dx")]
    optional = [name for name in _OPTIONAL if name in source.columns]
    rows, problems = source.read([*required, *optional])
    rows = rows.rename(columns={"dx": "label", **_OPTIONAL})
    rows["path"], notes = find_images(rows["image_id"], index_images(root))
    rows["patient_id"] = None
    for column in _OPTIONAL.values():
        if column not in rows:
            rows[column] = "ham10000" if column == "source" else None
    return RawRows(rows, problems, notes)


def read_demo(root: Path, labels: LabelSpace, table: Path | None = None) -> RawRows:
    """The generated data set, which lies on disk as HAM10000 does."""
    raw = read_ham10000(root, labels, table)
    note = "SYNTHETIC demo images, drawn by kderm: the numbers say nothing about real lesions."
    return RawRows(raw.table.assign(source="demo"), raw.problems, [note, *raw.notes])


def find_metadata(root: Path) -> Path:
    """The metadata file in `root` or in a folder directly below.

    Raises:
        UserError: there is none.
    """
    candidates = [
        path
        for pattern in ("*", "*/*")
        for path in sorted(Path(root).glob(pattern))
        if path.is_file()
        and path.name.lower().startswith(_METADATA)
        and path.name.lower()[len(_METADATA) :] in _SUFFIXES
    ]
    if not candidates:
        here = sorted(path.name for path in Path(root).iterdir())
        raise UserError(
            f"Expected HAM10000_metadata.csv (or HAM10000_metadata) in {root}. "
            f"Received a folder with: {', '.join(here[:12]) or 'nothing'}. "
            "Point data.root at the folder that holds it, or data.table at the file."
        )
    return min(
        candidates,
        key=lambda path: (len(path.parts), _SUFFIXES.index(path.suffix.lower()), str(path)),
    )
