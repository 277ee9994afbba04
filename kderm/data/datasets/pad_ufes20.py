"""PAD-UFES-20: 2,298 smartphone photographs of 1,373 patients, `metadata.csv` and `imgs_part_1..3`.

The column names are the data set's own, `fitspatrick`, `diagnostic` and `biopsed` among them.
Source: Pacheco et al. 2020, doi:10.1016/j.dib.2020.106221.
"""

from pathlib import Path

from kderm.data.datasets.csv_file import open_csv
from kderm.data.datasets.image_index import index_images, stem
from kderm.data.datasets.layout import complete, find_images, find_tables, no_table, read_columns
from kderm.data.manifest import RawRows
from kderm.labels import LabelSpace

_REQUIRED = {
    "image_id": ["img_id"],
    "label": ["diagnostic"],
    "patient_id": ["patient_id"],
    "lesion_id": ["lesion_id"],
}
# `biopsed` is never read: what was biopsied was suspected.
_OPTIONAL = {"age": ["age"], "sex": ["gender"], "site": ["region"]}


def read_pad_ufes20(root: Path, labels: LabelSpace, table: Path | None = None) -> RawRows:
    """Rows of the metadata; an image's id is its `img_id` without the suffix `.png`.

    Args:
        root: the folder that holds metadata and images.
        labels: not needed here; every adapter is asked alike.
        table: the metadata file, if it lies elsewhere.
    """
    found = find_tables(root, r"metadata\.csv")
    if table is None and not found:
        raise no_table(root, "metadata.csv")
    rows, problems = read_columns(open_csv(table or found[0]), _REQUIRED, _OPTIONAL)
    rows["image_id"] = [stem(name) for name in rows["image_id"]]
    rows["path"], notes = find_images(rows["image_id"], index_images(root))
    return RawRows(complete(rows.assign(source="pad_ufes20")), problems, notes)
