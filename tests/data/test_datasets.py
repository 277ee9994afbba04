"""Adapters: what each layout on disk becomes, and what each bad layout is answered with."""

from pathlib import Path

import pytest

from kderm.data.datasets import DATASETS, read_dataset
from kderm.data.images import IMAGE_SUFFIXES
from kderm.data.manifest import MANIFEST_COLUMNS, build_manifest, raise_problems, without_images
from kderm.ensemble.inputs import find_inputs
from kderm.errors import UserError
from kderm.labels import BINARY, HAM10000, LABEL_SPACES

HAM_HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization"
HAM_ROWS = [
    "HAM_1,ISIC_1,nv,histo,0.0,male,back",
    "HAM_1,ISIC_2,nv,histo,0.0,male,back",
    "HAM_2,ISIC_3,mel,follow_up,,unknown,unknown",
]


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def manifest_of(dataset: str, root: Path, labels=HAM10000, table=None):
    manifest, problems = build_manifest(read_dataset(dataset, root, labels, table), labels)
    assert problems == []
    return manifest


@pytest.fixture
def kaggle(tmp_path):
    write(tmp_path / "HAM10000_metadata.csv", HAM_HEADER, *HAM_ROWS)
    touch(tmp_path, *(f"HAM10000_images_part_1/ISIC_{i}.jpg" for i in (1, 2)))
    touch(tmp_path, "HAM10000_images_part_2/ISIC_3.jpg")
    return tmp_path


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_adapter_gives_the_manifest_columns_and_line_numbers(dataset, lay_out):
    labels = LABEL_SPACES[DATASETS[dataset].native[0]] if DATASETS[dataset].native else HAM10000
    table = read_dataset(dataset, lay_out(dataset), labels).table
    assert set(table.columns) == {*MANIFEST_COLUMNS, "row"}
    assert len(table) > 0


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_adapter_gives_a_manifest_in_each_label_space_that_it_is_labelled_in(
    dataset, lay_out
):
    root = lay_out(dataset)
    for name in DATASETS[dataset].native or ["ham10000"]:
        labels = LABEL_SPACES[name]
        manifest, problems = build_manifest(read_dataset(dataset, root, labels), labels)
        assert problems == []
        assert manifest.dropped == {}
        assert set(manifest.table["label"]) <= set(labels.codes)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_adapter_says_what_it_expects_when_the_folder_is_missing(dataset, tmp_path):
    with pytest.raises(UserError, match=r"Expected a folder at data\.root=.*no such folder"):
        read_dataset(dataset, tmp_path / "nowhere", HAM10000)


def test_an_unknown_adapter_is_answered_with_the_nearest_one(tmp_path):
    with pytest.raises(UserError, match=r"'ham10000'.*Received: 'ham1000'"):
        read_dataset("ham1000", tmp_path, HAM10000)


def test_the_kaggle_layout_is_read_from_both_parts(kaggle):
    manifest = manifest_of("ham10000", kaggle)
    table = manifest.table.set_index("image_id")
    assert manifest.rows.tolist() == [2, 3, 4]
    assert table["path"].map(lambda path: Path(path).parent.name).tolist() == [
        "HAM10000_images_part_1",
        "HAM10000_images_part_1",
        "HAM10000_images_part_2",
    ]
    assert table["lesion_id"].tolist() == ["HAM_1", "HAM_1", "HAM_2"]
    assert table["source"].unique().tolist() == ["ham10000"]


def test_age_zero_is_an_age_and_unknown_sex_and_site_are_unknown(kaggle):
    table = manifest_of("ham10000", kaggle).table
    assert table["age"].tolist()[:2] == [0.0, 0.0]
    assert table["age"].isna().tolist() == [False, False, True]
    assert table["sex"].tolist() == ["male", "male", "unknown"]
    assert table["site"].tolist() == ["back", "back", "unknown"]


def test_the_confirmation_type_reaches_no_column_of_the_manifest(kaggle):
    table = manifest_of("ham10000", kaggle).table
    assert not table.isin(["histo", "follow_up"]).any().any()


