import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from kderm.errors import UserError
from kderm.evaluation.attributes import QUALITY_FLAGS, age_band, attributes_of
from kderm.evaluation.blocks import BlockedPairs
from kderm.evaluation.intervals import group_intervals
from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.subgroups import subgroup_report, with_columns
from kderm.inspection.quality import FLAGS
from kderm.labels import BINARY, HAM10000, label_space

FOUR = label_space("custom", ["a", "b", "mel", "d"], ["mel", "d"])


def images(n=400, seed=0, labels=FOUR, decimals=3, **columns):
    """n images in groups of two; probabilities rounded so that some tie."""
    rng = np.random.default_rng(seed)
    k = len(labels)
    y = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), y] += 1
    p = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), decimals)
    p[:, 0] += 1 - p.sum(axis=1)
    table = pd.DataFrame(np.abs(p), columns=labels.columns).assign(
        image_id=[f"i{i:04d}" for i in range(n)],
        group_id=[f"g{i // 2}" for i in range(n)],
        label=[labels.codes[j] for j in y],
        **columns,
    )
    return make_predictions(table, labels)


def divided(n=400, seed=0, values=("x", "y", "z"), **columns):
    site = np.random.default_rng(seed + 1).choice(values, n)
    return images(n, seed, site=site, **columns)


def attribute(report, name):
    return next(row for row in report["attributes"] if row["name"] == name)


def level(report, name, value):
    return next(row for row in attribute(report, name)["levels"] if row["level"] == value)


def macro_auc(y, p, classes):
    return np.mean([roc_auc_score(y == j, p[:, j]) for j in classes])


@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.5, 0.9]))
@settings(deadline=None, max_examples=30)
def test_pairs_are_those_of_a_loop_over_all_pairs(seed, share):
    rng = np.random.default_rng(seed)
    positive, block = rng.random(30) < share, rng.integers(0, 3, 30)
    score, weights = np.round(rng.random(30), 1), rng.integers(0, 3, (2, 30)).astype(float)
    expected = np.zeros((3, 3, 2))
    for i in np.flatnonzero(positive):
        for j in np.flatnonzero(~positive):
            right = (score[i] > score[j]) + 0.5 * (score[i] == score[j])
            expected[block[i], block[j]] += right * weights[:, i] * weights[:, j]
    np.testing.assert_allclose(BlockedPairs(positive, score, block, 3)(weights.T), expected)


def test_numbers_of_a_part_and_of_its_rest_are_those_of_scikit_learn():
    found = divided()
    y, p, site = found.y, found.probabilities, found.table["site"].to_numpy()
    report = subgroup_report(found, thresholds={"malignant": 0.4, "b": 0.3}, resamples=20)
    malignant, score = np.isin(y, [2, 3]), p[:, 2] + p[:, 3]
    for value in "xyz":
        row = level(report, "site", value)
        mine = site == value
        assert row["images"] == mine.sum()
        assert row["groups"] == len(set(found.groups[mine]))
        assert row["positives"]["b"] == (y[mine] == 1).sum()
        assert row["malignant"] == malignant[mine].sum()
        for side, own in (("value", mine), ("rest", ~mine)):
            expected = {
                "macro_auc": macro_auc(y[own], p[own], range(4)),
                "balanced_accuracy": balanced_accuracy_score(y[own], p[own].argmax(axis=1)),
                "malignant_auc": roc_auc_score(malignant[own], score[own]),
                "mel_auc": roc_auc_score(y[own] == 2, p[own, 2]),
                "malignant_sensitivity": (score[own] >= 0.4)[malignant[own]].mean(),
                "malignant_specificity": (score[own] < 0.4)[~malignant[own]].mean(),
                "b_sensitivity": (p[own, 1] >= 0.3)[y[own] == 1].mean(),
            }
            for name, number in expected.items():
                assert row["metrics"][name][side] == pytest.approx(number), name
        gap = row["metrics"]["macro_auc"]
        assert gap["gap"] == pytest.approx(gap["value"] - gap["rest"])


