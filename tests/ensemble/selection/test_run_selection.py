import numpy as np
import pandas as pd
import pytest

from kderm.ensemble.run_selection import select_runs
from kderm.errors import UserError
from kderm.evaluation.predictions import make_predictions
from kderm.labels import BINARY, HAM10000


def table(seed, strength=1.0, n=140, labels=HAM10000):
    """An out-of-fold table that knows the truth the better the higher `strength`."""
    codes = [labels.codes[i % len(labels)] for i in range(n)]
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, len(labels)))
    logits[np.arange(n), [labels.index(code) for code in codes]] += strength
    powers = np.exp(logits)
    rows = pd.DataFrame({"image_id": [f"i{i}" for i in range(n)], "label": codes})
    rows["group_id"], rows["fold"] = rows["image_id"], np.arange(n) // 7 % 2
    rows[labels.columns] = powers / powers.sum(axis=1, keepdims=True)
    return rows


def predictions(seed, *more, **options):
    return make_predictions(table(seed, *more, **options), options.get("labels", HAM10000))


def test_two_runs_that_know_different_things_are_better_together():
    selection = select_runs([("a", predictions(1, 1.5)), ("b", predictions(2, 1.5))], resamples=50)
    by_choice = {row["choice"]: row for row in selection.rows}
    honest = by_choice["greedy, scored on images not used to choose"]
    assert honest["macro_auc_gain"] > 0
    assert honest["of"] == "each of 2" or {"a", "b"} <= set(honest["of"].split())
    assert selection.notes[0].startswith("On 140 images that all 2 runs have")


def test_rows_are_joined_by_image_id_whatever_their_order():
    shuffled = table(2).sample(frac=1, random_state=0)
    mixed = select_runs(
        [("a", predictions(1)), ("b", make_predictions(shuffled, HAM10000))], resamples=5
    )
    plain = select_runs([("a", predictions(1)), ("b", predictions(2))], resamples=5)
    assert mixed.rows == plain.rows


def test_images_that_one_run_lacks_are_left_out_and_counted():
    fewer = make_predictions(table(2).iloc[14:], HAM10000)
    selection = select_runs([("a", predictions(1)), ("b", fewer)], resamples=5)
    assert "On 126 images" in selection.notes[0]
    assert "14 of a's are not in all" in selection.notes[0]


def test_other_folds_are_told():
    other = table(2)
    other["fold"] = 1 - other["fold"]
    selection = select_runs(
        [("a", predictions(1)), ("b", make_predictions(other, HAM10000))], resamples=5
    )
    assert any("different folds" in note for note in selection.notes)


def test_what_cannot_be_mixed_is_refused():
    one = ("a", predictions(1))
    with pytest.raises(UserError, match="two different runs"):
        select_runs([one])
    with pytest.raises(UserError, match="two different runs"):
        select_runs([one, one])
    with pytest.raises(UserError, match="one label space"):
        select_runs([one, ("b", predictions(2, labels=BINARY))])
    relabelled = table(2)
    relabelled.loc[3, "label"] = "nv" if relabelled.loc[3, "label"] != "nv" else "mel"
    with pytest.raises(UserError, match=r"1 image.* label differently, i3"):
        select_runs([one, ("b", make_predictions(relabelled, HAM10000))])
    strangers = table(2)
    strangers["image_id"] = "x" + strangers["image_id"]
    with pytest.raises(UserError, match="no image id"):
        select_runs([one, ("b", make_predictions(strangers, HAM10000))])
    single = table(2)
    single["fold"] = 0
    with pytest.raises(UserError, match="two folds"):
        select_runs([("b", make_predictions(single, HAM10000)), one])


def grouped(seed, groups):
    return make_predictions(table(seed).assign(group_id=groups), HAM10000)


def test_images_that_any_run_puts_together_are_one_group_whatever_run_comes_first():
    alone, pairs = predictions(1), grouped(2, [f"g{i // 14}-{i % 7}" for i in range(140)])
    ahead = select_runs([("a", alone), ("b", pairs)], resamples=40)
    behind = select_runs([("b", pairs), ("a", alone)], resamples=40)
    assert any("group images differently" in note for note in ahead.notes)
    ends = [
        {row["choice"]: row["macro_auc_gain_low"] for row in found.rows}["all alike"]
        for found in (ahead, behind)
    ]
    assert ends[0] == pytest.approx(ends[1])
    same = select_runs([("a", alone), ("b", predictions(2))], resamples=40)
    assert not any("group images differently" in note for note in same.notes)
    assert same.rows != ahead.rows


def test_equal_names_of_groups_that_hold_the_same_images_are_not_asked_for():
    other_names = grouped(2, [f"lesion {i}" for i in range(140)])
    renamed = select_runs([("a", predictions(1)), ("b", other_names)], resamples=10)
    plain = select_runs([("a", predictions(1)), ("b", predictions(2))], resamples=10)
    assert renamed.rows == plain.rows
    assert renamed.notes == plain.notes


def test_a_group_of_another_run_never_chooses_for_its_own_images():
    """Run b knows that images of two folds of run a show one lesion."""
    across = grouped(2, [f"g{i // 14}-{i % 7}" for i in range(140)])
    folds = table(1)["fold"].to_numpy()
    assert (folds[:7] != folds[7:14]).all()
    assert across.groups[0] == across.groups[7]
    found = select_runs([("a", predictions(1)), ("b", across)], resamples=10)
    assert "each fifth of the groups by runs chosen on the others" in found.notes[1]
    with pytest.raises(UserError, match="two lesions or patients"):
        select_runs([("a", predictions(1)), ("b", grouped(2, ["one"] * 140))])
