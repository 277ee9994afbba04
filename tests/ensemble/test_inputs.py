import os

import h5py
import numpy as np
import pytest

from kderm.data.datasets import read_dataset
from kderm.data.datasets.columns import ALIASES
from kderm.data.images import ImageSpec, read_image
from kderm.ensemble.inputs import find_inputs
from kderm.errors import UserError
from kderm.labels import HAM10000, label_space


def ids(inputs):
    return inputs.table["image_id"].tolist()


def labels(inputs):
    return inputs.table["label"].tolist()


def test_a_folder_is_searched_to_the_bottom_in_a_stable_order(tmp_path, picture):
    for name in ("b/2.jpg", "a/9.PNG", "c.jpeg", "a/deep/1.jpg"):
        picture(tmp_path / name, 1)
    assert ids(find_inputs([str(tmp_path)], HAM10000)) == ["9", "1", "2", "c"]


def test_files_that_are_no_images_are_counted_and_hidden_ones_ignored(tmp_path, picture):
    picture(tmp_path / "x.jpg", 1)
    picture(tmp_path / ".parts" / "y.jpg", 1)
    for name in ("notes.txt", "Thumbs.db", ".DS_Store", "._x.jpg"):
        (tmp_path / name).write_text("no image")
    inputs = find_inputs([str(tmp_path)], HAM10000)
    assert ids(inputs) == ["x"]
    assert inputs.skipped == 2


def test_images_of_the_same_name_go_by_their_relative_path(tmp_path, picture):
    for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg"):
        picture(tmp_path / name, 1)
    assert ids(find_inputs([str(tmp_path)], HAM10000)) == ["a/1.jpg", "b/1.jpg", "2"]


def test_ids_are_unique_even_where_relative_paths_repeat(tmp_path, picture):
    for name in ("left/a/1.jpg", "right/a/1.jpg", "left/1.jpg", "right/1.png"):
        picture(tmp_path / name, 1)
    inputs = find_inputs([str(tmp_path / "left"), str(tmp_path / "right")], HAM10000)
    assert len(inputs) == 4
    assert inputs.table["image_id"].is_unique


def test_a_file_that_is_named_twice_is_predicted_once(tmp_path, picture):
    image = picture(tmp_path / "x.jpg", 1)
    os.symlink(image, tmp_path / "link.jpg")
    inputs = find_inputs([str(image), str(tmp_path), str(image)], HAM10000)
    assert ids(inputs) == ["x"]
    assert inputs.repeated == 3


def test_a_link_that_leads_back_up_does_not_trap_the_search(tmp_path, picture):
    picture(tmp_path / "a" / "x.jpg", 1)
    os.symlink(tmp_path, tmp_path / "a" / "up")
    assert ids(find_inputs([str(tmp_path)], HAM10000)) == ["x"]


def test_a_pattern_finds_what_it_matches(tmp_path, picture):
    for name in ("a/1.jpg", "b/2.jpg", "b/3.png"):
        picture(tmp_path / name, 1)
    assert ids(find_inputs([f"{tmp_path}/**/*.jpg"], HAM10000)) == ["1", "2"]


def test_a_folder_whose_name_looks_like_a_pattern_is_taken_as_it_stands(tmp_path, picture):
    picture(tmp_path / "scans [2024]" / "x.jpg", 1)
    assert ids(find_inputs([str(tmp_path / "scans [2024]")], HAM10000)) == ["x"]


def test_class_folders_give_labels(tmp_path, picture):
    picture(tmp_path / "Melanoma" / "1.jpg", 1)
    picture(tmp_path / "nv" / "batch_7" / "2.jpg", 1)
    assert labels(find_inputs([str(tmp_path)], HAM10000)) == ["mel", "nv"]


def test_one_image_outside_of_class_folders_means_no_labels_at_all(tmp_path, picture):
    picture(tmp_path / "mel" / "1.jpg", 1)
    picture(tmp_path / "to_sort" / "2.jpg", 1)
    assert find_inputs([str(tmp_path)], HAM10000).labelled == 0