def test_intervals_are_those_of_a_plain_loop_over_the_same_draws():
    found = divided(300)
    y, p, mine = found.y, found.probabilities, (found.table["site"] == "y").to_numpy()

    def slow(weights):
        sides = []
        for own in (mine, ~mine):
            scores = [
                roc_auc_score(y[own] == j, p[own, j], sample_weight=weights[own]) for j in range(4)
            ]
            sides.append(np.mean(scores))
        return {"own": sides[0], "gap": sides[0] - sides[1]}

    expected = group_intervals(slow, found.groups, resamples=30, seed=5)
    report = subgroup_report(found, resamples=30, seed=5)
    entry = level(report, "site", "y")["metrics"]["macro_auc"]
    assert (entry["low"], entry["high"]) == pytest.approx(
        (expected["own"].low, expected["own"].high)
    )
    gap = expected["gap"]
    assert (entry["gap_low"], entry["gap_high"]) == pytest.approx((gap.low, gap.high))


def test_the_order_of_rows_changes_nothing():
    found = divided(age=np.linspace(5, 85, 400))
    turned = make_predictions(found.table.sample(frac=1, random_state=2), FOUR)
    one, other = (subgroup_report(each, resamples=20) for each in (found, turned))
    flat, flat_other = (pd.json_normalize(r["attributes"], "levels") for r in (one, other))
    numbers = flat.select_dtypes("number").columns
    np.testing.assert_allclose(flat[numbers], flat_other[numbers])


def test_repeating_every_group_keeps_the_numbers_and_narrows_the_intervals():
    found = divided()
    again = found.table.assign(
        image_id=found.table["image_id"] + "b", group_id=found.table["group_id"] + "b"
    )
    twice = make_predictions(pd.concat([found.table, again]), FOUR)
    once, more = (
        level(subgroup_report(each, resamples=200), "site", "x")["metrics"]["macro_auc"]
        for each in (found, twice)
    )
    assert more["value"] == pytest.approx(once["value"])
    assert more["gap"] == pytest.approx(once["gap"])
    assert more["gap_high"] - more["gap_low"] < 0.9 * (once["gap_high"] - once["gap_low"])


def test_a_part_that_fares_worse_is_noted_and_chance_is_counted_beside_it():
    found = divided(600)
    spoiled = found.table.copy()
    bad = (spoiled["site"] == "z").to_numpy()
    spoiled.loc[bad, FOUR.columns] = np.random.default_rng(3).dirichlet(np.ones(4), bad.sum())
    report = subgroup_report(make_predictions(spoiled, FOUR), resamples=100)
    worst = report["notable"][0]
    assert worst["level"] == "z"
    assert worst["high"] < 0
    assert report["gaps"]["by_chance"] == pytest.approx(
        0.05 * report["gaps"]["intervals"], abs=0.01
    )
    assert report["gaps"]["excluding_zero"] == len(report["notable"])


def test_the_gap_of_two_levels_is_counted_once():
    found = images(sex=np.tile(["female", "female", "male", "male"], 100))
    report = subgroup_report(found, resamples=20)
    gaps = [level(report, "sex", sex)["metrics"]["mel_auc"] for sex in ("female", "male")]
    assert gaps[0]["gap"] == pytest.approx(-gaps[1]["gap"])
    assert report["gaps"]["intervals"] == len(report["metrics"])


def test_fewer_than_ten_positives_are_suppressed_and_said_so():
    found = divided()
    table = found.table.copy()
    melanomas = table.index[(table["label"] == "mel") & (table["site"] == "x")]
    table.loc[melanomas[9:], "label"] = "a"
    report = subgroup_report(make_predictions(table, FOUR), thresholds={"mel": 0.3}, resamples=10)
    metrics = level(report, "site", "x")["metrics"]
    for name in ("mel_auc", "mel_sensitivity"):
        assert metrics[name]["value"] is None
        assert metrics[name]["gap"] is None
        assert metrics[name]["suppressed"] == "9 positives here, fewer than 10"
    assert metrics["mel_specificity"]["value"] is not None
    # The means are over the classes that are left, here and in the rest alike.
    y, p = np.array([FOUR.codes.index(c) for c in table["label"]]), found.probabilities
    mine = (table["site"] == "x").to_numpy()
    assert metrics["macro_auc"]["classes"] == ["a", "b", "d"]
    for side, own in (("value", mine), ("rest", ~mine)):
        assert metrics["macro_auc"][side] == pytest.approx(macro_auc(y[own], p[own], [0, 1, 3]))


