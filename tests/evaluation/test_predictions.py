"""The predictions table: what it takes, what it refuses and how it says so."""

import numpy as np
import pandas as pd
import pytest

from kderm.errors import UserError
from kderm.evaluation.predictions import (
    class_columns,
    join_predictions,
    make_predictions,
    read_predictions,
    write_predictions,
)
from kderm.labels import HAM10000, LabelSpace

ABC = LabelSpace("custom", ("a", "b", "c"), ("A", "B", "C"), malignant=("c",))


def table(n=6, folds=2, labels=ABC, seed=0):
    random = np.random.default_rng(seed)
    values = random.dirichlet(np.ones(len(labels)), size=n)
    frame = pd.DataFrame(values, columns=labels.columns)
    frame["image_id"] = [f"im{i:03d}" for i in range(n)]
    frame["group_id"] = [f"g{i // 2}" for i in range(n)]
    frame["fold"] = [(i // 2) % folds for i in range(n)]
    frame["label"] = [labels.codes[i % len(labels)] for i in range(n)]
    return frame


def test_properties_follow_the_label_space_and_not_the_order_of_the_columns():
    frame = table()
    shuffled = frame[["p_c", "label", "p_a", "fold", "image_id", "p_b", "group_id"]]
    predictions = make_predictions(shuffled, ABC)
    np.testing.assert_array_equal(predictions.probabilities, frame[["p_a", "p_b", "p_c"]])
    assert predictions.y.tolist() == [0, 1, 2, 0, 1, 2]
    assert predictions.folds.tolist() == [0, 0, 1, 1, 0, 0]
    assert predictions.groups.tolist() == ["g0", "g0", "g1", "g1", "g2", "g2"]
    assert list(predictions.table.columns[:4]) == ["image_id", "group_id", "fold", "label"]


def test_a_missing_class_does_not_shift_the_truth():
    frame = table()
    frame["label"] = "c"
    assert make_predictions(frame, ABC).y.tolist() == [2] * 6


def test_the_table_given_is_left_as_it_was():
    frame = table()
    before = frame.copy()
    make_predictions(frame, ABC)
    pd.testing.assert_frame_equal(frame, before)


def test_write_then_read_gives_the_same_table(tmp_path):
    frame = table(40, labels=HAM10000)
    frame["age"] = [0.0, np.nan] * 20
    frame["sex"] = ["female", None] * 20
    frame.loc[0, "image_id"] = "007"
    written = make_predictions(frame, HAM10000)
    write_predictions(tmp_path / "oof.csv", written)
    read = read_predictions(tmp_path / "oof.csv", HAM10000)
    np.testing.assert_allclose(read.probabilities, written.probabilities, rtol=5e-7)
    for name in ("image_id", "group_id", "label"):
        assert read.table[name].tolist() == written.table[name].tolist()
    assert read.folds.tolist() == written.folds.tolist()
    assert read.table["age"].isna().tolist() == [False, True] * 20
    assert read.table["age"][0] == 0
    assert read.table["sex"].isna().tolist() == [False, True] * 20


def test_writing_what_was_read_gives_the_same_bytes(tmp_path):
    write_predictions(tmp_path / "a.csv", make_predictions(table(30), ABC))
    write_predictions(tmp_path / "b.csv", read_predictions(tmp_path / "a.csv", ABC))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_numbers_are_read_to_the_last_digit_while_ids_stay_text(tmp_path):
    lines = ["image_id,group_id,fold,label,p_a,p_b,p_c", "007,1,0,a,0.1234567,0.8765433,1e-09"]
    (tmp_path / "oof.csv").write_text("\n".join([*lines, "008,2,1,b,0.3,0.3,0.4"]) + "\n")
    read = read_predictions(tmp_path / "oof.csv", ABC)
    assert read.table["image_id"].tolist() == ["007", "008"]
    assert read.table["group_id"].tolist() == ["1", "2"]
    assert read.probabilities[0].tolist() == [0.1234567, 0.8765433, 1e-09]


@pytest.mark.parametrize("cell", ["", "high", "0,5"])
def test_a_cell_that_is_no_number_is_told_with_its_image(tmp_path, cell):
    frame = table().astype({"p_b": object})
    frame.loc[3, "p_b"] = cell
    frame.to_csv(tmp_path / "oof.csv", index=False)
    with pytest.raises(UserError, match=r"must be finite numbers; not for: im003"):
        read_predictions(tmp_path / "oof.csv", ABC)


def test_an_id_or_a_class_called_na_is_not_taken_for_missing(tmp_path):
    space = LabelSpace("custom", ("NA", "nan"), ("NA", "nan"))
    frame = table(4, labels=space)
    frame.loc[0, "image_id"] = "NA"
    write_predictions(tmp_path / "oof.csv", make_predictions(frame, space))
    read = read_predictions(tmp_path / "oof.csv", space)
    assert read.table["image_id"][0] == "NA"
    assert read.y.tolist() == [0, 1, 0, 1]


def test_external_predictions_need_neither_folds_nor_groups():
    for frame in (
        table().drop(columns=["fold", "group_id"]),
        table().assign(fold=-1).drop(columns="group_id"),
        table().assign(fold=-1, group_id=None),
    ):
        predictions = make_predictions(frame, ABC)
        assert not predictions.has_folds
        assert predictions.groups.tolist() == predictions.table["image_id"].tolist()


def test_an_out_of_fold_table_must_name_its_groups():
    with pytest.raises(UserError, match=r"group_id .*im000, im001"):
        make_predictions(table().drop(columns="group_id"), ABC)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p_a": np.nan}, "finite.*im002"),
        ({"p_a": np.inf}, "finite.*im002"),
        ({"p_a": -0.2}, r"\[0, 1\].*im002"),
        ({"p_a": 7.0}, "logits.*im002"),
        ({"p_a": 0.5, "p_b": 0.5, "p_c": 0.01}, "sum to 1.*im002"),
        ({"label": "d"}, r"a, b, c.*im002 \('d'\)"),
        ({"label": None}, r"label.*im002 \(''\)"),
        ({"image_id": "im001"}, "unique.*im001"),
        ({"image_id": " "}, "image_id is empty in 1 row"),
        ({"fold": -1}, "either every image has a fold.*im002"),
        ({"fold": 0.5}, "whole number.*im002"),
        ({"group_id": ""}, "group_id.*im002"),
    ],
)
def test_a_bad_row_is_refused_with_its_id(change, message):
    frame = table().astype({"fold": float})
    for column, value in change.items():
        frame.loc[2, column] = value
    with pytest.raises(UserError, match=message):
        make_predictions(frame, ABC)


