"""Labels of one space read into another: translated, decided by the user, or told as a problem."""

import pytest

from kderm.data.datasets import read_dataset
from kderm.data.datasets.translation import check_mapping
from kderm.data.manifest import build_manifest, raise_problems
from kderm.errors import UserError
from kderm.labels import BINARY, HAM10000, ISIC2019, PAD_UFES20, label_space


def labels_of(dataset, root, labels, mapping=None):
    raw = read_dataset(dataset, root, labels, mapping=mapping)
    manifest, problems = build_manifest(raw, labels)
    return manifest.table.set_index("image_id")["label"].to_dict(), problems


def test_labels_with_one_counterpart_are_translated(lay_out):
    found, problems = labels_of("ham10000", lay_out("ham10000"), BINARY)
    assert problems == []
    assert found == {"ISIC_1": "benign", "ISIC_2": "benign", "ISIC_3": "malignant"}


def test_an_ambiguous_label_is_a_problem_that_names_the_choices(lay_out):
    found, problems = labels_of("isic2018", lay_out("isic2018"), ISIC2019)
    assert "ISIC_3" not in found
    with pytest.raises(UserError) as error:
        raise_problems(problems)
    text = str(error.value)
    assert "label without one counterpart (1)" in text
    assert "row 4: 'akiec', the label of 1 image, may be ak or scc in isic2019" in text
    assert "data.map.akiec=ak or data.map.akiec=scc or data.map.akiec=drop" in text


def test_a_label_without_counterpart_is_a_problem_that_says_why(lay_out):
    _, (problem,) = labels_of("isic2019", lay_out("isic2019"), HAM10000)
    assert "has no counterpart in ham10000 (akiec holds carcinoma in situ only" in problem.message
    assert "set data.map.scc=drop" in problem.message


def test_several_spellings_of_one_undecided_code_are_one_problem(lay_out):
    root = lay_out("isic2020")
    path = root / "train.csv"
    path.write_text(path.read_text().replace("melanoma", "cafe-au-lait macule"))
    _, (problem,) = labels_of("isic2020", root, HAM10000)
    assert problem.message.startswith("'unk' ('unknown', 'cafe-au-lait macule'), the label of 2")
    assert "data.map.unk=drop, or a class" in problem.message


def test_a_spelling_finer_than_its_code_is_taken_where_the_wanted_space_knows_it(lay_out):
    root = lay_out("isic2020")
    path = root / "train.csv"
    path.write_text(path.read_text().replace("unknown", "seborrheic keratosis"))
    found, (problem,) = labels_of("isic2020", root, PAD_UFES20)
    assert found == {"ISIC_1": "sek", "ISIC_2": "mel"}
    assert problem.message.startswith("'bkl' ('lentigo NOS'), the label of 1 image")


def test_the_user_decides_an_ambiguous_label(lay_out):
    root = lay_out("isic2018")
    for decision in ("ak", "scc", "Squamous cell carcinoma"):
        found, problems = labels_of("isic2018", root, ISIC2019, {"akiec": decision})
        assert problems == []
        assert found["ISIC_3"] == ISIC2019.resolve(decision)


def test_dropped_labels_are_counted_in_a_note(lay_out):
    root = lay_out("isic2018")
    raw = read_dataset("isic2018", root, ISIC2019, mapping={"AKIEC": "drop"})
    assert len(raw.table) == 4
    assert "1 image labelled 'akiec' left out (data.map)." in raw.notes


def test_a_decision_for_a_code_holds_for_every_spelling_of_it(lay_out):
    root = lay_out("isic2020")
    found, problems = labels_of("isic2020", root, HAM10000, {"unk": "drop"})
    assert problems == []
    assert found == {"ISIC_2": "mel", "ISIC_3": "bkl"}


def test_a_decision_for_a_spelling_goes_before_the_one_for_its_code(lay_out):
    mapping = {"unk": "drop", "unknown": "nv"}
    found, _ = labels_of("isic2020", lay_out("isic2020"), HAM10000, mapping)
    assert found["ISIC_1"] == "nv"