@pytest.mark.parametrize("name", ["HAM10000_metadata", "HAM10000_metadata.tab"])
def test_the_dataverse_layout_is_read_and_its_dataset_column_is_the_source(name, tmp_path):
    lines = [f"{HAM_HEADER},dataset", *(f"{row},vidir_modern" for row in HAM_ROWS)]
    if name.endswith(".tab"):
        lines = [line.replace(",", "\t") for line in lines]
    write(tmp_path / name, *lines)
    touch(tmp_path, *(f"ISIC2018_Task3_Training_Input/ISIC_{i}.jpg" for i in (1, 2, 3)))
    table = manifest_of("ham10000", tmp_path).table
    assert table["source"].tolist() == ["vidir_modern"] * 3
    assert table["label"].tolist() == ["nv", "nv", "mel"]


def test_images_that_lie_twice_below_the_root_are_used_once_and_noted(kaggle):
    touch(kaggle, *(f"ham10000_images_part_1/ISIC_{i}.jpg" for i in (1, 2)))
    raw = read_dataset("ham10000", kaggle, HAM10000)
    assert any("2 images lie below" in note for note in raw.notes)
    assert Path(raw.table["path"][0]).parent.name == "HAM10000_images_part_1"


def test_ham10000_without_metadata_names_what_lies_there(tmp_path):
    touch(tmp_path, "pictures.zip")
    with pytest.raises(UserError, match=r"HAM10000_metadata\.csv.*pictures\.zip"):
        read_dataset("ham10000", tmp_path, HAM10000)


def test_ham10000_metadata_without_a_needed_column_names_the_columns_received(tmp_path):
    write(tmp_path / "HAM10000_metadata.csv", "lesion_id,image_id,diagnosis", "a,b,nv")
    with pytest.raises(UserError, match=r"for the dx.*Received the columns: lesion_id, image_id"):
        read_dataset("ham10000", tmp_path, HAM10000)


def test_the_demo_adapter_says_that_the_images_are_synthetic(kaggle):
    raw = read_dataset("demo", kaggle, HAM10000)
    assert "SYNTHETIC" in raw.notes[0]
    assert raw.table["source"].unique().tolist() == ["demo"]


def test_class_folders_are_found_below_split_folders_too(tmp_path):
    touch(tmp_path, "train/Melanoma/a.jpg", "val/nevus/deep/b.PNG", "train/nevus/notes.txt")
    manifest = manifest_of("class_folders", tmp_path)
    labels = dict(zip(manifest.table["image_id"], manifest.table["label"], strict=True))
    assert labels == {"a": "mel", "b": "nv"}
    assert "given split (train, val)" in manifest.notes[0]


def test_every_image_format_that_is_predicted_is_trained_on(tmp_path):
    touch(tmp_path, *(f"nv/{i}{suffix}" for i, suffix in enumerate(IMAGE_SUFFIXES)), "mel/x.JFIF")
    trained = manifest_of("class_folders", tmp_path).table["path"]
    predicted = find_inputs([str(tmp_path)], HAM10000).table["path"]
    assert len(trained) == len(IMAGE_SUFFIXES) + 1
    assert set(trained) == set(predicted)


def test_a_link_that_leads_back_up_counts_no_image_twice(tmp_path):
    touch(tmp_path, "nv/a.jpg", "mel/b.jpg")
    (tmp_path / "nv" / "up").symlink_to(tmp_path)
    assert len(manifest_of("class_folders", tmp_path)) == 2


def test_equal_file_names_in_two_class_folders_give_two_ids(tmp_path):
    touch(tmp_path, "mel/1.jpg", "nv/1.jpg", "nv/2.jpg")
    assert manifest_of("class_folders", tmp_path).table["image_id"].tolist() == [
        "mel/1",
        "nv/1",
        "nv/2",
    ]


def test_a_class_folder_of_an_unknown_name_is_one_problem_with_the_nearest_class(tmp_path):
    touch(tmp_path, "mel/1.jpg", "vask/2.jpg", "vask/3.jpg")
    _, problems = build_manifest(read_dataset("class_folders", tmp_path, HAM10000), HAM10000)
    assert [problem.kind for problem in problems] == ["unknown label"]
    files = ", ".join(str(tmp_path / "vask" / name) for name in ("2.jpg", "3.jpg"))
    assert f"'vask' in files {files} (nearest: vasc" in problems[0].message