def test_a_csv_of_paths_is_read_from_its_own_folder(tmp_path, picture):
    picture(tmp_path / "scans" / "1.jpg", 1)
    table = tmp_path / "list.csv"
    table.write_text("path,label,lesion_id\nscans/1.jpg,Melanoma,L1\n")
    inputs = find_inputs([str(table)], HAM10000)
    assert (ids(inputs), labels(inputs)) == (["1"], ["mel"])
    assert inputs.table["lesion_id"].tolist() == ["L1"]


def test_a_csv_of_ids_finds_images_in_folders_below_as_ham10000_has_them(tmp_path, picture):
    picture(tmp_path / "part_1" / "ISIC_1.jpg", 1)
    picture(tmp_path / "part_2" / "ISIC_2.jpg", 1)
    table = tmp_path / "metadata.csv"
    table.write_text(
        "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
        "H2,ISIC_2,nv,histo,0.0,male,unknown\nH1,ISIC_1,akiec,histo,80.0,female,back\n"
    )
    inputs = find_inputs([str(table)], HAM10000)
    assert (ids(inputs), labels(inputs)) == (["ISIC_2", "ISIC_1"], ["nv", "akiec"])
    assert inputs.table["age"].tolist() == ["0.0", "80.0"]
    assert inputs.table["site"].tolist() == ["", "back"]


def test_one_hot_columns_of_the_isic_challenges_give_labels(tmp_path, picture):
    picture(tmp_path / "ISIC_1.jpg", 1)
    picture(tmp_path / "ISIC_2.jpg", 1)
    table = tmp_path / "truth.csv"
    table.write_text(
        "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n"
        "ISIC_1,0.0,0.0,1.0,0.0,0.0,0.0,0.0\nISIC_2,0.0,0.0,0.0,0.0,0.0,0.0,1.0\n"
    )
    assert labels(find_inputs([str(table)], HAM10000)) == ["bcc", "vasc"]


def test_a_csv_with_semicolons_a_byte_order_mark_and_comments_is_read(tmp_path, picture):
    picture(tmp_path / "1.jpg", 1)
    table = tmp_path / "list.csv"
    table.write_text("\ufeffImage_ID;Label\n1;nv\n\n", encoding="utf-8")
    assert labels(find_inputs([str(table)], HAM10000)) == ["nv"]
    table.write_text("# made by hand\nimage_id,label\n1,mel\n")
    assert labels(find_inputs([str(table)], HAM10000)) == ["mel"]


def test_a_row_without_a_file_is_kept_with_the_reason(tmp_path, picture):
    picture(tmp_path / "1.jpg", 1)
    table = tmp_path / "list.csv"
    table.write_text("image_id\n1\ngone\n")
    inputs = find_inputs([str(table)], HAM10000)
    assert ids(inputs) == ["1", "gone"]
    assert inputs.table["problem"].tolist()[0] == ""
    assert "no image of this name" in inputs.table["problem"].tolist()[1]


def test_an_id_that_means_two_different_pictures_is_not_guessed(tmp_path, picture):
    picture(tmp_path / "a" / "1.png", 1)
    picture(tmp_path / "b" / "1.png", 9)
    picture(tmp_path / "b" / "2.png", 9)
    table = tmp_path / "list.csv"
    table.write_text("image_id\n1\n2\n")
    problems = find_inputs([str(table)], HAM10000).table["problem"].tolist()
    assert "2 different images have this name: a/1.png, b/1.png" in problems[0]
    assert problems[1] == ""


