"""ISIC 2020: one table of 33,126 images with patients; `_v2` of it knows lesions too.

Labelled twice: `target` says benign or malignant, `diagnosis` names one of nine. Both layouts are
read, the official one and Kaggle's (`train.csv`, `train/*.jpg`).
Source: Rotemberg et al. 2021, doi:10.34970/2020-ds01.
"""

from pathlib import Path

from kderm.data.datasets.csv_file import open_csv
from kderm.data.datasets.image_index import index_images
from kderm.data.datasets.layout import complete, find_images, find_tables, no_table, read_columns
from kderm.data.manifest import RawRows
from kderm.labels import LabelSpace

# Best first: only the second version knows lesions.
_TABLES = (
    r"isic_2020_training_groundtruth_v2\.csv",
    r"isic_2020_training_groundtruth\.csv",
    r"train\.csv",
)
_DUPLICATES = r"isic_2020_training_duplicates\.csv"
_OPTIONAL = {
    "patient_id": ["patient_id"],
    "lesion_id": ["lesion_id"],
    "age": ["age_approx"],
    "sex": ["sex"],
    "site": ["anatom_site_general_challenge", "anatom_site_general"],
}


def read_isic2020(root: Path, labels: LabelSpace, table: Path | None = None) -> RawRows:
    """Rows of the ground truth.

    Args:
        root: the folder that holds the table and the images.
        labels: `binary` for the column target, else the diagnosis.
        table: the table, if it lies elsewhere.
    """
    found = [path for pattern in _TABLES for path in find_tables(root, pattern)]
    if table is None and not found:
        raise no_table(root, "ISIC_2020_Training_GroundTruth.csv (or _v2.csv, or train.csv)")
    label = ["target", "benign_malignant"] if labels.name == "binary" else ["diagnosis"]
    rows, problems = read_columns(
        open_csv(table or found[0]), {"image_id": ["image_name"], "label": label}, _OPTIONAL
    )
    rows["path"], notes = find_images(rows["image_id"], index_images(root))
    duplicates = find_tables(root, _DUPLICATES)
    if duplicates:
        notes.append(
            f"{duplicates[0].name} lists images that are there twice: set "
            f"data.duplicates={duplicates[0]} to keep them in one fold."
        )
    return RawRows(complete(rows.assign(source="isic2020")), problems, notes)
