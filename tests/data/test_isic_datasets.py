"""Published data sets: what each one's traps become, and what its bad inputs are answered with."""

import re

import h5py
import numpy as np
import pytest

from kderm.data.datasets import read_dataset
from kderm.data.folds import group_ids
from kderm.data.hdf5 import read_member
from kderm.data.manifest import build_manifest, raise_problems
from kderm.errors import UserError
from kderm.labels import BINARY, HAM10000, ISIC2019, PAD_UFES20

SPACES = {
    "isic2018": HAM10000,
    "isic2019": ISIC2019,
    "isic2020": BINARY,
    "isic2024": BINARY,
    "pad_ufes20": PAD_UFES20,
    "isic_archive": BINARY,
}


def manifest_of(dataset, root, labels=None, table=None):
    labels = labels or SPACES[dataset]
    manifest, problems = build_manifest(read_dataset(dataset, root, labels, table), labels)
    assert problems == []
    return manifest


def column(manifest, name):
    return manifest.table.set_index("image_id")[name].to_dict()


@pytest.mark.parametrize("dataset", SPACES)
def test_no_column_that_gives_the_label_away_reaches_the_manifest(dataset, lay_out):
    table = manifest_of(dataset, lay_out(dataset)).table.astype(str)
    leaked = ["histopathology", "serial imaging showing no change", "97.5", "0.4", "Benign", "True"]
    assert not table.isin(leaked).any().any()


@pytest.mark.parametrize("dataset", SPACES)
def test_a_folder_without_the_table_is_answered_with_its_name_and_what_lies_there(
    dataset, tmp_path
):
    (tmp_path / "pictures.zip").touch()
    with pytest.raises(
        UserError, match=r"Expected \S+\.csv.*Received a folder with: pictures\.zip"
    ):
        read_dataset(dataset, tmp_path, SPACES[dataset])


@pytest.mark.parametrize("dataset", SPACES)
def test_a_table_with_a_wrong_column_is_answered_with_the_columns_it_has(dataset, lay_out):
    root = lay_out(dataset)
    for path in root.rglob("*.csv"):
        ids = r"\b(image_name|isic_id|img_id|image_id|image)\b"
        path.write_text(re.sub(ids, "picture", path.read_text(), count=1))
    with pytest.raises(UserError, match=r"has no column for the image.*Received the columns:"):
        read_dataset(dataset, root, SPACES[dataset])


def test_isic_2018_reads_every_part_that_is_there_and_says_which(lay_out):
    manifest = manifest_of("isic2018", lay_out("isic2018"))
    assert column(manifest, "source") == {
        "ISIC_1": "training",
        "ISIC_2": "training",
        "ISIC_3": "training",
        "ISIC_4": "validation",
        "ISIC_5": "test",
    }
    assert column(manifest, "label")["ISIC_3"] == "akiec"


def test_isic_2018_leaves_the_synthetic_test_image_out_with_a_note(lay_out):
    manifest = manifest_of("isic2018", lay_out("isic2018"))
    assert "ISIC_0035068" not in set(manifest.table["image_id"])
    assert any("ISIC_0035068 of the test is synthetic" in note for note in manifest.notes)


def test_isic_2018_takes_lesions_from_the_groupings_whatever_their_order(lay_out):
    manifest = manifest_of("isic2018", lay_out("isic2018"))
    lesions = manifest.table.set_index("image_id")["lesion_id"]
    assert lesions[["ISIC_1", "ISIC_2", "ISIC_3"]].tolist() == ["HAM_1", "HAM_1", "HAM_2"]
    assert lesions[["ISIC_4", "ISIC_5"]].isna().all()
    assert any("2 of 5 images have no lesion id" in note for note in manifest.notes)


def test_one_ground_truth_of_isic_2018_can_be_chosen_by_the_table(lay_out):
    root = lay_out("isic2018")
    manifest = manifest_of("isic2018", root, table=root / "ISIC2018_Task3_Test_GroundTruth.csv")
    assert manifest.table["image_id"].tolist() == ["ISIC_5"]
    assert manifest.table["source"].tolist() == ["test"]