def test_problems_of_class_folders_name_files_and_no_rows(tmp_path):
    touch(tmp_path, "mel/a.jpg", "nv/b.jpg", *(f"quux/{i}.jpg" for i in range(5)))
    manifest, problems = build_manifest(read_dataset("class_folders", tmp_path, HAM10000), HAM10000)
    problems += without_images(manifest, {"a": "truncated"}, drop=False)[1]
    with pytest.raises(UserError) as refused:
        raise_problems(problems)
    assert "row" not in str(refused.value)
    assert f"{tmp_path / 'quux' / '2.jpg'} and 2 more" in str(refused.value)
    assert f"\n  {tmp_path / 'mel' / 'a.jpg'}: truncated" in str(refused.value)


def test_images_outside_class_folders_are_counted_and_left_out(tmp_path):
    touch(tmp_path, "mel/1.jpg", "nv/2.jpg", "overview.jpg")
    manifest = manifest_of("class_folders", tmp_path)
    assert len(manifest) == 2
    assert any(note.startswith("1 image directly in") for note in manifest.notes)


def test_a_folder_without_class_folders_is_refused(tmp_path):
    touch(tmp_path, "a.jpg")
    with pytest.raises(UserError, match=r"Expected images in class folders.*akiec"):
        read_dataset("class_folders", tmp_path, HAM10000)


@pytest.mark.parametrize("image", ["image_id", "image", "path", "filename", "Image Name"])
@pytest.mark.parametrize("label", ["label", "dx", "diagnosis", "class"])
def test_a_table_is_read_under_any_usual_column_names(image, label, tmp_path):
    write(tmp_path / "t.csv", f"{image},{label}", "a,nv", "b,melanoma")
    touch(tmp_path, "images/a.jpg", "images/b.png")
    manifest = manifest_of("table", tmp_path, table=Path("t.csv"))
    assert manifest.table["image_id"].tolist() == ["a", "b"]
    assert manifest.table["label"].tolist() == ["nv", "mel"]


@pytest.mark.parametrize(
    ("delimiter", "encoding"),
    [(";", "utf-8-sig"), ("\t", "utf-8"), (",", "utf-16"), ("|", "utf-8")],
)
def test_delimiters_and_byte_order_marks_are_recognised(delimiter, encoding, tmp_path):
    lines = ["image_id,dx,age,sex", "a,nv,35,F", 'b,mel,"40",male']
    lines = [line.replace(",", delimiter) for line in lines]
    write(tmp_path / "t.csv", *lines, encoding=encoding)
    touch(tmp_path, "a.jpg", "b.jpg")
    table = manifest_of("table", tmp_path).table
    assert table["age"].tolist() == [35.0, 40.0]
    assert table["sex"].tolist() == ["female", "male"]


def test_a_table_that_is_not_utf8_says_so(tmp_path):
    write(tmp_path / "t.csv", "image_id,dx,site", "a,nv,rücken", encoding="latin-1")
    touch(tmp_path, "a.jpg")
    with pytest.raises(UserError, match=r"Expected UTF-8.*CSV UTF-8"):
        read_dataset("table", tmp_path, HAM10000)


def test_row_numbers_are_those_of_an_editor_despite_blank_and_quoted_lines(tmp_path):
    write(tmp_path / "t.csv", "image_id,dx,site", 'a,nv,"upper', 'arm"', "", "b,mel,back")
    touch(tmp_path, "a.jpg", "b.jpg")
    assert manifest_of("table", tmp_path).rows.tolist() == [2, 5]


def test_lines_with_too_many_or_too_few_fields_are_problems_with_row_numbers(tmp_path):
    write(tmp_path / "t.csv", "image_id,dx", "a,nv", "b,mel,extra", "c")
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    raw = read_dataset("table", tmp_path, HAM10000)
    assert [(problem.kind, problem.row) for problem in raw.problems] == [
        ("wrong number of fields", 3),
        ("wrong number of fields", 4),
    ]
    assert "3 fields instead of 2" in raw.problems[0].message


@pytest.mark.parametrize(
    ("header", "missing"), [("picture,dx", "image"), ("image_id,outcome", "label")]
)
def test_a_table_without_a_needed_column_names_the_columns_received(header, missing, tmp_path):
    write(tmp_path / "t.csv", header, "a,nv")
    received = f"column for the {missing}.*Received the columns: {header.replace(',', ', ')}"
    with pytest.raises(UserError, match=received):
        read_dataset("table", tmp_path, HAM10000)


def test_two_columns_of_one_name_are_refused(tmp_path):
    write(tmp_path / "t.csv", "image_id,dx,DX", "a,nv,mel")
    with pytest.raises(UserError, match=r"more than one column named 'dx'"):
        read_dataset("table", tmp_path, HAM10000)


