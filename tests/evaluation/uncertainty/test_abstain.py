import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.uncertainty.abstain import (
    MARKED,
    AbstainCurve,
    abstain_curve,
    abstain_report,
    certainties,
)
from kderm.labels import BINARY, label_space

THREE = label_space("custom", ["a", "b", "c"], ["c"])


def answers(n, seed=0, push=1.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    logits = 1.5 * rng.normal(size=(n, 3))
    logits[np.arange(n), y] += push
    return y, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def table(y, p, **columns):
    rows = pd.DataFrame(p, columns=THREE.columns).assign(
        image_id=[f"i{i:04d}" for i in range(len(y))],
        group_id=[f"g{i // 2}" for i in range(len(y))],
        label=[THREE.codes[j] for j in y],
        **columns,
    )
    return make_predictions(rows, THREE)


def numeric_area(right, certainty):
    """Accuracy of the surest share integrated by quadrature, tied images answered in parts."""
    levels = np.unique(certainty)[::-1]
    answered = np.append(0, [(certainty >= level).sum() for level in levels])
    correct = np.append(0, [right[certainty >= level].sum() for level in levels])
    area = 0.0
    for i in range(len(levels)):
        ends = answered[i : i + 2]
        value, _ = quad(lambda a: np.interp(a, answered, correct) / a, *ends, limit=200)
        area += value
    return area / len(right)


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 8]))
@settings(deadline=None, max_examples=25)
def test_the_area_is_that_of_numeric_integration_ties_included(seed, decimals):
    y, p = answers(30, seed)
    certainty = np.round(p.max(axis=1), decimals)
    area = AbstainCurve(y, p, certainty)(np.ones(30))["area"]
    assert area == pytest.approx(numeric_area(p.argmax(axis=1) == y, certainty), abs=1e-9)


def test_the_area_tends_to_the_mean_accuracy_of_the_surest_images():
    y, p = answers(4000)
    certainty = p.max(axis=1)
    right = (p.argmax(axis=1) == y)[np.argsort(-certainty)]
    classical = (np.cumsum(right) / np.arange(1, 4001)).mean()
    assert AbstainCurve(y, p, certainty)(np.ones(4000))["area"] == pytest.approx(
        classical, abs=1e-3
    )


@given(st.integers(0, 10_000), st.sampled_from([1, 8]))
@settings(deadline=None, max_examples=25)
def test_the_order_of_rows_and_repeating_every_image_change_nothing(seed, decimals):
    y, p = answers(40, seed)
    certainty = np.round(p.max(axis=1), decimals)
    once = AbstainCurve(y, p, certainty, y == 2)(np.ones(40))
    turned = np.random.default_rng(seed).permutation(40)
    twice = np.concatenate([turned, turned])
    for rows in (turned, twice):
        other = AbstainCurve(y[rows], p[rows], certainty[rows], y[rows] == 2)(np.ones(len(rows)))
        for name, value in once.items():
            np.testing.assert_allclose(other[name], value, atol=1e-9, err_msg=name)


@given(st.integers(0, 10_000), st.sampled_from([1, 8]))
@settings(deadline=None, max_examples=25)
def test_weights_stand_for_repeated_images_one_set_or_many_at_once(seed, decimals):
    y, p = answers(25, seed)
    certainty = np.round(p.max(axis=1), decimals)
    curve = AbstainCurve(y, p, certainty, y == 0)
    weights = np.random.default_rng(seed).integers(0, 3, (4, 25)).astype(float)
    weights[:, 0] = 1
    together = curve(weights)
    for i, row in enumerate(weights):
        rows = np.repeat(np.arange(25), row.astype(int))
        repeated = AbstainCurve(y[rows], p[rows], certainty[rows], y[rows] == 0)
        same_classes = dict(zip(MARKED, _classes_alike(curve, repeated), strict=True))
        for name, value in repeated(np.ones(len(rows))).items():
            if name.startswith("balanced") and not same_classes[float(name.split("@")[1])]:
                continue  # means over different classes: those that all images alike answer
            np.testing.assert_allclose(together[name][i], value, atol=1e-9, err_msg=name)


def _classes_alike(one, other):
    return (one._marked_classes == other._marked_classes).all(axis=0)