def test_a_label_of_the_space_itself_can_be_decided_too(lay_out):
    found, _ = labels_of("ham10000", lay_out("ham10000"), HAM10000, {"nv": "drop"})
    assert found == {"ISIC_3": "mel"}


def test_spellings_of_tables_and_folders_are_decided_by_the_map(tmp_path, lay_out):
    root = lay_out("table")
    (root / "images.csv").write_text("image_id,other,diagnosis\na,1,naevus\nb,2,dysplastic\n")
    _, problems = labels_of("table", root, HAM10000)
    assert [problem.kind for problem in problems] == ["unknown label"]
    found, problems = labels_of("table", root, HAM10000, {"dysplastic": "nv"})
    assert (found, problems) == ({"a": "nv", "b": "nv"}, [])
    folders = lay_out("class_folders")
    found, problems = labels_of("class_folders", folders, HAM10000, {"melanoma": "drop"})
    assert (found, problems) == ({"b": "nv", "c": "nv"}, [])


def test_the_label_column_of_a_table_is_chosen_by_the_map_too(lay_out):
    root = lay_out("table")
    (root / "images.csv").write_text("image_id,label,diagnosis\na,x,benign\nb,y,benign\n")
    found, problems = labels_of("table", root, BINARY, {"x": "malignant", "y": "benign"})
    assert problems == []
    assert found == {"a": "malignant", "b": "benign"}


def test_custom_labels_take_classes_by_code_or_name_and_ask_for_the_rest(lay_out):
    labels = label_space("custom", ["melanoma", "nv", "other"])
    root = lay_out("isic2018")
    _, problems = labels_of("isic2018", root, labels)
    assert {problem.message.split(",")[0] for problem in problems} == {"'akiec'", "'vasc'"}
    found, problems = labels_of("isic2018", root, labels, {"akiec": "other", "vasc": "other"})
    assert problems == []
    assert found["ISIC_3"] == found["ISIC_5"] == "other"
    assert found["ISIC_4"] == "melanoma"


def test_custom_labels_are_read_from_the_diagnoses_by_their_own_spelling(lay_out):
    labels = label_space("custom", ["melanoma", "lentigo nos", "unknown"])
    found, problems = labels_of("isic2020", lay_out("isic2020"), labels)
    assert problems == []
    assert found == {"ISIC_1": "unknown", "ISIC_2": "melanoma", "ISIC_3": "lentigo nos"}
    labels = label_space("custom", ["melanoma", "nevus"])
    found, problems = labels_of("isic_archive", lay_out("isic_archive"), labels)
    assert (found, problems) == ({"ISIC_1": "nevus", "ISIC_2": "melanoma"}, [])


def test_a_data_set_without_a_map_to_the_wanted_labels_asks_for_each_label(lay_out):
    problems = read_dataset("isic2024", lay_out("isic2024"), PAD_UFES20).problems
    assert {problem.kind for problem in problems} == {"label without one counterpart"}
    assert len(problems) == 2


def test_a_decision_for_a_label_that_is_not_there_is_noted(lay_out):
    raw = read_dataset("ham10000", lay_out("ham10000"), HAM10000, mapping={"akeic": "bcc"})
    assert raw.notes == ["data.map decides labels that are not in the data set: akeic."]


def test_a_decision_for_a_class_outside_the_label_space_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a code of isic2019.*data\.map\.akiec=sccc.*mean scc"):
        read_dataset("ham10000", tmp_path, ISIC2019, mapping={"akiec": "sccc"})


def test_two_decisions_for_one_label_are_refused():
    with pytest.raises(UserError, match=r"'ak iec' twice, as ak and as scc"):
        check_mapping({"ak_iec": "ak", "AK-IEC": "scc"}, ISIC2019)
    assert check_mapping({"ak_iec": "ak", "AK-IEC": "ak"}, ISIC2019) == {"ak iec": "ak"}
