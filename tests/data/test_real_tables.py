"""The published tables themselves, read by the adapters: every count that is known of them.

Reads tables and lists folders, in well under a second each; skips where they are not there.
"""

import os
from pathlib import Path

import pandas as pd
import pytest

from kderm.data.datasets import read_dataset
from kderm.data.folds import group_ids, read_duplicates
from kderm.data.manifest import RawRows, build_manifest
from kderm.labels import BINARY, HAM10000, ISIC2019, LabelSpace

SHARED = Path(os.environ.get("KDERM_DATA", Path(__file__).parents[2].parent / "shared"))
DATA = SHARED / "data"
TABLES = DATA / "labels"


def rows_of(dataset: str, root: Path, labels: LabelSpace, **options) -> RawRows:
    if not root.is_dir():
        pytest.skip(f"no real data at {root}")
    return read_dataset(dataset, root, labels, **options)


def manifest_of(dataset: str, root: Path, labels: LabelSpace, **options) -> pd.DataFrame:
    """The manifest's table; where there are tables only, as if every image were there."""
    raw = rows_of(dataset, root, labels, **options)
    if root == TABLES:
        raw = RawRows(raw.table.assign(path="/images/" + raw.table["image_id"]), raw.problems)
    manifest, problems = build_manifest(raw, labels)
    assert problems == []
    assert manifest.dropped == {}
    return manifest.table


def counts(table: pd.DataFrame) -> dict[str, int]:
    return table["label"].value_counts().sort_index().to_dict()


def test_ham10000_has_its_10015_images_and_7470_lesions():
    table = manifest_of("ham10000", DATA / "ham10000", HAM10000)
    assert len(table) == 10015
    assert table["lesion_id"].nunique() == 7470
    expected = dict(akiec=327, bcc=514, bkl=1099, df=115, mel=1113, nv=6705, vasc=142)
    assert counts(table) == expected


def test_ham10000_read_as_isic2019_leaves_its_akiec_to_the_user():
    raw = rows_of("ham10000", DATA / "ham10000", ISIC2019)
    (problem,) = raw.problems
    assert problem.kind == "label without one counterpart"
    assert "327 images, may be ak or scc" in problem.message
    table = manifest_of("ham10000", DATA / "ham10000", ISIC2019, mapping={"akiec": "drop"})
    assert len(table) == 10015 - 327


def test_the_isic_2018_validation_set_has_193_images():
    table = manifest_of("isic2018", TABLES, HAM10000)
    assert counts(table) == dict(akiec=8, bcc=15, bkl=22, df=1, mel=21, nv=123, vasc=3)
    assert table["source"].unique().tolist() == ["validation"]
    assert table["lesion_id"].isna().all()


def test_isic_2019_has_its_25331_images_in_eight_classes_and_11847_lesions():
    table = manifest_of("isic2019", TABLES, ISIC2019)
    expected = dict(ak=867, bcc=3323, bkl=2624, df=239, mel=4522, nv=12875, scc=628, vasc=253)
    assert counts(table) == expected
    assert len(table) == 25331
    assert table["lesion_id"].nunique() == 11847
    assert table["lesion_id"].isna().sum() == 2084
    assert table["image_id"].str.endswith("_downsampled").sum() == 2074


def test_isic_2019_images_without_a_lesion_are_groups_of_their_own():
    table = manifest_of("isic2019", TABLES, ISIC2019)
    groups = pd.Series(group_ids(table, []))
    assert groups.nunique() == 11847 + 2084
    assert groups[table["lesion_id"].isna()].nunique() == 2084


def test_isic_2019_read_as_ham10000_leaves_its_squamous_cell_carcinomas_to_the_user():
    (problem,) = rows_of("isic2019", TABLES, HAM10000).problems
    assert "'scc', the label of 628 images, has no counterpart" in problem.message
    assert counts(manifest_of("isic2019", TABLES, HAM10000, mapping={"scc": "akiec"})) == dict(
        akiec=867 + 628, bcc=3323, bkl=2624, df=239, mel=4522, nv=12875, vasc=253
    )


def test_isic_2020_has_33126_images_of_2056_patients_584_of_them_malignant():
    table = manifest_of("isic2020", TABLES, BINARY)
    assert counts(table) == dict(benign=33126 - 584, malignant=584)
    assert table["patient_id"].nunique() == 2056
    assert table["patient_id"].notna().all()


def test_isic_2020_by_diagnosis_agrees_with_its_target():
    nine = manifest_of("isic2020", TABLES, ISIC2019)
    assert counts(nine) == dict(bkl=135 + 44 + 37 + 7, mel=584, nv=5193, unk=27124 + 2)
    target = manifest_of("isic2020", TABLES, BINARY).set_index("image_id")["label"]
    malignant = nine.set_index("image_id")["label"].isin(ISIC2019.malignant)
    assert malignant.equals(target == "malignant")


def test_isic_2020_without_the_second_of_each_duplicate_pair_has_32701_images():
    table = manifest_of("isic2020", TABLES, BINARY)
    pairs = read_duplicates(TABLES / "ISIC_2020_Training_Duplicates.csv")
    assert len(pairs) == 425
    rest = table[~table["image_id"].isin({second for _, second in pairs})]
    assert len(rest) == 32701
    assert (rest["label"] == "malignant").sum() == 581


def test_the_isic_2020_subset_has_2701_images_of_130_patients_39_malignant():
    table = manifest_of("isic2020", DATA / "isic2020_subset", BINARY)
    assert counts(table) == dict(benign=2701 - 39, malignant=39)
    assert table["patient_id"].nunique() == 130
    assert table["path"].nunique() == 2701


def test_the_subset_of_the_archive_has_557_images_two_without_a_diagnosis():
    root = DATA / "isic_uda1"
    assert counts(manifest_of("isic_archive", root, BINARY)) == dict(benign=398, malignant=159)
    assert counts(manifest_of("isic_archive", root, HAM10000)) == dict(mel=159, nv=396)
    notes = rows_of("isic_archive", root, HAM10000).notes
    assert "2 images without a label left out." in notes


def test_the_subset_of_the_archive_shares_481_images_with_isic_2019_270_by_their_own_id():
    ours = set(rows_of("isic_archive", DATA / "isic_uda1", BINARY).table["image_id"])
    theirs = rows_of("isic2019", TABLES, ISIC2019).table["image_id"]
    assert len(ours) == 557
    assert len(ours & set(theirs)) == 270
    assert len(ours & set(theirs.str.removesuffix("_downsampled"))) == 481
