"""The manifest: every problem of a source is told at once, with row numbers and what to do."""

import numpy as np
import pandas as pd
import pytest

from kderm.data.manifest import (
    MANIFEST_COLUMNS,
    Problem,
    RawRows,
    build_manifest,
    raise_problems,
    read_manifest,
    without_images,
    write_manifest,
)
from kderm.errors import UserError
from kderm.labels import BINARY, HAM10000


def raw(*rows: dict) -> RawRows:
    defaults = dict.fromkeys(MANIFEST_COLUMNS)
    filled = [
        {
            **defaults,
            "image_id": f"i{n}",
            "path": f"/x/i{n}.jpg",
            "label": "nv",
            "row": n + 2,
            **row,
        }
        for n, row in enumerate(rows)
    ]
    return RawRows(pd.DataFrame(filled))


def problems_of(*rows: dict) -> list[Problem]:
    return build_manifest(raw(*rows), HAM10000)[1]


def test_labels_are_resolved_from_codes_names_and_synonyms():
    spellings = ["nv", "Melanoma", " seborrheic_keratosis ", "BCC"]
    manifest, problems = build_manifest(raw(*({"label": s} for s in spellings)), HAM10000)
    assert problems == []
    assert manifest.table["label"].tolist() == ["nv", "mel", "bkl", "bcc"]
    assert tuple(manifest.table.columns) == MANIFEST_COLUMNS


def test_an_unknown_label_comes_with_its_rows_and_the_nearest_known_ones():
    (problem,) = problems_of({"label": "melanom"}, {}, {"label": "melanom"})
    assert problem.kind == "unknown label"
    assert problem.row == 2
    assert "'melanom' in rows 2, 4 (nearest: mel" in problem.message


def test_unknown_labels_come_with_the_codes_once_and_with_a_way_to_leave_them_out():
    found = problems_of({"label": "psoriasis"}, {}, {"label": "acne"})
    known = "; known: akiec, bcc, bkl, df, mel, nv, vasc"
    assert [item.message for item in found] == [f"'psoriasis' in row 2{known}", "'acne' in row 4"]
    with pytest.raises(UserError, match=r"data\.map\.<label>=drop"):
        raise_problems(found)


def test_a_missing_label_and_a_missing_id_are_problems():
    found = problems_of({"label": ""}, {"image_id": None}, {})
    assert {(problem.kind, problem.row) for problem in found} == {
        ("no label", 2),
        ("no image id", 3),
    }


def test_duplicate_ids_name_every_row():
    (problem,) = problems_of({"image_id": "a"}, {}, {"image_id": "a"}, {"image_id": "a"})
    assert problem == Problem("duplicate image id", 2, "'a' in rows 2, 4, 5")


def test_conflicting_labels_inside_a_lesion_name_lesion_labels_and_rows():
    (problem,) = problems_of(
        {"lesion_id": "L1"}, {"lesion_id": "L1", "label": "mel"}, {"lesion_id": "L1"}, {}
    )
    assert problem.kind == "conflicting labels in a lesion"
    assert problem.message == "lesion 'L1' is mel in row 3 and nv in rows 2, 4"


def test_two_spellings_of_one_label_inside_a_lesion_are_no_conflict():
    assert problems_of({"lesion_id": "L1"}, {"lesion_id": "L1", "label": "nevus"}) == []


def test_images_with_unknown_lesion_are_not_taken_for_one_lesion():
    assert problems_of({"lesion_id": "unknown"}, {"lesion_id": "unknown", "label": "mel"}) == []


@pytest.mark.parametrize("age", ["old", "-1", "200"])
def test_an_age_that_is_none_is_a_problem(age):
    (problem,) = problems_of({"age": age}, {})
    assert (problem.kind, problem.row) == ("bad age", 2)
    assert repr(age) in problem.message


def test_missing_words_become_one_form_of_missing():
    rows = [{"age": word, "sex": word, "site": word} for word in ("", "NA", "nan", "unknown", None)]
    table = build_manifest(raw(*rows), HAM10000)[0].table
    assert table["age"].isna().all()
    assert set(table["sex"]) == set(table["site"]) == set(table["source"]) == {"unknown"}