def test_lines_of_comment_above_the_header_are_passed_over(tmp_path):
    write(tmp_path / "t.csv", "# made by hand", "#", "image_id,dx", "a,nv", "b,mel,extra")
    touch(tmp_path, "a.jpg", "b.jpg")
    raw = read_dataset("table", tmp_path, HAM10000)
    assert raw.table["row"].tolist() == [4]
    assert raw.problems[0].row == 5


def test_one_hot_columns_of_the_isic_challenges_are_labels(tmp_path):
    lines = ["image,MEL,NV,BCC,AKIEC,BKL,DF,VASC", "a,0.0,1.0,0,0,0,0,0", "b,0,0,0,0,0,0,1"]
    write(tmp_path / "t.csv", *lines)
    touch(tmp_path, "a.jpg", "b.jpg")
    assert manifest_of("table", tmp_path).table["label"].tolist() == ["nv", "vasc"]


def test_an_empty_table_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"")
    with pytest.raises(UserError, match=r"header line"):
        read_dataset("table", tmp_path, HAM10000)


def test_several_tables_in_the_root_ask_which_one(tmp_path):
    write(tmp_path / "a.csv", "image_id,dx")
    write(tmp_path / "b.csv", "image_id,dx")
    with pytest.raises(UserError, match=r"needs data\.table.*a\.csv, b\.csv"):
        read_dataset("table", tmp_path, HAM10000)


def test_the_label_column_is_the_one_whose_values_the_label_space_knows(tmp_path):
    lines = ["image_name,patient_id,diagnosis,benign_malignant,target"]
    write(tmp_path / "t.csv", *lines, "a,P1,unknown,benign,0", "b,P2,melanoma,malignant,1")
    touch(tmp_path, "train/a.jpg", "train/b.jpg")
    manifest = manifest_of("table", tmp_path, labels=BINARY)
    assert manifest.table["label"].tolist() == ["benign", "malignant"]
    assert manifest.table["patient_id"].tolist() == ["P1", "P2"]
    assert any("Labels are read from the column 'target'" in note for note in manifest.notes)


def test_paths_may_be_below_the_root_beside_the_table_or_shortened(tmp_path):
    root = tmp_path / "root"
    touch(root, "x/a.jpg", "x/1.jpg", "y/1.jpg")
    touch(tmp_path / "elsewhere", "c.jpg")
    lines = ["path,dx", "x/a.jpg,nv", r"y\1.jpg,mel", "c.jpg,nv"]
    table = write(tmp_path / "elsewhere" / "t.csv", *lines)
    manifest = manifest_of("table", root, table=table)
    assert [Path(path).relative_to(tmp_path).as_posix() for path in manifest.table["path"]] == [
        "root/x/a.jpg",
        "root/y/1.jpg",
        "elsewhere/c.jpg",
    ]


def test_an_id_that_fits_two_files_is_a_problem_naming_both(tmp_path):
    write(tmp_path / "t.csv", "image_id,dx", "1,nv", "2,mel")
    touch(tmp_path, "x/1.jpg", "y/1.jpg", "x/2.jpg")
    raw = read_dataset("table", tmp_path, HAM10000)
    assert [(problem.kind, problem.row) for problem in raw.problems] == [("ambiguous image", 2)]
    assert "x/1.jpg, y/1.jpg" in raw.problems[0].message


def test_images_that_are_not_there_are_named_as_in_the_table_with_where_they_were_sought(tmp_path):
    table = write(tmp_path / "t.csv", "image,dx", "a.jpg,nv", "b.jpg,mel", "c.jpg,nv")
    (tmp_path / "images").mkdir()
    sought = f"looked for below {tmp_path / 'images'} and beside {table}"
    raw = read_dataset("table", tmp_path / "images", HAM10000, table)
    with pytest.raises(UserError) as caught:
        build_manifest(raw, HAM10000)
    told = f"for example 'a.jpg' (row 2), 'b.jpg' (row 3), 'c.jpg' (row 4), {sought}."
    assert told in str(caught.value)
    touch(tmp_path, "images/a.jpg", "images/c.jpg")
    manifest = manifest_of("table", tmp_path / "images", table=table)
    assert manifest.notes == (f"Images of t.csv that are not there: 'b.jpg' (row 3), {sought}.",)