def test_all_problems_are_told_at_once():
    frame = table()
    frame.loc[1, "label"] = "d"
    frame.loc[2, "p_a"] = np.nan
    frame.loc[3, "p_a"] = 5
    with pytest.raises(UserError, match="3 problem") as caught:
        make_predictions(frame, ABC)
    assert all(name in str(caught.value) for name in ("im001", "im002", "im003"))


def test_text_in_a_probability_column_of_a_file_is_refused_with_its_id(tmp_path):
    frame = table().astype({"p_b": object})
    frame.loc[4, "p_b"] = "high"
    frame.to_csv(tmp_path / "oof.csv", index=False)
    with pytest.raises(UserError, match=r"oof\.csv.*\n.*finite numbers.*im004"):
        read_predictions(tmp_path / "oof.csv", ABC)


def test_missing_columns_and_an_empty_table_are_named():
    with pytest.raises(UserError, match=r"Missing: label, p_b\."):
        make_predictions(table().drop(columns=["label", "p_b"]), ABC)
    with pytest.raises(UserError, match="empty table"):
        make_predictions(table().iloc[:0], ABC)


def test_a_file_that_is_not_there_or_not_a_table_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv \(No such file"):
        read_predictions(tmp_path / "nowhere.csv", ABC)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match=r"empty\.csv"):
        read_predictions(tmp_path / "empty.csv", ABC)


def test_joining_does_not_depend_on_the_order_of_the_parts():
    frame = table(12)
    parts = [make_predictions(frame[frame["fold"] == k], ABC) for k in (0, 1)]
    forward, backward = join_predictions(parts), join_predictions(parts[::-1])
    pd.testing.assert_frame_equal(forward.table, backward.table)
    pd.testing.assert_frame_equal(forward.table, make_predictions(frame, ABC).table)


def test_an_id_in_two_parts_is_refused():
    frame = table(12)
    parts = [make_predictions(frame[:7], ABC), make_predictions(frame[6:], ABC)]
    with pytest.raises(UserError, match="two parts: im006"):
        join_predictions(parts)


def test_parts_over_different_label_spaces_are_refused():
    with pytest.raises(UserError, match="one label space"):
        join_predictions(
            [make_predictions(table(), ABC), make_predictions(table(labels=HAM10000), HAM10000)]
        )


def test_p_malignant_is_a_class_where_the_rows_sum_to_one_only_with_it():
    added_up = pd.DataFrame({"p_mel": ["0.3"], "p_nv": ["0.7"], "p_malignant": ["0.3"]})
    assert class_columns(added_up.assign(p_malignant_uncorrected="0.4")) == ["p_mel", "p_nv"]
    binary = pd.DataFrame({"p_benign": [0.7, 0.2], "p_malignant": [0.3, 0.8], "age": [50, 60]})
    assert class_columns(binary) == ["p_benign", "p_malignant"]
    assert class_columns(binary[["age"]]) == []