def test_a_mean_recall_has_no_interval_where_many_draws_miss_one_of_its_classes():
    """Both images of class c are in one group, and wrong: without them the mean is another."""
    y = np.append(np.arange(80) % 2, [2, 2])
    p = np.eye(3)[np.append(np.arange(80) // 4 % 2, [0, 1])] * 0.7 + 0.1
    p[80:] *= np.array([1.2, 0.9, 0.9])  # the surest of all
    report = abstain_report(table(y, p / p.sum(axis=1, keepdims=True)), resamples=200)
    at = report["by"]["max_probability"]["at"]
    for share in ("0.9", "1"):
        assert at[share]["balanced_accuracy"]["value"] == pytest.approx(1 / 3, abs=0.02)
        assert at[share]["balanced_accuracy"]["low"] is None
        assert at[share]["accuracy"]["low"] is not None


def test_error_auc_is_that_of_scikit_learn():
    y, p = answers(300)
    certainty = np.round(p.max(axis=1), 1)
    expected = roc_auc_score(p.argmax(axis=1) == y, certainty)
    found = AbstainCurve(y, p, certainty)(np.ones(300))["error_auc"]
    assert found == pytest.approx(expected)


def test_each_row_of_the_curve_is_worked_out_on_the_surest_images():
    y, p = answers(200)
    predictions = table(y, p)
    certainty = certainties(predictions)["max_probability"]
    curve = abstain_curve(predictions, certainty)
    surest = np.argsort(-certainty)
    wrong = (p.argmax(axis=1) != y).sum()
    for row in curve.itertuples():
        own = surest[: round(row.share * 200)]
        right = p[own].argmax(axis=1) == y[own]
        assert row.accuracy == pytest.approx(right.mean())
        assert row.errors == pytest.approx((~right).sum() / wrong)
        recall = balanced_accuracy_score(y[own], p[own].argmax(axis=1))
        assert row.balanced_accuracy == pytest.approx(recall)
        assert row.interest == pytest.approx((y[own] == 2).sum() / (y == 2).sum())
        assert row.least_certainty == certainty[own].min()


def test_a_perfect_classifier_has_area_one_and_no_gain_to_make():
    y = np.arange(30) % 3
    report = abstain_report(table(y, np.eye(3)[y] * 0.97 + 0.01), resamples=10)
    assert report["best_area"] == pytest.approx(1)
    for numbers in report["by"].values():
        assert numbers["area"]["value"] == pytest.approx(1)
        assert numbers["gain"] is None
        assert numbers["error_auc"]["value"] is None


def test_a_ranking_that_knows_nothing_gains_nothing():
    y = np.arange(40) % 3
    p = np.tile([0.6, 0.3, 0.1], (40, 1))
    report = abstain_report(table(y, p), resamples=10)
    assert report["accuracy"] == pytest.approx(14 / 40)
    numbers = report["by"]["max_probability"]
    assert numbers["area"]["value"] == pytest.approx(14 / 40)
    assert numbers["gain"] == pytest.approx(0, abs=1e-9)
    assert numbers["error_auc"]["value"] == 0.5
    assert numbers["curve"]["accuracy"] == pytest.approx([14 / 40] * 20)


def test_a_ranking_that_knows_all_errors_gains_everything():
    y, p = answers(100)
    right = (p.argmax(axis=1) == y).astype(float)
    report = abstain_report(table(y, p, disagreement=1 - right), resamples=10)
    assert report["best"] == "disagreement"
    assert report["by"]["disagreement"]["gain"] == pytest.approx(1)
    assert report["by"]["disagreement"]["error_auc"]["value"] == 1


def test_a_column_with_a_gap_ranks_nothing():
    y, p = answers(10)
    full, gap = np.linspace(0, 1, 10), np.append(np.nan, np.linspace(0, 1, 9))
    found = certainties(table(y, p, disagreement=full, mutual_information=gap))
    assert list(found) == ["max_probability", "entropy", "disagreement"]


def test_full_coverage_is_the_score_of_all_images_and_intervals_hold_the_values():
    y, p = answers(200)
    report = abstain_report(table(y, p), resamples=100)
    for numbers in report["by"].values():
        assert list(numbers["at"]) == [f"{share:g}" for share in MARKED]
        whole = numbers["at"]["1"]
        assert whole["accuracy"]["value"] == pytest.approx(report["accuracy"])
        assert whole["interest"] == {"value": 1, "low": 1, "high": 1}
        for value in (numbers["area"], numbers["error_auc"], numbers["at"]["0.7"]["accuracy"]):
            assert value["low"] < value["value"] < value["high"]


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_images_give_json_without_nan(n):
    y, p = answers(n)
    report = abstain_report(table(y, p), resamples=10)
    json.dumps(report, allow_nan=False)
    assert report["by"]["entropy"]["area"]["low"] is None


def test_a_truth_without_malignant_images_has_no_share_of_them():
    y = np.zeros(20, dtype=int)
    report = abstain_report(table(y, answers(20)[1]), resamples=10)
    assert report["by"]["entropy"]["curve"]["interest"] == [None] * 20


def test_of_two_classes_one_ranking_is_enough():
    rows = pd.DataFrame({"image_id": ["a", "b"], "label": "benign", "p_benign": [0.9, 0.4]})
    found = certainties(make_predictions(rows.assign(p_malignant=1 - rows["p_benign"]), BINARY))
    assert list(found) == ["max_probability"]


def test_sure_answers_that_are_all_right_have_the_exact_interval_over_their_groups():
    """60 pairs, the surer half all right and none of them malignant, the others all wrong."""
    y = np.repeat([0, 2], 60)
    p = np.where(np.arange(120)[:, None] < 60, [0.9, 0.05, 0.05], [0.5, 0.3, 0.2])
    p = p - np.arange(120)[:, None] * [1e-4, -5e-5, -5e-5]
    at = abstain_report(table(y, p), resamples=100)["by"]["max_probability"]["at"]["0.5"]
    exact = 0.025 ** (1 / 30)
    assert at["accuracy"] == {"value": 1, "low": pytest.approx(exact), "high": 1}
    assert at["interest"]["value"] == 0
    assert at["interest"]["high"] == pytest.approx(1 - exact)


def test_groups_of_tied_answers_count_in_part_whatever_the_order_of_rows():
    y, p = np.zeros(40, dtype=int), np.tile([0.8, 0.1, 0.1], (40, 1))
    groups = np.arange(40) // 2
    for turned in (np.arange(40), np.random.default_rng(0).permutation(40)):
        curve = AbstainCurve(y[turned], p[turned], p[turned].max(axis=1))
        assert curve.groups_of_shares(groups[turned])["accuracy@0.5"] == pytest.approx(10)