def test_missing_files_are_dropped_with_a_count():
    manifest, problems = build_manifest(raw({}, {"path": None}, {}), HAM10000)
    assert problems == []
    assert manifest.dropped == {"file not found": 1}
    assert manifest.table["image_id"].tolist() == ["i0", "i2"]
    assert manifest.rows.tolist() == [2, 4]


def test_no_file_found_at_all_is_refused_with_examples():
    with pytest.raises(UserError, match=r"not one of them was found.*'i0' \(row 2\)"):
        build_manifest(raw({"path": None}, {"path": None}), HAM10000)


def test_an_empty_source_is_refused():
    with pytest.raises(UserError, match="at least one image"):
        build_manifest(RawRows(pd.DataFrame(columns=[*MANIFEST_COLUMNS, "row"])), HAM10000)


def test_one_error_tells_every_problem_grouped_with_rows_and_advice():
    problems = problems_of(
        {"label": "melanom"}, {"image_id": "a"}, {"image_id": "a"}, {"age": "old"}, {}
    )
    with pytest.raises(UserError) as error:
        raise_problems(problems)
    text = str(error.value)
    assert text.startswith("3 problems in the data set.")
    for part in ("unknown label (1):", "duplicate image id (1):", "bad age (1):"):
        assert part in text
    assert "row 5: 'old'" in text
    assert "Keep one line an image." in text


def test_a_long_list_of_one_kind_is_cut_with_a_count():
    with pytest.raises(UserError) as error:
        raise_problems(problems_of(*({"age": "old"} for _ in range(50))))
    assert str(error.value).count("is no age") == 20
    assert "and 30 more" in str(error.value)


def test_no_problems_raise_nothing():
    assert raise_problems([]) is None


def test_unreadable_images_are_problems_with_their_rows():
    manifest, _ = build_manifest(raw({}, {}, {}), HAM10000)
    rest, problems = without_images(manifest, {"i1": "truncated"}, drop=False)
    assert problems == [Problem("unreadable image", 3, "/x/i1.jpg: truncated")]
    assert rest.table["image_id"].tolist() == ["i0", "i2"]


def test_unreadable_images_are_dropped_with_a_count_when_asked():
    manifest, _ = build_manifest(raw({}, {"path": None}, {}), HAM10000)
    rest, problems = without_images(manifest, {"i0": "truncated"}, drop=True)
    assert problems == []
    assert rest.dropped == {"file not found": 1, "unreadable image": 1}
    assert rest.rows.tolist() == [4]
    assert len(manifest) == 2


def test_a_data_set_without_a_readable_image_is_refused_even_when_dropping():
    manifest, _ = build_manifest(raw({}, {}), HAM10000)
    with pytest.raises(UserError, match="Not one image"):
        without_images(manifest, {"i0": "truncated", "i1": "empty file"}, drop=True)


def test_a_written_manifest_reads_back_the_same(tmp_path):
    manifest, _ = build_manifest(
        raw({"lesion_id": "L,1", "age": "0", "sex": "F"}, {"patient_id": "P"}, {"label": "mel"}),
        HAM10000,
    )
    write_manifest(tmp_path / "m.csv", manifest)
    again = read_manifest(tmp_path / "m.csv", HAM10000)
    pd.testing.assert_frame_equal(again.table, manifest.table)
    np.testing.assert_array_equal(again.rows, manifest.rows)


def test_a_manifest_whose_ids_are_all_missing_or_look_like_numbers_reads_back_the_same(tmp_path):
    manifest, _ = build_manifest(raw({"image_id": "0012"}, {"image_id": "nan"}), HAM10000)
    write_manifest(tmp_path / "m.csv", manifest)
    again = read_manifest(tmp_path / "m.csv", HAM10000)
    pd.testing.assert_frame_equal(again.table, manifest.table)


def test_a_manifest_of_other_labels_is_refused(tmp_path):
    manifest, _ = build_manifest(raw({}), HAM10000)
    write_manifest(tmp_path / "m.csv", manifest)
    with pytest.raises(UserError, match="binary does not have: nv"):
        read_manifest(tmp_path / "m.csv", BINARY)


def test_a_file_that_is_no_manifest_is_refused(tmp_path):
    (tmp_path / "m.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="Expected a manifest with the columns image_id"):
        read_manifest(tmp_path / "m.csv", HAM10000)
    with pytest.raises(UserError, match="Expected a manifest at"):
        read_manifest(tmp_path / "none.csv", HAM10000)