def test_a_csv_none_of_whose_images_exist_is_refused(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("path\nx.jpg\ny.jpg\n")
    with pytest.raises(UserError, match="None of the 2 images"):
        find_inputs([str(table)], HAM10000)


def test_images_are_looked_for_from_the_folder_above_if_none_is_beside_the_csv(tmp_path, picture):
    picture(tmp_path / "Test_Input" / "ISIC_1.jpg", 1)
    picture(tmp_path / "Test_Input" / ".parts" / "ISIC_2.jpg", 1)
    table = tmp_path / "Test_GroundTruth" / "truth.csv"
    table.parent.mkdir()
    table.write_text("image\nISIC_1\nISIC_2\n")
    inputs = find_inputs([str(table)], HAM10000)
    assert inputs.table["problem"].tolist()[0] == ""
    assert "no image of this name" in inputs.table["problem"].tolist()[1]
    assert "1 of 2 images were found from the folder above" in inputs.notes[0]


def test_with_images_beside_the_csv_the_folder_above_is_not_searched(tmp_path, picture):
    picture(tmp_path / "lists" / "1.jpg", 1)
    picture(tmp_path / "other" / "2.jpg", 1)
    table = tmp_path / "lists" / "list.csv"
    table.write_text("image_id\n1\n2\n")
    inputs = find_inputs([str(table)], HAM10000)
    assert (inputs.table["problem"] != "").tolist() == [False, True]
    assert inputs.notes == ()


def one_hot_2019(folder, picture):
    """A ground truth of ISIC 2019: ISIC_1 is ak, ISIC_2 scc and ISIC_3 mel."""
    rows = {"ISIC_1": "AK", "ISIC_2": "SCC", "ISIC_3": "MEL"}
    codes = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"]
    lines = [",".join(["image", *codes])]
    for number, (name, right) in enumerate(rows.items()):
        picture(folder / f"{name}.jpg", number)
        lines.append(",".join([name, *("1.0" if code == right else "0.0" for code in codes)]))
    (folder / "truth.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "truth.csv")


def test_a_one_hot_table_of_another_label_space_is_translated_where_that_is_asked_for(
    tmp_path, picture
):
    table = one_hot_2019(tmp_path, picture)
    inputs = find_inputs([table], HAM10000, translate=True)
    assert (ids(inputs), labels(inputs)) == (["ISIC_1", "ISIC_3"], ["akiec", "mel"])
    assert inputs.notes[0] == "1 image labelled 'ak' taken for akiec"
    assert "'scc' left out: it has no counterpart in ham10000" in inputs.notes[1]
    assert find_inputs([table], HAM10000).labelled == 0


def test_labels_of_a_table_without_a_sure_counterpart_are_left_out_with_the_reason(
    tmp_path, picture
):
    for number in range(5):
        picture(tmp_path / f"{number}.jpg", number)
    table = tmp_path / "list.csv"
    table.write_text("image_id,dx\n0,mel\n1,akiec\n2,melanom\n3,\n4,sek\n")
    inputs = find_inputs([str(table)], label_space("isic2019"), translate=True)
    assert (ids(inputs), labels(inputs)) == (["0", "3", "4"], ["mel", "", "bkl"])
    told = "\n".join(inputs.notes)
    assert "'akiec' left out: in isic2019 it may be ak or scc (HAM10000's akiec" in told
    assert "'melanom' left out: isic2019 has no such label (nearest: mel" in told


def test_a_spelling_that_label_spaces_disagree_on_is_left_out(tmp_path, picture):
    for number, name in enumerate(["scc", "Actinic keratosis", "nevus"]):
        picture(tmp_path / name / f"{number}.jpg", number)
    inputs = find_inputs([str(tmp_path)], label_space("binary"), translate=True)
    assert dict(zip(ids(inputs), labels(inputs), strict=True)) == {"0": "malignant", "2": "benign"}
    assert any("in binary it may be benign or malignant" in note for note in inputs.notes)


def test_classes_of_the_users_own_are_found_by_code_and_name(tmp_path, picture):
    for number, name in enumerate(["mel", "Nevus", "df"]):
        picture(tmp_path / name / f"{number}.jpg", number)
    space = label_space("custom", ["melanoma", "nv"])
    inputs = find_inputs([str(tmp_path)], space, translate=True)
    assert dict(zip(ids(inputs), labels(inputs), strict=True)) == {"0": "melanoma", "1": "nv"}


def test_a_plain_folder_beside_a_table_with_labels_stays_in(tmp_path, picture):
    picture(tmp_path / "scans" / "1.jpg", 1)
    picture(tmp_path / "scans" / "2.jpg", 2)
    table = tmp_path / "list.csv"
    table.write_text("path,dx\nscans/1.jpg,nv\nscans/2.jpg,scc\n")
    inputs = find_inputs([str(tmp_path / "scans"), str(table)], HAM10000, translate=True)
    assert (ids(inputs), labels(inputs)) == (["1"], ["nv"])


def test_many_unknown_labels_are_told_in_a_few_sentences(tmp_path, picture):
    lines = ["image_id,dx", "0,nv"]
    for number in range(30):
        picture(tmp_path / f"{number}.jpg", number)
        lines += [f"{number},zz{number}"] if number else []
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    inputs = find_inputs([str(tmp_path / "list.csv")], HAM10000, translate=True)
    assert ids(inputs) == ["0"]
    assert inputs.notes[-1] == "19 images with 19 other labels treated likewise"
    assert len(inputs.notes) == 11


def test_unknown_labels_are_all_told_with_their_lines_and_the_nearest_known(tmp_path, picture):
    picture(tmp_path / "1.jpg", 1)
    table = tmp_path / "list.csv"
    table.write_text("image_id,label\n1,melanom\n\n1,zzz\n1,\n1,nv\n")
    with pytest.raises(UserError) as caught:
        find_inputs([str(table)], HAM10000)
    assert "line 2: 'melanom' (nearest: mel" in str(caught.value)
    assert "line 4: 'zzz'" in str(caught.value)
    assert "Received 2 others" in str(caught.value)


@pytest.mark.parametrize("image", ALIASES["image_id"])
@pytest.mark.parametrize("label", ALIASES["label"])
def test_a_table_predicts_under_every_name_of_a_column_that_it_trains_under(
    image, label, tmp_path, picture
):
    picture(tmp_path / "imgs_part_1" / "PAT_1_2_3.png", 1)
    table = tmp_path / "metadata.csv"
    table.write_text(f"{image},{label},gender,region\nPAT_1_2_3.png,mel,FEMALE,ARM\n")
    inputs = find_inputs([str(table)], HAM10000)
    trained = read_dataset("table", tmp_path, HAM10000).table
    assert ids(inputs) == trained["image_id"].tolist() == ["PAT_1_2_3"]
    assert labels(inputs) == trained["label"].tolist() == ["mel"]
    for fact in ("sex", "site"):
        assert inputs.table[fact].tolist() == trained[fact].tolist() != [""]


@pytest.mark.parametrize(("encoding", "delimiter"), [("utf-16", "\t"), ("utf-8", "|")])
def test_a_table_predicts_in_every_form_that_it_trains_in(tmp_path, picture, encoding, delimiter):
    picture(tmp_path / "1.jpg", 1)
    table = tmp_path / "list.tsv"
    table.write_text(f"image{delimiter}dx\n1{delimiter}nv\n", encoding=encoding)
    assert labels(find_inputs([str(table)], HAM10000)) == ["nv"]


@pytest.mark.parametrize("word", ["?", "-", "n/a", "Unknown", "null", ""])
def test_words_for_not_known_leave_label_and_facts_empty(tmp_path, picture, word):
    picture(tmp_path / "1.jpg", 1)
    table = tmp_path / "list.csv"
    table.write_text(f"image,dx,lesion_id,age\n1,{word},{word},{word}\n")
    inputs = find_inputs([str(table)], HAM10000)
    assert inputs.table[["label", "lesion_id", "age"]].to_numpy().tolist() == [["", "", ""]]


def test_a_class_that_is_called_unknown_is_a_label(tmp_path, picture):
    picture(tmp_path / "1.jpg", 1)
    table = tmp_path / "list.csv"
    table.write_text("image,dx\n1,unknown\n")
    space = label_space("custom", ["nevus", "unknown"])
    assert labels(find_inputs([str(table)], space)) == ["unknown"]


def test_lines_with_a_wrong_number_of_fields_are_told_together_with_unknown_labels(
    tmp_path, picture
):
    picture(tmp_path / "1.jpg", 1)
    table = tmp_path / "list.csv"
    table.write_text("# from the clinic\nimage,dx\n1,nv\n1,zzz\n1\n")
    with pytest.raises(UserError) as caught:
        find_inputs([str(table)], HAM10000)
    assert "line 4: 'zzz'" in str(caught.value)
    assert "line 5: 1 fields instead of 2" in str(caught.value)


def test_a_one_hot_row_with_two_classes_is_refused(tmp_path, picture):
    picture(tmp_path / "1.jpg", 1)
    table = tmp_path / "truth.csv"
    table.write_text("image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n1,1.0,1.0,0,0,0,0,0\n")
    with pytest.raises(UserError, match="line 2: 'mel and nv'"):
        find_inputs([str(table)], HAM10000)


def test_a_csv_adds_labels_to_a_folder(tmp_path, picture):
    picture(tmp_path / "1.jpg", 1)
    picture(tmp_path / "2.jpg", 1)
    table = tmp_path / "list.csv"
    table.write_text("image_id,dx\n1,mel\n")
    inputs = find_inputs([str(tmp_path), str(table)], HAM10000)
    assert (ids(inputs), labels(inputs)) == (["1", "2"], ["mel", ""])


def test_two_sources_that_contradict_each_other_are_refused(tmp_path, picture):
    picture(tmp_path / "nv" / "1.jpg", 1)
    table = tmp_path / "list.csv"
    table.write_text("path,label\nnv/1.jpg,mel\n")
    with pytest.raises(UserError, match="different labels: nv and mel"):
        find_inputs([str(tmp_path / "nv"), str(table)], HAM10000)


def test_a_csv_without_a_column_of_images_says_which_columns_it_has(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("name,dx\n1,nv\n")
    with pytest.raises(UserError, match="Received the columns: name, dx"):
        find_inputs([str(table)], HAM10000)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "header line"), (b"image_id\nr\xfccken\n", "Expected UTF-8"), (b"\x00\n", "image")],
)
def test_a_file_that_is_no_csv_is_refused(tmp_path, content, told):
    table = tmp_path / "list.csv"
    table.write_bytes(content)
    with pytest.raises(UserError, match=told):
        find_inputs([str(table)], HAM10000)


def test_a_source_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere, which does not exist"):
        find_inputs([str(tmp_path / "nowhere")], HAM10000)


def test_a_pattern_that_matches_nothing_is_named(tmp_path):
    with pytest.raises(UserError, match="No file matches the pattern"):
        find_inputs([f"{tmp_path}/*.jpg"], HAM10000)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match=r"no image to predict .* Received 1 other file"):
        find_inputs([str(tmp_path)], HAM10000)


def test_a_csv_may_name_images_inside_an_hdf5_file(tmp_path, picture):
    picture(tmp_path / "one.jpg", 1)
    with h5py.File(tmp_path / "images.hdf5", "w") as file:
        file["ISIC_1"] = np.void((tmp_path / "one.jpg").read_bytes())
    table = tmp_path / "list.csv"
    table.write_text("path\nimages.hdf5::ISIC_1\ngone.hdf5::ISIC_2\n")
    found = find_inputs([str(table)], HAM10000).table
    assert found["problem"].tolist() == ["", "file not found"]
    frame = read_image(found["path"][0], ImageSpec(16, 16))
    np.testing.assert_array_equal(frame, read_image(tmp_path / "one.jpg", ImageSpec(16, 16)))