def test_a_rest_with_too_few_positives_leaves_the_value_without_a_gap():
    site = np.where(np.arange(200) < 180, "x", "y")
    found = images(200, site=site)
    table = found.table.copy()
    rest = table.index[table["site"] == "y"]
    table.loc[rest, "label"] = ["mel"] * 3 + ["a"] * (len(rest) - 3)
    metrics = level(subgroup_report(make_predictions(table, FOUR)), "site", "x")["metrics"]
    assert metrics["mel_auc"]["value"] is not None
    assert metrics["mel_auc"]["gap"] is None
    assert metrics["mel_auc"]["gap_suppressed"] == "3 positives in the rest, fewer than 10"
    assert metrics["macro_auc"]["value"] is not None
    assert metrics["macro_auc"]["gap_suppressed"]


def test_images_without_a_value_are_a_part_of_their_own_and_of_no_rest():
    site = np.tile(["x", "x", "y", "y", "unknown", ""], 100)[:400]
    found = images(site=site)
    report = subgroup_report(found, resamples=5)
    row = attribute(report, "site")
    assert row["not_recorded"] == np.isin(site, ["unknown", ""]).sum()
    assert [part["level"] for part in row["levels"]] == ["x", "y", "not recorded"]
    assert [part["recorded"] for part in row["levels"]] == [True, True, False]
    own = site == "y"
    rest = level(report, "site", "x")["metrics"]["macro_auc"]["rest"]
    assert rest == pytest.approx(macro_auc(found.y[own], found.probabilities[own], range(4)))


def test_values_with_few_images_are_named_and_belong_to_the_rest():
    site = np.array(["x"] * 200 + ["y"] * 193 + ["rare"] * 7)
    found = images(site=site)
    report = subgroup_report(found, resamples=5)
    assert attribute(report, "site")["not_shown"] == {"rare": 7}
    rest = level(report, "site", "x")["metrics"]["macro_auc"]["rest"]
    own = site != "x"
    assert rest == pytest.approx(macro_auc(found.y[own], found.probabilities[own], range(4)))


def test_one_value_only_leaves_nothing_to_compare():
    row = attribute(subgroup_report(images(source="one")), "source")
    assert row["levels"] == []
    assert "same value (one)" in row["reason"]


def test_a_table_without_metadata_says_what_is_not_recorded():
    report = subgroup_report(images(20))
    assert report["attributes"] == []
    assert report["not_recorded"][:5] == ["Sex", "Age", "Body site", "Source", "Skin tone"]
    assert report["gaps"] == {"intervals": 0, "excluding_zero": 0, "by_chance": 0}


def test_age_zero_is_an_age_and_bands_begin_at_their_boundaries():
    ages = [0, 29, 30, 44, 45, 59, 60, 74, 75, 90, np.nan, "unknown"]
    bands = age_band(pd.Series(ages, dtype=object)).tolist()
    assert bands[:2] == ["0-29"] * 2
    assert bands[2:10] == ["30-44"] * 2 + ["45-59"] * 2 + ["60-74"] * 2 + ["75+"] * 2
    assert pd.isna(bands[10])
    assert pd.isna(bands[11])


def test_further_columns_make_subgroups():
    found = images()
    extra = found.table[["image_id"]].assign(is_hair=np.resize([True, False], 400))
    report = subgroup_report(with_columns(found, extra), resamples=5)
    hair = level(report, "quality_hair", "yes")
    even = np.arange(400) % 2 == 0
    expected = macro_auc(found.y[even], found.probabilities[even], range(4))
    assert hair["metrics"]["macro_auc"]["value"] == pytest.approx(expected)


def test_a_threshold_of_an_unknown_class_is_refused():
    with pytest.raises(UserError, match="scc"):
        subgroup_report(divided(40), thresholds={"scc": 0.5})


