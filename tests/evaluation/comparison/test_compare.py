"""All numbers of a comparison: differences, pairs, tests, and where there is nothing to say."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from kderm.evaluation.comparison.compare import auc_outcomes, compare_runs
from kderm.evaluation.comparison.join import join_runs
from kderm.evaluation.measure import measure
from kderm.evaluation.metrics import summarise
from kderm.evaluation.predictions import make_predictions
from kderm.labels import BINARY, HAM10000


def compared(resamples=100, **runs):
    return compare_runs(join_runs(runs), resamples=resamples)


def test_a_difference_is_that_of_the_two_runs_own_metrics(answered):
    a, b = answered(1.0), answered(1.5, seed=1)
    found = compared(a=a, b=b)
    own = [summarise(run.y, run.probabilities, run.labels) for run in (a, b)]
    (row,) = found["comparisons"]
    for name in ("macro_auc", "balanced_accuracy", "accuracy", "log_loss", "malignant_auc"):
        assert found["values"]["a"][name]["value"] == pytest.approx(own[0][name])
        assert row["differences"][name]["value"] == pytest.approx(own[1][name] - own[0][name])
    for code in HAM10000.codes:
        expected = own[1]["per_class"][code]["auc"] - own[0]["per_class"][code]["auc"]
        assert row["differences"][f"auc/{code}"]["value"] == pytest.approx(expected)
        assert row["auc"][f"auc/{code}"]["difference"] == pytest.approx(expected)


def test_intervals_equal_those_of_an_explicit_bootstrap_of_pairs(answered):
    """Oracle: repeat the rows of each resample in both tables and let scikit-learn do the rest."""
    runs = [answered(0.5, labels=BINARY), answered(0.8, labels=BINARY, seed=1)]
    joined = join_runs({"a": runs[0], "b": runs[1]})
    found = compare_runs(joined, resamples=60, seed=3)["comparisons"][0]["differences"]
    names, member = np.unique(joined.groups.astype(str), return_inverse=True)
    draw, auc, balanced = np.random.default_rng(3), [], []
    for _ in range(60):
        drawn = draw.integers(0, len(names), len(names))
        rows = np.concatenate([np.flatnonzero(member == g) for g in drawn])
        y = runs[0].y[rows]
        score = [run.probabilities[rows, 1] for run in runs]
        auc.append(roc_auc_score(y, score[1]) - roc_auc_score(y, score[0]))
        right = [balanced_accuracy_score(y, s > 0.5) for s in score]
        balanced.append(right[1] - right[0])
    for values, name in ((auc, "malignant_auc"), (balanced, "balanced_accuracy")):
        expected = tuple(np.quantile(values, [0.025, 0.975]))
        assert (found[name]["low"], found[name]["high"]) == pytest.approx(expected, abs=1e-12)


def test_pairs_make_the_interval_of_runs_that_are_alike_narrow(answered, table):
    noisy = table(1.0)
    random = np.random.default_rng(2)
    odds = noisy[HAM10000.columns] * np.exp(0.1 * random.normal(size=(len(noisy), 7)))
    noisy[HAM10000.columns] = odds.div(odds.sum(axis=1), axis=0)
    found = compared(300, a=answered(1.0), b=make_predictions(noisy, HAM10000))
    own = found["values"]["b"]["macro_auc"]
    difference = found["comparisons"][0]["differences"]["macro_auc"]
    assert difference["high"] - difference["low"] < 0.4 * (own["high"] - own["low"])


def test_a_run_and_its_copy_do_not_differ_in_anything(answered):
    (row,) = compared(a=answered(1.0), b=answered(1.0))["comparisons"]
    for entry in row["differences"].values():
        assert (entry["value"], entry["low"], entry["high"], entry["better"]) == (0, 0, 0, None)
    assert all(test["p"] == 1 for test in row["auc"].values())
    assert (row["accuracy"]["p_exact"], row["accuracy"]["p_groups"]) == (1, 1)


def of_malignant(right, n=5, benign=60):
    """Benign images all known, and the first `right` of `n` malignant ones."""
    positive = np.arange(benign + n) >= benign
    known = positive & (np.arange(benign + n) < benign + right)
    score = np.where(known, 0.9, 0.1) + np.linspace(0, 0.01, benign + n)
    rows = pd.DataFrame({"p_benign": 1 - score, "p_malignant": score}).assign(
        image_id=[f"i{i}" for i in range(benign + n)],
        group_id=[f"g{i}" for i in range(benign + n)],
        label=np.where(positive, "malignant", "benign"),
    )
    return make_predictions(rows, BINARY)


@pytest.mark.parametrize(("n", "better"), [(5, None), (6, "a")])
def test_all_against_none_is_better_only_where_mcnemar_says_so(n, better):
    found = compared(a=of_malignant(n, n), b=of_malignant(0, n))
    (row,) = found["comparisons"]
    entry = row["differences"]["sensitivity/malignant"]
    # Of n images that differ, at most this share would be known to b alone (binomtest, exact).
    reach = binomtest(0, n).proportion_ci(method="exact").high
    expected = {"value": -1, "low": -1, "high": pytest.approx(2 * reach - 1), "better": better}
    assert entry == expected
    assert (row["accuracy"]["p_exact"] < 0.05) == (better == "a")


@pytest.mark.parametrize(("right", "better"), [(25, None), (24, "a")])
def test_a_share_of_one_against_a_lower_one_is_uncertain_itself(right, better):
    (row,) = compared(300, a=of_malignant(30, 30), b=of_malignant(right, 30))["comparisons"]
    entry = row["differences"]["sensitivity/malignant"]
    own = compared(300, a=of_malignant(right, 30), b=of_malignant(0, 30))["values"]["a"]
    own = own["sensitivity/malignant"]
    lowest = 0.025 ** (1 / 30)
    by_newcombe = right / 30 - 1 + np.hypot(own["high"] - right / 30, 1 - lowest)
    differ = 30 - right
    by_mcnemar = differ / 30 * (1 - 2 * 0.025 ** (1 / differ))
    assert entry["high"] == pytest.approx(max(by_newcombe, by_mcnemar))
    assert (entry["better"], row["accuracy"]["p_exact"] < 0.05) == (better, better == "a")


def test_areas_that_no_draw_moves_have_no_interval_and_no_better_run():
    """A perfect run against constant scores: every draw says half an area, which proves nothing."""
    perfect, rows = of_malignant(5), of_malignant(0).table.assign(p_benign=0.6, p_malignant=0.4)
    constant = make_predictions(rows, BINARY)
    (row,) = compared(a=perfect, b=constant)["comparisons"]
    for name in ("malignant_auc", "macro_auc", "balanced_accuracy", "kappa"):
        entry = row["differences"][name]
        assert entry["value"] < -0.4
        assert (entry["low"], entry["high"], entry["better"]) == (None, None, None), name
    assert row["auc"]["malignant_auc"]["low"] is None


def test_two_perfect_runs_are_not_called_equal_for_certain(table):
    runs = [table(skill) for skill in (0.0, 0.0)]
    y = np.array([HAM10000.index(code) for code in runs[0]["label"]])
    for rows, sure in zip(runs, (0.3, 0.6), strict=True):
        rows[HAM10000.columns] = sure * np.eye(7)[y] + (1 - sure) / 7
    (row,) = compared(a=make_predictions(runs[0], HAM10000), b=make_predictions(runs[1], HAM10000))[
        "comparisons"
    ]
    accuracy = row["differences"]["accuracy"]
    most = pytest.approx(1 - 0.025 ** (1 / 60))  # of 60 groups, none of which differs
    assert (accuracy["value"], accuracy["high"], accuracy["better"]) == (0, most, None)
    assert -accuracy["low"] == most
    assert row["differences"]["macro_auc"]["low"] is None
    assert row["auc"]["auc/nv"]["low"] is None


def test_runs_that_rank_alike_do_not_differ_in_what_ranks_alone(answered):
    """A scaled copy: sharper probabilities, the same order and first choices."""
    run = answered(1.0, labels=BINARY)
    odds = run.probabilities**2
    scaled = run.table.assign(
        **dict(zip(BINARY.columns, (odds / odds.sum(axis=1, keepdims=True)).T, strict=True))
    )
    (row,) = compared(a=run, b=make_predictions(scaled, BINARY))["comparisons"]
    area = row["differences"]["malignant_auc"]
    assert (area["value"], area["low"], area["high"]) == (0, 0, 0)
    assert row["differences"]["accuracy"]["high"] == pytest.approx(1 - 0.025 ** (1 / 60))


def test_the_better_run_is_named_for_scores_and_for_losses(answered):
    found = compared(a=answered(0.5), b=answered(4.0, seed=1))
    (row,) = found["comparisons"]
    assert {row["differences"][name]["better"] for name in ("macro_auc", "log_loss")} == {"b"}
    assert row["differences"]["log_loss"]["value"] < 0
    assert row["auc"]["malignant_auc"]["p"] < 0.001
    turned = compared(a=answered(4.0, seed=1), b=answered(0.5))["comparisons"][0]
    assert {turned["differences"][name]["better"] for name in ("macro_auc", "log_loss")} == {"a"}


def test_a_perfect_run_scores_one(answered, table):
    perfect = table(1.0)
    perfect[HAM10000.columns] = np.eye(7)[answered(1.0).y]
    found = compared(a=answered(1.0), b=make_predictions(perfect, HAM10000))
    for name in ("macro_auc", "balanced_accuracy", "accuracy", "malignant_auc"):
        assert found["values"]["b"][name]["value"] == 1
        assert found["comparisons"][0]["differences"][name]["better"] == "b"


def test_order_of_rows_and_names_of_groups_change_no_number(answered, table):
    b = table(1.5, seed=1).sample(frac=1, random_state=3)
    b["group_id"] = "other " + b["group_id"]
    first = compared(a=answered(1.0), b=answered(1.5, seed=1))
    assert compared(a=answered(1.0), b=make_predictions(b, HAM10000)) == first


def test_repeating_every_group_keeps_the_differences_and_narrows_the_intervals(answered, table):
    def four_times(rows):
        ids = ["image_id", "group_id"]
        copies = [rows.assign(**(f"{j}" + rows[ids])) for j in range(4)]
        return make_predictions(pd.concat(copies), HAM10000)

    once = compared(300, a=answered(1.0), b=answered(1.5, seed=1))["comparisons"][0]
    often = compared(300, a=four_times(table(1.0)), b=four_times(table(1.5, seed=1)))
    often = often["comparisons"][0]
    for name in ("macro_auc", "accuracy", "log_loss"):
        one, four = once["differences"][name], often["differences"][name]
        assert four["value"] == pytest.approx(one["value"])
        ratio = (four["high"] - four["low"]) / (one["high"] - one["low"])
        assert ratio == pytest.approx(0.5, abs=0.12)
    assert often["auc"]["malignant_auc"]["p"] < once["auc"]["malignant_auc"]["p"]


def test_each_of_several_runs_is_held_against_the_first_and_p_values_are_adjusted(answered):
    found = compared(a=answered(1.0), b=answered(1.2, seed=1), c=answered(1.6, seed=2))
    assert [row["run"] for row in found["comparisons"]] == ["b", "c"]
    alone = compared(a=answered(1.0), c=answered(1.6, seed=2))["comparisons"][0]
    assert found["comparisons"][1]["differences"] == alone["differences"]
    for name in HAM10000.codes:
        rows = [row["auc"][f"auc/{name}"] for row in found["comparisons"]]
        lower, higher = sorted(rows, key=lambda row: row["p"])
        assert lower["p_holm"] == pytest.approx(min(1, 2 * lower["p"]))
        assert higher["p_holm"] == pytest.approx(max(lower["p_holm"], higher["p"]))
    assert alone["auc"]["auc/mel"]["p_holm"] == alone["auc"]["auc/mel"]["p"]


def test_a_class_that_no_image_shows_is_undefined_and_the_rest_stands(answered, table):
    rows = [table(skill) for skill in (1.0, 2.0)]
    without = [make_predictions(part[part["label"] != "df"], HAM10000) for part in rows]
    found = compared(a=without[0], b=without[1])
    (row,) = found["comparisons"]
    assert row["differences"]["auc/df"]["value"] is None
    assert row["auc"]["auc/df"]["p"] is None
    assert row["differences"]["macro_auc"]["low"] is not None
    assert found["classes"]["df"] == 0
    json.dumps(found, allow_nan=False)


def test_no_run_is_better_in_a_mean_where_one_class_decides_and_is_in_a_single_group(table):
    """All of the gain is one group's; a draw without it says nothing of the mean over classes."""
    rows = table(6.0)
    rows = rows[(rows["label"] != "vasc") | (rows["group_id"] == "L0")].reset_index(drop=True)
    rows.loc[rows["group_id"] == "L0", "label"] = "vasc"
    rare = rows["label"] == "vasc"
    worse, better = rows.copy(), rows.copy()
    worse.loc[rare, HAM10000.columns] = np.eye(7)[0]
    better.loc[rare, HAM10000.columns] = np.eye(7)[HAM10000.index("vasc")]
    runs = [make_predictions(one, HAM10000) for one in (worse, better)]
    (row,) = compared(a=runs[0], b=runs[1])["comparisons"]
    gain = row["differences"]["balanced_accuracy"]
    assert gain["value"] == pytest.approx(1 / 7)
    assert (gain["low"], gain["high"], gain["better"]) == (None, None, None)