def test_a_table_of_isic_2018_given_for_isic_2019_names_the_missing_classes(lay_out):
    root = lay_out("isic2018")
    with pytest.raises(UserError, match=r"It has no AK, SCC, UNK\. Received the columns: image"):
        read_dataset("isic2019", root, ISIC2019, root / "ISIC2018_Task3_Training_GroundTruth.csv")


def test_a_row_without_a_class_and_one_with_two_are_problems_with_their_lines(lay_out):
    root = lay_out("isic2019")
    path = root / "ISIC_2019_Training_GroundTruth.csv"
    path.write_text(path.read_text() + "ISIC_8,0,0,0,0,0,0,0,0,0\nISIC_9,1,1,0,0,0,0,0,0,0\n")
    _, problems = build_manifest(read_dataset("isic2019", root, ISIC2019), ISIC2019)
    assert {(problem.kind, problem.row) for problem in problems} == {
        ("no label", 5),
        ("unknown label", 6),
    }


def test_isic_2019_joins_its_metadata_by_id_and_keeps_downsampled_ids(lay_out):
    manifest = manifest_of("isic2019", lay_out("isic2019"))
    assert column(manifest, "label") == {
        "ISIC_1": "nv",
        "ISIC_2_downsampled": "mel",
        "ISIC_3": "scc",
    }
    assert column(manifest, "age")["ISIC_3"] == 0.0
    assert column(manifest, "site") == {
        "ISIC_1": "anterior torso",
        "ISIC_2_downsampled": "unknown",
        "ISIC_3": "head/neck",
    }
    assert manifest.table["path"].str.endswith("ISIC_2_downsampled.jpg").sum() == 1


def test_images_of_isic_2019_without_a_lesion_id_are_groups_of_their_own(lay_out):
    manifest = manifest_of("isic2019", lay_out("isic2019"))
    assert len(set(group_ids(manifest.table, []))) == 3
    assert any("2 of 3 images have no lesion id" in note for note in manifest.notes)


def test_isic_2019_without_its_metadata_knows_no_lesions_and_says_so(lay_out):
    root = lay_out("isic2019")
    (root / "ISIC_2019_Training_Metadata.csv").unlink()
    manifest = manifest_of("isic2019", root)
    assert any("3 of 3 images have no lesion id" in note for note in manifest.notes)


def test_facts_are_found_beside_a_table_that_lies_away_from_the_images(lay_out, tmp_path):
    root, tables = lay_out("isic2019"), tmp_path / "tables"
    tables.mkdir()
    for path in root.glob("*.csv"):
        path.rename(tables / path.name)
    truth = tables / "ISIC_2019_Training_GroundTruth.csv"
    manifest = manifest_of("isic2019", root, table=truth)
    assert column(manifest, "lesion_id")["ISIC_3"] == "MSK4_1"
    assert manifest.dropped == {}


def test_isic_2020_is_read_by_target_or_by_diagnosis(lay_out):
    root = lay_out("isic2020")
    assert list(column(manifest_of("isic2020", root), "label").values()) == [
        "benign",
        "malignant",
        "benign",
    ]
    nine = manifest_of("isic2020", root, ISIC2019)
    assert list(column(nine, "label").values()) == ["unk", "mel", "bkl"]
    assert len(set(group_ids(nine.table, []))) == 2


def test_the_second_version_of_isic_2020_is_preferred_for_its_lesions(lay_out):
    root = lay_out("isic2020")
    header, *lines = (root / "train.csv").read_text().splitlines()
    header = header.replace("patient_id,", "patient_id,lesion_id,")
    lines = [line.replace("IP_1,", "IP_1,IL_7,").replace("IP_2,", "IP_2,IL_8,") for line in lines]
    v2 = root / "ISIC_2020_Training_GroundTruth_v2.csv"
    v2.write_text("\n".join([header, *lines[2:]]) + "\n")
    assert column(manifest_of("isic2020", root), "lesion_id") == {"ISIC_3": "IL_8"}


