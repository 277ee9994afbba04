"""Whose answers stand side by side: by image id, with one label and one set of groups."""

import numpy as np
import pytest

from kderm.errors import UserError
from kderm.evaluation.comparison.join import join_runs
from kderm.evaluation.predictions import make_predictions
from kderm.labels import BINARY, HAM10000, LabelSpace


def test_rows_meet_by_image_id_whatever_their_order(answered, table):
    shuffled = table(2.0, seed=1).sample(frac=1, random_state=0)
    joined = join_runs({"a": answered(1.0), "b": make_predictions(shuffled, HAM10000)})
    a, b = joined.tables.values()
    assert a.table["image_id"].tolist() == b.table["image_id"].tolist()
    assert (a.y == b.y).all()
    assert b.probabilities == pytest.approx(answered(2.0, seed=1).probabilities)
    assert (joined.reference, joined.others, joined.notes) == ("a", ["b"], ())


def test_images_that_a_run_lacks_are_left_out_and_counted(answered, table):
    part = make_predictions(table(1.0).iloc[20:100], HAM10000)
    joined = join_runs({"whole": answered(1.0), "part": part})
    assert [len(run) for run in joined.tables.values()] == [80, 80]
    assert joined.left_out == {"whole": 40, "part": 0}
    assert joined.notes == ("40 images of whole left out, for lack of an answer in every run.",)


def test_an_image_with_two_labels_is_refused_by_name(answered, table):
    other = table(1.0)
    other.loc[5, "label"] = "mel" if other.loc[5, "label"] != "mel" else "nv"
    with pytest.raises(UserError, match=r"1 image with two labels: i0005 \(\w+ in a, \w+ in"):
        join_runs({"a": answered(1.0), "b": make_predictions(other, HAM10000)})


def test_runs_without_a_common_image_are_refused(answered, table):
    other = table(1.0)
    other["image_id"] = "x" + other["image_id"]
    with pytest.raises(UserError, match="no image id in common"):
        join_runs({"a": answered(1.0), "b": make_predictions(other, HAM10000)})


def test_one_run_alone_is_refused(answered):
    with pytest.raises(UserError, match="at least two runs"):
        join_runs({"a": answered(1.0)})


def test_runs_of_other_classes_are_compared_by_malignant_against_benign(answered, table):
    seven = answered(1.0)
    two = table(1.0, labels=BINARY)
    two["label"] = np.where(np.isin(seven.y, HAM10000.malignant_indices), "malignant", "benign")
    joined = join_runs({"seven": seven, "two": make_predictions(two, BINARY)})
    assert all(run.labels == BINARY for run in joined.tables.values())
    score = seven.probabilities[:, HAM10000.malignant_indices].sum(axis=1)
    assert joined.tables["seven"].probabilities[:, 1] == pytest.approx(score)
    assert (joined.tables["two"].probabilities == two[BINARY.columns].to_numpy()).all()
    assert "compared is malignant against benign" in joined.notes[0]


def test_labels_that_contradict_in_malignancy_alone_are_refused_too(answered):
    with pytest.raises(UserError, match="with two labels"):
        join_runs({"a": answered(1.0), "b": answered(1.0, labels=BINARY)})


def test_runs_of_other_classes_with_nothing_malignant_are_refused(answered):
    plain = LabelSpace("custom", ("a", "b"), ("A", "B"))
    with pytest.raises(UserError, match="same classes"):
        join_runs({"a": answered(1.0), "b": answered(1.0, labels=plain)})


def test_the_same_classes_in_another_order_are_put_into_the_reference_s(answered, three):
    turned = LabelSpace("custom", ("bkl", "mel", "nv"), ("K", "M", "N"), ("mel", "bkl"))
    run = answered(1.0, labels=three)
    other = make_predictions(run.table, turned)
    joined = join_runs({"a": run, "b": other})
    a, b = joined.tables.values()
    assert (a.probabilities == b.probabilities).all()
    assert b.labels.malignant == ("mel",)
    assert any("b counts other classes as malignant (bkl, mel)" in note for note in joined.notes)


def test_images_that_any_table_puts_together_are_one_group(answered, table):
    single = table(1.0, folds=None).drop(columns="group_id")
    chained = table(1.0, folds=None)
    # One patient owns two of the lesions of the other table.
    chained["group_id"] = ["P", "Q", "P", *chained["image_id"][3:]]
    tables = {"a": answered(1.0), "b": make_predictions(single, HAM10000)}
    assert len(np.unique(join_runs(tables).groups)) == 60
    tables["c"] = make_predictions(chained, HAM10000)
    groups = join_runs(tables).groups
    assert len(np.unique(groups)) == 59
    assert len(np.unique(groups[:4])) == 1


def test_equal_group_names_of_two_tables_do_not_join_what_is_apart(answered, table):
    other = table(1.0)
    other["group_id"] = other["group_id"].to_numpy()[::-1]  # the same names, for other lesions
    joined = join_runs({"a": answered(1.0), "b": make_predictions(other, HAM10000)})
    assert len(np.unique(joined.groups)) == 60


def test_other_folds_are_told_and_renumbered_ones_are_not(answered, table):
    renumbered = table(1.0)
    renumbered["fold"] = 2 - renumbered["fold"]
    same = join_runs({"a": answered(1.0), "b": make_predictions(renumbered, HAM10000)})
    assert same.notes == ()
    other = join_runs({"a": answered(1.0), "b": answered(1.0, folds=2)})
    assert any("cross-validated over other folds than a" in note for note in other.notes)


def test_out_of_fold_answers_beside_those_of_a_whole_ensemble_are_warned_of(answered):
    joined = join_runs({"oof": answered(1.0), "ensemble": answered(1.0, folds=None)})
    assert any("If ensemble learnt from these images" in note for note in joined.notes)


def test_few_groups_and_unknown_lesions_are_told(answered):
    few = join_runs({"a": answered(1.0, n=20), "b": answered(2.0, n=20)})
    assert any("Only 10 groups" in note for note in few.notes)
    alone = {name: answered(1.0, folds=None, images_a_group=1) for name in "ab"}
    assert any("each image counts for independent" in note for note in join_runs(alone).notes)


def test_notes_that_were_known_come_first(answered):
    joined = join_runs({"a": answered(1.0, n=20), "b": answered(2.0, n=20)}, ["Known."])
    assert joined.notes[0] == "Known."
    assert len(joined.notes) == 2