@pytest.mark.parametrize("images", [1, 2])
def test_an_image_or_two_give_values_without_certainty(answered, images):
    found = compared(a=answered(1.0, n=images), b=answered(2.0, n=images))
    (row,) = found["comparisons"]
    assert row["differences"]["accuracy"]["value"] is not None
    assert row["differences"]["accuracy"]["low"] is None
    assert all(test["p"] is None for test in row["auc"].values())


def test_constant_scores_are_half_an_area_and_a_tied_class_is_wrong(answered, table):
    constant = table(1.0)
    constant[HAM10000.columns] = 1 / 7
    found = compared(a=answered(1.0), b=make_predictions(constant, HAM10000))
    assert found["values"]["b"]["macro_auc"]["value"] == 0.5
    assert found["values"]["b"]["accuracy"]["value"] == 0
    assert found["comparisons"][0]["accuracy"]["only_second"] == 0


def test_an_outcome_that_is_another_s_mirror_image_is_tested_once(answered, three):
    assert list(auc_outcomes(answered(1.0, labels=BINARY))) == ["malignant_auc"]
    assert list(auc_outcomes(answered(1.0, labels=three))) == [
        "malignant_auc",
        "auc/nv",
        "auc/bkl",
    ]
    assert len(auc_outcomes(answered(1.0))) == 8


def test_delong_and_the_bootstrap_of_pairs_agree(answered):
    found = compared(500, a=answered(1.0, n=600), b=answered(1.2, n=600, seed=1))
    (row,) = found["comparisons"]
    for name in ("malignant_auc", "auc/mel", "auc/nv"):
        resampled, tested = row["differences"][name], row["auc"][name]
        width = resampled["high"] - resampled["low"]
        assert tested["high"] - tested["low"] == pytest.approx(width, rel=0.15)


def test_a_rate_of_one_has_the_interval_that_the_run_s_own_report_gives_it(answered, table):
    rows = table(1.0)
    rows[HAM10000.columns] = np.eye(7)[[HAM10000.index(code) for code in rows["label"]]]
    run = make_predictions(rows, HAM10000)
    values = compared(a=answered(1.0), b=run)["values"]["b"]
    alone = measure(run, checkpoint=None, resamples=100)
    for code in HAM10000.codes:
        assert values[f"sensitivity/{code}"] == alone["per_class"][code]["sensitivity"]
    assert values["accuracy"] == alone["pooled"]["accuracy"]
    assert values["accuracy"]["low"] < 1