def test_a_list_of_duplicates_beside_isic_2020_is_pointed_out(lay_out):
    root = lay_out("isic2020")
    (root / "ISIC_2020_Training_Duplicates.csv").write_text("image_name_1,image_name_2\n")
    notes = manifest_of("isic2020", root).notes
    assert any("set data.duplicates=" in note and "Duplicates.csv" in note for note in notes)


def pack(root, *image_ids):
    path = root / "train-image.hdf5"
    with h5py.File(path, "w") as file:
        for image_id in image_ids:
            file.create_dataset(image_id, data=np.void(image_id.encode()))
    return path


def test_isic_2024_is_read_from_folders_and_from_hdf5_alike(lay_out):
    root = lay_out("isic2024")
    of_files = manifest_of("isic2024", root)
    path = pack(root, "ISIC_1", "ISIC_2", "ISIC_3", "ISIC_4")
    of_members = manifest_of("isic2024", root)
    assert of_members.table["path"].tolist() == [f"{path}::ISIC_{n}" for n in (1, 2, 3)]
    assert read_member(of_members.table["path"][1]) == b"ISIC_2"
    facts = ["image_id", "patient_id", "label", "age", "sex", "site", "source"]
    assert of_files.table[facts].equals(of_members.table[facts])
    assert of_members.table["lesion_id"].isna().all()


def test_an_hdf5_without_an_id_is_one_problem_with_the_line_and_the_id(lay_out):
    root = lay_out("isic2024")
    pack(root, "ISIC_1", "ISIC_3")
    _, problems = build_manifest(read_dataset("isic2024", root, BINARY), BINARY)
    with pytest.raises(UserError, match=r"row 3: train-image.hdf5 holds no image 'ISIC_2'"):
        raise_problems(problems)
    assert len(problems) == 1


def test_a_damaged_hdf5_is_refused_by_name(lay_out):
    root = lay_out("isic2024")
    path = pack(root, *(f"ISIC_{n}" for n in range(50)))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"train-image\.hdf5 the images by their id.*is damaged"):
        read_dataset("isic2024", root, BINARY)


def test_pad_ufes_20_ids_are_file_names_without_suffix_and_its_spellings_are_read(lay_out):
    manifest = manifest_of("pad_ufes20", lay_out("pad_ufes20"))
    assert column(manifest, "label") == {
        "PAT_1_10_1": "nev",
        "PAT_1_11_2": "bcc",
        "PAT_2_12_3": "sek",
    }
    assert column(manifest, "sex")["PAT_1_11_2"] == "female"
    assert column(manifest, "site")["PAT_2_12_3"] == "face"
    assert len(set(group_ids(manifest.table, []))) == 2


def test_images_of_the_archive_without_a_label_are_left_out_with_a_note(lay_out):
    manifest = manifest_of("isic_archive", lay_out("isic_archive"))
    assert column(manifest, "label") == {"ISIC_1": "benign", "ISIC_2": "malignant"}
    assert any("1 image without a label left out" in note for note in manifest.notes)


def test_an_archive_table_without_any_label_is_a_problem_instead(lay_out):
    root = lay_out("isic_archive")
    (root / "metadata.csv").write_text("isic_id,benign_malignant\nISIC_1,\nISIC_2,\n")
    _, problems = build_manifest(read_dataset("isic_archive", root, BINARY), BINARY)
    assert [problem.kind for problem in problems] == ["no label"]


def test_the_archive_is_read_by_diagnosis_for_other_label_spaces(lay_out):
    root = lay_out("isic_archive")
    for labels, nevus in ((HAM10000, "nv"), (ISIC2019, "nv"), (PAD_UFES20, "nev")):
        manifest = manifest_of("isic_archive", root, labels)
        assert column(manifest, "label") == {"ISIC_1": nevus, "ISIC_2": "mel"}


def test_the_given_split_of_class_folders_is_kept_as_source(tmp_path):
    for name in ("Train/mel/1.jpg", "Train/nv/2.jpg", "val/nv/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    manifest = manifest_of("class_folders", tmp_path, HAM10000)
    assert column(manifest, "source") == {
        "Train/mel/1": "train",
        "Train/nv/2": "train",
        "val/nv/1": "val",
    }
    assert any("given split (train, val) is kept as source" in note for note in manifest.notes)