def test_the_quality_flags_are_those_of_inspect():
    assert set(QUALITY_FLAGS) == {flag.replace(" ", "_") for flag in FLAGS}


def test_two_classes_one_group_and_constant_scores_give_json_without_nan():
    n = 60
    table = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(n)],
            "group_id": "one",
            "label": ["benign", "malignant"] * (n // 2),
            "p_benign": 0.5,
            "p_malignant": 0.5,
            "sex": ["male", "male", "female"] * (n // 3),
        }
    )
    report = subgroup_report(make_predictions(table, BINARY), thresholds={"malignant": 0.5})
    json.dumps(report, allow_nan=False)
    entry = level(report, "sex", "female")["metrics"]["malignant_auc"]
    assert (entry["value"], entry["gap"], entry["low"]) == (0.5, 0, None)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_images_are_too_few_to_show(n):
    found = images(n, labels=HAM10000, sex=["male", "female"][:n])
    row = attribute(subgroup_report(found), "sex")
    assert row["levels"] == []
    assert "10 images" in row["reason"]


def test_attributes_are_read_from_the_words_of_the_table():
    table = pd.DataFrame({"sex": ["male"] * 12 + ["N/A"] * 3, "skin_type": ["0"] * 15})
    found, absent = attributes_of(table)
    assert [(a.name, a.levels, a.not_recorded) for a in found] == [("sex", ("male",), 3)]
    assert "Skin tone" in absent


def part_where_all_are_caught(caught_elsewhere):
    """Malignant images of site x are all flagged, elsewhere as told; two images a group."""
    n, threshold = 400, 0.5
    y, site = np.arange(n) // 2 % 4, np.where(np.arange(n) < 80, "x", "y")
    malignant = y >= 2
    flagged = malignant.copy()
    flagged[malignant & (site == "y")] = caught_elsewhere
    p = np.where(flagged[:, None], [0.1, 0.1, 0.4, 0.4], [0.4, 0.4, 0.1, 0.1])
    rows = pd.DataFrame(p, columns=FOUR.columns).assign(
        image_id=[f"i{i}" for i in range(n)],
        group_id=[f"g{i // 2}" for i in range(n)],
        label=[FOUR.codes[j] for j in y],
        site=site,
    )
    found = make_predictions(rows, FOUR)
    report = subgroup_report(found, thresholds={"malignant": threshold}, resamples=200)
    return report, level(report, "site", "x")["metrics"]


def test_a_part_in_which_all_are_caught_has_the_exact_interval_over_groups():
    _, metrics = part_where_all_are_caught(np.arange(160) % 20 > 0)
    exact = 0.025 ** (1 / 20)  # Clopper and Pearson, 20 of 20 groups
    sensitivity, specificity = (metrics[f"malignant_{of}"] for of in ("sensitivity", "specificity"))
    assert sensitivity["value"] == specificity["value"] == 1
    assert sensitivity["low"] == specificity["low"] == pytest.approx(exact)
    assert sensitivity["high"] == specificity["high"] == 1


def test_a_gap_to_a_part_that_all_are_caught_in_is_not_called_certain():
    report, metrics = part_where_all_are_caught(np.arange(160) % 20 > 0)
    entry = metrics["malignant_sensitivity"]
    # The bootstrap alone would say 0.02 to 0.09: the part's own spread, unseen, is larger.
    assert entry["gap"] == pytest.approx(0.05)
    assert entry["gap_low"] < -0.1
    assert entry["gap_high"] > 0.05
    assert "malignant_sensitivity" not in [gap["metric"] for gap in report["notable"]]


def test_a_gap_between_two_parts_that_all_are_caught_in_has_both_their_spreads():
    _, metrics = part_where_all_are_caught(True)
    entry, own, rest = metrics["malignant_sensitivity"], 0.025 ** (1 / 20), 0.025 ** (1 / 80)
    assert entry["gap"] == 0
    assert entry["gap_low"] == pytest.approx(own - 1)
    assert entry["gap_high"] == pytest.approx(1 - rest)
