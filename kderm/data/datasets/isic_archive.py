"""Images of the ISIC archive with the metadata table that its gallery and its API hand out.

`image_id` or `isic_id`, a diagnosis in words, `benign_malignant`; lesions and patients where a
collection knows them. Source: https://www.isic-archive.com
"""

from pathlib import Path

from kderm.data.datasets.csv_file import open_csv
from kderm.data.datasets.image_index import index_images, stem
from kderm.data.datasets.layout import (
    complete,
    find_images,
    find_tables,
    no_table,
    read_columns,
    without_label,
)
from kderm.data.manifest import MISSING_WORDS, RawRows
from kderm.labels import LabelSpace

_OPTIONAL = {
    "lesion_id": ["lesion_id"],
    "patient_id": ["patient_id"],
    "age": ["age_approx", "age"],
    "sex": ["sex"],
    "site": ["anatom_site_general", "anatom_site_general_challenge"],
    "source": ["dataset", "attribution"],
}


def read_isic_archive(root: Path, labels: LabelSpace, table: Path | None = None) -> RawRows:
    """Rows of `metadata.csv`; those without a label are left out with a note.

    Args:
        root: the folder that holds the table and the images.
        labels: `binary` for the column benign_malignant, else the diagnosis.
        table: the table, if it has another name.
    """
    found = find_tables(root, r"metadata\.csv")
    if table is None and not found:
        raise no_table(root, "metadata.csv")
    # Newer tables have the diagnosis in steps: diagnosis_1 says benign or malignant.
    binary = ["benign_malignant", "diagnosis_1"]
    label = binary if labels.name == "binary" else ["diagnosis", "diagnosis_3"]
    required = {"image_id": ["image_id", "isic_id"], "label": label}
    rows, problems = read_columns(open_csv(table or found[0]), required, _OPTIONAL)
    # `unknown` may be a diagnosis of its own; an empty cell never is.
    nothing = MISSING_WORDS if labels.resolve("unknown") is None else frozenset({"", "nan"})
    rows, notes = without_label(rows, nothing)
    rows["image_id"] = [stem(name) for name in rows["image_id"]]
    rows["path"], copies = find_images(rows["image_id"], index_images(root))
    if "source" not in rows:
        rows["source"] = "isic_archive"
    return RawRows(complete(rows), problems, [*notes, *copies])
