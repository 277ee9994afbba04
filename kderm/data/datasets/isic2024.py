"""ISIC 2024 (SLICE-3D): 401,059 crops of total-body photographs, 393 of them malignant.

Images come in one file of JPEG bytes by id (`train-image.hdf5`), or as files below a folder. Only
the columns that the manifest has are read: most of the other fifty are measurements of the crop,
and several give the label away (`kderm.data.datasets.leaking`).
Source: Kurtansky et al. 2024, doi:10.1038/s41597-024-03743-w.
"""

from collections.abc import Sequence
from pathlib import Path

from kderm.data.datasets.csv_file import open_csv
from kderm.data.datasets.image_index import index_images
from kderm.data.datasets.layout import complete, find_images, find_tables, no_table, read_columns
from kderm.data.hdf5 import MemberError, member_names, member_path
from kderm.data.manifest import Problem, RawRows
from kderm.errors import UserError
from kderm.labels import LabelSpace

ABSENT = "image not in the HDF5 file"
_HDF5 = r"train[-_]image\.(hdf5|h5)"
_OPTIONAL = {
    "patient_id": ["patient_id"],
    "age": ["age_approx"],
    "sex": ["sex"],
    "site": ["anatom_site_general"],
}


def read_isic2024(root: Path, labels: LabelSpace, table: Path | None = None) -> RawRows:
    """Rows of `train-metadata.csv`, with the images in the HDF5 file if there is one.

    Args:
        root: the folder that holds both.
        labels: not needed; the data set is labelled benign or malignant.
        table: the table, if it lies elsewhere.

    Raises:
        UserError: no table, a column is not there, or the HDF5 file cannot be read at all.
    """
    found = find_tables(root, r"train[-_]metadata\.csv")
    if table is None and not found:
        raise no_table(root, "train-metadata.csv")
    required = {"image_id": ["isic_id"], "label": ["target", "malignant"]}
    rows, problems = read_columns(open_csv(table or found[0]), required, _OPTIONAL)
    rows["source"] = "isic2024"
    files = find_tables(root, _HDF5)
    if files:
        rows["path"], absent = _members(files[0], rows["image_id"], rows["row"])
        return RawRows(complete(rows), [*problems, *absent])
    rows["path"], notes = find_images(rows["image_id"], index_images(root))
    return RawRows(complete(rows), problems, notes)


def _members(
    file: Path, image_ids: Sequence[str], rows: Sequence[int]
) -> tuple[list[str | None], list[Problem]]:
    """The path of each image inside `file`; a problem for each that it does not hold."""
    try:
        known = set(member_names(file))
    except (MemberError, OSError) as error:
        raise UserError(
            f"Expected in {file} the images by their id (HDF5). Received: {error}. Fetch the file "
            "again, or remove it to use the images of a folder beside it."
        ) from None
    paths = [member_path(file, name) if name in known else None for name in image_ids]
    problems = [
        Problem(ABSENT, int(row), f"{file.name} holds no image {name!r}")
        for name, row, path in zip(image_ids, rows, paths, strict=True)
        if path is None
    ]
    return paths, problems
